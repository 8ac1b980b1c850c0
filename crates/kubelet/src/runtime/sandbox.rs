//! A pod's namespaces, files and control group.

use super::{Runtime, unmount, unmount_below};
use crate::cgroup::{self, Limits};
use crate::shim::protocol::{SandboxConfig, SandboxReport};
use nix::mount::{MsFlags, mount};
use pod_core::PodRef;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

const POD_FILE: &str = "pod.json";
/// Size of a pod's /dev/shm (containerd's and Docker's default).
const SHM_OPTIONS: &str = "mode=1777,size=64m";

/// What the agent remembers of a pod across its own restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRecord {
    /// The pod.
    pub pod: PodRef,
    /// Its control group.
    pub cgroup: PathBuf,
    /// Its addresses; empty until it was attached.
    pub ips: Vec<String>,
    /// It has a network namespace of its own that is (or was) attached.
    pub own_network: bool,
    /// The pause process, if it has one, and its start time.
    pub pause: Option<(i32, u64)>,
    /// When it was made, ms since 1970.
    pub created_ms: i64,
    /// The boot it was made in: no namespace outlives that.
    pub boot: String,
}

/// What to make for a pod.
#[derive(Debug, Clone)]
pub struct SandboxRequest {
    /// The pod.
    pub pod: PodRef,
    /// The host name inside.
    pub hostname: String,
    /// Use the host's network.
    pub host_network: bool,
    /// Use the host's IPC namespace.
    pub host_ipc: bool,
    /// One pid namespace for all containers.
    pub share_pids: bool,
    /// Namespaced sysctls.
    pub sysctls: Vec<(String, String)>,
    /// The pod's control group.
    pub cgroup: PathBuf,
    /// Its limits.
    pub limits: Limits,
    /// Now, ms since 1970.
    pub now_ms: i64,
}

impl Runtime {
    /// Makes a pod's directory, control group and namespaces. Repeating it replaces what was there.
    ///
    /// # Errors
    /// The kernel refused; what was made is removed by [`Runtime::remove_sandbox`].
    pub async fn create_sandbox(&self, request: &SandboxRequest) -> io::Result<PodRecord> {
        let dir = self.pod_dir(&request.pod.uid);
        self.release_namespaces(&request.pod.uid);
        for part in ["ns", "etc", "shm", "volumes"] {
            fs::create_dir_all(dir.join(part))?;
        }
        cgroup::create(&request.cgroup, request.limits)?;
        if !request.host_ipc {
            mount(Some("shm"), &dir.join("shm"), Some("tmpfs"), shm_flags(), Some(SHM_OPTIONS))?;
        }
        let report = self.make_namespaces(&dir, request).await?;
        let pause = report.pause_pid.map(|pid| (pid, start_time(pid)));
        let record = PodRecord {
            pod: request.pod.clone(),
            cgroup: request.cgroup.clone(),
            ips: Vec::new(),
            own_network: !request.host_network,
            pause,
            created_ms: request.now_ms,
            boot: boot_id(),
        };
        self.write_record(&record)?;
        Ok(record)
    }

    async fn make_namespaces(&self, dir: &Path, request: &SandboxRequest) -> io::Result<SandboxReport> {
        let config = SandboxConfig {
            dir: dir.join("ns"),
            hostname: request.hostname.clone(),
            net: !request.host_network,
            ipc: !request.host_ipc,
            pid: request.share_pids,
            sysctls: request.sysctls.clone(),
        };
        let file = dir.join("sandbox.json");
        fs::write(&file, serde_json::to_vec(&config)?)?;
        let output =
            self.shim().arg("sandbox").arg(&file).stdin(Stdio::null()).stderr(Stdio::null()).output().await?;
        let report: SandboxReport = serde_json::from_slice(&output.stdout)
            .map_err(|_| io::Error::other("the sandbox helper ended without a report"))?;
        if report.error.is_empty() { Ok(report) } else { Err(io::Error::other(report.error)) }
    }

    /// Replaces what is remembered of a pod.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_record(&self, record: &PodRecord) -> io::Result<()> {
        let path = self.pod_dir(&record.pod.uid).join(POD_FILE);
        let tmp = path.with_extension("tmp");
        fs::write(&tmp, serde_json::to_vec(record)?)?;
        fs::rename(tmp, path)
    }

    /// What is remembered of one pod.
    #[must_use]
    pub fn record(&self, uid: &str) -> Option<PodRecord> {
        serde_json::from_slice(&fs::read(self.pod_dir(uid).join(POD_FILE)).ok()?).ok()
    }

    /// Every pod on disk, oldest first.
    #[must_use]
    pub fn records(&self) -> Vec<PodRecord> {
        let Ok(entries) = fs::read_dir(self.inner.dir.join("pods")) else { return Vec::new() };
        let mut found: Vec<PodRecord> = entries
            .flatten()
            .filter_map(|entry| serde_json::from_slice(&fs::read(entry.path().join(POD_FILE)).ok()?).ok())
            .collect();
        found.sort_by(|a: &PodRecord, b| (a.created_ms, &a.pod).cmp(&(b.created_ms, &b.pod)));
        found
    }

    /// Whether the pod's namespaces are still held (they are not after a reboot).
    #[must_use]
    pub fn sandbox_alive(&self, record: &PodRecord) -> bool {
        let ns = self.pod_dir(&record.pod.uid).join("ns");
        let held = |name: &str| {
            nix::sys::statfs::statfs(&ns.join(name))
                .is_ok_and(|found| found.filesystem_type() == nix::sys::statfs::NSFS_MAGIC)
        };
        record.boot == boot_id()
            && (!record.own_network || held("net"))
            && record.pause.is_none_or(|(pid, start)| start_time(pid) == start)
    }

    fn release_namespaces(&self, uid: &str) {
        let dir = self.pod_dir(uid);
        if let Some((pid, start)) = self.record(uid).and_then(|record| record.pause)
            && start_time(pid) == start
        {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        for name in ["net", "uts", "ipc", "pid"] {
            unmount(&dir.join("ns").join(name));
        }
        unmount(&dir.join("shm"));
    }

    /// Removes what an interrupted agent left behind and no record names. `known` are the uids of existing pods.
    pub fn sweep(&self, known: &[String]) {
        let names = |dir: PathBuf| -> Vec<String> {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        };
        let stray = |uid: &str| !known.iter().any(|known| known == uid) && self.record(uid).is_none();
        for found in self.containers().into_iter().filter(|found| stray(&found.meta.pod.uid)) {
            self.remove(&found.meta.id);
        }
        for uid in names(self.inner.dir.join("pods")).into_iter().filter(|uid| stray(uid)) {
            self.release_namespaces(&uid);
            unmount_below(&self.pod_dir(&uid));
            let _ = fs::remove_dir_all(self.pod_dir(&uid));
        }
        let logs = self.inner.dir.join("logs/pods");
        for name in names(logs.clone()) {
            // <namespace>_<name>_<uid>; none of the three holds an underscore.
            if name.rsplit('_').next().is_some_and(stray) {
                let _ = fs::remove_dir_all(logs.join(name));
            }
        }
    }

    /// Removes a pod's namespaces, mounts, control group and (with `forget`) its directory and logs.
    pub fn remove_sandbox(&self, record: &PodRecord, forget: bool) {
        self.release_namespaces(&record.pod.uid);
        cgroup::kill_all(&record.cgroup);
        cgroup::remove(&record.cgroup);
        let dir = self.pod_dir(&record.pod.uid);
        unmount_below(&dir);
        if forget {
            let _ = fs::remove_dir_all(&dir);
            if let Some(logs) = self.log_dir(&record.pod, "x").parent() {
                let _ = fs::remove_dir_all(logs);
            }
        }
    }
}

fn shm_flags() -> MsFlags {
    MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC
}

fn start_time(pid: i32) -> u64 {
    crate::shim::start_time(pid).unwrap_or(0)
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
