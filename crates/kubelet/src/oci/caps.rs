//! Capabilities: Docker's default set, what `securityContext` adds and drops, and what this machine can give.

use crate::cgroup;
use k8s_openapi::api::core::v1::SecurityContext;

/// By number (include/uapi/linux/capability.h).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];
const DEFAULT: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const SYS_RESOURCE: usize = 24;

/// The capabilities of a container, `CAP_...`, sorted; none that this process lacks itself.
pub fn granted(security: &SecurityContext) -> Vec<String> {
    // Version 2 has no list of allowed devices: there nobody makes device nodes unless the pod asks for it.
    let mknod = cgroup::version() == cgroup::Version::V1;
    select(security, own(), mknod).iter().map(|name| format!("CAP_{name}")).collect()
}

/// Whether `oom_score_adj` may be lowered here.
pub fn may_lower_oom_score() -> bool {
    own() & (1 << SYS_RESOURCE) != 0
}

/// `mknod`: whether the control groups keep device nodes that a container makes from opening devices.
fn select(security: &SecurityContext, own: u64, mknod: bool) -> Vec<&'static str> {
    let lists = security.capabilities.clone().unwrap_or_default();
    let listed = |list: &Option<Vec<String>>, name: &str| {
        list.iter().flatten().any(|entry| {
            let entry = entry.to_uppercase();
            entry == "ALL" || entry.strip_prefix("CAP_").unwrap_or(&entry) == name
        })
    };
    let exactly = |list: &Option<Vec<String>>, name: &str| {
        list.iter().flatten().any(|entry| entry.to_uppercase().trim_start_matches("CAP_") == name)
    };
    let privileged = security.privileged == Some(true);
    let defaults = |name: &str| DEFAULT.contains(&name) && (mknod || name != "MKNOD");
    let wanted = |name: &str| {
        let by_default = privileged || defaults(name);
        let kept = by_default && !listed(&lists.drop, name);
        // What is added by name wins over "drop: ALL".
        kept || (listed(&lists.add, name) && !exactly(&lists.drop, name))
    };
    let mut out: Vec<&'static str> = NAMES
        .iter()
        .enumerate()
        .filter(|(number, name)| own & (1 << number) != 0 && wanted(name))
        .map(|(_, name)| *name)
        .collect();
    out.sort_unstable();
    out
}

/// This process' bounding set.
fn own() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(security: serde_json::Value, own: u64, expect: &str) {
        let security: SecurityContext = serde_json::from_value(security).unwrap();
        assert_eq!(select(&security, own, true).join(" "), expect);
    }

    #[test]
    fn adding_and_dropping() {
        check(
            json!({"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "CAP_CHOWN"]}}),
            u64::MAX,
            "CHOWN NET_ADMIN",
        );
        check(json!({"capabilities": {"drop": ["all"]}}), u64::MAX, "");
        let most = (1 << 0) | (1 << 5) | (1 << 12);
        check(json!({}), most, "CHOWN KILL");
        check(json!({"capabilities": {"drop": ["KILL"]}}), most, "CHOWN");
        check(json!({"privileged": true}), most, "CHOWN KILL NET_ADMIN");
        check(json!({"capabilities": {"add": ["ALL"]}}), most, "CHOWN KILL NET_ADMIN");
    }
}
