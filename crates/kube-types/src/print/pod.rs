//! Pods: the one row whose status column is computed rather than read.

use serde_json::Value;

use super::{AGE, Column, NAME, Printer, age, age_of, int_at, list_at, name_of, or_none, str_at, text, wide};

pub(super) const PRINTER: Printer = Printer {
    group: "",
    kind: "Pod",
    columns: &[
        NAME,
        text("Ready", "Ready containers of all containers"),
        text("Status", "What the pod is doing or why it is not"),
        RESTARTS,
        AGE,
        wide("IP", "Address of the pod"),
        wide("Node", "Node that runs the pod"),
        wide("Nominated Node", "Node where room is being made for the pod"),
        wide("Readiness Gates", "Readiness gates that hold, of all"),
    ],
    row,
};

const RESTARTS: Column =
    Column { name: "Restarts", ..text("", "Restarts of the containers, and when the last was") };

fn row(pod: &Value, now_ms: i64) -> Vec<Value> {
    let summary = Summary::of(pod);
    let restarts = match summary.last_restart_ms {
        Some(then) if summary.restarts != 0 => {
            format!("{} ({} ago)", summary.restarts, age::human_duration((now_ms - then).div_euclid(1000)))
        }
        _ => summary.restarts.to_string(),
    };
    let first_ip = list_at(pod, "/status/podIPs").first().map_or("", |ip| str_at(ip, "/ip"));
    let ip = if first_ip.is_empty() { str_at(pod, "/status/podIP") } else { first_ip };
    vec![
        name_of(pod),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        age_of(pod, now_ms),
        or_none(ip).into(),
        or_none(str_at(pod, "/spec/nodeName")).into(),
        or_none(str_at(pod, "/status/nominatedNodeName")).into(),
        readiness_gates(pod).into(),
    ]
}

struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: i64,
    last_restart_ms: Option<i64>,
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let phase = str_at(pod, "/status/phase");
        let own_reason = str_at(pod, "/status/reason");
        let mut summary = Self {
            ready: 0,
            total: list_at(pod, "/spec/containers").len(),
            reason: if own_reason.is_empty() { phase } else { own_reason }.to_owned(),
            restarts: 0,
            last_restart_ms: None,
        };
        if has_condition(pod, "PodScheduled", |c| str_at(c, "/reason") == "SchedulingGated") {
            summary.reason = "SchedulingGated".into();
        }
        let initializing = summary.add_init_containers(pod);
        if !initializing || has_condition(pod, "Initialized", |c| str_at(c, "/status") == "True") {
            summary.add_containers(pod, initializing);
        }
        summary.note_deletion(pod, phase);
        summary
    }

    /// Returns whether an init container still stands between the pod and its containers.
    fn add_init_containers(&mut self, pod: &Value) -> bool {
        let specs = list_at(pod, "/spec/initContainers");
        self.total += specs.iter().filter(|c| is_sidecar(c)).count();
        let (mut sidecar_restarts, mut init_restarts) = (0, 0);
        let mut sidecar_last = None;
        for (i, status) in list_at(pod, "/status/initContainerStatuses").iter().enumerate() {
            let spec = specs.iter().find(|c| str_at(c, "/name") == str_at(status, "/name"));
            let sidecar = spec.is_some_and(is_sidecar);
            init_restarts += int_at(status, "/restartCount");
            self.note_restart(status);
            if sidecar {
                sidecar_restarts += int_at(status, "/restartCount");
                sidecar_last = sidecar_last.max(last_finish_ms(status));
            }
            match init_progress(status, sidecar) {
                Init::Done { ready } => self.ready += usize::from(ready),
                Init::Failed(reason) => {
                    self.reason = format!("Init:{reason}");
                    self.restarts = init_restarts;
                    return true;
                }
                Init::Waiting => {
                    self.reason = format!("Init:{i}/{}", specs.len());
                    self.restarts = init_restarts;
                    return true;
                }
            }
        }
        self.restarts = sidecar_restarts;
        self.last_restart_ms = sidecar_last;
        false
    }

    fn add_containers(&mut self, pod: &Value, initializing: bool) {
        if initializing {
            self.restarts = 0;
        }
        let mut has_running = false;
        // From the last to the first, so that the first container's trouble is the one shown.
        for status in list_at(pod, "/status/containerStatuses").iter().rev() {
            self.restarts += int_at(status, "/restartCount");
            self.note_restart(status);
            let ready = status.get("ready").and_then(Value::as_bool).unwrap_or(false);
            if let Some(reason) = container_reason(status) {
                self.reason = reason;
            } else if ready && status.pointer("/state/running").is_some() {
                has_running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && has_running {
            let ready = has_condition(pod, "Ready", |c| str_at(c, "/status") == "True");
            self.reason = if ready { "Running" } else { "NotReady" }.into();
        }
    }

    fn note_restart(&mut self, status: &Value) {
        self.last_restart_ms = self.last_restart_ms.max(last_finish_ms(status));
    }

    fn note_deletion(&mut self, pod: &Value, phase: &str) {
        if pod.pointer("/metadata/deletionTimestamp").is_none() {
            return;
        }
        if str_at(pod, "/status/reason") == "NodeLost" {
            self.reason = "Unknown".into();
        } else if phase != "Failed" && phase != "Succeeded" {
            self.reason = "Terminating".into();
        }
    }
}

enum Init {
    Done { ready: bool },
    Failed(String),
    Waiting,
}

fn init_progress(status: &Value, sidecar: bool) -> Init {
    let ready = status.get("ready").and_then(Value::as_bool).unwrap_or(false);
    if let Some(ended) = status.pointer("/state/terminated") {
        return match int_at(ended, "/exitCode") {
            0 => Init::Done { ready: false },
            _ => Init::Failed(termination_reason(ended)),
        };
    }
    if sidecar && status.get("started").and_then(Value::as_bool) == Some(true) {
        return Init::Done { ready };
    }
    match str_at(status, "/state/waiting/reason") {
        "" | "PodInitializing" => Init::Waiting,
        reason => Init::Failed(reason.to_owned()),
    }
}

/// Why a container is not simply running, if so.
fn container_reason(status: &Value) -> Option<String> {
    let waiting = str_at(status, "/state/waiting/reason");
    if !waiting.is_empty() {
        return Some(waiting.to_owned());
    }
    status.pointer("/state/terminated").map(termination_reason)
}

fn termination_reason(ended: &Value) -> String {
    match (str_at(ended, "/reason"), int_at(ended, "/signal")) {
        ("", 0) => format!("ExitCode:{}", int_at(ended, "/exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn last_finish_ms(status: &Value) -> Option<i64> {
    age::parse_ms(str_at(status, "/lastState/terminated/finishedAt"))
}

fn is_sidecar(container: &Value) -> bool {
    str_at(container, "/restartPolicy") == "Always"
}

fn has_condition(pod: &Value, kind: &str, holds: impl Fn(&Value) -> bool) -> bool {
    list_at(pod, "/status/conditions").iter().any(|c| str_at(c, "/type") == kind && holds(c))
}

fn readiness_gates(pod: &Value) -> String {
    let gates = list_at(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".into();
    }
    let holds = |gate: &&Value| {
        has_condition(pod, str_at(gate, "/conditionType"), |c| str_at(c, "/status") == "True")
    };
    format!("{}/{}", gates.iter().filter(holds).count(), gates.len())
}
