//! Real containers from a busybox image: needs root, overlayfs and a static busybox; says so and passes otherwise.

use kubelet::images::{Image, import};
use kubelet::oci::{self, Inputs};
use kubelet::runtime::{
    ContainerMeta, ExecRequest, Launch, Runtime, SandboxRequest, ShimCommand, StartError,
};
use pod_core::PodRef;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A node directory with an image `busybox`; everything it made goes with it.
struct Node {
    runtime: Runtime,
    image: Image,
    dir: tempfile::TempDir,
    pod: PodRef,
    id: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        kubelet::down(self.dir.path());
    }
}

fn busybox() -> Option<PathBuf> {
    let found = ["/bin/busybox", "/usr/bin/busybox"].iter().map(PathBuf::from).find(|path| path.exists());
    let root = nix::unistd::geteuid().is_root();
    if found.is_none() || !root {
        eprintln!("skipped: needs root and busybox-static (apt-get install busybox-static)");
    }
    found.filter(|_| root)
}

/// The example binary beside the test binary.
fn shim() -> ShimCommand {
    let test = std::env::current_exe().expect("a test has a path");
    let program = test.parent().and_then(Path::parent).expect("deps/..").join("examples/shimhost");
    assert!(program.exists(), "cargo builds examples before it runs tests");
    ShimCommand { program, args: Vec::new() }
}

fn archive(dir: &Path, busybox: &Path) -> PathBuf {
    let mut layer = tar::Builder::new(Vec::new());
    let program = std::fs::read(busybox).expect("busybox");
    let mut add = |name: &str, mode: u32, data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(mode);
        header.set_cksum();
        layer.append_data(&mut header, name, data).expect("in memory");
    };
    add("bin/busybox", 0o755, &program);
    add("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n");
    for applet in
        ["sh", "cat", "sleep", "id", "echo", "ls", "stty", "hostname", "env", "kill", "grep", "true"]
    {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        layer.append_link(&mut header, format!("bin/{applet}"), "busybox").expect("in memory");
    }
    let layer = layer.into_inner().expect("in memory");
    let digest = |data: &[u8]| -> String {
        ring::digest::digest(&ring::digest::SHA256, data)
            .as_ref()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect()
    };
    let config = json!({"os": "linux", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))]}})
    .to_string();
    let config_name = format!("{}.json", digest(config.as_bytes()));
    let manifest =
        json!([{"Config": config_name, "RepoTags": ["busybox:latest"], "Layers": ["layer.tar"]}]).to_string();
    let path = dir.join("busybox.tar");
    let mut out = tar::Builder::new(std::fs::File::create(&path).expect("temp dir"));
    for (name, data) in
        [("manifest.json", manifest.as_bytes()), (&config_name, config.as_bytes()), ("layer.tar", &layer)]
    {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        out.append_data(&mut header, name, data).expect("temp dir");
    }
    out.finish().expect("temp dir");
    path
}

impl Node {
    async fn new() -> Option<Self> {
        let busybox = busybox()?;
        let dir = tempfile::tempdir().expect("temp dir");
        let id = kubelet::runtime::directory_id(dir.path());
        let runtime = Runtime::open(dir.path(), &id, shim()).expect("a node directory");
        let image =
            import(&dir.path().join("images"), &archive(dir.path(), &busybox)).expect("an image").remove(0);
        let pod = PodRef { namespace: "ns".into(), name: "pod".into(), uid: "uid-1".into() };
        let node = Self { runtime, image, dir, pod, id };
        let request = SandboxRequest {
            pod: node.pod.clone(),
            hostname: "pod-host".into(),
            host_network: false,
            host_ipc: false,
            share_pids: false,
            sysctls: Vec::new(),
            cgroup: node.pod_cgroup(),
            limits: kubelet::cgroup::Limits::default(),
            now_ms: 0,
        };
        node.runtime.create_sandbox(&request).await.expect("a sandbox");
        Some(node)
    }

    fn pod_cgroup(&self) -> PathBuf {
        PathBuf::from(format!("/ketch-{}/kubepods/besteffort/pod{}", self.id, self.pod.uid))
    }

    fn launch(&self, id: &str, container: serde_json::Value) -> Launch {
        let pod =
            serde_json::from_value(json!({"metadata": {"name": "pod", "namespace": "ns", "uid": "uid-1"},
            "spec": {"containers": [container]}}))
            .expect("a pod");
        let pod: k8s_openapi::api::core::v1::Pod = pod;
        let container = pod.spec.as_ref().expect("spec").containers[0].clone();
        let cgroup = self.pod_cgroup().join(id);
        let meta = ContainerMeta {
            id: id.to_owned(),
            pod: self.pod.clone(),
            name: container.name.clone(),
            attempt: 0,
            image: "busybox".into(),
            image_id: self.image.id.clone(),
            log_path: self.runtime.log_dir(&self.pod, &container.name).join("0.log"),
            cgroup: cgroup.clone(),
            created_ms: 0,
        };
        self.runtime.prepare(&meta).expect("a directory");
        let rootfs = self.runtime.mount_rootfs(id, &self.image).expect("an overlay");
        let inputs = Inputs {
            pod: &pod,
            container: &container,
            pod_dir: &self.runtime.pod_dir(&self.pod.uid),
            args: container.command.clone().unwrap_or_default(),
            env: Vec::new(),
            cwd: String::new(),
            run_as: oci::resolve_user(&pod, &container, "", &rootfs).expect("a user"),
            mounts: Vec::new(),
            cgroup,
            memory_capacity: 1 << 30,
        };
        let oci = oci::config(&inputs);
        Launch {
            meta,
            image: self.image.clone(),
            oci,
            tty: container.tty == Some(true),
            stdin: false,
            shared_pids: false,
        }
    }

    fn log(&self, container: &str) -> String {
        std::fs::read_to_string(self.runtime.log_dir(&self.pod, container).join("0.log")).unwrap_or_default()
    }

    async fn exec(&self, id: &str, command: &[&str]) -> (i32, String) {
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        let output = self.runtime.exec_sync(id, &command, Duration::from_secs(10)).await.expect("exec");
        (output.code, output.output)
    }
}

#[tokio::test]
async fn a_container_runs_logs_and_ends() {
    let Some(node) = Node::new().await else { return };
    let script = "echo out; echo err >&2; hostname; id -u; exit 7";
    let launch = node.launch(
        "c1",
        json!({"name": "c", "command": ["sh", "-c", script],
        "resources": {"limits": {"memory": "32Mi", "cpu": "500m"}}}),
    );
    let begun = Instant::now();
    let state = node.runtime.start(&launch).await.expect("it starts");
    println!("started in {:?}", begun.elapsed());
    assert!(state.pid.is_some());
    let end = node.runtime.wait("c1").await.expect("it ends");
    assert_eq!((end.exit_code, end.signal), (7, 0));
    let log = node.log("c");
    for line in ["stdout F out", "stderr F err", "stdout F pod-host", "stdout F 0"] {
        assert!(log.contains(line), "{line} in {log}");
    }
    node.runtime.remove("c1");
    assert!(!node.runtime.container_dir("c1").exists());
    assert_eq!(kubelet::cgroup::processes(&launch.meta.cgroup), Vec::<i32>::new());
}

#[tokio::test]
async fn programs_that_do_not_exist_are_explained() {
    let Some(node) = Node::new().await else { return };
    let launch = node.launch("c1", json!({"name": "c", "command": ["nosuch"]}));
    let error = node.runtime.start(&launch).await.expect_err("it cannot start");
    let StartError::Run(text) = error else { panic!("{error}") };
    assert!(text.contains("exec: \"nosuch\": executable file not found in $PATH"), "{text}");
}

#[tokio::test]
async fn processes_join_a_running_container() {
    let Some(node) = Node::new().await else { return };
    let launch = node.launch("c1", json!({"name": "c", "command": ["sleep", "1000"],
        "securityContext": {"runAsUser": 1000, "capabilities": {"drop": ["ALL"]}, "allowPrivilegeEscalation": false,
            "seccompProfile": {"type": "RuntimeDefault"}, "readOnlyRootFilesystem": true}}));
    let state = node.runtime.start(&launch).await.expect("it starts");
    assert_eq!(node.exec("c1", &["sh", "-c", "id -u; exit 3"]).await, (3, "1000\n".to_owned()));
    assert_eq!(node.exec("c1", &["grep", "NoNewPrivs", "/proc/1/status"]).await.1, "NoNewPrivs:\t1\n");
    assert_eq!(node.exec("c1", &["grep", "CapBnd", "/proc/1/status"]).await.1, "CapBnd:\t0000000000000000\n");
    let error =
        node.runtime.exec_sync("c1", &["nosuch".to_owned()], Duration::from_secs(5)).await.expect_err("no");
    assert!(error.to_string().contains("not found in $PATH"), "{error}");
    // Clean private pages are the program's text, which a node's many shims share with the agent.
    let smaps =
        std::fs::read_to_string(format!("/proc/{}/smaps_rollup", state.shim_pid)).expect("the shim lives");
    let dirty = smaps.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).expect("a line");
    let dirty: u64 = dirty.trim().trim_end_matches(" kB").parse().expect("a number");
    println!("shim: {dirty} KiB private");
    assert!(dirty < 3 << 10, "{dirty} KiB");
    // Another agent, as after a restart, finds it and can end it.
    let again = Runtime::open(node.dir.path(), &node.id, shim()).expect("the same directory");
    let found = again.containers();
    assert_eq!(found[0].meta, launch.meta);
    again.kill("c1", 9).await.expect("a signal");
    let end = again.wait("c1").await.expect("it ends");
    assert_eq!((end.exit_code, end.signal), (137, 9));
}

#[tokio::test]
async fn a_terminal_is_a_terminal() {
    let Some(node) = Node::new().await else { return };
    let launch = node.launch(
        "c1",
        json!({"name": "c", "tty": true, "command": ["sh", "-c", "test -t 1 && echo terminal; sleep 1000"]}),
    );
    node.runtime.start(&launch).await.expect("it starts");
    let request = ExecRequest { command: vec!["sh".into()], tty: true, stdin: true, timeout: None };
    let mut process = node.runtime.exec("c1", &request).expect("exec");
    process.resize(kubelet::shim::protocol::Resize { width: 100, height: 30 }).await;
    let (mut stdin, mut stdout) =
        (process.stdin.take().expect("stdin"), process.stdout.take().expect("stdout"));
    tokio::time::sleep(Duration::from_millis(200)).await;
    stdin.write_all(b"stty size; exit 5\n").await.expect("input");
    let mut text = String::new();
    stdout.read_to_string(&mut text).await.expect("output");
    assert!(text.contains("30 100"), "{text}");
    assert_eq!(process.wait().await.expect("an exit code"), 5);
    let log = node.log("c");
    assert!(log.contains("stdout F terminal"), "{log}");
    node.runtime.kill("c1", 9).await.expect("a signal");
    node.runtime.wait("c1").await;
}

#[tokio::test]
async fn memory_limits_kill() {
    if !kubelet::cgroup::has("memory") {
        return eprintln!("skipped: this machine's control groups have no memory controller");
    }
    let Some(node) = Node::new().await else { return };
    let launch = node.launch(
        "c1",
        json!({"name": "c", "command": ["sh", "-c", "x=x; while true; do x=$x$x; done"],
        "resources": {"limits": {"memory": "16Mi"}}}),
    );
    node.runtime.start(&launch).await.expect("it starts");
    let end = node.runtime.wait("c1").await.expect("it ends");
    assert!(end.oom_killed, "{end:?}");
}

#[tokio::test]
async fn a_container_does_not_outlive_its_shim_unseen() {
    let Some(node) = Node::new().await else { return };
    let launch = node.launch("c1", json!({"name": "c", "command": ["sleep", "1000"]}));
    let state = node.runtime.start(&launch).await.expect("it starts");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(state.shim_pid), nix::sys::signal::Signal::SIGKILL)
        .expect("the shim lives");
    assert!(node.runtime.wait("c1").await.is_none(), "nobody knows how it ended");
    assert_eq!(kubelet::cgroup::processes(&launch.meta.cgroup), Vec::<i32>::new());
}
