use std::sync::Arc;

use base::random::Random;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::*;

fn node(name: &str, extra: Value) -> Arc<Node> {
    let mut node = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {}, "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "3"}},
    });
    merge(&mut node, extra);
    Arc::new(serde_json::from_value(node).unwrap())
}

fn pod(name: &str, extra: Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}}]},
    });
    merge(&mut pod, extra);
    serde_json::from_value(pod).unwrap()
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            from.into_iter().for_each(|(k, v)| merge(into.entry(k).or_insert(Value::Null), v));
        }
        (into, from) => *into = from,
    }
}

fn cluster(nodes: &[Arc<Node>], pods: &[(&str, Pod)]) -> Cluster {
    let mut cluster = Cluster::default();
    nodes.iter().for_each(|n| cluster.set_node(n.clone()));
    pods.iter().for_each(|(node, pod)| cluster.assume(pod, node));
    cluster
}

fn refused(pod: &Pod, cluster: &Cluster) -> String {
    match place(pod, cluster, 0) {
        Decision::Node(node) => format!("placed on {node}"),
        Decision::Unschedulable(why) => why.split(". preemption").next().unwrap().to_owned(),
    }
}

#[test]
fn reasons_read_as_kube_scheduler_words_them() {
    let cases: [(Value, Value, &str); 8] = [
        (
            json!({"spec": {"unschedulable": true}}),
            json!({}),
            "0/1 nodes are available: 1 node(s) were unschedulable",
        ),
        (
            json!({"spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}}),
            json!({}),
            "0/1 nodes are available: 1 node(s) had untolerated taint {gpu: yes}",
        ),
        (
            json!({}),
            json!({"spec": {"nodeSelector": {"disk": "ssd"}}}),
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector",
        ),
        (
            json!({"status": {"allocatable": {"cpu": "100m", "memory": "1Mi"}}}),
            json!({}),
            "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory",
        ),
        (
            json!({"status": {"allocatable": {"pods": "0"}}}),
            json!({}),
            "0/1 nodes are available: 1 Too many pods",
        ),
        (
            json!({}),
            json!({"spec": {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "other"}}}]}}}}),
            "0/1 nodes are available: 1 node(s) didn't match pod affinity rules",
        ),
        (
            json!({"spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}}),
            json!({"spec": {"tolerations": [{"key": "gpu", "operator": "Exists"}]}}),
            "placed on n",
        ),
        (
            json!({}),
            json!({"spec": {"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone",
                "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}]}}),
            "0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required label)",
        ),
    ];
    for (on_node, on_pod, expect) in cases {
        assert_eq!(refused(&pod("p", on_pod), &cluster(&[node("n", on_node)], &[])), expect);
    }
    let none = place(&pod("p", json!({})), &Cluster::default(), 0);
    assert_eq!(none, Decision::Unschedulable("no nodes available to schedule pods".into()));
}

#[test]
fn the_whole_sentence_names_preemption_too() {
    let full = cluster(&[node("n", json!({"spec": {"unschedulable": true}}))], &[]);
    let expect = "0/1 nodes are available: 1 node(s) were unschedulable. preemption: 0/1 nodes are available: \
                  1 No preemption victims found for incoming pod.";
    assert_eq!(place(&pod("p", json!({})), &full, 0), Decision::Unschedulable(expect.into()));
}

#[test]
fn the_emptier_node_wins_and_antiaffinity_spreads() {
    let nodes = [node("a", json!({})), node("b", json!({}))];
    let busy = cluster(&nodes, &[("a", pod("x", json!({})))]);
    assert_eq!(place(&pod("p", json!({})), &busy, 0), Decision::Node("b".into()));

    let anti = json!({"metadata": {"labels": {"app": "db"}}, "spec": {"affinity": {"podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "db"}}}]}}}});
    let both = cluster(&nodes, &[("a", pod("db-0", anti.clone())), ("b", pod("db-1", anti.clone()))]);
    assert_eq!(
        refused(&pod("db-2", anti), &both),
        "0/2 nodes are available: 2 node(s) didn't satisfy existing pods anti-affinity rules"
    );
}

#[test]
fn host_ports_clash_unless_the_address_differs() {
    let with_port = |name: &str, ip: &str| {
        pod(
            name,
            json!({"spec": {"containers": [{"name": "c", "image": "i",
            "ports": [{"containerPort": 80, "hostPort": 80, "hostIP": ip}]}]}}),
        )
    };
    let one = cluster(&[node("n", json!({}))], &[("n", with_port("x", "127.0.0.1"))]);
    assert_eq!(refused(&with_port("p", "127.0.0.2"), &one), "placed on n");
    let clash = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports";
    assert_eq!(refused(&with_port("p", ""), &one), clash);
}

#[test]
fn init_containers_count_by_their_peak() {
    let spec = json!({"spec": {"initContainers": [
            {"name": "big", "image": "i", "resources": {"requests": {"cpu": "1500m"}}},
            {"name": "side", "image": "i", "restartPolicy": "Always", "resources": {"requests": {"cpu": "200m"}}}],
        "overhead": {"cpu": "10m"}}});
    assert_eq!(resources::requests(&pod("p", spec)).get("cpu"), 1510);
}

#[test]
fn the_queue_serves_priority_then_age_and_backs_off() {
    let mut queue = Queue::default();
    for (name, priority) in [("low", 0), ("older", 5), ("newer", 5)] {
        queue.add(Arc::new(pod(name, json!({"spec": {"priority": priority}}))));
    }
    let order: Vec<String> = std::iter::from_fn(|| queue.pop(0).map(|q| cluster::uid(&q.pod))).collect();
    assert_eq!(order, ["older", "newer", "low"]);
    queue.unschedulable("low");
    queue.back_off("older", 0);
    assert_eq!(queue.next_deadline(), Some(1_000));
    assert!(queue.pop(999).is_none());
    assert_eq!(cluster::uid(&queue.pop(1_000).unwrap().pod), "older");
    queue.wake_all();
    assert_eq!(queue.pop(1_000).unwrap().attempts, 2);
    queue.remove("newer");
    assert!(queue.pop(i64::MAX).is_none());
}

/// Whatever order pods come in, no node is ever given more than it has, and the same seed places alike.
#[test]
fn a_seeded_crowd_never_overcommits_and_repeats_itself() {
    let crowd = |seed: u64| {
        let mut random = Random::from_seed(seed);
        let nodes: Vec<_> = (0..4)
            .map(|i| node(&format!("n{i}"), json!({"status": {"allocatable": {"pods": "8"}}})))
            .collect();
        let mut world = cluster(&nodes, &[]);
        let mut trace = Vec::new();
        for i in 0..60 {
            let cpu = format!("{}m", 50 + random.below(900));
            let newcomer = pod(
                &format!("p{i}"),
                json!({"spec": {"containers": [{"name": "c", "image": "i",
                "resources": {"requests": {"cpu": cpu}}}]}}),
            );
            let decision = place(&newcomer, &world, random.next_u64());
            if let Decision::Node(name) = &decision {
                world.assume(&newcomer, name);
            }
            if random.below(4) == 0 {
                world.remove_pod(&format!("p{}", random.below(i + 1)));
            }
            for n in world.nodes() {
                assert!(n.requested.get("cpu") <= n.allocatable.get("cpu"), "{n:?}");
                assert!(n.pods.len() <= 8);
            }
            trace.push(decision);
        }
        trace
    };
    for seed in 0..20 {
        assert_eq!(crowd(seed), crowd(seed));
    }
}
