//! The node agent against the API server: pods as API objects become containers, and their status comes back.
//!
//! In memory below and without a scheduler: pods name their node. The pod network is a stand-in that hands out
//! addresses; what these tests look at is everything else.

use api_client::Informers;
use base::clock::SystemClock;
use base::random::Random;
use base::task::Tasks;
use identity::UserInfo;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Node, Pod, Secret, ServiceAccount};
use kube::api::{DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use kubelet::runtime::ShimCommand;
use pod_core::{Attachment, BoxFuture, DnsConfig, NetworkError, PodNetwork, PodRef};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

const NODE: &str = "node-1";
const PATIENCE: Duration = Duration::from_secs(20);

/// Hands out addresses and touches nothing.
#[derive(Default)]
struct Addresses(AtomicU8);

impl PodNetwork for Addresses {
    fn attach<'a>(
        &'a self,
        _: &'a PodRef,
        netns: &'a Path,
    ) -> BoxFuture<'a, Result<Attachment, NetworkError>> {
        let ip = IpAddr::V4(Ipv4Addr::new(127, 9, 0, self.0.fetch_add(1, Ordering::Relaxed) + 2));
        self.adopt_at(netns, ip)
    }
    fn adopt<'a>(
        &'a self,
        _: &'a PodRef,
        netns: &'a Path,
        ip: IpAddr,
    ) -> BoxFuture<'a, Result<Attachment, NetworkError>> {
        self.adopt_at(netns, ip)
    }
    fn detach<'a>(&'a self, _: &'a PodRef) -> BoxFuture<'a, Result<(), NetworkError>> {
        Box::pin(async { Ok(()) })
    }
    fn dns(&self, namespace: &str) -> DnsConfig {
        DnsConfig {
            nameservers: vec![IpAddr::V4(Ipv4Addr::new(10, 43, 0, 10))],
            searches: vec![format!("{namespace}.svc.cluster.local")],
            options: vec!["ndots:5".to_owned()],
        }
    }
}

impl Addresses {
    fn adopt_at<'a>(&self, netns: &Path, ip: IpAddr) -> BoxFuture<'a, Result<Attachment, NetworkError>> {
        let netns_path = netns.to_owned();
        Box::pin(async move { Ok(Attachment { ip, gateway: IpAddr::V4(Ipv4Addr::LOCALHOST), netns_path }) })
    }
}

struct Cluster {
    tasks: Tasks,
    agent: Tasks,
    client: Client,
    api: apiserver::Handle,
    pki: pki::Pki,
    dir: tempfile::TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // An agent that still runs would start again what goes down.
        self.tasks.token().cancel();
        std::thread::sleep(Duration::from_millis(300));
        kubelet::down(&self.dir.path().join("node"));
    }
}

fn busybox() -> Option<PathBuf> {
    let found = ["/bin/busybox", "/usr/bin/busybox"].iter().map(PathBuf::from).find(|path| path.exists());
    let able = found.is_some() && testkit::can_isolate();
    if !able {
        eprintln!("skipped: needs root and busybox-static (apt-get install busybox-static)");
    }
    found.filter(|_| able)
}

impl Cluster {
    async fn start() -> Option<Self> {
        let busybox = busybox()?;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let archive = dir.path().join("busybox.tar");
        std::fs::write(&archive, image(&busybox)).expect("an archive");
        kubelet::images::import(&dir.path().join("node/images"), &archive).expect("an image");
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
        let pki = pki::Pki::open(&dir.path().join("pki"), now as i64).expect("certificates");
        let tasks = Tasks::new();
        let api = start_api(&pki, &tasks).await;
        let client = api_client::client(api.local(UserInfo::new("admin", &["system:masters"])));
        let mut cluster = Self { agent: tasks.child(), tasks, client, api, pki, dir };
        for namespace in ["default"] {
            let account = json!({"metadata": {"name": "default"}});
            let _ = cluster
                .namespaced::<ServiceAccount>(namespace)
                .create(&PostParams::default(), &of(account))
                .await;
            let ca = json!({"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": "the authority"}});
            let _ = cluster.namespaced::<ConfigMap>(namespace).create(&PostParams::default(), &of(ca)).await;
        }
        cluster.start_agent().await;
        Some(cluster)
    }

    /// Starts the agent; called again after [`Cluster::stop_agent`] it is the next one on the same directory.
    async fn start_agent(&mut self) {
        self.agent = self.tasks.child();
        let client = api_client::client(self.api.local(UserInfo::node(NODE)));
        let informers = Informers::start(client.clone(), &self.agent);
        let leaf = self.pki.kubelet_server(NODE, &[IpAddr::V4(Ipv4Addr::LOCALHOST)]).expect("a certificate");
        let options = kubelet::Options {
            node_name: NODE.to_owned(),
            node_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            dir: self.dir.path().join("node"),
            listen: vec![(Ipv4Addr::LOCALHOST, 0).into()],
            tls: Arc::new(self.pki.server_config(&leaf).expect("TLS")),
            cluster_domain: "cluster.local".to_owned(),
            pod_cidr: None,
            version: "v1.36.0".to_owned(),
            shim: ShimCommand { program: env!("CARGO_BIN_EXE_ketch").into(), args: vec!["shim".into()] },
            clock: SystemClock::shared(),
        };
        let network = Arc::new(Addresses::default());
        kubelet::Service::start(options, client, informers, network, &self.agent).await.expect("an agent");
    }

    async fn stop_agent(&self) {
        assert!(self.agent.shutdown(Duration::from_secs(5)).await, "the agent's tasks end");
    }

    fn namespaced<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn pods(&self) -> Api<Pod> {
        self.namespaced("default")
    }

    async fn create(&self, name: &str, mut spec: Value) {
        spec["nodeName"] = json!(NODE);
        for list in ["containers", "initContainers"] {
            for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                container["image"] = json!("busybox");
                container["imagePullPolicy"] = json!("IfNotPresent");
            }
        }
        let pod = json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": spec});
        self.pods().create(&PostParams::default(), &of(pod)).await.expect("a pod");
    }

    /// Waits until the pod looks as wanted.
    async fn until(&self, name: &str, what: &str, test: impl Fn(&Pod) -> bool) -> Pod {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let pod = self.pods().get_opt(name).await.expect("an answer");
            if let Some(pod) = pod.filter(|pod| test(pod)) {
                return pod;
            }
            if Instant::now() > deadline {
                let pod = self.pods().get_opt(name).await.expect("an answer");
                let status = serde_json::to_string_pretty(&pod.map(|pod| pod.status)).expect("JSON");
                panic!("{name} never became {what}: {status}\n{}", self.events(name).await.join("\n"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn ready(&self, name: &str) -> Pod {
        self.until(name, "ready", |pod| condition(pod, "Ready") == "True").await
    }

    async fn gone(&self, name: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.pods().get_opt(name).await.expect("an answer").is_some() {
            assert!(Instant::now() < deadline, "{name} stays");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn delete(&self, name: &str, grace: u32) {
        let params = DeleteParams::default().grace_period(grace);
        self.pods().delete(name, &params).await.expect("deleted");
    }

    async fn logs(&self, name: &str, params: &LogParams) -> String {
        self.pods().logs(name, params).await.expect("logs")
    }

    /// Waits until the log holds every part: a container is ready before it has printed everything.
    async fn logs_with(&self, name: &str, parts: &[&str]) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.logs(name, &LogParams::default()).await;
            let missing: Vec<_> = parts.iter().filter(|part| !text.contains(**part)).collect();
            if missing.is_empty() {
                return text;
            }
            assert!(Instant::now() < deadline, "{missing:?} not in {text}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until there is an event with each of the reasons.
    async fn events_with(&self, name: &str, reasons: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let events = self.events(name).await;
            if reasons.iter().all(|reason| events.iter().any(|event| event.contains(reason))) {
                return;
            }
            assert!(Instant::now() < deadline, "{reasons:?} not all in {events:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn events(&self, name: &str) -> Vec<String> {
        let all = self.namespaced::<Event>("default").list(&ListParams::default()).await.expect("events");
        all.items
            .into_iter()
            .filter(|event| event.involved_object.name.as_deref() == Some(name))
            .map(|event| {
                format!("{}: {}", event.reason.unwrap_or_default(), event.message.unwrap_or_default())
            })
            .collect()
    }
}

async fn start_api(pki: &pki::Pki, tasks: &Tasks) -> apiserver::Handle {
    let names =
        pki::Names { dns: vec!["localhost".into()], addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)] };
    let leaf = pki.api_server(&names).expect("a certificate");
    let kubelet_client = pki.kubelet_client().expect("a certificate");
    let options = apiserver::Options {
        listen: vec![(Ipv4Addr::LOCALHOST, 0).into()],
        tls: pki.server_config(&leaf).expect("TLS"),
        kubelet_tls: pki.client_config(Some(&kubelet_client)).expect("TLS"),
        service_account_key: pki.service_account_key_der().to_vec(),
        issuer: identity::token::DEFAULT_ISSUER.to_owned(),
        service_cidr: "10.43.0.0/16".parse().expect("a range"),
        advertise: None,
        shared_store: false,
        clock: SystemClock::shared(),
        random: Random::from_seed(1),
    };
    let handle =
        apiserver::Service::start(options, testkit::MemStore::shared(), tasks).await.expect("an API server");
    handle.ready().await;
    handle
}

fn of<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("a well-formed object")
}

fn condition<'p>(pod: &'p Pod, kind: &str) -> &'p str {
    let all = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    all.iter().find(|condition| condition.type_ == kind).map_or("", |condition| condition.status.as_str())
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("")
}

/// The status of container `name` as JSON.
fn container(pod: &Pod, name: &str) -> Value {
    let status = serde_json::to_value(&pod.status).expect("JSON");
    ["containerStatuses", "initContainerStatuses"]
        .iter()
        .flat_map(|list| status[list].as_array().cloned().unwrap_or_default())
        .find(|status| status["name"] == name)
        .unwrap_or_default()
}

/// A docker-save archive with busybox and links to its applets.
fn image(busybox: &Path) -> Vec<u8> {
    let program = std::fs::read(busybox).expect("busybox");
    let mut layer = tar(&[("bin/busybox", &program), ("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")]);
    // The two zero blocks at the end come after the links.
    layer.truncate(layer.len() - 1024);
    for applet in [
        "sh", "cat", "sleep", "id", "echo", "ls", "env", "true", "false", "touch", "mkdir", "httpd", "test",
        "grep", "ps",
    ] {
        layer.extend(header(&format!("bin/{applet}"), b'2', "busybox", 0));
    }
    layer.extend([0u8; 1024]);
    let digest = |data: &[u8]| -> String {
        // A file of its own: tests of one process run side by side.
        let file = tempfile::NamedTempFile::new().expect("temp file");
        std::fs::write(file.path(), data).expect("temp file");
        let out = std::process::Command::new("sha256sum").arg(file.path()).output().expect("coreutils");
        String::from_utf8_lossy(&out.stdout)[..64].to_owned()
    };
    let config = json!({"os": "linux", "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))]}})
    .to_string();
    let name = format!("{}.json", digest(config.as_bytes()));
    let manifest =
        json!([{"Config": name, "RepoTags": ["busybox:latest"], "Layers": ["layer.tar"]}]).to_string();
    tar(&[("manifest.json", manifest.as_bytes()), (&name, config.as_bytes()), ("layer.tar", &layer)])
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, data) in files {
        out.extend(header(name, b'0', "", data.len()));
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.extend([0u8; 1024]);
    out
}

fn header(name: &str, kind: u8, link: &str, size: usize) -> Vec<u8> {
    let mut block = vec![0u8; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(b"0000755\0");
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[136..148].copy_from_slice(b"00000000000\0");
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link.as_bytes());
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_runs_serves_logs_and_goes() {
    let Some(cluster) = Cluster::start().await else { return };
    let node = Api::<Node>::all(cluster.client.clone()).get(NODE).await.expect("the node");
    assert_eq!(
        node.status.and_then(|s| s.node_info).map(|info| info.kubelet_version),
        Some("v1.36.0".to_owned())
    );
    let begun = Instant::now();
    cluster
        .create(
            "web",
            json!({"terminationGracePeriodSeconds": 3, "containers": [{"name": "c",
            "command": ["sh", "-c", "trap 'exit 3' TERM; echo started; env; while true; do sleep 0.1; done"],
            "env": [{"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "resources": {"requests": {"cpu": "10m"}}}]}),
        )
        .await;
    let pod = cluster.ready("web").await;
    println!("ready after {:?}", begun.elapsed());
    assert_eq!(phase(&pod), "Running");
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    assert!(
        conditions.iter().all(|c| c.status == "True" && c.reason.is_none() && c.message.is_none()),
        "{conditions:?}"
    );
    let status = pod.status.as_ref().expect("a status");
    assert_eq!(status.pod_ip.as_deref(), Some("127.9.0.2"));
    assert_eq!(status.qos_class.as_deref(), Some("Burstable"));
    assert!(container(&pod, "c")["containerID"].as_str().is_some_and(|id| id.starts_with("ketch://")));
    let lines = ["started\n", "WHO=web\n", "HOSTNAME=web\n", "KUBERNETES_SERVICE_HOST=10.43.0.1\n"];
    cluster.logs_with("web", &lines).await;
    cluster.events_with("web", &["Pulled: ", "Created: ", "Started: "]).await;
    cluster.delete("web", 3).await;
    cluster.gone("web").await;
    let left = std::fs::read_dir(cluster.dir.path().join("node/containers")).expect("a directory").count();
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_hold_what_the_api_says() {
    let Some(cluster) = Cluster::start().await else { return };
    let map = json!({"metadata": {"name": "cm"}, "data": {"key": "one", "other": "x"}});
    cluster
        .namespaced::<ConfigMap>("default")
        .create(&PostParams::default(), &of(map))
        .await
        .expect("a config map");
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"password": "secret"}});
    cluster
        .namespaced::<Secret>("default")
        .create(&PostParams::default(), &of(secret))
        .await
        .expect("a secret");
    let script = "cat /cm/key; echo; cat /s/password; echo; ls /account; cat /labels/labels; echo; cat /shared/from-init; \
                  cat /sub; echo; while test \"$(cat /cm/key)\" = one; do sleep 0.1; done; echo changed; sleep 1000";
    cluster
        .create("v", json!({
            "initContainers": [{"name": "i", "command": ["sh", "-c", "echo hello > /shared/from-init"],
                "volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}],
            "containers": [{"name": "c", "command": ["sh", "-c", script], "volumeMounts": [
                {"name": "cm", "mountPath": "/cm"}, {"name": "s", "mountPath": "/s", "readOnly": true},
                {"name": "account", "mountPath": "/account"}, {"name": "labels", "mountPath": "/labels"},
                {"name": "shared", "mountPath": "/shared"}, {"name": "cm", "mountPath": "/sub", "subPath": "other"}]}],
            "volumes": [{"name": "cm", "configMap": {"name": "cm"}}, {"name": "s", "secret": {"secretName": "s"}},
                {"name": "shared", "emptyDir": {}},
                {"name": "labels", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                {"name": "account", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}},
                    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}]}}]}))
        .await;
    cluster.ready("v").await;
    let patch = json!({"data": {"key": "two"}});
    let api = cluster.namespaced::<ConfigMap>("default");
    api.patch("cm", &PatchParams::default(), &Patch::Merge(&patch)).await.expect("patched");
    let deadline = Instant::now() + PATIENCE;
    let params = LogParams { container: Some("c".into()), ..LogParams::default() };
    let mut text = String::new();
    while Instant::now() < deadline && !text.contains("changed") {
        text = cluster.logs("v", &params).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(text, "one\nsecret\nca.crt\ntoken\napp=\"v\"\nhello\nx\nchanged\n");
    cluster.delete("v", 0).await;
    cluster.gone("v").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_show_and_heal() {
    let Some(cluster) = Cluster::start().await else { return };
    cluster
        .create(
            "crash",
            json!({"containers": [{"name": "c", "command": ["sh", "-c", "echo run; exit 1"],
            "terminationMessagePolicy": "FallbackToLogsOnError"}]}),
        )
        .await;
    cluster
        .create(
            "once",
            json!({"restartPolicy": "Never", "containers": [{"name": "c", "command": ["false"]}]}),
        )
        .await;
    cluster.create("nosuch", json!({"containers": [{"name": "c", "command": ["nosuch"]}]})).await;
    cluster
        .create(
            "sick",
            json!({"containers": [{"name": "c", "command": ["sh", "-c", "touch /ok; sleep 1000"],
            "livenessProbe": {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1},
            "readinessProbe": {"exec": {"command": ["cat", "/ok"]}, "periodSeconds": 1}}],
            "terminationGracePeriodSeconds": 1}),
        )
        .await;
    let pod = json!({"metadata": {"name": "noimage"}, "spec": {"nodeName": NODE, "containers": [
        {"name": "c", "image": "absent", "imagePullPolicy": "Never"}]}});
    cluster.pods().create(&PostParams::default(), &of(pod)).await.expect("a pod");
    let waiting =
        |reason: &'static str| move |pod: &Pod| container(pod, "c")["state"]["waiting"]["reason"] == reason;
    let pod = cluster.until("crash", "crash-looping", waiting("CrashLoopBackOff")).await;
    let ended = &container(&pod, "c")["lastState"]["terminated"];
    assert_eq!(
        (&ended["exitCode"], &ended["reason"], &ended["message"]),
        (&json!(1), &json!("Error"), &json!("run\n"))
    );
    let previous = LogParams { previous: true, ..LogParams::default() };
    assert_eq!(cluster.logs("crash", &previous).await, "run\n");
    cluster.until("noimage", "refused", waiting("ErrImageNeverPull")).await;
    let pod = cluster.until("once", "failed", |pod| phase(pod) == "Failed").await;
    assert_eq!(container(&pod, "c")["state"]["terminated"]["exitCode"], 1);
    let pod = cluster.until("nosuch", "refused", |pod| container(pod, "c")["restartCount"] == 1).await;
    let text = container(&pod, "c")["lastState"]["terminated"]["message"].to_string();
    assert!(text.contains("executable file not found in $PATH"), "{text}");
    cluster.until("sick", "restarted", |pod| container(pod, "c")["restartCount"] != 0).await;
    cluster.events_with("sick", &["failed liveness probe, will be restarted"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_outlive_the_agent() {
    let Some(mut cluster) = Cluster::start().await else { return };
    let forever = json!({"containers": [{"name": "c", "command": ["sh", "-c", "echo once; sleep 1000"]}],
        "terminationGracePeriodSeconds": 0});
    cluster.create("stays", forever.clone()).await;
    cluster.create("leaves", forever).await;
    let before = cluster.ready("stays").await;
    let gone = cluster.ready("leaves").await;
    cluster.stop_agent().await;
    let params = DeleteParams::default().grace_period(0);
    cluster.pods().delete("leaves", &params).await.expect("deleted");
    cluster.start_agent().await;
    let uid = gone.metadata.uid.expect("a uid");
    let deadline = Instant::now() + PATIENCE;
    while cluster.dir.path().join("node/pods").join(&uid).exists() {
        assert!(Instant::now() < deadline, "the orphan stays");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let after = cluster.ready("stays").await;
    assert_eq!(container(&after, "c")["containerID"], container(&before, "c")["containerID"]);
    assert_eq!(container(&after, "c")["restartCount"], 0);
    assert_eq!(cluster.logs_with("stays", &["once"]).await, "once\n");
    // The new agent sees its end and starts it anew.
    let cgroup = kubelet::cgroup::processes(&PathBuf::from(format!(
        "/ketch-{}",
        kubelet::runtime::directory_id(&cluster.dir.path().join("node"))
    )));
    for pid in cgroup {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
    cluster.until("stays", "restarted", |pod| container(pod, "c")["restartCount"] == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_pods_start_side_by_side() {
    let Some(cluster) = Cluster::start().await else { return };
    // The bar is 100 in 15 s; a debug build on a busy machine proves the shape with fewer.
    let count: usize = std::env::var("KETCH_TEST_PODS").ok().and_then(|n| n.parse().ok()).unwrap_or(30);
    let begun = Instant::now();
    for number in 0..count {
        let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "command": ["sleep", "1000"]}]});
        cluster.create(&format!("p{number}"), spec).await;
    }
    for number in 0..count {
        cluster.ready(&format!("p{number}")).await;
    }
    println!("{count} pods ready after {:?}", begun.elapsed());
    for number in 0..count {
        cluster.delete(&format!("p{number}"), 0).await;
    }
    let deadline = Instant::now() + PATIENCE;
    while std::fs::read_dir(cluster.dir.path().join("node/pods")).expect("a directory").count() > 0 {
        assert!(Instant::now() < deadline, "pods stay");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("and gone after {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_kubectl_reads_logs_and_runs_commands() {
    let Ok(kubectl) = std::env::var("KETCH_TEST_KUBECTL") else {
        return eprintln!("skipped: KETCH_TEST_KUBECTL is not set (cargo xtask test sets it)");
    };
    let Some(cluster) = Cluster::start().await else { return };
    let config = cluster.dir.path().join("kubeconfig");
    let url = format!("https://{}", cluster.api.addr().expect("it listens"));
    pki::write_kubeconfig(&config, &url, cluster.pki.ca_pem(), &cluster.pki.admin().expect("a certificate"))
        .expect("a kubeconfig");
    let run = async |input: &'static str, args: &'static [&'static str]| {
        let (kubectl, config) = (kubectl.clone(), config.clone());
        tokio::task::spawn_blocking(move || {
            let mut command = std::process::Command::new("timeout");
            command.arg("20").arg(kubectl).args(args).env("KUBECONFIG", config);
            command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
            let mut child = command.stderr(std::process::Stdio::piped()).spawn().expect("kubectl");
            std::io::Write::write_all(&mut child.stdin.take().expect("piped"), input.as_bytes())
                .expect("input");
            let output = child.wait_with_output().expect("kubectl ends");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
            (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
        })
        .await
        .expect("not cancelled")
    };
    let script = "echo one; echo two; sleep 1; echo three";
    cluster
        .create(
            "p",
            json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [
            {"name": "c", "command": ["sh", "-c", script]}, {"name": "d", "command": ["sleep", "1000"]}]}),
        )
        .await;
    cluster.until("p", "running", |pod| phase(pod) == "Running").await;
    assert_eq!(run("", &["logs", "-f", "p", "-c", "c"]).await.1, "one\ntwo\nthree");
    assert_eq!(run("", &["logs", "p", "-c", "c", "--tail=1"]).await.1, "three");
    let (code, out, err) =
        run("", &["exec", "p", "-c", "d", "--", "sh", "-c", "echo out; echo err >&2; exit 3"]).await;
    assert_eq!((code, out.as_str()), (3, "out"));
    assert!(err.starts_with("err"), "{err}");
    assert_eq!(
        run("input", &["exec", "-i", "p", "-c", "d", "--", "cat"]).await,
        (0, "input".into(), String::new())
    );
    let (code, _, err) = run("", &["exec", "p", "-c", "c", "--", "true"]).await;
    assert!(code == 1 && err.contains("container not found (\"c\")"), "{code} {err}");
    let (_, _, err) = run("", &["logs", "p", "-c", "x"]).await;
    assert!(err.contains("container x is not valid for pod p"), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn security_contexts_and_shared_namespaces() {
    let Some(cluster) = Cluster::start().await else { return };
    let script = |text: &str| json!(["sh", "-c", format!("{text}; sleep 1000")]);
    cluster
        .create("user", json!({"securityContext": {"runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 2000,
                "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "80"}],
                "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}, {"name": "e", "emptyDir": {}}],
            "containers": [{"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/v"}, {"name": "e", "mountPath": "/e"}],
                "securityContext": {"readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
                "command": script("id; touch /e/f; ls -ln /e | cat; touch /x; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; \
                    grep -c 'tmpfs /v ' /proc/mounts; grep Seccomp: /proc/self/status; grep CapEff /proc/self/status")}]}))
        .await;
    cluster
        .create("shared", json!({"shareProcessNamespace": true, "terminationGracePeriodSeconds": 0, "containers": [
            {"name": "a", "command": ["sleep", "1234"]},
            {"name": "b", "command": script("sleep 1; ps | grep -c 'sleep 123[4]'; ps | grep -q pause; echo $$")}]}))
        .await;
    cluster
        .create("host", json!({"hostNetwork": true, "hostPID": true, "dnsPolicy": "Default", "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "securityContext": {"privileged": true},
                "lifecycle": {"postStart": {"exec": {"command": ["sh", "-c", "touch /hooked"]}}},
                "readinessProbe": {"exec": {"command": ["cat", "/hooked"]}, "periodSeconds": 1},
                "command": script("ls /proc/self/ns > /dev/null; test -e /dev/vda -o -e /dev/loop0 -o -e /dev/kmsg && echo devices; \
                    grep CapEff /proc/self/status")}]}))
        .await;
    cluster.ready("user").await;
    cluster.ready("shared").await;
    let host = cluster.ready("host").await;
    assert_eq!(host.status.and_then(|status| status.pod_ip), Some("127.0.0.1".to_owned()));
    let parts = [
        "uid=1000 gid=3000 groups=2000",
        " 1000     2000 ",
        "Read-only file system",
        "\n80\n",
        "\n1\n",
        "Seccomp:\t2",
        "CapEff:\t0000000000000000",
    ];
    cluster.logs_with("user", &parts).await;
    let b = LogParams { container: Some("b".into()), ..LogParams::default() };
    let deadline = Instant::now() + PATIENCE;
    let mut text = String::new();
    while text.lines().count() < 2 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
        text = cluster.logs("shared", &b).await;
    }
    assert!(
        text.starts_with("1\n") && !text.ends_with("\n1\n"),
        "sees the other's process, is not the first: {text}"
    );
    let text = cluster.logs_with("host", &["devices", "CapEff"]).await;
    assert!(!text.contains("CapEff:\t00000000a80425fb"), "{text}");
    cluster.delete("shared", 0).await;
    cluster.gone("shared").await;
}
