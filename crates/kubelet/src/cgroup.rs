//! Control groups, version 1 (one hierarchy per controller, perhaps hybrid) and version 2 (one for all).
//!
//! libcontainer makes a container's own group; this module makes and limits the groups above it (the agent's root,
//! `kubepods`, the QoS classes, pods), and removes them all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the hierarchies are mounted.
const ROOT: &str = "/sys/fs/cgroup";
/// Controllers that carry limits of pods.
const V2_CONTROLLERS: &str = "+cpu +memory +pids +cpuset +io";
/// Rounds of killing before giving up on a group whose processes keep forking.
const KILL_ROUNDS: usize = 50;

/// Which kind of hierarchy this machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy per controller.
    V1,
    /// One unified hierarchy.
    V2,
}

/// Limits of a pod's or a class' group; zero means none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// `cpu.shares` (2 to 262144), the relative weight.
    pub cpu_shares: u64,
    /// Microseconds of CPU time per 100 ms.
    pub cpu_quota_us: i64,
    /// Bytes of memory.
    pub memory_bytes: i64,
}

/// The version in use, read from the mounted file systems.
#[must_use]
pub fn version() -> Version {
    if Path::new(ROOT).join("cgroup.controllers").exists() { Version::V2 } else { Version::V1 }
}

/// Whether groups of this machine can limit by the controller (`cpu`, `memory`, `pids`).
#[must_use]
pub fn has(controller: &str) -> bool {
    match version() {
        Version::V1 => Path::new(ROOT).join(controller).is_dir(),
        Version::V2 => fs::read_to_string(Path::new(ROOT).join("cgroup.controllers"))
            .is_ok_and(|list| list.split_whitespace().any(|known| known == controller)),
    }
}

/// The mount points of all hierarchies, in which a group's path is looked up.
fn hierarchies() -> Vec<PathBuf> {
    match version() {
        Version::V2 => vec![PathBuf::from(ROOT)],
        Version::V1 => {
            let Ok(entries) = fs::read_dir(ROOT) else { return Vec::new() };
            // Symbolic links (cpu -> cpu,cpuacct) name the same hierarchy twice.
            let mut found: Vec<_> = entries
                .flatten()
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path())
                .collect();
            found.sort_unstable();
            found
        }
    }
}

/// The group's directory in each hierarchy that has it.
fn dirs(group: &Path) -> Vec<PathBuf> {
    let relative = group.strip_prefix("/").unwrap_or(group);
    hierarchies().into_iter().map(|root| root.join(relative)).filter(|dir| dir.is_dir()).collect()
}

/// Makes a group (and its parents) with limits.
///
/// # Errors
/// When the kernel refuses the directory; a limit of a controller that is not mounted is skipped.
pub fn create(group: &Path, limits: Limits) -> io::Result<()> {
    let relative = group.strip_prefix("/").unwrap_or(group);
    match version() {
        Version::V2 => {
            make_v2(relative)?;
            limit_v2(&Path::new(ROOT).join(relative), limits);
        }
        Version::V1 => {
            for controller in ["cpu", "memory", "pids"] {
                let root = Path::new(ROOT).join(controller);
                if root.is_dir() {
                    fs::create_dir_all(root.join(relative))?;
                }
            }
            limit_v1(relative, limits);
        }
    }
    Ok(())
}

fn make_v2(relative: &Path) -> io::Result<()> {
    let mut dir = PathBuf::from(ROOT);
    for part in relative.components() {
        enable_controllers(&dir);
        dir.push(part);
        match fs::create_dir(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    enable_controllers(&dir);
    Ok(())
}

/// Each alone: one that the machine lacks must not keep the others off.
fn enable_controllers(dir: &Path) {
    for controller in V2_CONTROLLERS.split(' ') {
        let _ = fs::write(dir.join("cgroup.subtree_control"), controller);
    }
}

fn limit_v1(relative: &Path, limits: Limits) {
    let set = |controller: &str, file: &str, value: i64| {
        if value != 0 {
            let _ = fs::write(Path::new(ROOT).join(controller).join(relative).join(file), value.to_string());
        }
    };
    set("cpu", "cpu.shares", limits.cpu_shares as i64);
    set("cpu", "cpu.cfs_quota_us", limits.cpu_quota_us);
    set("memory", "memory.limit_in_bytes", limits.memory_bytes);
}

fn limit_v2(dir: &Path, limits: Limits) {
    if limits.cpu_shares != 0 {
        let _ = fs::write(dir.join("cpu.weight"), weight(limits.cpu_shares).to_string());
    }
    if limits.cpu_quota_us != 0 {
        let _ = fs::write(dir.join("cpu.max"), format!("{} 100000", limits.cpu_quota_us));
    }
    if limits.memory_bytes != 0 {
        let _ = fs::write(dir.join("memory.max"), limits.memory_bytes.to_string());
    }
}

/// `cpu.weight` for `cpu.shares`, as KEP-2254 maps them.
#[must_use]
pub const fn weight(shares: u64) -> u64 {
    let shares = if shares < 2 {
        2
    } else if shares > 262_144 {
        262_144
    } else {
        shares
    };
    1 + (shares - 2) * 9999 / 262_142
}

/// Whether the kernel killed a process of this group for lack of memory.
#[must_use]
pub fn oom_killed(group: &Path) -> bool {
    let relative = group.strip_prefix("/").unwrap_or(group);
    let file = match version() {
        Version::V2 => Path::new(ROOT).join(relative).join("memory.events"),
        Version::V1 => Path::new(ROOT).join("memory").join(relative).join("memory.oom_control"),
    };
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.strip_prefix("oom_kill "))
        .any(|count| count.trim().parse::<u64>().is_ok_and(|count| count > 0))
}

/// Kills every process in the group and below it, and waits a little for their end.
pub fn kill_all(group: &Path) {
    for _ in 0..KILL_ROUNDS {
        let pids = processes(group);
        if pids.is_empty() {
            return;
        }
        for pid in pids {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// The processes in the group and below it, zombies excepted.
#[must_use]
pub fn processes(group: &Path) -> Vec<i32> {
    let mut found = Vec::new();
    for dir in dirs(group) {
        collect_processes(&dir, &mut found);
    }
    found.sort_unstable();
    found.dedup();
    found.retain(|pid| *pid > 0 && !is_zombie(*pid));
    found
}

fn is_zombie(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rfind(')').is_some_and(|at| stat[at..].starts_with(") Z")))
}

fn collect_processes(dir: &Path, found: &mut Vec<i32>) {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for child in children(dir) {
        collect_processes(&child, found);
    }
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Removes the group and everything below it in every hierarchy; what still holds processes stays.
pub fn remove(group: &Path) {
    for dir in dirs(group) {
        remove_tree(&dir);
    }
}

fn remove_tree(dir: &Path) {
    for child in children(dir) {
        remove_tree(&child);
    }
    let _ = fs::remove_dir(dir);
}

#[cfg(test)]
mod tests {
    use super::weight;

    #[test]
    fn shares_map_to_weights() {
        assert_eq!(weight(2), 1);
        assert_eq!(weight(1024), 39);
        assert_eq!(weight(262_144), 10_000);
    }
}
