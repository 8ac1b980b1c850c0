//! What a pod asks of the machine: quantities, quality of service, shares, quotas, out-of-memory scores.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// The three classes of quality of service (`status.qosClass`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QosClass {
    /// Every container has equal requests and limits of CPU and memory.
    Guaranteed,
    /// Some container asks for something.
    Burstable,
    /// Nobody asks for anything.
    BestEffort,
}

impl QosClass {
    /// As the API spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }

    /// The control group of the class below `kubepods`; guaranteed pods sit in `kubepods` itself.
    #[must_use]
    pub const fn cgroup(self) -> &'static str {
        match self {
            Self::Guaranteed => "",
            Self::Burstable => "burstable",
            Self::BestEffort => "besteffort",
        }
    }
}

/// A quantity in thousandths of its unit, rounded up; None when it is malformed.
#[must_use]
pub fn milli(quantity: &Quantity) -> Option<i128> {
    let text = quantity.0.trim();
    let digits =
        text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let (multiplier, divisor) = scale(suffix)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let places = u32::try_from(fraction.len()).ok().filter(|places| *places <= 18)?;
    let all: i128 = format!("{whole}{fraction}").parse().ok()?;
    let top = all.checked_mul(1000)?.checked_mul(multiplier)?;
    let bottom = 10i128.checked_pow(places)?.checked_mul(divisor)?;
    Some(top.div_euclid(bottom) + i128::from(top.rem_euclid(bottom) != 0))
}

fn scale(suffix: &str) -> Option<(i128, i128)> {
    if let Some(exponent) = suffix.strip_prefix(['e', 'E']).filter(|rest| !rest.is_empty()) {
        let power: i32 = exponent.parse().ok().filter(|power: &i32| power.abs() <= 18)?;
        let value = 10i128.pow(power.unsigned_abs());
        return Some(if power < 0 { (1, value) } else { (value, 1) });
    }
    Some(match suffix {
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "" => (1, 1),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => return None,
    })
}

/// The amounts of one resource in a list, in thousandths; 0 when absent.
fn amount(list: Option<&BTreeMap<String, Quantity>>, name: &str) -> i128 {
    list.and_then(|list| list.get(name)).and_then(milli).unwrap_or(0)
}

/// Requests and limits of CPU (millicores) and memory (bytes); 0 means unset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Requested millicores.
    pub cpu_request: i64,
    /// Limit in millicores.
    pub cpu_limit: i64,
    /// Requested bytes.
    pub memory_request: i64,
    /// Limit in bytes.
    pub memory_limit: i64,
}

/// What one set of requirements comes to; a limit without a request counts as the request.
#[must_use]
pub fn amounts(requirements: Option<&ResourceRequirements>) -> Amounts {
    let Some(requirements) = requirements else { return Amounts::default() };
    let (requests, limits) = (requirements.requests.as_ref(), requirements.limits.as_ref());
    let bytes = |list, name| i64::try_from(amount(list, name) / 1000).unwrap_or(i64::MAX);
    let milli = |list, name| i64::try_from(amount(list, name)).unwrap_or(i64::MAX);
    let (cpu_limit, memory_limit) = (milli(limits, "cpu"), bytes(limits, "memory"));
    let has = |name: &str| requests.is_some_and(|list| list.contains_key(name));
    Amounts {
        cpu_request: if has("cpu") { milli(requests, "cpu") } else { cpu_limit },
        cpu_limit,
        memory_request: if has("memory") { bytes(requests, "memory") } else { memory_limit },
        memory_limit,
    }
}

/// What the pod's own group is limited to: the sum of its containers, where all of them have the limit.
#[must_use]
pub fn pod_amounts(spec: &PodSpec) -> Amounts {
    let mut sum = Amounts::default();
    let (mut all_cpu, mut all_memory) = (true, true);
    for container in long_running(spec) {
        let one = amounts(container.resources.as_ref());
        sum.cpu_request += one.cpu_request;
        sum.memory_request += one.memory_request;
        sum.cpu_limit += one.cpu_limit;
        sum.memory_limit += one.memory_limit;
        all_cpu &= one.cpu_limit > 0;
        all_memory &= one.memory_limit > 0;
    }
    for container in spec.init_containers.iter().flatten().filter(|container| !is_sidecar(container)) {
        let one = amounts(container.resources.as_ref());
        sum.cpu_request = sum.cpu_request.max(one.cpu_request);
        sum.cpu_limit = sum.cpu_limit.max(one.cpu_limit);
        sum.memory_limit = sum.memory_limit.max(one.memory_limit);
        all_cpu &= one.cpu_limit > 0;
        all_memory &= one.memory_limit > 0;
    }
    if !all_cpu {
        sum.cpu_limit = 0;
    }
    if !all_memory {
        sum.memory_limit = 0;
    }
    sum
}

fn long_running(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.containers
        .iter()
        .chain(spec.init_containers.iter().flatten().filter(|container| is_sidecar(container)))
}

/// Whether an init container keeps running beside the others (KEP-753).
#[must_use]
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The pod's class (KEP: resource QoS; `GetPodQOS`).
#[must_use]
pub fn qos(pod: &Pod) -> QosClass {
    let Some(spec) = &pod.spec else { return QosClass::BestEffort };
    let mut any = false;
    let mut guaranteed = true;
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        let one = amounts(container.resources.as_ref());
        any |= one != Amounts::default();
        guaranteed &= one.cpu_limit > 0
            && one.memory_limit > 0
            && one.cpu_request == one.cpu_limit
            && one.memory_request == one.memory_limit;
    }
    match (any, guaranteed) {
        (false, _) => QosClass::BestEffort,
        (true, true) => QosClass::Guaranteed,
        (true, false) => QosClass::Burstable,
    }
}

/// `cpu.shares` of a number of millicores (1024 a core, at least 2).
#[must_use]
pub fn cpu_shares(milli: i64) -> u64 {
    u64::try_from(milli * 1024 / 1000).unwrap_or(0).clamp(2, 262_144)
}

/// `cpu.cfs_quota_us` over a period of 100 ms; 0 for no limit.
#[must_use]
pub fn cpu_quota_us(milli: i64) -> i64 {
    if milli == 0 { 0 } else { (milli * 100).max(1000) }
}

/// How eagerly the kernel kills the container when memory runs out (`GetContainerOOMScoreAdjust`).
#[must_use]
pub fn oom_score_adj(class: QosClass, memory_request: i64, capacity: i64) -> i32 {
    match class {
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let share = 1000 * i128::from(memory_request) / i128::from(capacity.max(1));
            i32::try_from((1000 - share).clamp(3, 999)).unwrap_or(999)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_come_to_thousandths() {
        let check =
            |text: &str, expect: Option<i128>| assert_eq!(milli(&Quantity(text.into())), expect, "{text}");
        check("100m", Some(100));
        check("1", Some(1000));
        check("1.5", Some(1500));
        check("64Mi", Some(64 * 1024 * 1024 * 1000));
        check("1e3", Some(1_000_000));
        check("1n", Some(1));
        check("12x", None);
        check("", None);
    }

    fn pod(json: serde_json::Value) -> Pod {
        serde_json::from_value(
            serde_json::json!({"spec": {"containers": [{"name": "c", "resources": json}]}}),
        )
        .unwrap()
    }

    #[test]
    fn classes_follow_requests_and_limits() {
        let check = |resources, expect| assert_eq!(qos(&pod(resources)), expect);
        check(serde_json::json!({}), QosClass::BestEffort);
        check(serde_json::json!({"requests": {"cpu": "1m"}}), QosClass::Burstable);
        check(serde_json::json!({"limits": {"cpu": "1", "memory": "1Mi"}}), QosClass::Guaranteed);
        check(serde_json::json!({"limits": {"cpu": "1"}}), QosClass::Burstable);
    }

    #[test]
    fn scores_follow_the_share_of_memory() {
        assert_eq!(oom_score_adj(QosClass::Burstable, 1 << 30, 4 << 30), 750);
        assert_eq!(oom_score_adj(QosClass::Burstable, 0, 4 << 30), 999);
        assert_eq!(cpu_shares(250), 256);
        assert_eq!(cpu_quota_us(5), 1000);
    }
}
