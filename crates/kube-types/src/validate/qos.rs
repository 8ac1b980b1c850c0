//! The quality-of-service class of a pod.

use super::list;
use crate::quantity::Quantity;
use serde_json::Value;

/// `Guaranteed` when every container's cpu and memory requests equal its limits, `BestEffort` when none has
/// either, else `Burstable`.
pub fn qos_class(pod: &Value) -> &'static str {
    let spec = &pod["spec"];
    let containers = || list(spec, "containers").iter().chain(list(spec, "initContainers"));
    let (mut any, mut guaranteed) = (false, true);
    for container in containers() {
        for name in ["cpu", "memory"] {
            let (request, limit) = (amount(container, "requests", name), amount(container, "limits", name));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request.or(limit) == limit;
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn amount(container: &Value, kind: &str, name: &str) -> Option<Quantity> {
    let text = container.get("resources")?.get(kind)?.get(name)?.as_str()?;
    text.parse::<Quantity>().ok().filter(|quantity| !quantity.is_zero())
}
