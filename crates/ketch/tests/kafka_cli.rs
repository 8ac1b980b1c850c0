//! The tools for people against `ketch up`: topics, records, groups, metrics, what the start-up line and status say.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const KETCH: &str = env!("CARGO_BIN_EXE_ketch");
const READY_WITHIN: Duration = Duration::from_secs(60);

/// `ketch up` without the node part: any user can run it.
struct Up {
    dir: PathBuf,
    said: Vec<String>,
    process: Child,
    _root: tempfile::TempDir,
}

impl Up {
    fn start(flags: &[&str]) -> Self {
        Self::launch(&[&["--kafka-port", "0"], flags].concat())
    }

    /// The same with Kafka's port left to `flags`.
    fn launch(flags: &[&str]) -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let dir = root.path().join("data");
        let ports = ["--api-port", "0", "--etcd-port", "0", "--console-port", "0"];
        let mut process = Command::new(KETCH)
            .args(["up", "--no-node", "--data-dir"])
            .arg(&dir)
            .args(ports)
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .expect("ketch starts");
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let (mut said, deadline) = (Vec::new(), Instant::now() + READY_WITHIN);
        while !said.last().is_some_and(|line: &String| line.starts_with("ready in ")) {
            assert!(Instant::now() < deadline, "{said:?}");
            said.push(lines.next().expect("a line before the end").expect("text"));
        }
        // Keeps the pipe drained for as long as the process writes.
        std::thread::spawn(move || lines.for_each(drop));
        Self { dir, said, process, _root: root }
    }

    fn run(&self, args: &[&str], input: &str) -> Output {
        let mut child = Command::new(KETCH)
            .args(args)
            .env("KETCH_DATA_DIR", &self.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ketch runs");
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("read");
        child.wait_with_output().expect("ends")
    }

    /// Standard output of a command that must succeed.
    fn ok(&self, args: &[&str], input: &str) -> String {
        let output = self.run(args, input);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{args:?}: {out}{err}");
        out.into_owned()
    }

    /// Standard error of a command that must fail with code 1.
    fn refused(&self, args: &[&str]) -> String {
        let output = self.run(args, "");
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn endpoint(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.dir.join("endpoints.json")).expect("endpoints");
        let endpoints: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        endpoints[name].as_str().unwrap_or_default().to_owned()
    }

    fn get(&self, path: &str) -> String {
        let address = self.endpoint("console").replace("http://", "");
        let mut stream = TcpStream::connect(&address).expect("the console listens");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn topics_records_groups_and_metrics() {
    let up = Up::start(&[]);
    topics(&up);
    records(&up);
    places(&up);
    readers_that_leave(&up);
    let metrics = up.get("/metrics");
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    let produced = "kafka_server_brokertopicmetrics_messagesin_total{topic=\"keyed\"} 100";
    assert!(metrics.lines().any(|line| line == produced), "{metrics}");
    assert!(
        metrics.lines().any(|line| line.starts_with("kafka_log_log_logendoffset{topic=\"orders\"")),
        "{metrics}"
    );
    assert!(up.get("/healthz").ends_with("ok\n"));
    assert!(up.get("/other").starts_with("HTTP/1.1 404"));
    assert_eq!(up.ok(&["topic", "delete", "orders"], ""), "deleted topic 'orders'\n");
    assert!(up.refused(&["topic", "delete", "orders"]).contains("UNKNOWN_TOPIC_OR_PARTITION"));
    assert_eq!(up.ok(&["group", "list"], ""), "");
}

/// Whoever reads a command's output may leave before the end.
fn readers_that_leave(up: &Up) {
    let consume = ["consume", "keyed", "-o", "beginning", "--exit"];
    let describe = ["topic", "describe", "keyed"];
    for args in [&["topic", "list"][..], &["topic", "list", "--json"], &describe, &consume] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = Command::new(KETCH);
        command.args(args).env("KETCH_DATA_DIR", &up.dir).stdout(writer);
        let output = command.output().expect("ketch runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && told.is_empty(), "{args:?}: {:?} {told}", output.status);
    }
}

fn topics(up: &Up) {
    let create = ["topic", "create", "orders", "--partitions", "2", "--config", "retention.ms=1000000"];
    assert_eq!(up.ok(&create, ""), "created topic 'orders' with 2 partition(s)\n");
    assert!(up.refused(&create).contains("TOPIC_ALREADY_EXISTS"));
    assert_eq!(up.ok(&[&create[..], &["--if-not-exists"]].concat(), ""), "topic 'orders' exists\n");
    assert_eq!(up.ok(&["topic", "list"], ""), "orders\n");
    let alter = [
        "topic",
        "alter",
        "orders",
        "--partitions",
        "3",
        "-c",
        "max.message.bytes=5000",
        "--unset",
        "retention.ms",
    ];
    assert_eq!(up.ok(&alter, ""), "altered topic 'orders'\n");
    let described = up.ok(&["topic", "describe", "orders", "--json"], "");
    let described: serde_json::Value = serde_json::from_str(&described).expect("JSON");
    assert_eq!(described[0]["configs"], serde_json::json!({"max.message.bytes": "5000"}));
    assert_eq!(described[0]["partitions"].as_array().map(Vec::len), Some(3));
    assert!(up.refused(&["topic", "describe", "nope"]).contains("no topic 'nope'"));
    assert!(up.refused(&["topic", "create", "a b"]).contains("INVALID_TOPIC_EXCEPTION"));
}

fn records(up: &Up) {
    up.ok(&["topic", "create", "keyed", "-p", "3"], "");
    let lines: String = (0..100).map(|n| format!("k{n}:value {n}\n")).collect();
    for (range, codec) in [(0..50, "zstd"), (50..100, "none")] {
        let part: String = lines.lines().skip(range.start).take(50).map(|line| format!("{line}\n")).collect();
        up.ok(&["produce", "keyed", "-k", ":", "-z", codec, "-H", "source=test", "--quiet"], &part);
    }
    let all = up.ok(&["consume", "keyed", "-o", "beginning", "--exit", "-f", "%k:%s|%h\\n"], "");
    let mut got: Vec<&str> = all.lines().collect();
    let wanted: Vec<String> = lines.lines().map(|line| format!("{line}|source=test")).collect();
    got.sort_unstable();
    let mut sorted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    assert_eq!(got, sorted);
    assert!(up.refused(&["consume", "nope", "--exit"]).contains("UNKNOWN_TOPIC_OR_PARTITION"));
    assert!(up.refused(&["produce", "keyed", "-p", "9", "-f", "/dev/null/none"]).contains("cannot read"));
}

fn places(up: &Up) {
    let record = |n: i64| {
        format!(
            "{{\"value\":\"{n}\",\"partition\":1,\"timestamp\":{},\"headers\":{{\"n\":\"{n}\"}}}}\n",
            1_700_000_000_000 + n
        )
    };
    up.ok(&["produce", "orders", "--json"], &(0..10).map(record).collect::<String>());
    let read = |offset: &str, more: &[&str]| {
        let args = ["consume", "orders", "-p", "1", "--exit", "-f", "%p/%o=%s ", "-o", offset];
        up.ok(&[&args[..], more].concat(), "")
    };
    assert_eq!(read("8", &[]), "1/8=8 1/9=9 ");
    assert_eq!(read("-1", &[]), "1/9=9 ");
    assert_eq!(read("@1700000000007", &[]), "1/7=7 1/8=8 1/9=9 ");
    assert_eq!(read("@2023-11-14T22:13:20.009Z", &[]), "1/9=9 ");
    assert_eq!(read("beginning", &["-n", "2"]), "1/0=0 1/1=1 ");
    let shown = up.ok(&["consume", "orders", "-o", "beginning", "-n", "1", "--json"], "");
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["headers"], serde_json::json!({"n": "0"}));
    assert_eq!(
        (&shown["key"], &shown["timestamp"]),
        (&serde_json::Value::Null, &1_700_000_000_000_i64.into())
    );
    let late = ["consume", "orders", "-o", "end", "-n", "1", "--timeout", "1"];
    assert!(up.refused(&late).contains("0 of 1 records"));
    assert!(up.refused(&["consume", "orders", "-p", "7"]).contains("no partition 7"));
}

#[test]
fn the_durability_that_is_on_is_said() {
    for (flags, name) in [(&[][..], "fsync"), (&["--kafka-durability", "page-cache"][..], "page-cache")] {
        let up = Up::start(flags);
        let wanted = format!("durability {name}: acks=all waits for");
        assert!(
            up.said.iter().any(|line| line.starts_with("broker") && line.contains(&wanted)),
            "{:?}",
            up.said
        );
        let status = up.ok(&["status"], "");
        assert!(status.contains(&format!("kafka durability: {name}")), "{status}");
    }
}

#[test]
fn kafkas_own_settings_reach_the_broker() {
    let root = tempfile::tempdir().expect("a directory");
    let file = root.path().join("ketch.toml");
    let properties = "listeners = 'PLAINTEXT://127.0.0.1:0,OTHER://127.0.0.1:0'\n\
        'listener.security.protocol.map' = 'PLAINTEXT:PLAINTEXT,OTHER:PLAINTEXT'\n\
        'num.partitions' = '2'\n";
    std::fs::write(&file, format!("[kafka.properties]\n{properties}")).expect("written");
    let file = file.to_str().expect("text");
    let up = Up::launch(&["--config", file, "--kafka-property", "num.partitions=3"]);
    assert!(up.endpoint("kafka").starts_with("127.0.0.1:"), "{}", up.endpoint("kafka"));
    up.ok(&["produce", "made", "--quiet"], "a line\n");
    let described = up.ok(&["topic", "describe", "made", "--json"], "");
    let described: serde_json::Value = serde_json::from_str(&described).expect("JSON");
    assert_eq!(described[0]["partitions"].as_array().map(Vec::len), Some(3));
}

#[test]
fn an_unknown_setting_is_refused_by_name() {
    let root = tempfile::tempdir().expect("a directory");
    let output = Command::new(KETCH)
        .args(["up", "--no-node", "--no-etcd-port", "--api-port", "0", "--kafka-port", "0"])
        .args(["--console-port", "0", "--kafka-property", "no.such=1", "--data-dir"])
        .arg(root.path().join("data"))
        .output()
        .expect("ketch runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("unknown broker configuration no.such"), "{told}");
}

#[test]
fn a_topic_with_a_partition_that_is_offline_is_described() {
    let dirs = tempfile::tempdir().expect("a directory");
    let list = ["a", "b"].map(|name| dirs.path().join(name));
    let flag = list.each_ref().map(|dir| dir.to_str().expect("text")).join(",");
    let up = Up::start(&["--kafka-log-dirs", &flag]);
    up.ok(&["topic", "create", "t", "--partitions", "2"], "");
    assert!(list.iter().all(|dir| dir.join("meta.properties").exists()));
    let lost = list.iter().map(|dir| dir.join("t-1")).find(|dir| dir.exists()).expect("a partition");
    std::fs::remove_dir_all(lost).expect("removed");
    // Whoever writes to it notices.
    let refused = up.run(&["produce", "t", "--partition", "1", "--quiet"], "x\n");
    assert!(!refused.status.success(), "{refused:?}");
    let deadline = Instant::now() + READY_WITHIN;
    let described = loop {
        let described = up.ok(&["topic", "describe", "t"], "");
        if described.contains("leader none") || Instant::now() > deadline {
            break described;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let line = |start: &str| described.lines().find(|line| line.trim_start().starts_with(start));
    assert!(
        line("0 ").is_some_and(|line| line.contains("leader 1") && line.ends_with("offsets 0..0")),
        "{described}"
    );
    assert!(
        line("1 ").is_some_and(|line| line.contains("leader none") && line.ends_with("unknown")),
        "{described}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&up.ok(&["topic", "describe", "t", "--json"], "")).expect("JSON");
    assert_eq!(json[0]["partitions"][1]["leader"], serde_json::Value::Null);
}
