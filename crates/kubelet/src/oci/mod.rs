//! The OCI runtime configuration of a container.
//!
//! Defaults are those of containerd and Docker: fourteen capabilities, masked and read-only parts of /proc and
//! /sys, a few devices, `noNewPrivileges` only where asked for.

mod caps;
mod seccomp;
mod user;

pub use user::{RunAs, resolve_user};

use crate::cgroup;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, SecurityContext};
use pod_core::resources::{self, Amounts, QosClass};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The search path of a container whose image sets none (containerd's default).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A file or directory of the host seen in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindMount {
    /// On the host.
    pub source: PathBuf,
    /// In the container, absolute.
    pub target: String,
    /// Not writable.
    pub read_only: bool,
    /// `None`, `HostToContainer` or `Bidirectional`.
    pub propagation: Option<String>,
}

/// What a container's configuration is made from.
pub struct Inputs<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The container.
    pub container: &'a Container,
    /// The pod's directory (`ns/`, `shm/`, `etc/`).
    pub pod_dir: &'a Path,
    /// Program and arguments.
    pub args: Vec<String>,
    /// The environment in order; PATH and HOME are added when absent.
    pub env: Vec<(String, String)>,
    /// The working directory.
    pub cwd: String,
    /// Who runs it.
    pub run_as: RunAs,
    /// Volumes and the pod's own files.
    pub mounts: Vec<BindMount>,
    /// The container's control group.
    pub cgroup: PathBuf,
    /// The node's memory in bytes.
    pub memory_capacity: i64,
}

/// The configuration, whose root is `rootfs` in the bundle.
#[must_use]
pub fn config(inputs: &Inputs<'_>) -> Value {
    let empty = PodSpec::default();
    let spec = inputs.pod.spec.as_ref().unwrap_or(&empty);
    let security = inputs.container.security_context.clone().unwrap_or_default();
    let privileged = security.privileged == Some(true);
    let amounts = resources::amounts(inputs.container.resources.as_ref());
    let mut config = json!({
        "ociVersion": "1.2.0",
        "process": process(inputs, &security, amounts),
        "root": {"path": "rootfs", "readonly": security.read_only_root_filesystem == Some(true)},
        "mounts": mounts(inputs, spec, privileged),
        "linux": {
            "cgroupsPath": inputs.cgroup,
            "namespaces": namespaces(inputs, spec),
            "resources": limits(amounts, privileged),
            "rootfsPropagation": "private",
            "devices": if privileged { host_devices() } else { Vec::new() },
            "maskedPaths": if privileged { json!([]) } else { json!(MASKED) },
            "readonlyPaths": if privileged { json!([]) } else { json!(READ_ONLY) },
        },
    });
    if inputs.mounts.iter().any(|mount| mount.propagation.as_deref() == Some("Bidirectional")) {
        config["linux"]["rootfsPropagation"] = json!("shared");
    }
    if !privileged && wants_seccomp(spec, &security) {
        config["linux"]["seccomp"] = seccomp::runtime_default(&caps::granted(&security));
    }
    config
}

fn process(inputs: &Inputs<'_>, security: &SecurityContext, amounts: Amounts) -> Value {
    let caps = caps::granted(security);
    let mut env: Vec<String> = inputs.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let has = |name: &str| inputs.env.iter().any(|(known, _)| known == name);
    if !has("PATH") {
        env.insert(0, format!("PATH={DEFAULT_PATH}"));
    }
    if !has("HOME") {
        env.push(format!("HOME={}", inputs.run_as.home));
    }
    let tty = inputs.container.tty == Some(true);
    if tty && !has("TERM") {
        env.push("TERM=xterm".to_owned());
    }
    let class = resources::qos(inputs.pod);
    let mut process = json!({
        "terminal": tty,
        "user": {"uid": inputs.run_as.uid, "gid": inputs.run_as.gid, "additionalGids": inputs.run_as.groups},
        "args": inputs.args,
        "env": env,
        "cwd": if inputs.cwd.is_empty() { "/" } else { &inputs.cwd },
        "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
        "oomScoreAdj": allowed_score(resources::oom_score_adj(class, amounts.memory_request, inputs.memory_capacity)),
    });
    // Set only when asked for: "false" is not the same as unset for the runtime library.
    if security.allow_privilege_escalation == Some(false) {
        process["noNewPrivileges"] = json!(true);
    }
    process
}

/// Without CAP_SYS_RESOURCE a process may not make itself less likely to be killed than its parent is.
fn allowed_score(wanted: i32) -> i32 {
    if caps::may_lower_oom_score() {
        return wanted;
    }
    let inherited =
        std::fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|text| text.trim().parse().ok());
    wanted.max(inherited.unwrap_or(0))
}

fn namespaces(inputs: &Inputs<'_>, spec: &PodSpec) -> Vec<Value> {
    let held = |name: &str| inputs.pod_dir.join("ns").join(name);
    let mut out = vec![json!({"type": "mount"})];
    if spec.host_network != Some(true) {
        out.push(json!({"type": "network", "path": held("net")}));
        out.push(json!({"type": "uts", "path": held("uts")}));
    }
    if spec.host_ipc != Some(true) {
        out.push(json!({"type": "ipc", "path": held("ipc")}));
    }
    if spec.host_pid != Some(true) {
        out.push(if spec.share_process_namespace == Some(true) {
            json!({"type": "pid", "path": held("pid")})
        } else {
            json!({"type": "pid"})
        });
    }
    if cgroup::version() == cgroup::Version::V2 {
        out.push(json!({"type": "cgroup"}));
    }
    out
}

fn limits(amounts: Amounts, privileged: bool) -> Value {
    // A limit whose controller the machine lacks is an error of the runtime, not of the pod: it is left out.
    let mut out = json!({});
    if cgroup::has("cpu") {
        out["cpu"] = json!({"shares": resources::cpu_shares(amounts.cpu_request)});
        if amounts.cpu_limit > 0 {
            out["cpu"]["quota"] = json!(resources::cpu_quota_us(amounts.cpu_limit));
            out["cpu"]["period"] = json!(100_000);
        }
    }
    if amounts.memory_limit > 0 && cgroup::has("memory") {
        out["memory"] = json!({"limit": amounts.memory_limit});
    }
    // Version 2 has no device controller of files: see `caps` for what takes its place there.
    out["devices"] = if privileged {
        json!([{"allow": true, "access": "rwm"}])
    } else {
        json!([{"allow": false, "access": "rwm"}])
    };
    out
}

fn mounts(inputs: &Inputs<'_>, spec: &PodSpec, privileged: bool) -> Vec<Value> {
    let mount = |target: &str, kind: &str, options: &[&str]| json!({"destination": target, "type": kind, "source": kind, "options": options});
    let sys = if privileged { "rw" } else { "ro" };
    let mut out = vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", sys]),
    ];
    if cgroup::version() == cgroup::Version::V2 {
        out.push(mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", sys]));
    }
    let shm =
        if spec.host_ipc == Some(true) { PathBuf::from("/dev/shm") } else { inputs.pod_dir.join("shm") };
    let shm = BindMount { source: shm, target: "/dev/shm".to_owned(), read_only: false, propagation: None };
    let mut binds: Vec<&BindMount> = inputs.mounts.iter().collect();
    if !inputs.mounts.iter().any(|mount| mount.target == "/dev/shm") {
        binds.push(&shm);
    }
    // A mount below another's target comes after it.
    binds.sort_by_key(|bind| (bind.target.matches('/').count(), bind.target.clone()));
    out.extend(binds.into_iter().map(bind));
    out
}

fn bind(mount: &BindMount) -> Value {
    let mode = if mount.read_only { "ro" } else { "rw" };
    let propagation = match mount.propagation.as_deref() {
        Some("HostToContainer") => "rslave",
        Some("Bidirectional") => "rshared",
        _ => "rprivate",
    };
    json!({"destination": mount.target, "type": "bind", "source": mount.source, "options": ["rbind", propagation, mode]})
}

fn wants_seccomp(spec: &PodSpec, security: &SecurityContext) -> bool {
    let profile = security
        .seccomp_profile
        .as_ref()
        .or(spec.security_context.as_ref().and_then(|pod| pod.seccomp_profile.as_ref()));
    profile.is_some_and(|profile| profile.type_ == "RuntimeDefault")
}

/// The host's device nodes, for a privileged container.
fn host_devices() -> Vec<Value> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let Ok(entries) = std::fs::read_dir("/dev") else { return Vec::new() };
    let mut out = Vec::new();
    for entry in entries.flatten() {
        let Ok(found) = entry.metadata() else { continue };
        let kind = match found.file_type() {
            kind if kind.is_char_device() => "c",
            kind if kind.is_block_device() => "b",
            _ => continue,
        };
        let name = entry.file_name();
        // The runtime makes these itself.
        if ["null", "zero", "full", "random", "urandom", "tty", "console", "ptmx"]
            .iter()
            .any(|own| name == *own)
        {
            continue;
        }
        let (major, minor) = (libc::major(found.rdev()), libc::minor(found.rdev()));
        out.push(json!({"path": entry.path(), "type": kind, "major": major, "minor": minor,
            "fileMode": found.mode() & 0o777, "uid": found.uid(), "gid": found.gid()}));
    }
    out.sort_by_key(|device| device["path"].to_string());
    out
}

/// The control group of a pod.
#[must_use]
pub fn pod_cgroup(root: &Path, class: QosClass, uid: &str) -> PathBuf {
    let mut path = root.join("kubepods");
    if !class.cgroup().is_empty() {
        path.push(class.cgroup());
    }
    path.join(format!("pod{uid}"))
}
