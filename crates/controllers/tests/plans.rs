//! Objects in, actions out, for every controller but Deployment, which has its own.

use std::collections::BTreeSet;
use std::sync::Arc;

use controllers::namespace::Contents;
use controllers::{
    Action, describe, endpoints, namespace, node_lifecycle, per_namespace, pod_garbage, replica_set,
};
use expect_test::{Expect, expect};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const NOW_MS: i64 = 1_700_000_000_000;

fn of<K: DeserializeOwned>(text: &str) -> Arc<K> {
    Arc::new(serde_saphyr::from_str(text).expect("an object"))
}

fn check(plan: &[Action], expect: &Expect) {
    expect.assert_eq(&describe(plan));
}

fn set(replicas: i32) -> Arc<ReplicaSet> {
    of(&format!(
        "
metadata: {{name: web, namespace: d, uid: u, generation: 1, resourceVersion: '5'}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template: {{metadata: {{labels: {{app: web}}}}, spec: {{containers: []}}}}
status: {{replicas: 0, observedGeneration: 1, terminatingReplicas: 0}}"
    ))
}

/// `name phase [mine|free] [ready] [going] [cost=N] [other-label]`
fn pod(text: &str) -> Arc<Pod> {
    let words: Vec<&str> = text.split(' ').collect();
    let has = |word: &str| words.contains(&word);
    let cost = words.iter().find_map(|word| word.strip_prefix("cost=")).unwrap_or("0");
    let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u", "controller": true}]);
    let pod = json!({
        "metadata": {
            "name": words[0], "namespace": "d", "uid": words[0], "resourceVersion": "9",
            "labels": {"app": if has("other-label") { "x" } else { "web" }},
            "annotations": {"controller.kubernetes.io/pod-deletion-cost": cost},
            "ownerReferences": if has("free") { json!([]) } else { owner },
            "deletionTimestamp": if has("going") { json!("2023-01-01T00:00:00Z") } else { Value::Null },
        },
        "spec": {"containers": [], "nodeName": "n"},
        "status": {
            "phase": words[1], "podIP": format!("10.0.0.{}", words[0].len()),
            "conditions": if has("ready") { json!([{"type": "Ready", "status": "True"}]) } else { json!([]) },
        },
    });
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

fn replicas(set: &ReplicaSet, pods: &[&str], expect: &Expect) {
    let pods: Vec<_> = pods.iter().map(|text| pod(text)).collect();
    check(&replica_set::reconcile(NOW_MS, set, &pods, None), expect);
}

#[test]
fn replica_sets_make_and_delete_pods() {
    replicas(
        &set(2),
        &[],
        &expect![[r#"
        create Pod d/web-
        create Pod d/web-
    "#]],
    );
    replicas(
        &set(2),
        &["a Running ready", "b Failed", "c Running going"],
        &expect![[r#"
            patch ReplicaSet web/status {"metadata":{"resourceVersion":"5"},"status":{"availableReplicas":1,"fullyLabeledReplicas":1,"readyReplicas":1,"replicas":1,"terminatingReplicas":1}}
            create Pod d/web-
        "#]],
    );
    // Unready before ready, cheap before dear.
    replicas(
        &set(1),
        &["a Running ready", "b Pending", "c Running ready cost=-1"],
        &expect![[r#"
            patch ReplicaSet web/status {"metadata":{"resourceVersion":"5"},"status":{"availableReplicas":2,"fullyLabeledReplicas":3,"readyReplicas":2,"replicas":3}}
            delete Pod b
            delete Pod c
        "#]],
    );
}

#[test]
fn replica_sets_adopt_and_release() {
    replicas(
        &set(1),
        &["a Running free ready"],
        &expect![[r#"
            patch ReplicaSet web/status {"metadata":{"resourceVersion":"5"},"status":{"availableReplicas":1,"fullyLabeledReplicas":1,"readyReplicas":1,"replicas":1}}
            patch Pod a {"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"ReplicaSet","name":"web","uid":"u"}],"resourceVersion":"9","uid":"a"}}
        "#]],
    );
    replicas(
        &set(0),
        &["a Running other-label"],
        &expect![[r#"
        patch Pod a {"metadata":{"ownerReferences":[],"resourceVersion":"9","uid":"a"}}
    "#]],
    );
}

#[test]
fn a_replica_set_tells_why_it_fails() {
    let plan = replica_set::reconcile(NOW_MS, &set(0), &[], Some("quota"));
    check(
        &plan,
        &expect![[r#"
            patch ReplicaSet web/status {"metadata":{"resourceVersion":"5"},"status":{"conditions":[{"lastTransitionTime":"2023-11-14T22:13:20Z","message":"quota","reason":"FailedCreate","status":"True","type":"ReplicaFailure"}]}}
        "#]],
    );
}

fn service(extra: &str) -> Arc<Service> {
    of(&format!(
        "
metadata: {{name: web, namespace: d, uid: s, labels: {{team: a}}}}
spec:
  clusterIP: 10.43.0.9
  selector: {{app: web}}
  ports: [{{name: http, port: 80, targetPort: 8080}}]
{extra}"
    ))
}

fn slices(service: &Service, pods: &[&str], slices: &[Arc<EndpointSlice>]) -> Vec<Action> {
    let pods: Vec<_> = pods.iter().map(|text| pod(text)).collect();
    let snapshot = endpoints::Snapshot { service, pods: &pods, slices, endpoints: None, nodes: &[] };
    endpoints::reconcile_slices(&snapshot)
}

/// The addresses a plan writes, with `!` for those that are not ready.
fn addresses(plan: &[Action]) -> String {
    let bodies = plan.iter().filter_map(|action| match action {
        Action::Create { body, .. } => Some(("create", body)),
        Action::Update { body, .. } => Some(("update", body)),
        _ => None,
    });
    let one = |endpoint: &Value| {
        let mark = if endpoint["conditions"]["ready"] == true { "" } else { "!" };
        format!("{}{mark}", endpoint["addresses"][0].as_str().unwrap_or_default())
    };
    let line = |(verb, body): (&str, &Value)| {
        let all: Vec<String> = body["endpoints"].as_array().into_iter().flatten().map(one).collect();
        format!("{verb} {}", all.join(" "))
    };
    bodies.map(line).collect::<Vec<_>>().join("\n")
}

fn made(plan: &[Action]) -> Arc<EndpointSlice> {
    let body = plan.iter().find_map(|action| match action {
        Action::Create { body, .. } | Action::Update { body, .. } => Some(body.clone()),
        _ => None,
    });
    let mut body = body.expect("a slice");
    body["metadata"]["name"] = json!("web-1");
    Arc::new(serde_json::from_value(body).expect("a slice"))
}

#[test]
fn slices_follow_pods_and_stay_put() {
    let service = service("");
    let first = slices(&service, &["a Running ready", "bb Running", "ccc Succeeded"], &[]);
    assert_eq!(addresses(&first), "create 10.0.0.1 10.0.0.2!");
    let slice = made(&first);
    let labels = slice.metadata.labels.clone().expect("labels");
    assert_eq!(labels["kubernetes.io/service-name"], "web");
    assert_eq!(labels["team"], "a");
    assert_eq!(slice.ports.as_ref().expect("ports")[0].port, Some(8080));
    let again = slices(&service, &["a Running ready", "bb Running"], std::slice::from_ref(&slice));
    assert_eq!(describe(&again), "");
    // A pod on its way out serves but is not ready; a new one is appended.
    let next =
        slices(&service, &["a Running ready going", "bb Running ready", "dddd Running ready"], &[slice]);
    assert_eq!(addresses(&next), "update 10.0.0.1! 10.0.0.2 10.0.0.4");
}

#[test]
fn a_service_without_pods_has_one_empty_slice() {
    let first = slices(&service(""), &[], &[]);
    assert_eq!(addresses(&first), "create ");
    assert_eq!(describe(&slices(&service(""), &[], &[made(&first)])), "");
    // The placeholder goes when there is something to show.
    let then = slices(&service(""), &["a Running ready"], &[made(&first)]);
    assert_eq!(addresses(&then), "create 10.0.0.1");
    assert!(describe(&then).contains("delete EndpointSlice web-1"), "{}", describe(&then));
}

#[test]
fn unready_pods_are_published_when_asked() {
    let eager = service("  publishNotReadyAddresses: true");
    assert_eq!(addresses(&slices(&eager, &["a Running"], &[])), "create 10.0.0.1");
    assert_eq!(describe(&slices(&service("  type: ExternalName"), &["a Running"], &[])), "");
}

#[test]
fn a_hundred_endpoints_fill_a_slice() {
    let many: Vec<Arc<Pod>> = (0..150)
        .map(|i| {
            let mut pod = (*pod(&format!("p{i:03} Running ready"))).clone();
            pod.status.as_mut().expect("status").pod_ip = Some(format!("10.1.0.{i}"));
            Arc::new(pod)
        })
        .collect();
    let service = service("");
    let snapshot =
        endpoints::Snapshot { service: &service, pods: &many, slices: &[], endpoints: None, nodes: &[] };
    let sizes: Vec<usize> = addresses(&endpoints::reconcile_slices(&snapshot))
        .lines()
        .map(|l| l.split(' ').count() - 1)
        .collect();
    assert_eq!(sizes, [100, 50]);
}

#[test]
fn legacy_endpoints() {
    let service = service("");
    let pods = [
        pod("bb Running ready"),
        pod("a Running ready"),
        pod("ccc Running"),
        pod("dddd Running ready going"),
    ];
    let snapshot =
        endpoints::Snapshot { service: &service, pods: &pods, slices: &[], endpoints: None, nodes: &[] };
    let plan = endpoints::reconcile_endpoints(&snapshot);
    let Some(Action::Create { body, .. }) = plan.first() else { panic!("{}", describe(&plan)) };
    let ips = |key: &str| {
        let all = body["subsets"][0][key].as_array().into_iter().flatten();
        all.map(|one| one["ip"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        (ips("addresses").as_str(), ips("notReadyAddresses").as_str()),
        ("10.0.0.1 10.0.0.2", "10.0.0.3")
    );
    let old = serde_json::from_value(body.clone()).expect("endpoints");
    let snapshot = endpoints::Snapshot { endpoints: Some(&old), ..snapshot };
    assert_eq!(describe(&endpoints::reconcile_endpoints(&snapshot)), "");
}

#[test]
fn what_every_namespace_gets() {
    let live: Arc<Namespace> = of("{metadata: {name: n}, status: {phase: Active}}");
    let ending: Arc<Namespace> = of("{metadata: {name: n, deletionTimestamp: '2023-01-01T00:00:00Z'}}");
    check(
        &per_namespace::service_account(&live, None),
        &expect![[r#"
        create ServiceAccount n/default
    "#]],
    );
    check(&per_namespace::service_account(&ending, None), &expect![[r#""#]]);
    check(
        &per_namespace::root_ca(&live, None, "pem"),
        &expect![[r#"
        create ConfigMap n/kube-root-ca.crt
    "#]],
    );
    let stale = of("{metadata: {name: kube-root-ca.crt, namespace: n}, data: {ca.crt: old}}");
    check(
        &per_namespace::root_ca(&live, Some(&stale), "pem"),
        &expect![[r#"
        update ConfigMap kube-root-ca.crt
    "#]],
    );
    let fresh = of("{metadata: {name: kube-root-ca.crt, namespace: n}, data: {ca.crt: pem}}");
    check(&per_namespace::root_ca(&live, Some(&fresh), "pem"), &expect![[r#""#]]);
}

#[test]
fn a_namespace_says_what_holds_it() {
    let ending: Arc<Namespace> = of("
metadata: {name: n, deletionTimestamp: '2023-01-01T00:00:00Z'}
spec: {finalizers: [kubernetes, mine]}
status: {phase: Terminating}");
    assert_eq!(namespace::next(&ending), namespace::Next::Empty);
    assert_eq!(namespace::finalized(&ending).spec.expect("spec").finalizers.expect("finalizers"), ["mine"]);
    let left = Contents {
        left: vec![("pods.".to_owned(), 2)],
        held: vec![("x/y".to_owned(), 1)],
        ..Contents::default()
    };
    assert!(!namespace::is_done(&left) && namespace::is_done(&Contents::default()));
    let report = namespace::report(NOW_MS, &ending, &left).expect("news");
    let Action::Patch { body, .. } = &report else { panic!("a patch") };
    let rows = body["status"]["conditions"].as_array().expect("conditions");
    let row =
        |one: &Value| format!("{} {} {}\n", one["type"], one["status"], one["message"]).replace('"', "");
    expect![[r#"
        NamespaceDeletionDiscoveryFailure False All resources successfully discovered
        NamespaceDeletionGroupVersionParsingFailure False All legacy kube types successfully parsed
        NamespaceDeletionContentFailure False All content successfully deleted, may be waiting on finalization
        NamespaceContentRemaining True Some resources are remaining: pods. has 2 resource instances
        NamespaceFinalizersRemaining True Some content in the namespace has finalizers remaining: x/y in 1 resource instances
    "#]].assert_eq(&rows.iter().map(row).collect::<String>());
}

fn node(extra: &str) -> Arc<Node> {
    of(&format!("{{metadata: {{name: n, resourceVersion: '3'}}, {extra}}}"))
}

#[test]
fn nodes_fall_silent_and_come_back() {
    let ready = "status: {conditions: [{type: Ready, status: 'True'}]}";
    let look = |node: &Node, silent_ms: i64| node_lifecycle::reconcile(NOW_MS, node, NOW_MS - silent_ms);
    check(
        &look(&node(ready), 10_000),
        &expect![[r#"
        look again in 40000 ms
    "#]],
    );
    check(
        &look(&node(ready), 50_000),
        &expect![[r#"
            patch Node n {"metadata":{"resourceVersion":"3","uid":null},"spec":{"taints":[{"effect":"NoSchedule","key":"node.kubernetes.io/unreachable","timeAdded":"2023-11-14T22:13:20Z"},{"effect":"NoExecute","key":"node.kubernetes.io/unreachable","timeAdded":"2023-11-14T22:13:20Z"}]}}
            patch Node n/status {"metadata":{"resourceVersion":"3"},"status":{"conditions":[{"lastTransitionTime":"2023-11-14T22:13:20Z","message":"Kubelet stopped posting node status.","reason":"NodeStatusUnknown","status":"Unknown","type":"Ready"},{"lastTransitionTime":"2023-11-14T22:13:20Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"MemoryPressure"},{"lastTransitionTime":"2023-11-14T22:13:20Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"DiskPressure"},{"lastTransitionTime":"2023-11-14T22:13:20Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"PIDPressure"}]}}
            tell Normal Node n NodeNotReady: Node n status is now: NodeNotReady
        "#]],
    );
    let tainted = "spec: {taints: [{key: mine, effect: NoSchedule}, {key: node.kubernetes.io/not-ready, effect: NoSchedule}]}";
    check(
        &look(&node(&format!("{tainted}, {ready}")), 0),
        &expect![[r#"
        patch Node n {"metadata":{"resourceVersion":"3","uid":null},"spec":{"taints":[{"effect":"NoSchedule","key":"mine"}]}}
        look again in 50000 ms
    "#]],
    );
    check(
        &look(
            &node(
                "spec: {unschedulable: true}, status: {conditions: [{type: Ready, status: 'True'}, {type: DiskPressure, status: 'True'}]}",
            ),
            0,
        ),
        &expect![[r#"
            patch Node n {"metadata":{"resourceVersion":"3","uid":null},"spec":{"taints":[{"effect":"NoSchedule","key":"node.kubernetes.io/disk-pressure","timeAdded":"2023-11-14T22:13:20Z"},{"effect":"NoSchedule","key":"node.kubernetes.io/unschedulable","timeAdded":"2023-11-14T22:13:20Z"}]}}
            look again in 50000 ms
        "#]],
    );
}

#[test]
fn pods_of_missing_nodes_are_removed_after_a_while() {
    let pods = [pod("a Running"), pod("b Succeeded")];
    assert_eq!(pod_garbage::missing_nodes(&pods, &[]), BTreeSet::from(["n".to_owned()]));
    check(&pod_garbage::reconcile(&pods, &[], &BTreeSet::new()), &expect![[r#""#]]);
    check(
        &pod_garbage::reconcile(&pods, &[], &BTreeSet::from(["n".to_owned()])),
        &expect![[r#"
        patch Pod a/status {"status":{"phase":"Failed"}}
        delete Pod a now
        delete Pod b now
    "#]],
    );
    let there = [node("spec: {}")];
    check(&pod_garbage::reconcile(&pods, &there, &BTreeSet::from(["n".to_owned()])), &expect![[r#""#]]);
}
