//! The Node object: registered, its status written when it changes, its Lease renewed.
//!
//! The Lease is the only periodic write (every 10 s of a 40 s lease, as upstream); the status follows when it
//! differs, and at least every five minutes.

use crate::context::Context;
use base::task::TaskKind;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec, NodeStatus,
    NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Error as KubeError};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// How often the Lease is renewed.
const LEASE_EVERY: Duration = Duration::from_secs(10);
/// How long the Lease counts, seconds.
const LEASE_SECONDS: i32 = 40;
/// Renewals between two writes of an unchanged status (5 minutes).
const RENEWALS_PER_STATUS: u32 = 30;
/// The namespace of node leases.
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// Pods a node takes (upstream's default).
const PODS_MAX: u32 = 110;
/// Wait after a failed call during registration.
const RETRY: Duration = Duration::from_millis(200);
/// Free memory below which the node is under pressure (upstream's eviction threshold).
const MEMORY_FREE_MIN: u64 = 100 << 20;
/// Free disk below which the node is under pressure: a tenth (upstream's `nodefs.available`) ...
const DISK_FREE_MIN_PERCENT: u64 = 10;
/// ... but no more than this: a tenth of a laptop's large disk is no emergency.
const DISK_FREE_ENOUGH_BYTES: u64 = 2 << 30;

/// Registers the node and keeps it fresh; returns once the Node object exists and is Ready.
pub(crate) async fn start(context: &Arc<Context>, port: u16) -> Result<(), KubeError> {
    let api = Api::<Node>::all(context.client.clone());
    let uid = loop {
        match register(context, &api, port).await {
            Ok(uid) => break uid,
            Err(KubeError::Api(status)) if status.code == 422 || status.code == 400 => {
                return Err(KubeError::Api(status));
            }
            Err(error) => {
                tracing::debug!(%error, "node not registered yet");
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    renew(context, &uid).await;
    let (context, tasks, token) = (context.clone(), context.tasks.clone(), context.tasks.token());
    tasks.spawn(TaskKind::Service, "node lease", async move {
        let mut written = status(&context, port, None);
        let mut renewals = 0;
        loop {
            tokio::select! {
                () = token.cancelled() => return Ok::<(), Infallible>(()),
                () = tokio::time::sleep(LEASE_EVERY) => {}
            }
            renew(&context, &uid).await;
            renewals += 1;
            let fresh = status(&context, port, Some(&written));
            if renewals >= RENEWALS_PER_STATUS || !alike(&written, &fresh) {
                let api = Api::<Node>::all(context.client.clone());
                if patch_status(&context, &api, &fresh).await.is_ok() {
                    (written, renewals) = (fresh, 0);
                }
            }
        }
    });
    Ok(())
}

/// Creates the Node or brings labels and status of an existing one up to date: its uid.
async fn register(context: &Context, api: &Api<Node>, port: u16) -> Result<String, KubeError> {
    let name = &context.options.node_name;
    let existing = match api.get_opt(name).await? {
        Some(node) => node,
        None => {
            let node = Node {
                metadata: ObjectMeta {
                    name: Some(name.clone()),
                    labels: Some(labels(name)),
                    annotations: Some(BTreeMap::from([(
                        "volumes.kubernetes.io/controller-managed-attach-detach".to_owned(),
                        "true".to_owned(),
                    )])),
                    ..ObjectMeta::default()
                },
                spec: Some(NodeSpec { pod_cidr: context.options.pod_cidr.clone(), ..NodeSpec::default() }),
                status: Some(status(context, port, None)),
            };
            match api.create(&PostParams::default(), &node).await {
                Ok(node) => node,
                Err(KubeError::Api(status)) if status.code == 409 => api.get(name).await?,
                Err(error) => return Err(error),
            }
        }
    };
    let patch = serde_json::json!({"metadata": {"labels": labels(name)}});
    api.patch(name, &PatchParams::default(), &Patch::Strategic(&patch)).await?;
    patch_status(context, api, &status(context, port, existing.status.as_ref())).await?;
    context.events.node(&existing, "Starting", "Starting kubelet.");
    Ok(existing.metadata.uid.unwrap_or_default())
}

async fn patch_status(context: &Context, api: &Api<Node>, status: &NodeStatus) -> Result<(), KubeError> {
    let patch = serde_json::json!({"status": status});
    api.patch_status(&context.options.node_name, &PatchParams::default(), &Patch::Strategic(&patch))
        .await
        .map(drop)
}

fn labels(name: &str) -> BTreeMap<String, String> {
    let arch = arch();
    [
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", arch),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// This machine's architecture in Go's words.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

async fn renew(context: &Context, uid: &str) {
    let api = Api::<Lease>::namespaced(context.client.clone(), LEASE_NAMESPACE);
    let name = &context.options.node_name;
    let spec = LeaseSpec {
        holder_identity: Some(name.clone()),
        lease_duration_seconds: Some(LEASE_SECONDS),
        renew_time: Some(MicroTime(Timestamp::now())),
        ..LeaseSpec::default()
    };
    let patch = serde_json::json!({"spec": &spec});
    let result = match api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(KubeError::Api(status)) if status.code == 404 => {
            let owner = OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Node".to_owned(),
                name: name.clone(),
                uid: uid.to_owned(),
                ..OwnerReference::default()
            };
            let metadata = ObjectMeta {
                name: Some(name.clone()),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            };
            api.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) }).await
        }
        other => other,
    };
    if let Err(error) = result {
        tracing::debug!(%error, "node lease not renewed");
    }
}

fn status(context: &Context, port: u16, old: Option<&NodeStatus>) -> NodeStatus {
    let capacity = capacity(context);
    let address = |kind: &str, address: String| NodeAddress { type_: kind.to_owned(), address };
    NodeStatus {
        addresses: Some(vec![
            address("InternalIP", context.options.node_ip.to_string()),
            address("Hostname", context.options.node_name.clone()),
        ]),
        allocatable: Some(capacity.clone()),
        capacity: Some(capacity),
        conditions: Some(conditions(context, old)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(port) }),
        }),
        node_info: Some(info(context)),
        ..NodeStatus::default()
    }
}

fn capacity(context: &Context) -> BTreeMap<String, Quantity> {
    let disk = nix::sys::statvfs::statvfs(context.runtime.dir())
        .map_or(0, |found| found.blocks() * found.fragment_size());
    [
        ("cpu", context.machine.cpus.to_string()),
        ("memory", format!("{}Ki", context.machine.memory_bytes / 1024)),
        ("pods", PODS_MAX.to_string()),
        ("ephemeral-storage", format!("{}Ki", disk / 1024)),
        ("hugepages-1Gi", "0".to_owned()),
        ("hugepages-2Mi", "0".to_owned()),
    ]
    .into_iter()
    .map(|(name, amount)| (name.to_owned(), Quantity(amount)))
    .collect()
}

struct Fact {
    kind: &'static str,
    holds: bool,
    reason: &'static str,
    message: &'static str,
}

fn facts(context: &Context) -> [Fact; 4] {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free_kib: u64 = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(u64::MAX / 1024);
    let low_memory = free_kib * 1024 < MEMORY_FREE_MIN;
    let low_disk = nix::sys::statvfs::statvfs(context.runtime.dir()).is_ok_and(|found| {
        let free = found.blocks_available();
        free * 100 < found.blocks() * DISK_FREE_MIN_PERCENT
            && free * found.fragment_size() < DISK_FREE_ENOUGH_BYTES
    });
    let pick = |low: bool, yes: (&'static str, &'static str), no: (&'static str, &'static str)| {
        if low { yes } else { no }
    };
    let (memory, memory_text) = pick(
        low_memory,
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    );
    let (disk, disk_text) = pick(
        low_disk,
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    );
    [
        Fact { kind: "MemoryPressure", holds: low_memory, reason: memory, message: memory_text },
        Fact { kind: "DiskPressure", holds: low_disk, reason: disk, message: disk_text },
        Fact {
            kind: "PIDPressure",
            holds: false,
            reason: "KubeletHasSufficientPID",
            message: "kubelet has sufficient PID available",
        },
        Fact {
            kind: "Ready",
            holds: true,
            reason: "KubeletReady",
            message: "kubelet is posting ready status",
        },
    ]
}

fn conditions(context: &Context, old: Option<&NodeStatus>) -> Vec<NodeCondition> {
    let now = pod_core::status::time(context.now());
    let known = old.and_then(|old| old.conditions.as_deref()).unwrap_or_default();
    facts(context).iter().map(|fact| condition(fact, known, &now)).collect()
}

fn condition(fact: &Fact, known: &[NodeCondition], now: &Time) -> NodeCondition {
    let status = if fact.holds { "True" } else { "False" };
    let same = known.iter().find(|old| old.type_ == fact.kind && old.status == status);
    NodeCondition {
        type_: fact.kind.to_owned(),
        status: status.to_owned(),
        reason: Some(fact.reason.to_owned()),
        message: Some(fact.message.to_owned()),
        last_heartbeat_time: Some(now.clone()),
        last_transition_time: same
            .and_then(|old| old.last_transition_time.clone())
            .or_else(|| Some(now.clone())),
    }
}

/// Equal but for the heartbeats.
fn alike(a: &NodeStatus, b: &NodeStatus) -> bool {
    let strip = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    strip(a) == strip(b)
}

fn info(context: &Context) -> NodeSystemInfo {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let release = read("/etc/os-release");
    let pretty = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux");
    NodeSystemInfo {
        architecture: arch().to_owned(),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: format!("ketch://{}", env!("CARGO_PKG_VERSION")),
        kernel_version: read("/proc/sys/kernel/osrelease"),
        kube_proxy_version: String::new(),
        kubelet_version: context.options.version.clone(),
        machine_id: read("/etc/machine-id"),
        operating_system: "linux".to_owned(),
        os_image: pretty.trim_matches('"').to_owned(),
        system_uuid: read("/sys/class/dmi/id/product_uuid"),
        ..NodeSystemInfo::default()
    }
}
