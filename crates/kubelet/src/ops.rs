//! The operations a pod's plan asks for. Each reads the world, does one thing, and reports.

use crate::cgroup::Limits;
use crate::context::Context;
use crate::events::Kind;
use crate::images::{Image, ImageError};
use crate::oci::{self, BindMount, Inputs};
use crate::runtime::{ContainerMeta, Launch, PodRecord, SandboxRequest, StartError};
use crate::volumes::{self, Places};
use crate::{podfiles, probes};
use k8s_openapi::api::core::v1::{Container, Pod};
use pod_core::env::{self, Sources};
use pod_core::{PodRef, resources};
use std::path::Path;
use std::time::Duration;

/// Least time a program gets between SIGTERM and SIGKILL when its preStop hook used up the grace (upstream's).
const GRACE_MIN: Duration = Duration::from_secs(2);

/// The pod's identity.
pub(crate) fn pod_ref(pod: &Pod) -> PodRef {
    PodRef {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
    }
}

/// A sandbox that is ready: addresses, and where the volumes lie.
#[derive(Debug, Clone)]
pub(crate) struct Ready {
    pub ips: Vec<String>,
    pub places: Places,
}

/// Makes the sandbox, attaches it, makes the volumes. What exists already is kept.
pub(crate) async fn create_sandbox(context: &Context, pod: &Pod) -> Result<Ready, String> {
    let record = match existing(context, pod) {
        Some(record) => record,
        None => new_sandbox(context, pod).await?,
    };
    let host_ip = context.options.node_ip.to_string();
    let ip = record.ips.first().cloned().unwrap_or(host_ip);
    let dns = context.network.dns(&record.pod.namespace);
    let etc = context.runtime.pod_dir(&record.pod.uid).join("etc");
    podfiles::write(&etc, pod, &ip, &dns, &context.options.cluster_domain)
        .map_err(|error| error.to_string())?;
    let places = volumes::setup(&context.runtime, pod, &context.objects, &context.facts(&ip)).await.map_err(
        |error| {
            context.events.pod(pod, Kind::Warning, "FailedMount", error.to_string());
            error.to_string()
        },
    )?;
    let ips = if record.ips.is_empty() { vec![ip] } else { record.ips };
    Ok(Ready { ips, places })
}

fn existing(context: &Context, pod: &Pod) -> Option<PodRecord> {
    let uid = pod.metadata.uid.as_deref()?;
    let record = context.runtime.record(uid)?;
    (context.runtime.sandbox_alive(&record) && (!record.own_network || !record.ips.is_empty()))
        .then_some(record)
}

async fn new_sandbox(context: &Context, pod: &Pod) -> Result<PodRecord, String> {
    let spec = pod.spec.clone().unwrap_or_default();
    let amounts = resources::pod_amounts(&spec);
    let class = resources::qos(pod);
    let pod_ref = pod_ref(pod);
    let (host, full) = podfiles::hostname(pod, &context.options.cluster_domain);
    let security = spec.security_context.clone().unwrap_or_default();
    let request = SandboxRequest {
        hostname: full.filter(|_| spec.set_hostname_as_fqdn == Some(true)).unwrap_or(host),
        host_network: spec.host_network == Some(true),
        host_ipc: spec.host_ipc == Some(true),
        share_pids: spec.share_process_namespace == Some(true),
        sysctls: security.sysctls.into_iter().flatten().map(|sysctl| (sysctl.name, sysctl.value)).collect(),
        cgroup: oci::pod_cgroup(&context.runtime.cgroup_root(), class, &pod_ref.uid),
        limits: Limits {
            cpu_shares: resources::cpu_shares(amounts.cpu_request),
            cpu_quota_us: resources::cpu_quota_us(amounts.cpu_limit),
            memory_bytes: amounts.memory_limit,
        },
        now_ms: context.now(),
        pod: pod_ref.clone(),
    };
    let failed = |text: String| {
        let message = format!("Failed to create pod sandbox: {text}");
        context.events.pod(pod, Kind::Warning, "FailedCreatePodSandBox", message.clone());
        message
    };
    let mut record =
        context.runtime.create_sandbox(&request).await.map_err(|error| failed(error.to_string()))?;
    if record.own_network {
        let netns = context.runtime.pod_dir(&pod_ref.uid).join("ns/net");
        // A namespace of an earlier attempt may still be attached under this pod's name.
        let _ = context.network.detach(&pod_ref).await;
        let attached =
            context.network.attach(&pod_ref, &netns).await.map_err(|error| failed(error.to_string()))?;
        record.ips = vec![attached.ip.to_string()];
        context.runtime.write_record(&record).map_err(|error| failed(error.to_string()))?;
    }
    Ok(record)
}

/// How a start went.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The program runs (or has already ended, which the watcher tells).
    Started { id: String, image: String, image_id: String, at_ms: i64 },
    /// Nothing was made: image or configuration.
    NotCreated { reason: &'static str, message: String },
    /// The program could not be started.
    Failed { id: String, message: String },
}

/// Creates and starts one container.
pub(crate) async fn start_container(
    context: &Context,
    pod: &Pod,
    container: &Container,
    attempt: u32,
    ready: &Ready,
) -> Outcome {
    let refused = |reason: &'static str, message: String| {
        context.events.container(pod, &container.name, Kind::Warning, "Failed", format!("Error: {message}"));
        Outcome::NotCreated { reason, message }
    };
    let image = match find_image(context, pod, container) {
        Ok(image) => image,
        Err(outcome) => return outcome,
    };
    let env = match environment(context, pod, container, &image, ready).await {
        Ok(env) => env,
        Err(text) => return refused("CreateContainerConfigError", text),
    };
    let launch = match build(context, pod, container, attempt, ready, &image, env) {
        Ok(launch) => launch,
        Err(BuildError::Config(text)) => return refused("CreateContainerConfigError", text),
        Err(BuildError::Create(text)) => return refused("CreateContainerError", text),
    };
    prune(context, pod, container, attempt);
    let id = launch.meta.id.clone();
    context.events.container(
        pod,
        &container.name,
        Kind::Normal,
        "Created",
        format!("Created container: {}", container.name),
    );
    match context.runtime.start(&launch).await {
        Ok(state) => {
            let text = format!("Started container {}", container.name);
            context.events.container(pod, &container.name, Kind::Normal, "Started", text);
            Outcome::Started {
                id,
                image: launch.meta.image,
                image_id: launch.meta.image_id,
                at_ms: state.started_ms,
            }
        }
        Err(StartError::Prepare(error)) => {
            context.runtime.remove(&id);
            refused("CreateContainerError", error.to_string())
        }
        Err(StartError::Run(text)) => {
            context.events.container(pod, &container.name, Kind::Warning, "Failed", format!("Error: {text}"));
            Outcome::Failed { id, message: text }
        }
    }
}

fn find_image(context: &Context, pod: &Pod, container: &Container) -> Result<Image, Outcome> {
    let name = container.image.as_deref().unwrap_or("");
    let event =
        |kind, reason, message: String| context.events.container(pod, &container.name, kind, reason, message);
    let error = match context.runtime.images().get(name) {
        Ok(image) => {
            event(Kind::Normal, "Pulled", format!("Container image \"{name}\" already present on machine"));
            return Ok(image);
        }
        Err(error) => error,
    };
    if matches!(error, ImageError::BadReference { .. }) {
        let message = format!("Failed to apply default image tag \"{name}\": {error}");
        event(Kind::Warning, "InspectFailed", message.clone());
        return Err(Outcome::NotCreated { reason: "InvalidImageName", message });
    }
    if container.image_pull_policy.as_deref() == Some("Never") {
        let message = format!("Container image \"{name}\" is not present with pull policy of Never");
        event(Kind::Warning, "ErrImageNeverPull", message.clone());
        return Err(Outcome::NotCreated { reason: "ErrImageNeverPull", message });
    }
    let message = format!("Failed to pull image \"{name}\": this node pulls from no registry; {error}");
    event(Kind::Warning, "Failed", message.clone());
    Err(Outcome::NotCreated { reason: "ErrImagePull", message })
}

async fn environment(
    context: &Context,
    pod: &Pod,
    container: &Container,
    image: &Image,
    ready: &Ready,
) -> Result<Vec<(String, String)>, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("");
    let (maps, secrets) = env::references(container);
    let mut sources = Sources {
        services: context.informers.services().all().iter().map(|service| (**service).clone()).collect(),
        facts: context.facts(ready.ips.first().map_or("", String::as_str)),
        ..Sources::default()
    };
    for name in maps {
        if let Some(map) = context.objects.config_map(namespace, &name).await? {
            sources.config_maps.insert(name, map);
        }
    }
    for name in secrets {
        if let Some(secret) = context.objects.secret(namespace, &name).await? {
            sources.secrets.insert(name, secret);
        }
    }
    let own = env::environment(pod, container, &sources)?;
    // The image's variables come first and give way to the container's.
    let mut out: Vec<(String, String)> = image
        .config
        .env
        .iter()
        .filter_map(|entry| entry.split_once('='))
        .filter(|(name, _)| !own.iter().any(|(known, _)| known == name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    if !out.iter().chain(&own).any(|(name, _)| name == "HOSTNAME") {
        out.push(("HOSTNAME".to_owned(), podfiles::hostname(pod, &context.options.cluster_domain).0));
    }
    out.extend(own);
    Ok(out)
}

enum BuildError {
    Config(String),
    Create(String),
}

impl From<std::io::Error> for BuildError {
    fn from(error: std::io::Error) -> Self {
        Self::Create(error.to_string())
    }
}

fn build(
    context: &Context,
    pod: &Pod,
    container: &Container,
    attempt: u32,
    ready: &Ready,
    image: &Image,
    env: Vec<(String, String)>,
) -> Result<Launch, BuildError> {
    let pod_ref = pod_ref(pod);
    let spec = pod.spec.clone().unwrap_or_default();
    let id = new_id();
    let pod_cgroup = oci::pod_cgroup(&context.runtime.cgroup_root(), resources::qos(pod), &pod_ref.uid);
    let name = container.image.as_deref().unwrap_or("");
    let meta = ContainerMeta {
        id: id.clone(),
        name: container.name.clone(),
        attempt,
        image: crate::images::normalize(name).unwrap_or_else(|_| name.to_owned()),
        image_id: image.repo_digests().first().cloned().unwrap_or_else(|| image.id.clone()),
        log_path: context.runtime.log_dir(&pod_ref, &container.name).join(format!("{attempt}.log")),
        cgroup: pod_cgroup.join(&id),
        created_ms: context.now(),
        pod: pod_ref.clone(),
    };
    let pod_dir = context.runtime.pod_dir(&pod_ref.uid);
    let mut mounts = volumes::container_mounts(container, &ready.places, &env).map_err(BuildError::Config)?;
    context.runtime.prepare(&meta)?;
    let undo = |error| {
        context.runtime.remove(&id);
        error
    };
    let rootfs = context.runtime.mount_rootfs(&id, image).map_err(|error| undo(error.into()))?;
    let run_as = oci::resolve_user(pod, container, &image.config.user, &rootfs)
        .map_err(|text| undo(BuildError::Config(text)))?;
    let args = env::command_line(container, &image.config.entrypoint, &image.config.cmd, &env);
    if args.is_empty() {
        return Err(undo(BuildError::Create("no command specified".to_owned())));
    }
    mounts.extend(own_files(&pod_dir, container, &mounts, &context.runtime.termination_file(&id)));
    let working_dir = container.working_dir.clone().filter(|dir| !dir.is_empty());
    let inputs = Inputs {
        pod,
        container,
        pod_dir: &pod_dir,
        args,
        env,
        cwd: working_dir.unwrap_or_else(|| image.config.working_dir.clone()),
        run_as,
        mounts,
        cgroup: meta.cgroup.clone(),
        memory_capacity: context.machine.memory_bytes,
    };
    let oci = oci::config(&inputs);
    Ok(Launch {
        meta,
        image: image.clone(),
        oci,
        tty: container.tty == Some(true),
        stdin: container.stdin == Some(true),
        shared_pids: spec.host_pid == Some(true) || spec.share_process_namespace == Some(true),
    })
}

/// /etc/hosts, /etc/hostname, /etc/resolv.conf and the termination message, unless a volume covers them.
fn own_files(
    pod_dir: &Path,
    container: &Container,
    mounts: &[BindMount],
    termination: &Path,
) -> Vec<BindMount> {
    let message = container.termination_message_path.clone().filter(|path| !path.is_empty());
    let etc = |name: &str| (pod_dir.join("etc").join(name), format!("/etc/{name}"));
    [etc("hosts"), etc("hostname"), etc("resolv.conf")]
        .into_iter()
        .chain([(termination.to_owned(), message.unwrap_or_else(|| "/dev/termination-log".to_owned()))])
        .filter(|(_, target)| !mounts.iter().any(|mount| mount.target == *target))
        .map(|(source, target)| BindMount { source, target, read_only: false, propagation: None })
        .collect()
}

/// 32 hexadecimal digits.
fn new_id() -> String {
    let mut random = base::random::Random::from_entropy();
    format!("{:016x}{:016x}", random.next_u64(), random.next_u64())
}

/// Removes instances before the last one; the last one's log and state stay for `--previous`.
fn prune(context: &Context, pod: &Pod, container: &Container, attempt: u32) {
    if attempt == 0 {
        return;
    }
    let uid = pod.metadata.uid.as_deref().unwrap_or("");
    for found in context.runtime.containers() {
        let meta = &found.meta;
        if meta.pod.uid != uid || meta.name != container.name || meta.attempt >= attempt {
            continue;
        }
        if meta.attempt + 1 == attempt {
            context.runtime.release(&meta.id);
            continue;
        }
        context.runtime.remove(&meta.id);
        let prefix = format!("{}.log", meta.attempt);
        let logs = meta.log_path.parent().into_iter().flat_map(std::fs::read_dir).flatten().flatten();
        for entry in logs.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Runs the preStop hook, asks the program to end, and makes it end when its time is over.
pub(crate) async fn stop_container(
    context: &Context,
    pod: &Pod,
    container: &Container,
    id: &str,
    ip: &str,
    grace_s: i64,
) {
    let grace = Duration::from_secs(u64::try_from(grace_s).unwrap_or(0));
    let begun = tokio::time::Instant::now();
    if let Some(hook) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref())
        && !grace.is_zero()
    {
        let hook = probes::run_hook(context, container, id, ip, hook, grace);
        if let Ok(Err(text)) = tokio::time::timeout(grace, hook).await {
            let text = format!("PreStopHook failed: {text}");
            context.events.container(pod, &container.name, Kind::Warning, "FailedPreStopHook", text);
        }
    }
    let left = grace.saturating_sub(begun.elapsed());
    if grace_s > 0 {
        let _ = context.runtime.kill(id, stop_signal(context, container)).await;
        let patience = left.max(GRACE_MIN.min(grace));
        if tokio::time::timeout(patience, context.runtime.wait(id)).await.is_ok() {
            return;
        }
    }
    let _ = context.runtime.kill(id, libc::SIGKILL).await;
}

fn stop_signal(context: &Context, container: &Container) -> i32 {
    let own = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.clone());
    let of_image = || {
        let image = context.runtime.images().get(container.image.as_deref()?).ok()?;
        Some(image.config.stop_signal).filter(|signal| !signal.is_empty())
    };
    own.or_else(of_image).and_then(|name| parse_signal(&name)).unwrap_or(libc::SIGTERM)
}

fn parse_signal(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return Some(number);
    }
    let name = if name.starts_with("SIG") { name.to_owned() } else { format!("SIG{name}") };
    name.parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
}

/// Gives back a pod's network, namespaces and mounts.
pub(crate) async fn remove_sandbox(context: &Context, pod: &PodRef) {
    let record = context.runtime.record(&pod.uid);
    if record.as_ref().is_none_or(|record| record.own_network)
        && let Err(error) = context.network.detach(pod).await
    {
        tracing::warn!(%pod, %error, "pod not detached");
    }
    let Some(record) = record else { return };
    let runtime = context.runtime.clone();
    let _ = tokio::task::spawn_blocking(move || {
        for found in runtime.containers().into_iter().filter(|found| found.meta.pod == record.pod) {
            runtime.release(&found.meta.id);
        }
        runtime.remove_sandbox(&record, false);
    })
    .await;
}

/// Removes everything that is left of a pod.
pub(crate) async fn forget(context: &Context, pod: &PodRef) {
    context.objects.forget(&pod.uid);
    let (runtime, pod) = (context.runtime.clone(), pod.clone());
    let _ = tokio::task::spawn_blocking(move || {
        for found in runtime.containers().into_iter().filter(|found| found.meta.pod.uid == pod.uid) {
            runtime.remove(&found.meta.id);
        }
        if let Some(record) = runtime.record(&pod.uid) {
            runtime.remove_sandbox(&record, true);
        }
    })
    .await;
}
