//! Clients of other languages, unmodified: each program of ours makes a topic, produces, consumes with a group, checks what
//! came and deletes the topic. They need variables that `cargo xtask test` sets; without one its tests say so and pass.

mod common;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use common::{Served, feature_level, set_feature};
use kafka_wire::ErrorCode;

const PATIENCE: Duration = Duration::from_secs(120);

/// A tool's place; None, and a word, when it is not known.
fn tool(variable: &str) -> Option<String> {
    let found = std::env::var(variable).ok();
    if found.is_none() {
        eprintln!("skipped: {variable} is not set; `cargo xtask test` sets it");
    }
    found
}

fn program(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests").join(path)
}

/// Runs a client with the broker's address as its last argument; it must say `ok`.
async fn check(command: Command) {
    let dir = tempfile::tempdir().expect("a directory");
    check_with(Served::start(dir.path()).await, command).await;
}

async fn check_with(served: Served, mut command: Command) {
    command.arg(served.bootstrap());
    let shown = format!("{command:?}");
    let running = tokio::task::spawn_blocking(move || command.output().expect("the client runs"));
    let output = tokio::time::timeout(PATIENCE, running).await.expect("in time").expect("joined");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.trim_end().ends_with("ok"), "{shown}\n{out}\n{err}");
    served.stop().await;
}

async fn python(library: &str) {
    let Some(path) = tool("KETCH_TEST_KAFKA_PYTHONPATH") else { return };
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", path).arg(program("python/kafka_clients.py")).arg(library);
    check(command).await;
}

async fn go(library: &str) {
    let Some(clients) = tool("KETCH_TEST_KAFKA_GO") else { return };
    let mut command = Command::new(clients);
    command.arg(library);
    check(command).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn confluent_kafka_of_python() {
    python("confluent").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_python() {
    python("kafka-python").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafkajs() {
    let Some(modules) = tool("KETCH_TEST_KAFKA_NODE") else { return };
    let mut command = Command::new("node");
    command.env("NODE_PATH", modules).arg(program("node/kafkajs.js"));
    check(command).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn franz_go() {
    go("franz").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sarama() {
    go("sarama").await;
}

/// What is committed is read, what is aborted is not; a loop of the client's own kind copies every record once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn franz_go_in_transactions() {
    go("franz-transactions").await;
}

/// The same where the cluster's transaction version was lowered, so that the client announces its partitions itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn franz_go_in_transactions_of_older_versions() {
    let Some(clients) = tool("KETCH_TEST_KAFKA_GO") else { return };
    for level in [0, 1] {
        let dir = tempfile::tempdir().expect("a directory");
        let served = Served::start(dir.path()).await;
        let lower = feature_level("transaction.version", level, 2);
        let lowered = set_feature(&mut served.raw().await, lower).await;
        assert_eq!(lowered, (ErrorCode::None, String::new()));
        let mut command = Command::new(&clients);
        command.arg("franz-transactions");
        check_with(served, command).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sarama_in_transactions() {
    go("sarama-transactions").await;
}
