//! Scripts: a pod, a sequence of events with times in seconds, and the actions and status after each.

use super::*;
use crate::status::status;
use expect_test::{Expect, expect};
use serde_json::{Value, json};

/// Runs a script and compares the trace.
fn check(spec: Value, script: &[&str], expect: Expect) {
    let mut pod: Pod = serde_json::from_value(
        json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": spec}),
    )
    .expect("a pod");
    let mut state = PodState::default();
    let mut trace = String::new();
    for line in script {
        let words: Vec<&str> = line.split(' ').collect();
        let now = words[0].parse::<i64>().expect("a time") * 1000;
        apply(&mut pod, &mut state, &words[1..], now);
        let plan = step(&pod, &mut state, now);
        trace.push_str(&format!("{line}\n"));
        for action in &plan.actions {
            trace.push_str(&format!("    {action:?}\n"));
        }
        if let Some(wake) = plan.wake_ms {
            trace.push_str(&format!("    wake at {}\n", wake / 1000));
        }
        trace.push_str(&format!("    = {}\n", shown(&pod, &state, now)));
    }
    expect.assert_eq(&trace);
}

fn apply(pod: &mut Pod, state: &mut PodState, words: &[&str], now: i64) {
    let mut container = |name: &str| std::mem::take(state.containers.entry(name.to_owned()).or_default());
    match *words {
        ["see"] => state.start_ms = now,
        ["sandbox"] => state.sandbox = SandboxState::Ready { ips: vec!["10.0.0.2".into()] },
        ["failed"] => {
            let message = "no network".to_owned();
            state.sandbox = SandboxState::Failed { retry_ms: now + 1000, failures: 1, message };
        }
        ["removed"] => state.sandbox = SandboxState::Removed { ips: vec!["10.0.0.2".into()] },
        ["delete"] => pod.metadata.deletion_timestamp = Some(crate::status::time(now)),
        ["started", name] => {
            let mut entry = container(name);
            entry.started(format!("{name}{}", now / 1000), "img".into(), "sha".into(), now);
            state.containers.insert(name.into(), entry);
        }
        ["exited", name, code] => {
            let mut entry = container(name);
            let code: i32 = code.parse().expect("a code");
            entry.exited(code, if code == 0 { "Completed" } else { "Error" }, "", now, now);
            state.containers.insert(name.into(), entry);
        }
        ["noimage", name] => {
            let mut entry = container(name);
            entry.not_created("ErrImageNeverPull", "not there", now);
            state.containers.insert(name.into(), entry);
        }
        ["tick"] => {}
        _ => panic!("unknown event {words:?}"),
    }
}

fn shown(pod: &Pod, state: &PodState, now: i64) -> String {
    let status = status(pod, state, "10.0.0.1", now);
    let mut out = status.phase.clone().unwrap_or_default();
    for condition in
        status.conditions.iter().flatten().filter(|c| c.status == "True" && c.type_ != "PodScheduled")
    {
        out.push_str(&format!(" {}", condition.type_));
    }
    let all =
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    for one in all {
        let api = one.state.clone().unwrap_or_default();
        let text = match (api.waiting, api.running, api.terminated) {
            (Some(waiting), _, _) => waiting.reason.unwrap_or_default(),
            (_, Some(_), _) => "running".into(),
            (_, _, Some(end)) => format!("{}:{}", end.reason.unwrap_or_default(), end.exit_code),
            _ => "?".into(),
        };
        out.push_str(&format!(" {}={text}/{}", one.name, one.restart_count));
    }
    out
}

#[test]
fn a_container_crashes_and_comes_back() {
    check(
        json!({"containers": [{"name": "c"}]}),
        &[
            "0 see",
            "1 sandbox",
            "2 started c",
            "3 exited c 1",
            "3 started c",
            "4 exited c 1",
            "14 tick",
            "14 started c",
        ],
        expect![[r#"
            0 see
                CreateSandbox
                = Pending Initialized c=ContainerCreating/0
            1 sandbox
                Start { name: "c", attempt: 0 }
                = Pending PodReadyToStartContainers Initialized c=ContainerCreating/0
            2 started c
                = Running PodReadyToStartContainers Initialized Ready ContainersReady c=running/0
            3 exited c 1
                Start { name: "c", attempt: 1 }
                = Running PodReadyToStartContainers Initialized c=Error:1/0
            3 started c
                = Running PodReadyToStartContainers Initialized Ready ContainersReady c=running/1
            4 exited c 1
                wake at 14
                = Running PodReadyToStartContainers Initialized c=CrashLoopBackOff/1
            14 tick
                Start { name: "c", attempt: 2 }
                = Running PodReadyToStartContainers Initialized c=Error:1/1
            14 started c
                = Running PodReadyToStartContainers Initialized Ready ContainersReady c=running/2
        "#]],
    );
}

#[test]
fn init_containers_go_first_and_sidecars_last() {
    check(
        json!({"restartPolicy": "Never", "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}],
            "containers": [{"name": "c"}]}),
        &[
            "0 see",
            "1 sandbox",
            "2 started i",
            "3 exited i 0",
            "4 started s",
            "5 started c",
            "6 exited c 0",
            "7 exited s 137",
            "8 removed",
        ],
        expect![[r#"
            0 see
                CreateSandbox
                = Pending i=PodInitializing/0 s=PodInitializing/0 c=PodInitializing/0
            1 sandbox
                Start { name: "i", attempt: 0 }
                = Pending PodReadyToStartContainers i=PodInitializing/0 s=PodInitializing/0 c=PodInitializing/0
            2 started i
                = Pending PodReadyToStartContainers i=running/0 s=PodInitializing/0 c=PodInitializing/0
            3 exited i 0
                Start { name: "s", attempt: 0 }
                = Pending PodReadyToStartContainers i=Completed:0/0 s=PodInitializing/0 c=PodInitializing/0
            4 started s
                Start { name: "c", attempt: 0 }
                = Pending PodReadyToStartContainers Initialized i=Completed:0/0 s=running/0 c=PodInitializing/0
            5 started c
                = Running PodReadyToStartContainers Initialized Ready ContainersReady i=Completed:0/0 s=running/0 c=running/0
            6 exited c 0
                Stop { name: "s", grace_s: 30, message: "Stopping container s" }
                = Running PodReadyToStartContainers Initialized i=Completed:0/0 s=running/0 c=Completed:0/0
            7 exited s 137
                RemoveSandbox
                = Succeeded Initialized i=Completed:0/0 s=Error:137/0 c=Completed:0/0
            8 removed
                = Succeeded Initialized i=Completed:0/0 s=Error:137/0 c=Completed:0/0
        "#]],
    );
}

#[test]
fn a_deleted_pod_stops_and_goes() {
    check(
        json!({"terminationGracePeriodSeconds": 5, "containers": [{"name": "c"}]}),
        &["0 see", "1 sandbox", "2 started c", "3 delete", "4 exited c 143", "5 removed"],
        expect![[r#"
            0 see
                CreateSandbox
                = Pending Initialized c=ContainerCreating/0
            1 sandbox
                Start { name: "c", attempt: 0 }
                = Pending PodReadyToStartContainers Initialized c=ContainerCreating/0
            2 started c
                = Running PodReadyToStartContainers Initialized Ready ContainersReady c=running/0
            3 delete
                Stop { name: "c", grace_s: 5, message: "Stopping container c" }
                = Running PodReadyToStartContainers Initialized Ready ContainersReady c=running/0
            4 exited c 143
                RemoveSandbox
                = Running Initialized c=Error:143/0
            5 removed
                Finish
                = Running Initialized c=Error:143/0
        "#]],
    );
}

#[test]
fn failures_policies_and_deadlines() {
    check(
        json!({"restartPolicy": "OnFailure", "activeDeadlineSeconds": 20, "containers": [{"name": "c"}]}),
        &["0 see", "1 sandbox", "2 noimage c", "12 started c", "20 tick", "21 exited c 137", "22 removed"],
        expect![[r#"
            0 see
                CreateSandbox
                wake at 20
                = Pending Initialized c=ContainerCreating/0
            1 sandbox
                Start { name: "c", attempt: 0 }
                wake at 20
                = Pending PodReadyToStartContainers Initialized c=ContainerCreating/0
            2 noimage c
                wake at 12
                = Pending PodReadyToStartContainers Initialized c=ErrImageNeverPull/0
            12 started c
                wake at 20
                = Running PodReadyToStartContainers Initialized Ready ContainersReady c=running/0
            20 tick
                Stop { name: "c", grace_s: 30, message: "Stopping container c" }
                = Running PodReadyToStartContainers Initialized Ready ContainersReady c=running/0
            21 exited c 137
                RemoveSandbox
                = Failed Initialized c=Error:137/0
            22 removed
                = Failed Initialized c=Error:137/0
        "#]],
    );
}

#[test]
fn a_sandbox_in_the_making_is_waited_for() {
    check(
        json!({"containers": [{"name": "c"}]}),
        &["0 see", "1 failed", "2 tick", "3 delete", "4 sandbox", "5 removed"],
        expect![[r#"
            0 see
                CreateSandbox
                = Pending Initialized c=ContainerCreating/0
            1 failed
                wake at 2
                = Pending Initialized c=ContainerCreating/0
            2 tick
                CreateSandbox
                = Pending Initialized c=ContainerCreating/0
            3 delete
                = Pending Initialized c=ContainerCreating/0
            4 sandbox
                RemoveSandbox
                = Pending Initialized c=ContainerCreating/0
            5 removed
                Finish
                = Pending Initialized c=ContainerCreating/0
        "#]],
    );
}
