//! Kafka's command-line tools against Ketch and against a real Apache Kafka 4.3: the same commands (`script.txt`), what they
//! print and how they end compared. `stated.txt` lists what differs and why; a line of it that no longer holds fails too.
//!
//! The tools of each side run in one virtual machine (`tests/java/tools/Console.java`), one after the other. Needs
//! `KETCH_TEST_KAFKA_CLASSPATH`, which `cargo xtask test` sets; without it the test says so and passes.

#![allow(clippy::unwrap_used, reason = "a failed test says where")]

#[path = "../common/mod.rs"]
mod common;
mod script;
mod stated;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use common::Served;
use common::kafka::{ALIKE, RealKafka, SET_BY_TEST, class_path};
use regex::Regex;
use script::{Order, Step};
use serde_json::{Value, json};

const CLUSTER_ID: &str = "a2V0Y2gtdGVzdC1pZC0wMQ";

/// A virtual machine that runs the tools against one broker.
struct Tools {
    bootstrap: String,
    dir: PathBuf,
    scratch: PathBuf,
    process: Child,
    commands: ChildStdin,
    results: BufReader<ChildStdout>,
    replaced: Vec<(Regex, &'static str)>,
}

/// What a tool printed and how it ended.
#[derive(PartialEq)]
struct Ended {
    code: i64,
    out: Vec<String>,
    /// The first line of standard error: stack traces follow it.
    err: String,
}

impl Tools {
    fn start(class_path: &str, bootstrap: String, dir: &Path, scratch: PathBuf) -> Self {
        std::fs::create_dir_all(&scratch).unwrap();
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/java/tools/Console.java");
        let mut process = Command::new("java")
            .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m", "-cp", class_path])
            .arg(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("java runs");
        let commands = process.stdin.take().expect("a pipe");
        let results = BufReader::new(process.stdout.take().expect("a pipe"));
        // What no two brokers share: addresses, paths, times, identities.
        let port = bootstrap.rsplit(':').next().unwrap();
        let own = [
            (regex::escape(&bootstrap), "{b}"),
            (regex::escape(&dir.to_string_lossy()), "{dir}"),
            (regex::escape(&scratch.to_string_lossy()), "{tmp}"),
            (format!(r"\b{port}\b"), "PORT"),
        ];
        let natural = [
            (r"TopicId: \S+", "TopicId: ID"),
            (r#""topicId":"[^"]*""#, r#""topicId":"ID""#),
            (r"console-consumer-[0-9a-f-]+", "console-consumer-ID"),
            (r"\b(crc|producerId): \d+", "$1: N"),
            (
                r#"\b(CreateTime|LogAppendTime|timestamp|currentStateTimestamp"|commitTimestamp")(: ?)\d+"#,
                "$1${2}T",
            ),
            // Milliseconds and revisions.
            (r"\b1[78]\d{11}\b", "TIME"),
            (r"\b(HighWatermark: +)\d+", "$1 N"),
            (r"(TIME\s+)\d+\b", "$1 N"),
            (r"(Epoch: )\d+\b", "$1 N"),
            (r"^(1\s+\S{22}\t)\d+\s+", "$1 N"),
            // The id of one of several producers.
            (r"^\d+ +(\t\d+ +\t-1 )", "N $1"),
        ];
        let own = own.into_iter().map(|(pattern, with)| (Regex::new(&pattern).unwrap(), with));
        let natural = natural.into_iter().map(|(pattern, with)| (Regex::new(pattern).unwrap(), with));
        let replaced = own.chain(natural).collect();
        Self { bootstrap, dir: dir.to_owned(), scratch, process, commands, results, replaced }
    }

    /// Hands a command over; its result is for [`Tools::ended`].
    fn ask(&mut self, step: &Step) {
        let here = |word: &String| {
            word.replace("{b}", &self.bootstrap)
                .replace("{dir}", &self.dir.to_string_lossy())
                .replace("{tmp}", &self.scratch.to_string_lossy())
        };
        let args: Vec<String> = step.args.iter().map(here).collect();
        writeln!(self.commands, "{}", json!({"class": step.class, "args": args, "input": step.input}))
            .unwrap();
    }

    fn ended(&mut self, order: Order) -> Ended {
        let mut line = String::new();
        self.results.read_line(&mut line).unwrap();
        let result: Value = serde_json::from_str(&line).expect("a result");
        let lines = |name: &str| -> Vec<String> {
            result[name].as_str().unwrap().lines().map(|line| self.normal(line)).collect()
        };
        let mut out = lines("out");
        if order == Order::Any {
            out.sort();
        }
        let err = lines("err").into_iter().next().unwrap_or_default();
        Ended { code: result["code"].as_i64().unwrap(), out, err }
    }

    fn normal(&self, line: &str) -> String {
        let mut line = line.to_owned();
        for (pattern, with) in &self.replaced {
            line = pattern.replace_all(&line, *with).into_owned();
        }
        line.trim_end().to_owned()
    }
}

impl Drop for Tools {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The lines that only one side has, marked by whose they are.
fn differences(ours: &Ended, theirs: &Ended) -> Vec<String> {
    let mut found = Vec::new();
    if ours.code != theirs.code {
        found.push(format!("exit code: ketch {}, kafka {}", ours.code, theirs.code));
    }
    let mut rest = theirs.out.clone();
    for line in &ours.out {
        match rest.iter().position(|other| other == line) {
            Some(at) => drop(rest.remove(at)),
            None => found.push(format!("ketch> {line}")),
        }
    }
    found.extend(rest.iter().map(|line| format!("kafka> {line}")));
    if found.is_empty() && ours.out != theirs.out {
        found.push("the same lines in another order".to_owned());
    }
    if ours.err != theirs.err {
        found.push(format!("ketch, error> {}", ours.err));
        found.push(format!("kafka, error> {}", theirs.err));
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafkas_tools_print_the_same() {
    let Some(class_path) = class_path() else { return };
    let root = tempfile::tempdir().unwrap();
    let mut kafka = RealKafka::start(root.path(), &class_path, &ALIKE[..SET_BY_TEST]);
    let mut options = common::options(&root.path().join("ketch"));
    options.cluster_id = Some(CLUSTER_ID.to_owned());
    options.properties.extend(ALIKE.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let mut served = Some(Served::with(options, testkit::MemStore::shared()).await);
    let bootstrap = served.as_ref().unwrap().bootstrap();
    let mut ours =
        Tools::start(&class_path, bootstrap, &root.path().join("ketch"), root.path().join("tmp-ketch"));
    let mut theirs =
        Tools::start(&class_path, kafka.addr.to_string(), &kafka.dir, root.path().join("tmp-kafka"));
    let mut stated = stated::Ledger::read();
    let mut unexpected = String::new();
    let script = script::read();
    assert!(script.iter().filter(|step| step.order.is_some()).count() > 150, "the script is whole");
    for step in script {
        for (name, text) in &step.files {
            for side in [&ours, &theirs] {
                std::fs::write(side.scratch.join(name), text).unwrap();
            }
        }
        let Some(order) = step.order else {
            served.take().expect("one stop").stop().await;
            kafka.stop();
            continue;
        };
        ours.ask(&step);
        theirs.ask(&step);
        let found = differences(&ours.ended(order), &theirs.ended(order));
        let found = stated.without_stated(&step.line, found);
        if !found.is_empty() {
            unexpected.push_str(&format!("{}\n    {}\n", step.line, found.join("\n    ")));
        }
    }
    assert!(unexpected.is_empty(), "differs, and stated.txt does not say so:\n{unexpected}");
    let stale = stated.unused();
    assert!(stale.is_empty(), "stated.txt says what is so no longer:\n{}", stale.join("\n"));
}
