//! A world by seed: a Deployment, its sets and pods, a kubelet, in random order. Whatever the order, the bounds of the
//! rollout hold at every step, all converges, and the same seed gives the same actions.

use std::sync::Arc;

use base::random::Random;
use controllers::{Action, deployment, describe, meta, pods, replica_set};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// Steps after which everything must have settled.
const STEPS_MAX: usize = 4_000;
/// Worlds tried; each takes a third of a second in a debug build.
const SEEDS: u64 = 25;
/// The shortest step of the world's clock.
const TICK_MS: i64 = 1_000;

struct World {
    random: Random,
    now_ms: i64,
    counter: u64,
    deployment: Value,
    sets: Vec<Value>,
    pods: Vec<Value>,
    trace: String,
}

struct Shape {
    replicas: i64,
    surge: i64,
    down: i64,
}

impl World {
    fn new(seed: u64) -> (Self, Shape) {
        let mut random = Random::from_seed(seed);
        let replicas = random.below(9) as i64 + 1;
        let surge = random.below(4) as i64;
        // Not both nought: the API server refuses that.
        let down = if surge == 0 { random.below(3) as i64 + 1 } else { random.below(4) as i64 };
        let deployment = json!({
            "metadata": {"name": "web", "namespace": "d", "uid": "web", "generation": 1},
            "spec": {
                "replicas": replicas, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 2,
                "minReadySeconds": random.below(2) * 5,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": down}},
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "c", "image": "a:0"}]},
                },
            },
        });
        let (sets, pods, trace) = (Vec::new(), Vec::new(), String::new());
        let world = Self { random, now_ms: 1_700_000_000_000, counter: 0, deployment, sets, pods, trace };
        (world, Shape { replicas, surge, down: down.min(replicas) })
    }

    fn deployment(&self) -> Deployment {
        serde_json::from_value(self.deployment.clone()).expect("a deployment")
    }

    fn sets(&self) -> Vec<Arc<ReplicaSet>> {
        self.sets.iter().map(|set| Arc::new(serde_json::from_value(set.clone()).expect("a set"))).collect()
    }

    fn pods(&self) -> Vec<Arc<Pod>> {
        self.pods.iter().map(|pod| Arc::new(serde_json::from_value(pod.clone()).expect("a pod"))).collect()
    }

    fn step(&mut self) {
        self.now_ms += TICK_MS;
        match self.random.below(4) {
            0 => {
                let plan = deployment::reconcile(self.now_ms, &self.deployment(), &self.sets(), &self.pods());
                self.apply(plan);
            }
            1 if !self.sets.is_empty() => {
                let sets = self.sets();
                let set = &sets[self.random.below(sets.len() as u64) as usize];
                let plan = replica_set::reconcile(self.now_ms, set, &self.pods(), None);
                self.apply(plan);
            }
            _ => self.kubelet(),
        }
    }

    /// A random pod goes on: starts, becomes ready, or ends once it is to go.
    fn kubelet(&mut self) {
        if self.pods.is_empty() {
            return;
        }
        let at = self.random.below(self.pods.len() as u64) as usize;
        let pod = &mut self.pods[at];
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            self.pods.remove(at);
        } else if pod["status"]["phase"].is_null() {
            pod["status"] = json!({"phase": "Running"});
            pod["spec"]["nodeName"] = json!("n");
        } else if pod["status"]["conditions"].is_null() {
            let since = meta::time(self.now_ms);
            pod["status"]["conditions"] =
                json!([{"type": "Ready", "status": "True", "lastTransitionTime": since}]);
        }
    }

    fn apply(&mut self, plan: Vec<Action>) {
        self.trace.push_str(&describe(&plan));
        for action in plan {
            self.apply_one(action);
        }
    }

    fn apply_one(&mut self, action: Action) {
        match action {
            Action::Create { kind, mut body, .. } => {
                self.counter += 1;
                let uid = format!("u{}", self.counter);
                if let Some(prefix) = body["metadata"]["generateName"].as_str() {
                    body["metadata"]["name"] = json!(format!("{prefix}{}", self.counter));
                }
                body["metadata"]["uid"] = json!(uid);
                body["metadata"]["generation"] = json!(1);
                body["metadata"]["creationTimestamp"] = json!(meta::time(self.now_ms));
                let list = if kind.plural == "pods" { &mut self.pods } else { &mut self.sets };
                list.push(body);
            }
            Action::Update { target, mut body } => {
                let old = self.find(&target.uid);
                if old["spec"] != body["spec"] {
                    body["metadata"]["generation"] =
                        json!(old["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
                }
                body["status"] = old["status"].clone();
                *old = body;
            }
            Action::Patch { target, body, .. } => merge(self.find(&target.uid), body),
            Action::Delete { target, .. } if target.kind.plural == "pods" => {
                let at = json!(meta::time(self.now_ms));
                self.find(&target.uid)["metadata"]["deletionTimestamp"] = at;
            }
            Action::Delete { target, .. } => {
                assert_eq!(self.find(&target.uid)["spec"]["replicas"], 0, "a live set was deleted");
                self.sets.retain(|set| set["metadata"]["uid"] != target.uid.as_str());
            }
            Action::Force { .. } | Action::Tell(_) | Action::LookAgain { .. } => {}
        }
    }

    fn find(&mut self, uid: &str) -> &mut Value {
        let all = self.sets.iter_mut().chain(&mut self.pods).chain([&mut self.deployment]);
        all.into_iter().find(|one| one["metadata"]["uid"] == uid).expect("the target of an action is there")
    }

    fn roll(&mut self, image: &str) {
        self.deployment["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
        let generation = self.deployment["metadata"]["generation"].as_i64().unwrap_or_default();
        self.deployment["metadata"]["generation"] = json!(generation + 1);
    }

    fn is_settled(&self, shape: &Shape) -> bool {
        let status = &self.deployment["status"];
        let count = |key: &str| status[key].as_i64().unwrap_or_default();
        status["observedGeneration"] == self.deployment["metadata"]["generation"]
            && ["replicas", "updatedReplicas", "availableReplicas"]
                .iter()
                .all(|key| count(key) == shape.replicas)
            && self.pods.len() as i64 == shape.replicas
    }

    fn settle(&mut self, shape: &Shape, guard_availability: bool) {
        for _ in 0..STEPS_MAX {
            self.step();
            self.check(shape, guard_availability);
            if self.is_settled(shape) {
                return;
            }
        }
        panic!("does not settle:\n{}", self.trace);
    }

    fn check(&self, shape: &Shape, guard_availability: bool) {
        let asked: i64 =
            self.sets.iter().map(|set| set["spec"]["replicas"].as_i64().unwrap_or_default()).sum();
        assert!(asked <= shape.replicas + shape.surge, "{asked} pods asked for:\n{}", self.trace);
        let seconds = self.deployment["spec"]["minReadySeconds"].as_i64().unwrap_or_default() as i32;
        let lives = |pod: &&Arc<Pod>| {
            pods::is_active(pod) && pods::available_in_ms(pod, seconds, self.now_ms) == Some(0)
        };
        let available = self.pods().iter().filter(lives).count() as i64;
        if guard_availability {
            assert!(available >= shape.replicas - shape.down, "{available} available:\n{}", self.trace);
        }
    }
}

fn merge(into: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else { return *into = patch };
    if !into.is_object() {
        *into = json!({});
    }
    let into = into.as_object_mut().expect("an object");
    for (key, value) in patch {
        if value.is_null() {
            into.remove(&key);
        } else {
            merge(into.entry(key).or_insert(Value::Null), value);
        }
    }
}

fn voyage(seed: u64) -> String {
    let (mut world, shape) = World::new(seed);
    world.settle(&shape, false);
    world.roll("a:1");
    // Sometimes the next change comes before the last is done.
    for _ in 0..world.random.below(40) {
        world.step();
        world.check(&shape, true);
    }
    world.roll("a:2");
    world.settle(&shape, true);
    world.roll("a:1");
    world.settle(&shape, true);
    world.trace
}

#[test]
fn the_bounds_hold_in_any_order() {
    for seed in 0..SEEDS {
        voyage(seed);
    }
}

#[test]
fn the_same_seed_gives_the_same_actions() {
    assert_eq!(voyage(7), voyage(7));
}
