//! Golden plans: objects in, actions out.

use expect_test::{Expect, expect};
use serde_json::json;

use super::*;
use crate::describe;

const NOW_MS: i64 = 1_700_000_000_000;

fn deployment(extra: &str) -> Deployment {
    let text = format!(
        "
metadata: {{name: web, namespace: d, uid: u-web, generation: 2}}
spec:
  replicas: 4
  progressDeadlineSeconds: 600
  revisionHistoryLimit: 1
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec: {{containers: [{{name: c, image: 'a:2'}}]}}
{extra}"
    );
    serde_saphyr::from_str(&text).expect("a deployment")
}

/// `name image size available created`, such as `web-1 a:1 4 4 10`.
fn set(text: &str) -> Arc<ReplicaSet> {
    let words: Vec<&str> = text.split(' ').collect();
    let [name, image, size, lives, created] = words[..] else { panic!("five words: {text}") };
    let (size, lives): (i32, i32) = (size.parse().expect("size"), lives.parse().expect("available"));
    let owner = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "u-web", "controller": true});
    let revision = created.to_owned();
    let set = json!({
        "metadata": {
            "name": name, "namespace": "d", "uid": name, "generation": 1, "resourceVersion": "7",
            "labels": {"app": "web", "pod-template-hash": name}, "ownerReferences": [owner],
            "creationTimestamp": format!("2023-01-01T00:00:{created:0>2}Z"),
            "annotations": {
                "deployment.kubernetes.io/revision": revision,
                "deployment.kubernetes.io/desired-replicas": "4",
                "deployment.kubernetes.io/max-replicas": "5",
            },
        },
        "spec": {
            "replicas": size,
            "selector": {"matchLabels": {"app": "web", "pod-template-hash": name}},
            "template": {
                "metadata": {"labels": {"app": "web", "pod-template-hash": name}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
        },
        "status": {"replicas": size, "readyReplicas": lives, "availableReplicas": lives, "observedGeneration": 1},
    });
    Arc::new(serde_json::from_value(set).expect("a set"))
}

fn check(deployment: &Deployment, sets: &[&str], pods: &[Arc<Pod>], expect: &Expect) {
    let sets: Vec<_> = sets.iter().map(|text| set(text)).collect();
    let plan = reconcile(NOW_MS, deployment, &sets, pods);
    // The last word on status is checked in its own tests; here the plan is what matters.
    let plan: Vec<Action> =
        plan.into_iter().filter(|a| !matches!(a, Action::Patch { subresource: "status", .. })).collect();
    expect.assert_eq(&describe(&plan));
}

#[test]
fn the_first_set() {
    check(
        &deployment(""),
        &[],
        &[],
        &expect![[r#"
        create ReplicaSet d/web-74d4cf9b49 replicas=4
        tell Normal Deployment web ScalingReplicaSet: Scaled up replica set web-74d4cf9b49 from 0 to 4
        patch Deployment web {"metadata":{"annotations":{"deployment.kubernetes.io/revision":"1"}}}
        look again in 601000 ms
    "#]],
    );
}

#[test]
fn a_new_template_surges_then_drains() {
    // A quarter of four: one more, one less.
    check(
        &deployment(""),
        &["web-1 a:1 4 4 1"],
        &[],
        &expect![[r#"
        create ReplicaSet d/web-74d4cf9b49 replicas=1
        tell Normal Deployment web ScalingReplicaSet: Scaled up replica set web-74d4cf9b49 from 0 to 1
        patch Deployment web {"metadata":{"annotations":{"deployment.kubernetes.io/revision":"2"}}}
        update ReplicaSet web-1 replicas=3
        tell Normal Deployment web ScalingReplicaSet: Scaled down replica set web-1 from 4 to 3
        look again in 601000 ms
    "#]],
    );
    check(
        &deployment(""),
        &["web-1 a:1 3 3 1", "web-2 a:2 2 0 2"],
        &[],
        &expect![[r#"
        patch Deployment web {"metadata":{"annotations":{"deployment.kubernetes.io/revision":"2"}}}
        look again in 601000 ms
    "#]],
    );
    check(
        &deployment(""),
        &["web-1 a:1 3 3 1", "web-2 a:2 2 2 2"],
        &[],
        &expect![[r#"
        patch Deployment web {"metadata":{"annotations":{"deployment.kubernetes.io/revision":"2"}}}
        update ReplicaSet web-1 replicas=1
        tell Normal Deployment web ScalingReplicaSet: Scaled down replica set web-1 from 3 to 1
        look again in 601000 ms
    "#]],
    );
    check(
        &deployment(""),
        &["web-1 a:1 0 0 1", "web-2 a:2 4 4 2"],
        &[],
        &expect![[r#"
        patch Deployment web {"metadata":{"annotations":{"deployment.kubernetes.io/revision":"2"}}}
    "#]],
    );
}

#[test]
fn old_pods_that_are_not_available_go_first() {
    check(
        &deployment(""),
        &["web-0 a:0 2 0 1", "web-1 a:1 2 2 2", "web-2 a:2 1 0 3"],
        &[],
        &expect![[r#"
        patch Deployment web {"metadata":{"annotations":{"deployment.kubernetes.io/revision":"3"}}}
        update ReplicaSet web-0 replicas=1
        tell Normal Deployment web ScalingReplicaSet: Scaled down replica set web-0 from 2 to 1
        look again in 601000 ms
    "#]],
    );
}

#[test]
fn a_set_that_was_just_shrunk_is_not_counted_twice() {
    // It still reports four available and is asked for two: one may go, not three.
    let mut shrunk = (*set("web-1 a:1 4 4 1")).clone();
    shrunk.spec.as_mut().expect("spec").replicas = Some(2);
    let plan = reconcile(NOW_MS, &deployment(""), &[Arc::new(shrunk), set("web-2 a:2 3 2 2")], &[]);
    let size = plan.iter().find_map(|action| match action {
        Action::Update { target, body } if target.name == "web-1" => body["spec"]["replicas"].as_i64(),
        _ => None,
    });
    assert_eq!(size, Some(1), "{}", describe(&plan));
}

#[test]
fn recreate_waits_for_the_old_pods() {
    let recreate = deployment("  strategy: {type: Recreate}");
    check(
        &recreate,
        &["web-1 a:1 4 4 1"],
        &[],
        &expect![[r#"
        update ReplicaSet web-1 replicas=0
        tell Normal Deployment web ScalingReplicaSet: Scaled down replica set web-1 from 4 to 0
        look again in 601000 ms
    "#]],
    );
    let pod = json!({"metadata": {"name": "p", "namespace": "d", "deletionTimestamp": "2023-01-01T00:00:00Z",
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "web-1", "controller": true}]}});
    let pod = Arc::new(serde_json::from_value(pod).expect("a pod"));
    check(&recreate, &["web-1 a:1 0 0 1"], &[pod], &expect![[r#""#]]);
    check(
        &recreate,
        &["web-1 a:1 0 0 1"],
        &[],
        &expect![[r#"
        create ReplicaSet d/web-74d4cf9b49 replicas=4
        tell Normal Deployment web ScalingReplicaSet: Scaled up replica set web-74d4cf9b49 from 0 to 4
        patch Deployment web {"metadata":{"annotations":{"deployment.kubernetes.io/revision":"2"}}}
        look again in 601000 ms
    "#]],
    );
}

#[test]
fn a_paused_one_scales_and_does_not_roll() {
    check(&deployment("  paused: true"), &["web-1 a:1 4 4 1"], &[], &expect![[r#""#]]);
    let mut more = deployment("  paused: true");
    more.spec.as_mut().expect("spec").replicas = Some(8);
    check(
        &more,
        &["web-1 a:1 3 3 1", "web-2 a:2 2 2 2"],
        &[],
        &expect![[r#"
        update ReplicaSet web-1 replicas=6
        tell Normal Deployment web ScalingReplicaSet: Scaled up replica set web-1 from 3 to 6
        update ReplicaSet web-2 replicas=4
        tell Normal Deployment web ScalingReplicaSet: Scaled up replica set web-2 from 2 to 4
    "#]],
    );
}

#[test]
fn scaling_in_the_middle_is_in_proportion() {
    let mut more = deployment("");
    more.spec.as_mut().expect("spec").replicas = Some(8);
    check(
        &more,
        &["web-1 a:1 3 3 1", "web-2 a:2 2 0 2"],
        &[],
        &expect![[r#"
        update ReplicaSet web-1 replicas=6
        tell Normal Deployment web ScalingReplicaSet: Scaled up replica set web-1 from 3 to 6
        update ReplicaSet web-2 replicas=4
        tell Normal Deployment web ScalingReplicaSet: Scaled up replica set web-2 from 2 to 4
        look again in 601000 ms
    "#]],
    );
    more.spec.as_mut().expect("spec").replicas = Some(0);
    check(
        &more,
        &["web-1 a:1 3 3 1", "web-2 a:2 2 0 2"],
        &[],
        &expect![[r#"
        update ReplicaSet web-1 replicas=0
        tell Normal Deployment web ScalingReplicaSet: Scaled down replica set web-1 from 3 to 0
        update ReplicaSet web-2 replicas=0
        tell Normal Deployment web ScalingReplicaSet: Scaled down replica set web-2 from 2 to 0
        look again in 601000 ms
    "#]],
    );
}

#[test]
fn history_beyond_the_limit_is_deleted_when_the_rollout_is_done() {
    let sets = ["web-0 a:0 0 0 1", "web-1 a:1 0 0 2", "web-2 a:2 4 4 3"];
    check(
        &deployment(""),
        &sets,
        &[],
        &expect![[r#"
        patch Deployment web {"metadata":{"annotations":{"deployment.kubernetes.io/revision":"3"}}}
        delete ReplicaSet web-0
    "#]],
    );
}

#[test]
fn going_back_reuses_the_set_with_a_new_revision() {
    let sets = ["web-2 a:2 0 0 1", "web-3 a:3 4 4 2"];
    let sets: Vec<_> = sets.iter().map(|text| set(text)).collect();
    let plan = reconcile(NOW_MS, &deployment(""), &sets, &[]);
    let Some(Action::Update { body, .. }) = plan.first() else { panic!("{}", describe(&plan)) };
    assert_eq!(body["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "3");
    assert_eq!(body["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"], "1");
    assert_eq!(body["spec"]["replicas"], 1);
}

/// (Progressing, Available) as `status reason`.
fn conditions(deployment: &Deployment, sets: &[&str], now_ms: i64) -> (String, String) {
    let sets: Vec<_> = sets.iter().map(|text| set(text)).collect();
    let plan = reconcile(now_ms, deployment, &sets, &[]);
    let status = plan.iter().find_map(|action| match action {
        Action::Patch { subresource: "status", body, .. } => Some(body["status"]["conditions"].clone()),
        _ => None,
    });
    let all = status.unwrap_or_default();
    let of = |kind: &str| {
        let found = all.as_array().into_iter().flatten().find(|one| one["type"] == kind);
        found.map(|one| format!("{} {}", one["status"], one["reason"]).replace('"', "")).unwrap_or_default()
    };
    (of("Progressing"), of("Available"))
}

#[test]
fn reasons() {
    let check = |deployment: &Deployment, sets: &[&str], progressing: &str, available: &str| {
        let got = conditions(deployment, sets, NOW_MS);
        assert_eq!(got, (progressing.to_owned(), available.to_owned()), "{sets:?}");
    };
    let (few, enough) = ("False MinimumReplicasUnavailable", "True MinimumReplicasAvailable");
    check(&deployment(""), &[], "True NewReplicaSetCreated", few);
    check(&deployment(""), &["web-2 a:2 4 0 1"], "True ReplicaSetUpdated", few);
    check(&deployment(""), &["web-2 a:2 4 3 1"], "True ReplicaSetUpdated", enough);
    check(&deployment(""), &["web-2 a:2 4 4 1"], "True NewReplicaSetAvailable", enough);
    check(&deployment("  paused: true"), &["web-2 a:2 4 4 1"], "Unknown DeploymentPaused", enough);
    let stuck = deployment(
        "
status:
  replicas: 4
  updatedReplicas: 4
  observedGeneration: 2
  conditions:
  - {type: Progressing, status: 'True', reason: ReplicaSetUpdated, lastUpdateTime: '2023-01-01T00:00:00Z'}",
    );
    check(&stuck, &["web-2 a:2 4 0 1"], "False ProgressDeadlineExceeded", few);
}

#[test]
fn a_quiet_deployment_asks_for_nothing() {
    let sets = [set("web-2 a:2 4 4 1")];
    let mut one = deployment("");
    for _ in 0..3 {
        let plan = reconcile(NOW_MS, &one, &sets, &[]);
        let mut value = serde_json::to_value(&one).expect("json");
        for action in plan {
            match action {
                Action::Patch { body, .. } => merge(&mut value, body),
                other => panic!("{}", describe(&[other])),
            }
        }
        one = serde_json::from_value(value).expect("a deployment");
    }
    assert_eq!(describe(&reconcile(NOW_MS, &one, &sets, &[])), "");
}

fn merge(into: &mut serde_json::Value, patch: serde_json::Value) {
    let serde_json::Value::Object(patch) = patch else { return *into = patch };
    if !into.is_object() {
        *into = json!({});
    }
    let into = into.as_object_mut().expect("an object");
    for (key, value) in patch {
        if value.is_null() {
            into.remove(&key);
        } else {
            merge(into.entry(key).or_insert(serde_json::Value::Null), value);
        }
    }
}

#[test]
fn hashes_are_stable_and_tell_templates_apart() {
    let template = deployment("").spec.expect("spec").template;
    expect!["74d4cf9b49"].assert_eq(&hash(&template, None));
    assert_ne!(hash(&template, None), hash(&template, Some(1)));
}
