//! A real Apache Kafka broker beside ours: one KRaft node from the pinned jars, in a directory of its own.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A Java virtual machine on two busy cores takes its time.
const READY_WITHIN: Duration = Duration::from_secs(90);
const HEAP: &str = "-Xmx512m";
/// Settings that a broker gets that is compared with ours, as ours does: those of a node alone, where Kafka's default needs
/// more brokers or time.
pub const ALIKE: [(&str, &str); 8] = [
    ("auto.create.topics.enable", "false"),
    ("log.retention.check.interval.ms", "86400000"),
    ("offsets.topic.num.partitions", "1"),
    ("offsets.topic.replication.factor", "1"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
];
/// Of these the first are set by who starts it; [`RealKafka`] sets the others itself.
pub const SET_BY_TEST: usize = 3;

/// The class path of Kafka's jars; None (and a word) when it is not set.
pub fn class_path() -> Option<String> {
    let found = std::env::var("KETCH_TEST_KAFKA_CLASSPATH").ok();
    if found.is_none() {
        eprintln!("skipped: KETCH_TEST_KAFKA_CLASSPATH is not set; `cargo xtask test` sets it");
    }
    found
}

/// A class of the jars with its arguments.
pub fn java(class_path: &str, class: &str, args: &[&str]) -> Command {
    let mut command = Command::new("java");
    command
        .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m", "-cp", class_path, class])
        .args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A running broker; killed when dropped.
pub struct RealKafka {
    pub addr: SocketAddr,
    pub dir: PathBuf,
    properties: PathBuf,
    class_path: String,
    process: Option<Child>,
}

impl RealKafka {
    /// Formats a fresh directory under `root` and starts on it, with these properties besides the necessary ones.
    pub fn start(root: &Path, class_path: &str, more: &[(&str, &str)]) -> Self {
        let mut kafka = Self::prepare(root, &root.join("kafka"), class_path, more);
        let format = [
            "format",
            "--standalone",
            "-t",
            "a2V0Y2gtdGVzdC1pZC0wMQ",
            // A feature that concerns several replicas only, and that keeps min.insync.replicas as a setting of the cluster.
            "--feature",
            "eligible.leader.replicas.version=0",
            "-c",
        ];
        let config = kafka.properties.to_string_lossy().into_owned();
        let formatted =
            java(class_path, "kafka.tools.StorageTool", &[&format[..], &[&config]].concat()).output();
        let formatted = formatted.expect("java runs");
        assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stderr));
        kafka.up();
        kafka
    }

    /// Settings for a directory that exists already; [`RealKafka::up`] starts it.
    pub fn prepare(root: &Path, dir: &Path, class_path: &str, more: &[(&str, &str)]) -> Self {
        let (addr, controller) = (free_address(), free_address());
        let mut text = format!(
            "process.roles=broker,controller\nnode.id=1\nlisteners=PLAINTEXT://{addr},CONTROLLER://{controller}\n\
             controller.quorum.bootstrap.servers={controller}\ncontroller.listener.names=CONTROLLER\n\
             log.dirs={}\noffsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\nshare.coordinator.state.topic.replication.factor=1\n\
             share.coordinator.state.topic.min.isr=1\ngroup.initial.rebalance.delay.ms=0\n",
            dir.display()
        );
        more.iter().for_each(|(key, value)| text.push_str(&format!("{key}={value}\n")));
        let properties = root.join("kafka.properties");
        std::fs::write(&properties, text).expect("a file");
        Self { addr, dir: dir.to_owned(), properties, class_path: class_path.to_owned(), process: None }
    }

    /// The same for a directory whose metadata names no voters: the properties do.
    pub fn on_exported(root: &Path, dir: &Path, class_path: &str, more: &[(&str, &str)]) -> Self {
        let kafka = Self::prepare(root, dir, class_path, more);
        let text = std::fs::read_to_string(&kafka.properties).expect("just written");
        let text = text.replace("controller.quorum.bootstrap.servers=", "controller.quorum.voters=1@");
        std::fs::write(&kafka.properties, text).expect("a file");
        kafka
    }

    /// Starts the process and waits until it takes connections.
    pub fn up(&mut self) {
        let log = std::fs::File::create(self.properties.with_extension("log")).expect("a log file");
        let mut command = Command::new("java");
        command.args([
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            HEAP,
            "-cp",
            &self.class_path,
            "kafka.Kafka",
        ]);
        command.arg(&self.properties).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a descriptor")).stderr(log);
        self.process = Some(command.spawn().expect("java runs"));
        let deadline = Instant::now() + READY_WITHIN;
        while TcpStream::connect(self.addr).is_err() {
            assert!(Instant::now() < deadline, "not ready: {}", self.log());
            let ended = self.process.as_mut().and_then(|process| process.try_wait().expect("a child"));
            assert!(ended.is_none(), "Kafka ended: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops as an operator does, so that the directory is marked clean.
    pub fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let sent = Command::new("kill").arg("-TERM").arg(process.id().to_string()).status();
        assert!(sent.expect("kill runs").success());
        process.wait().expect("a child can be waited for");
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.properties.with_extension("log")).unwrap_or_default()
    }
}

impl Drop for RealKafka {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// An address nobody listens on now.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("bound")
}
