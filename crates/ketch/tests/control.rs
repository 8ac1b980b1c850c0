//! Controllers and scheduler against the API server, in process, over a store in memory.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api_client::{Election, Informers};
use base::clock::SystemClock;
use base::random::Random;
use base::task::Tasks;
use identity::UserInfo;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Event, Namespace, Node, Pod, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use store_api::Store;

/// Longest wait for anything in here.
const PATIENCE: Duration = Duration::from_secs(20);

struct House {
    client: Client,
    tasks: Tasks,
    _dir: tempfile::TempDir,
}

impl House {
    async fn start() -> Self {
        Self::over(testkit::MemStore::shared()).await
    }

    async fn over(store: Arc<dyn Store>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (tasks, clock) = (Tasks::new(), SystemClock::shared());
        let pki = pki::Pki::open(dir.path(), clock.unix_ms() / 1000).expect("certificates");
        let names = pki::Names::api_server("cluster.local", [10, 43, 0, 1].into(), "n", &[]);
        let options = apiserver::Options {
            listen: Vec::new(),
            tls: pki.server_config(&pki.api_server(&names).expect("leaf")).expect("tls"),
            kubelet_tls: pki.client_config(None).expect("tls"),
            service_account_key: pki.service_account_key_der().to_vec(),
            issuer: identity::token::DEFAULT_ISSUER.to_owned(),
            service_cidr: apiserver::Cidr { base: [10, 43, 0, 0].into(), prefix: 16 },
            advertise: None,
            shared_store: false,
            clock: clock.clone(),
            random: Random::from_entropy(),
        };
        let api = apiserver::Service::start(options, store, &tasks).await.expect("api");
        let client = |name: &str, group: &str| api_client::client(api.local(UserInfo::new(name, &[group])));
        let user = |name: &str| client(name, "system:authenticated");
        let manager = user("system:kube-controller-manager");
        let informers = Informers::start(manager.clone(), &tasks);
        let clients = control::Clients { manager, scheduler: user("system:kube-scheduler") };
        let options = control::Options { ca_pem: "the authority".to_owned(), clock };
        control::Service::start(options, clients, informers, &tasks);
        Self { client: client("admin", "system:masters"), tasks, _dir: dir }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn node(&self, name: &str) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = json!({"metadata": {"name": name}, "status": {
            "allocatable": {"cpu": "8", "memory": "8Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        }});
        let node: Node = serde_json::from_value(node).expect("node");
        nodes.create(&PostParams::default(), &node).await.expect("node");
        let status = json!({"status": node.status});
        nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.expect("status");
    }

    /// Plays the kubelet: every assigned pod runs and is ready, every deleted one ends.
    fn kubelet(&self) {
        let (client, token) = (self.client.clone(), self.tasks.token());
        tokio::spawn(async move {
            let pods: Api<Pod> = Api::all(client.clone());
            while !token.is_cancelled() {
                for (at, pod) in
                    pods.list(&ListParams::default()).await.expect("pods").into_iter().enumerate()
                {
                    turn(&client, &pod, at).await;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
    }

    async fn deploy(&self, name: &str, replicas: i32, image: &str) {
        let deployment = deployment(name, replicas, image);
        self.api::<Deployment>()
            .create(&PostParams::default(), &serde_json::from_value(deployment).expect("deployment"))
            .await
            .expect("created");
    }

    async fn available(&self, name: &str, replicas: i32) -> Deployment {
        eventually("the rollout is complete", || async {
            let one = self.api::<Deployment>().get(name).await.ok()?;
            let status = one.status.clone().unwrap_or_default();
            let done = status.observed_generation == one.metadata.generation
                && status.updated_replicas.unwrap_or_default() == replicas
                && status.available_replicas.unwrap_or_default() == replicas
                && status.replicas.unwrap_or_default() == replicas;
            done.then_some(one)
        })
        .await
    }
}

async fn turn(client: &Client, pod: &Pod, at: usize) {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let spec = pod.spec.clone().unwrap_or_default();
    let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
    if pod.metadata.deletion_timestamp.is_some() {
        let _ = api.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await;
    } else if spec.node_name.is_some() && phase.as_deref() != Some("Running") {
        let status = json!({"status": {"phase": "Running", "podIP": format!("10.42.0.{}", at + 2),
            "podIPs": [{"ip": format!("10.42.0.{}", at + 2)}],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
        let _ = api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(status)).await;
    }
}

fn deployment(name: &str, replicas: i32, image: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": name}},
        "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "c", "image": image, "ports": [{"name": "http", "containerPort": 8080}]}]},
        },
    }})
}

async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_rolls_out_rolls_on_and_is_collected() {
    let house = House::start().await;
    house.node("n").await;
    house.kubelet();
    let start = Instant::now();
    house.deploy("web", 3, "a:1").await;
    let first = house.available("web", 3).await;
    println!("three replicas available after {:?}", start.elapsed());
    assert_eq!(first.annotations()["deployment.kubernetes.io/revision"], "1");
    let reason = |one: &Deployment, kind: &str| {
        let conditions = one.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        conditions.into_iter().find(|c| c.type_ == kind).and_then(|c| c.reason).unwrap_or_default()
    };
    assert_eq!(reason(&first, "Progressing"), "NewReplicaSetAvailable");
    assert_eq!(reason(&first, "Available"), "MinimumReplicasAvailable");

    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "a:2"}]}}}});
    let deployments = house.api::<Deployment>();
    deployments.patch("web", &PatchParams::default(), &Patch::Strategic(image)).await.expect("set image");
    let second = house.available("web", 3).await;
    assert_eq!(second.annotations()["deployment.kubernetes.io/revision"], "2");
    let sets = house.api::<ReplicaSet>().list(&ListParams::default()).await.expect("sets").items;
    assert_eq!(sets.len(), 2);

    let scale = json!({"spec": {"replicas": 1}});
    deployments.patch("web", &PatchParams::default(), &Patch::Merge(scale)).await.expect("scale");
    house.available("web", 1).await;
    let events = house.api::<Event>().list(&ListParams::default()).await.expect("events").items;
    let told = |reason: &str| events.iter().any(|event| event.reason.as_deref() == Some(reason));
    for reason in ["ScalingReplicaSet", "SuccessfulCreate", "SuccessfulDelete", "Scheduled"] {
        assert!(told(reason), "{reason}");
    }

    deployments.delete("web", &DeleteParams::background()).await.expect("deleted");
    eventually("sets and pods are collected", || async {
        let sets = house.api::<ReplicaSet>().list(&ListParams::default()).await.ok()?.items;
        let pods = house.api::<Pod>().list(&ListParams::default()).await.ok()?.items;
        (sets.is_empty() && pods.is_empty()).then_some(())
    })
    .await;
    house.tasks.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreground_deletion_waits_for_the_pods() {
    let house = House::start().await;
    house.node("n").await;
    house.kubelet();
    house.deploy("web", 2, "a:1").await;
    house.available("web", 2).await;
    house.api::<Deployment>().delete("web", &DeleteParams::foreground()).await.expect("deleted");
    eventually("all gone", || async {
        let gone = house.api::<Deployment>().get_opt("web").await.ok()?.is_none();
        if gone {
            let pods = house.api::<Pod>().list(&ListParams::default()).await.ok()?.items;
            assert!(pods.is_empty(), "the owner went before its pods");
        }
        gone.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_pods_at_once_are_made_once() {
    let house = House::start().await;
    house.node("n").await;
    house.kubelet();
    let start = Instant::now();
    house.deploy("many", 100, "a:1").await;
    house.available("many", 100).await;
    println!("a hundred replicas available after {:?}", start.elapsed());
    let events = house.api::<Event>().list(&ListParams::default()).await.expect("events").items;
    let made: Vec<_> = events.iter().filter(|e| e.reason.as_deref() == Some("SuccessfulCreate")).collect();
    assert_eq!(house.api::<Pod>().list(&ListParams::default()).await.expect("pods").items.len(), 100);
    assert!(made.len() <= 100, "{} creates", made.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_has_its_endpoints() {
    let house = House::start().await;
    house.node("n").await;
    house.kubelet();
    house.deploy("web", 2, "a:1").await;
    let service = json!({"metadata": {"name": "web"}, "spec": {
        "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}});
    let services = house.api::<Service>();
    let service: Service = serde_json::from_value(service).expect("service");
    services.create(&PostParams::default(), &service).await.expect("service");
    house.available("web", 2).await;
    let of = ListParams::default().labels("kubernetes.io/service-name=web");
    let slice = eventually("two ready endpoints", || async {
        let slices = house.api::<EndpointSlice>().list(&of).await.ok()?.items;
        let [slice] = slices.as_slice() else { return None };
        let endpoints = slice.endpoints.iter().flatten();
        let ready = endpoints.filter(|e| e.conditions.as_ref().and_then(|c| c.ready) == Some(true));
        (ready.count() == 2).then(|| slice.clone())
    })
    .await;
    assert_eq!(slice.ports.expect("ports")[0].port, Some(8080));
    eventually("two addresses", || async {
        let legacy = house.api::<Endpoints>().get_opt("web").await.ok()??;
        let addresses = legacy.subsets.iter().flatten().flat_map(|s| s.addresses.iter().flatten());
        (addresses.count() == 2).then_some(())
    })
    .await;
    services.delete("web", &DeleteParams::default()).await.expect("deleted");
    eventually("slices and endpoints are gone", || async {
        let slices = house.api::<EndpointSlice>().list(&of).await.ok()?.items;
        let legacy = house.api::<Endpoints>().get_opt("web").await.ok()?;
        (slices.is_empty() && legacy.is_none()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_is_equipped_and_emptied() {
    let house = House::start().await;
    house.node("n").await;
    house.kubelet();
    let namespaces: Api<Namespace> = Api::all(house.client.clone());
    let namespace = serde_json::from_value(json!({"metadata": {"name": "other"}})).expect("namespace");
    namespaces.create(&PostParams::default(), &namespace).await.expect("namespace");
    let accounts: Api<ServiceAccount> = Api::namespaced(house.client.clone(), "other");
    eventually("the account", || async { accounts.get_opt("default").await.ok()? }).await;
    let maps: Api<ConfigMap> = Api::namespaced(house.client.clone(), "other");
    let map = eventually("the authority", || async { maps.get_opt("kube-root-ca.crt").await.ok()? }).await;
    assert_eq!(map.data.expect("data")["ca.crt"], "the authority");

    let deployments: Api<Deployment> = Api::namespaced(house.client.clone(), "other");
    let one = serde_json::from_value(deployment("web", 2, "a:1")).expect("deployment");
    deployments.create(&PostParams::default(), &one).await.expect("deployment");
    let pods: Api<Pod> = Api::namespaced(house.client.clone(), "other");
    eventually("pods", || async {
        (pods.list(&ListParams::default()).await.ok()?.items.len() == 2).then_some(())
    })
    .await;
    namespaces.delete("other", &DeleteParams::default()).await.expect("deleted");
    eventually("the namespace is gone", || async {
        namespaces.get_opt("other").await.ok()?.is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_node_loses_its_taint_when_it_is_ready() {
    let house = House::start().await;
    house.node("n").await;
    let nodes: Api<Node> = Api::all(house.client.clone());
    eventually("no taints", || async {
        let node = nodes.get("n").await.ok()?;
        node.spec.unwrap_or_default().taints.unwrap_or_default().is_empty().then_some(())
    })
    .await;
    let down = json!({"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "KubeletNotReady"}]}});
    nodes.patch_status("n", &PatchParams::default(), &Patch::Merge(down)).await.expect("status");
    eventually("the taints of a node that is not ready", || async {
        let taints = nodes.get("n").await.ok()?.spec.unwrap_or_default().taints.unwrap_or_default();
        let keys: Vec<String> =
            taints.into_iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect();
        let key = "node.kubernetes.io/not-ready";
        (keys == [format!("{key}:NoSchedule"), format!("{key}:NoExecute")]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_makes_nothing_twice() {
    let store = testkit::MemStore::shared();
    let first = House::over(store.clone()).await;
    first.node("n").await;
    first.kubelet();
    first.deploy("web", 5, "a:1").await;
    first.available("web", 5).await;
    assert!(first.tasks.shutdown(Duration::from_secs(5)).await);

    let second = House::over(store).await;
    second.kubelet();
    // A change that every controller looks at, and then some time to do harm in.
    let scale = json!({"spec": {"replicas": 6}});
    let deployments = second.api::<Deployment>();
    deployments.patch("web", &PatchParams::default(), &Patch::Merge(scale)).await.expect("scale");
    second.available("web", 6).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(second.api::<Pod>().list(&ListParams::default()).await.expect("pods").items.len(), 6);
    assert_eq!(second.api::<ReplicaSet>().list(&ListParams::default()).await.expect("sets").items.len(), 1);
    let events = second.api::<Event>().list(&ListParams::default()).await.expect("events").items;
    let deleted = events.iter().filter(|event| event.reason.as_deref() == Some("SuccessfulDelete"));
    assert_eq!(deleted.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_leads_and_lets_go_when_it_stops() {
    let house = House::start().await;
    let candidate = |name: &str| {
        let tasks = Tasks::new();
        let election = Election {
            client: house.client.clone(),
            namespace: "kube-system",
            name: "test",
            identity: name.to_owned(),
            clock: SystemClock::shared(),
        };
        let leads = election.start(&tasks);
        (tasks, leads)
    };
    let leases: Api<Lease> = Api::namespaced(house.client.clone(), "kube-system");
    let holder = async || leases.get("test").await.ok()?.spec?.holder_identity;
    let (first, mut one) = candidate("one");
    one.wait_for(|leads| *leads).await.expect("it runs");
    let (_second, mut two) = candidate("two");
    assert_eq!(holder().await.as_deref(), Some("one"));
    assert!(!*two.borrow());
    assert!(first.shutdown(PATIENCE).await && !*one.borrow(), "who stops does not lead");
    // Well before the Lease would have run out.
    let soon = tokio::time::timeout(Duration::from_secs(12), two.wait_for(|leads| *leads)).await;
    soon.expect("the other takes over at once").expect("it runs");
    assert_eq!(holder().await.as_deref(), Some("two"));
    let lease = leases.get("test").await.expect("the lease").spec.expect("a spec");
    assert_eq!((lease.lease_transitions, lease.lease_duration_seconds), (Some(1), Some(15)));
}
