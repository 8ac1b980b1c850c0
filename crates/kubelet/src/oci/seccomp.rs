//! The seccomp profile `RuntimeDefault`: the system calls that Docker's documentation lists as refused.
//!
//! Upstream's profile lists what is allowed; this one lists what is refused, so a system call newer than both
//! passes here and not there.

use serde_json::{Value, json};

/// Refused without CAP_SYS_ADMIN.
const ADMIN: &[&str] = &[
    "bpf",
    "fanotify_init",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "lookup_dcookie",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "perf_event_open",
    "pivot_root",
    "quotactl",
    "quotactl_fd",
    "setns",
    "swapoff",
    "swapon",
    "umount2",
    "unshare",
];
/// Refused without the capability named.
const GUARDED: &[(&str, &[&str])] = &[
    ("CAP_SYS_BOOT", &["kexec_file_load", "kexec_load", "reboot"]),
    ("CAP_SYS_MODULE", &["delete_module", "finit_module", "init_module"]),
    ("CAP_SYS_PACCT", &["acct"]),
    ("CAP_SYS_PTRACE", &["kcmp", "pidfd_getfd"]),
    ("CAP_SYS_RAWIO", &["ioperm", "iopl"]),
    ("CAP_SYS_TIME", &["clock_adjtime", "clock_settime", "settimeofday"]),
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    ("CAP_SYS_NICE", &["mbind", "migrate_pages", "move_pages", "set_mempolicy"]),
];
/// Refused always.
const ALWAYS: &[&str] = &[
    "add_key",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "keyctl",
    "request_key",
    "userfaultfd",
];
/// CLONE_NEW* flags that make namespaces: ns, cgroup, uts, ipc, user, pid, net.
const NAMESPACE_FLAGS: [u64; 7] =
    [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];

/// The profile for a container with these capabilities.
pub fn runtime_default(caps: &[String]) -> Value {
    let has = |name: &str| caps.iter().any(|cap| cap == name);
    let mut names: Vec<&str> = ALWAYS.to_vec();
    for (cap, guarded) in GUARDED {
        if !has(cap) {
            names.extend_from_slice(guarded);
        }
    }
    let mut rules = Vec::new();
    if !has("CAP_SYS_ADMIN") {
        names.extend_from_slice(ADMIN);
        // glibc falls back to clone, whose flags can be looked at, when clone3 does not exist.
        rules.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS}));
        rules.extend(NAMESPACE_FLAGS.iter().map(|flag| {
            json!({"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EPERM,
                "args": [{"index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ"}]})
        }));
    }
    names.sort_unstable();
    rules.push(json!({"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EPERM}));
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
}
