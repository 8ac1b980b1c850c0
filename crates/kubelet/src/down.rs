//! Stops and removes everything a node directory's agent made: containers, shims, mounts, namespaces, groups.

use crate::cgroup;
use crate::runtime::{self, PodRecord, unmount_below};
use std::fs;
use std::path::Path;

/// Stops what runs and removes what it leaves; the images stay. How many containers ran.
pub fn down(dir: &Path) -> usize {
    let id = runtime::directory_id(dir);
    let root = runtime::cgroup_root(&id);
    let running = count_running(dir);
    // The shims see their containers end and follow.
    cgroup::kill_all(&root);
    kill_pauses(dir);
    wait_for_shims(dir);
    cgroup::remove(&root);
    for part in ["containers", "pods"] {
        if let Ok(real) = dir.join(part).canonicalize() {
            unmount_below(&real);
        }
        let _ = fs::remove_dir_all(dir.join(part));
    }
    for part in ["runtime", "logs"] {
        let _ = fs::remove_dir_all(dir.join(part));
    }
    running
}

fn states(dir: &Path) -> Vec<crate::shim::protocol::ShimState> {
    let Ok(entries) = fs::read_dir(dir.join("containers")) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            serde_json::from_slice(&fs::read(entry.path().join(crate::shim::protocol::STATE_FILE)).ok()?).ok()
        })
        .collect()
}

fn alive(state: &crate::shim::protocol::ShimState) -> bool {
    crate::shim::start_time(state.shim_pid) == Some(state.shim_start)
}

fn count_running(dir: &Path) -> usize {
    let running = |state: &&crate::shim::protocol::ShimState| {
        state.phase == crate::shim::protocol::ShimPhase::Running && alive(state)
    };
    states(dir).iter().filter(running).count()
}

fn kill_pauses(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir.join("pods")) else { return };
    for entry in entries.flatten() {
        let record = fs::read(entry.path().join("pod.json"))
            .ok()
            .and_then(|text| serde_json::from_slice::<PodRecord>(&text).ok());
        if let Some((pid, start)) = record.and_then(|record| record.pause)
            && crate::shim::start_time(pid) == Some(start)
        {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// Shims end by themselves within moments; one that does not is killed.
fn wait_for_shims(dir: &Path) {
    const ROUNDS: usize = 100;
    for round in 0..ROUNDS {
        let left: Vec<_> =
            states(dir).into_iter().filter(alive).filter(|state| !is_zombie(state.shim_pid)).collect();
        if left.is_empty() {
            return;
        }
        if round == ROUNDS - 1 {
            for state in left {
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(state.shim_pid),
                    nix::sys::signal::Signal::SIGKILL,
                );
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn is_zombie(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rfind(')').is_some_and(|at| stat[at..].starts_with(") Z")))
}
