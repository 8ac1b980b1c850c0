use serde_json::{Value, json};

use super::{PRINTERS, columns, row};

const NOW_MS: i64 = 1_800_000_000_000; // 2027-01-15T08:00:00Z

fn check(group: &str, kind: &str, object: Value, expect: &[&str]) {
    let cells: Vec<String> = row(group, kind, &object, NOW_MS)
        .into_iter()
        .map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned))
        .collect();
    assert_eq!(cells, expect, "{kind} {object}");
}

fn meta() -> Value {
    json!({"name": "x", "creationTimestamp": "2027-01-15T07:55:00Z"})
}

fn pod(mut status: Value, extra_meta: Value, spec: Value) -> Value {
    let mut metadata = meta();
    for (k, v) in extra_meta.as_object().into_iter().flatten() {
        metadata[k] = v.clone();
    }
    if status.get("phase").is_none() {
        status["phase"] = "Running".into();
    }
    json!({"metadata": metadata, "spec": spec, "status": status})
}

fn check_pod(status: Value, extra_meta: Value, expect: [&str; 3]) {
    let spec = json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]});
    let cells = row("", "Pod", &pod(status, extra_meta, spec), NOW_MS);
    let shown: Vec<&str> = cells[1..4].iter().map(|c| c.as_str().unwrap()).collect();
    assert_eq!(shown, expect);
}

#[test]
fn every_row_has_a_cell_for_each_column() {
    for printer in PRINTERS {
        let cells = row(printer.group, printer.kind, &json!({}), NOW_MS);
        assert_eq!(cells.len(), columns(printer.group, printer.kind).len(), "{}", printer.kind);
    }
}

#[test]
fn pods_say_what_they_are_doing() {
    let none = || json!({});
    let init_done = json!([{"name": "i", "state": {"terminated": {"exitCode": 0}}}]);
    check_pod(json!({"phase": "Pending"}), none(), ["0/1", "Pending", "0"]);
    check_pod(
        json!({"initContainerStatuses": init_done, "containerStatuses": [{"name": "a", "ready": true, "restartCount": 2,
            "state": {"running": {}}, "lastState": {"terminated": {"finishedAt": "2027-01-15T07:58:00Z"}}}]}),
        none(),
        ["1/1", "Running", "2 (2m ago)"],
    );
    check_pod(
        json!({"initContainerStatuses": init_done, "containerStatuses": [{"name": "a", "ready": false, "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
        none(),
        ["0/1", "CrashLoopBackOff", "3"],
    );
    check_pod(
        json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}),
        none(),
        ["0/1", "Init:0/1", "0"],
    );
    check_pod(
        json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "restartCount": 1,
            "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}),
        none(),
        ["0/1", "Init:Error", "1"],
    );
    check_pod(
        json!({"phase": "Succeeded", "initContainerStatuses": init_done,
            "containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}),
        none(),
        ["0/1", "Completed", "0"],
    );
    check_pod(
        json!({"initContainerStatuses": init_done,
            "containerStatuses": [{"name": "a", "ready": true, "state": {"running": {}}}]}),
        json!({"deletionTimestamp": "2027-01-15T07:59:00Z"}),
        ["1/1", "Terminating", "0"],
    );
    check_pod(json!({"phase": "Failed", "reason": "Evicted"}), none(), ["0/1", "Evicted", "0"]);
    check_pod(
        json!({"initContainerStatuses": init_done,
            "containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 0, "signal": 9}}}]}),
        none(),
        ["0/1", "Signal:9", "0"],
    );
}

#[test]
fn workloads_and_services_read_as_upstream_prints_them() {
    check(
        "apps",
        "Deployment",
        json!({"metadata": meta(), "status": {"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"b": "2", "a": "1"}},
                "template": {"spec": {"containers": [{"name": "web", "image": "nginx"}, {"name": "side", "image": "busybox"}]}}}}),
        &["x", "1/3", "2", "1", "5m", "web,side", "nginx,busybox", "a=1,b=2"],
    );
    check(
        "",
        "Service",
        json!({"metadata": meta(), "spec": {"type": "NodePort", "clusterIP": "10.43.0.7", "selector": {"app": "x"},
            "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}}),
        &["x", "NodePort", "10.43.0.7", "<none>", "80:30080/TCP,53/UDP", "5m", "app=x"],
    );
    check(
        "discovery.k8s.io",
        "EndpointSlice",
        json!({"metadata": meta(), "addressType": "IPv4", "ports": [{"port": 80}],
            "endpoints": [{"addresses": ["10.42.0.2"]}, {"addresses": ["10.42.0.3"]}, {"addresses": ["10.42.0.4"]},
                {"addresses": ["10.42.0.5"]}]}),
        &["x", "IPv4", "80", "10.42.0.2,10.42.0.3,10.42.0.4 + 1 more...", "5m"],
    );
    check(
        "",
        "Event",
        json!({"metadata": meta(), "type": "Normal", "reason": "Started", "message": "Started container a\n",
            "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{a}"},
            "source": {"component": "kubelet", "host": "n1"},
            "firstTimestamp": "2027-01-15T07:55:00Z", "lastTimestamp": "2027-01-15T07:59:30Z", "count": 4}),
        &[
            "30s",
            "Normal",
            "Started",
            "pod/p",
            "spec.containers{a}",
            "kubelet, n1",
            "Started container a",
            "5m",
            "4",
            "x",
        ],
    );
    check(
        "",
        "Node",
        json!({"metadata": {"name": "n", "creationTimestamp": "2027-01-15T07:55:00Z",
            "labels": {"node-role.kubernetes.io/control-plane": ""}}, "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1.36.0"},
                "addresses": [{"type": "InternalIP", "address": "10.42.0.1"}]}}),
        &[
            "n",
            "Ready,SchedulingDisabled",
            "control-plane",
            "5m",
            "v1.36.0",
            "10.42.0.1",
            "<none>",
            "<unknown>",
            "<unknown>",
            "<unknown>",
        ],
    );
}
