//! Kafka's own console tools against a broker: the classes behind `kafka-topics.sh` and its siblings, unmodified.
//!
//! They need `KETCH_TEST_KAFKA_CLASSPATH`, which `cargo xtask test` sets; without it each test says so and passes.

mod common;

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use common::Served;

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const FEATURES: &str = "org.apache.kafka.tools.FeatureCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";
const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
const OFFSETS: &str = "org.apache.kafka.tools.GetOffsetShell";
const DUMP: &str = "org.apache.kafka.tools.DumpLogSegments";
const CLIENT_METRICS: &str = "org.apache.kafka.tools.ClientMetricsCommand";
const LOG_DIRS: &str = "org.apache.kafka.tools.LogDirsCommand";
const REASSIGN: &str = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";
const PERFORMANCE: &str = "org.apache.kafka.tools.ProducerPerformance";

/// How often a tool is asked whether a move is done.
const LOOKS: usize = 10;
/// A Java virtual machine on two busy cores takes its time.
const PATIENCE: Duration = Duration::from_secs(120);

fn class_path() -> Option<String> {
    let found = std::env::var("KETCH_TEST_KAFKA_CLASSPATH").ok();
    if found.is_none() {
        eprintln!("skipped: KETCH_TEST_KAFKA_CLASSPATH is not set; `cargo xtask test` sets it");
    }
    found
}

/// The tools and the broker they talk to.
struct Tools {
    class_path: String,
    bootstrap: String,
}

impl Tools {
    fn command(&self, class: &str, args: &[&str]) -> Command {
        let mut command = Command::new("java");
        command.args(["-XX:TieredStopAtLevel=1", "-Xmx128m", "-cp", &self.class_path, class]);
        command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a tool with the broker's address and returns what it prints; it must succeed.
    async fn run(&self, class: &str, args: &[&str]) -> String {
        self.fed(class, args, "").await
    }

    /// What a tool prints that must fail.
    async fn fails(&self, class: &str, args: &[&str]) -> String {
        let all = [&["--bootstrap-server", &self.bootstrap][..], args].concat();
        let (success, out, err) = end(self.command(class, &all), "").await;
        assert!(!success, "{class} {args:?}: {out}");
        format!("{out}{err}")
    }

    /// The same with something on standard input.
    async fn fed(&self, class: &str, args: &[&str], input: &str) -> String {
        let mut all = vec!["--bootstrap-server", &self.bootstrap];
        all.extend(args);
        finish(self.command(class, &all), class, args, input).await
    }
}

/// What a tool prints that must succeed.
async fn finish(command: Command, class: &str, args: &[&str], input: &str) -> String {
    let (success, out, err) = end(command, input).await;
    assert!(success, "{class} {args:?}\n{out}\n{err}");
    out
}

/// Whether a tool succeeds, and what it prints.
async fn end(mut command: Command, input: &str) -> (bool, String, String) {
    let mut child = command.stdin(Stdio::piped()).spawn().expect("java runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_owned();
    let waited = tokio::task::spawn_blocking(move || {
        stdin.write_all(input.as_bytes()).expect("read");
        drop(stdin);
        child.wait_with_output().expect("ends")
    });
    let Output { status, stdout, stderr } =
        tokio::time::timeout(PATIENCE, waited).await.expect("in time").expect("joined");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (status.success(), text(&stdout), text(&stderr))
}

fn lines(from: i32, to: i32) -> String {
    (from..to).map(|i| format!("k{i}:value {i}\n")).collect()
}

/// The columns of a group's line for a topic in `--describe`: partition, current offset, end offset, lag.
fn progress(described: &str, group: &str, topic: &str) -> Vec<Vec<String>> {
    let columns = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut rows: Vec<Vec<String>> = described
        .lines()
        .map(columns)
        .filter(|c| c.len() > 5 && c[0] == group && c[1] == topic)
        .map(|c| c[2..6].to_vec())
        .collect();
    rows.sort();
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_records_and_groups_through_the_console_tools() {
    let Some(class_path) = class_path() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start(dir.path()).await;
    let tools = Tools { class_path, bootstrap: served.bootstrap() };

    tools.run(TOPICS, &["--create", "--topic", "orders", "--partitions", "3"]).await;
    assert_eq!(tools.run(TOPICS, &["--list"]).await.trim(), "orders");
    let described = tools.run(TOPICS, &["--describe", "--topic", "orders"]).await;
    assert!(described.contains("PartitionCount: 3"), "{described}");

    let keyed = ["--topic", "orders", "--property", "parse.key=true", "--property", "key.separator=:"];
    tools.fed(PRODUCER, &keyed, &lines(0, 100)).await;
    let ends = tools.run(OFFSETS, &["--topic", "orders"]).await;
    let total: i64 = ends.lines().filter_map(|l| l.rsplit(':').next()?.parse::<i64>().ok()).sum();
    assert_eq!(total, 100, "{ends}");

    let read = ["--topic", "orders", "--group", "readers", "--from-beginning", "--max-messages", "100"];
    let got = tools.run(CONSUMER, &read).await;
    assert_eq!(got.lines().filter(|l| l.starts_with("value ")).count(), 100, "{got}");

    groups(&tools).await;
    served.stop().await;
    offsets_on_disk(&tools, dir.path()).await;
}

async fn groups(tools: &Tools) {
    assert_eq!(tools.run(GROUPS, &["--list"]).await.trim(), "readers");
    let state = tools.run(GROUPS, &["--describe", "--group", "readers", "--state"]).await;
    assert!(state.contains("Empty"), "{state}");
    let described = tools.run(GROUPS, &["--describe", "--group", "readers"]).await;
    let rows = progress(&described, "readers", "orders");
    assert_eq!(rows.len(), 3, "{described}");
    assert!(rows.iter().all(|row| row[1] == row[2] && row[3] == "0"), "{described}");

    let reset =
        ["--reset-offsets", "--group", "readers", "--topic", "orders", "--to-offset", "5", "--execute"];
    tools.run(GROUPS, &reset).await;
    let described = tools.run(GROUPS, &["--describe", "--group", "readers"]).await;
    assert!(progress(&described, "readers", "orders").iter().all(|row| row[1] == "5"), "{described}");

    tools.run(GROUPS, &["--delete-offsets", "--group", "readers", "--topic", "orders:0"]).await;
    let described = tools.run(GROUPS, &["--describe", "--group", "readers"]).await;
    assert_eq!(progress(&described, "readers", "orders").len(), 2, "{described}");

    tools
        .run(CONSUMER, &["--topic", "orders", "--group", "gone", "--from-beginning", "--max-messages", "1"])
        .await;
    tools.run(GROUPS, &["--delete", "--group", "gone"]).await;
    assert_eq!(tools.run(GROUPS, &["--list"]).await.trim(), "readers");
}

/// What is on disk is what Kafka's own decoder of group records understands.
async fn offsets_on_disk(tools: &Tools, dir: &std::path::Path) {
    let index = coordinators::partition_for("readers", coordinators::PARTITIONS_DEFAULT);
    let log = dir.join(format!("__consumer_offsets-{index}/00000000000000000000.log"));
    let file = log.to_string_lossy().into_owned();
    let args = ["--offsets-decoder", "--files", file.as_str()];
    let dumped = finish(tools.command(DUMP, &args), DUMP, &args, "").await;
    assert!(
        dumped.contains("\"group\":\"readers\"") && dumped.contains("\"protocolType\":\"consumer\""),
        "{dumped}"
    );
    assert!(dumped.contains("\"offset\":5"), "{dumped}");
}

/// Two consumers share the partitions; when one is killed the other takes over, and no record is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_java_consumer_hands_its_partitions_over() {
    let Some(class_path) = class_path() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start(dir.path()).await;
    let tools = Tools { class_path, bootstrap: served.bootstrap() };
    tools.run(TOPICS, &["--create", "--topic", "shared", "--partitions", "2"]).await;

    let consume = |max: &'static str| {
        let args = [
            "--bootstrap-server",
            tools.bootstrap.as_str(),
            "--topic",
            "shared",
            "--group",
            "pair",
            "--from-beginning",
            "--max-messages",
            max,
            // A test that fails must end too: without records the consumer gives up by itself.
            "--timeout-ms",
            "90000",
            "--consumer-property",
            "session.timeout.ms=6000",
        ];
        tools.command(CONSUMER, &args)
    };
    let mut doomed = consume("100000").stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("java runs");
    members(&tools, 1).await;
    let survivor = tokio::spawn(finish(consume("60"), CONSUMER, &[], ""));
    members(&tools, 2).await;
    let shown = tools.run(GROUPS, &["--describe", "--group", "pair", "--members", "--verbose"]).await;
    assert!(shown.contains(" shared:0 ") && shown.contains(" shared:1 "), "{shown}");
    let kinds = tools.run("org.apache.kafka.tools.GroupsCommand", &["--list"]).await;
    assert!(kinds.lines().any(|l| l.contains("pair") && l.contains("Classic")), "{kinds}");
    // By its own process id: nothing else is touched.
    doomed.kill().expect("killed");
    doomed.wait().expect("reaped");
    members(&tools, 1).await;

    let keyed = ["--topic", "shared", "--property", "parse.key=true", "--property", "key.separator=:"];
    tools.fed(PRODUCER, &keyed, &lines(0, 60)).await;
    let got = survivor.await.expect("joined");
    let mut values: Vec<&str> = got.lines().filter(|l| l.starts_with("value ")).collect();
    values.sort_unstable();
    values.dedup();
    assert_eq!(values.len(), 60, "{got}");
    served.stop().await;
}

/// Waits until the group is stable with so many members.
async fn members(tools: &Tools, count: usize) {
    let deadline = std::time::Instant::now() + PATIENCE;
    // Each look takes a start of Java: that is pause enough.
    while std::time::Instant::now() < deadline {
        let shown = tools.run(GROUPS, &["--describe", "--group", "pair", "--state"]).await;
        let row: Vec<&str> =
            shown.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("").split_whitespace().collect();
        if row.contains(&"Stable") && row.last() == Some(&count.to_string().as_str()) {
            return;
        }
    }
    panic!("the group never had {count} members");
}

/// The Java producer pushes its metrics by itself when a subscription asks for them.
#[tokio::test(flavor = "multi_thread")]
async fn a_java_producer_pushes_its_metrics() {
    let Some(class_path) = class_path() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start(dir.path()).await;
    let tools = Tools { class_path, bootstrap: served.bootstrap() };
    tools.run(TOPICS, &["--create", "--topic", "t"]).await;
    let name = ["--alter", "--name", "all", "--metrics", "org.apache.kafka.producer.", "--interval", "200"];
    tools.run(CLIENT_METRICS, &name).await;
    // Slow enough that the producer lives for several intervals; on a busy machine it takes more until it is connected.
    let mut text = String::new();
    let pushed = |text: &str, name: &str| {
        text.lines().any(|line| line.starts_with(&format!("kafka_client_producer_{name}")))
    };
    let all = |text: &str| pushed(text, "connection_creation_total{") && pushed(text, "request_latency_avg{");
    for records in ["300", "1000", "3000"] {
        let args = ["--num-records", records, "--record-size", "10", "--throughput", "100", "--topic", "t"];
        tools.run(PERFORMANCE, &args).await;
        text = served.handle.metrics();
        if all(&text) {
            break;
        }
    }
    assert!(all(&text), "{text}");
    served.stop().await;
}

/// Kafka's tools tell which directory holds what, and move a partition with its records.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_move_between_log_directories_by_kafkas_tools() {
    let Some(class_path) = class_path() else { return };
    let root = tempfile::tempdir().expect("a directory");
    let dirs = ["a", "b"].map(|name| root.path().join(name).display().to_string());
    let mut options = common::options(root.path());
    options.properties.insert("log.dirs".into(), dirs.join(","));
    let served = Served::with(options, testkit::MemStore::shared()).await;
    let tools = Tools { class_path, bootstrap: served.bootstrap() };
    tools.run(TOPICS, &["--create", "--topic", "t", "--partitions", "1"]).await;
    let keyed = ["--topic", "t", "--property", "parse.key=true", "--property", "key.separator=:"];
    tools.fed(PRODUCER, &keyed, &lines(0, 100)).await;
    let from =
        dirs.iter().position(|dir| std::path::Path::new(dir).join("t-0").exists()).expect("its directory");
    let to = &dirs[1 - from];
    let told = tools.run(LOG_DIRS, &["--describe", "--topic-list", "t"]).await;
    assert!(
        told.contains(&format!("\"logDir\":\"{}\"", dirs[from])) && told.contains("\"isFuture\":false"),
        "{told}"
    );

    let plan = root.path().join("plan.json");
    let json = format!(
        r#"{{"version":1,"partitions":[{{"topic":"t","partition":0,"replicas":[1],"log_dirs":["{to}"]}}]}}"#
    );
    std::fs::write(&plan, json).expect("written");
    let file = plan.display().to_string();
    let begun = tools.run(REASSIGN, &["--reassignment-json-file", &file, "--execute"]).await;
    let words = format!("Successfully started moving log directory to {to} for replica t-0 with broker 1");
    assert!(begun.contains(&words), "{begun}");
    let verify = ["--reassignment-json-file", &file, "--verify"];
    let mut done = tools.run(REASSIGN, &verify).await;
    for _ in 0..LOOKS {
        if done.contains("Reassignment of replica t-0-1 completed successfully.") {
            break;
        }
        done = tools.run(REASSIGN, &verify).await;
    }
    assert!(done.contains("Reassignment of replica t-0-1 completed successfully."), "{done}");
    assert!(std::path::Path::new(to).join("t-0").exists());
    let ends = tools.run(OFFSETS, &["--topic", "t"]).await;
    assert_eq!(ends.trim(), "t:0:100");
    served.stop().await;
}

/// `controller_mutation_rate`: `kafka-topics.sh` is refused what its client has no credits for.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_for_changes_of_partitions() {
    let Some(class_path) = class_path() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start(dir.path()).await;
    let tools = Tools { class_path, bootstrap: served.bootstrap() };
    let users = ["--entity-type", "users", "--entity-default"];
    let add = [&users[..], &["--alter", "--add-config", "controller_mutation_rate=0.1"]].concat();
    tools.run(CONFIGS, &add).await;
    let described = tools.run(CONFIGS, &[&users[..], &["--describe"]].concat()).await;
    assert!(described.contains("controller_mutation_rate=0.1"), "{described}");
    // One credit is had at once; what the first overdraws takes longer to come in than the test does.
    tools.run(TOPICS, &["--create", "--topic", "many", "--partitions", "60"]).await;
    let more = ["--create", "--topic", "more", "--partitions", "1"];
    let error = tools.fails(TOPICS, &more).await;
    assert!(error.contains("The throttling quota has been exceeded."), "{error}");
    let remove = [&users[..], &["--alter", "--delete-config", "controller_mutation_rate"]].concat();
    tools.run(CONFIGS, &remove).await;
    tools.run(TOPICS, &more).await;
    served.stop().await;
}

/// `kafka-features.sh` lowers and raises the transaction version, and a Java producer's transactions go on at each.
#[tokio::test(flavor = "multi_thread")]
async fn the_transaction_version_by_kafkas_tool() {
    let Some(class_path) = class_path() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let served = Served::start(dir.path()).await;
    let tools = Tools { class_path, bootstrap: served.bootstrap() };
    tools.run(TOPICS, &["--create", "--topic", "t", "--partitions", "1"]).await;
    let steps = [("downgrade", 1, "downgraded"), ("downgrade", 0, "downgraded"), ("upgrade", 2, "upgraded")];
    for (step, (action, level, done)) in (1..).zip(steps) {
        let feature = format!("transaction.version={level}");
        let told = tools.run(FEATURES, &[action, "--feature", &feature]).await;
        assert_eq!(told.trim(), format!("transaction.version was {done} to {level}."));
        let described = tools.run(FEATURES, &["describe"]).await;
        let line = described.lines().find(|line| line.contains("transaction.version")).expect("described");
        assert!(line.contains(&format!("FinalizedVersionLevel: {level}")), "{line}");
        let property = format!("bootstrap.servers={}", tools.bootstrap);
        let args = [
            &["--topic", "t", "--num-records", "50", "--record-size", "20", "--throughput", "-1"][..],
            &["--transactional-id", "x", "--transaction-duration-ms", "5", "--producer-props", &property],
        ];
        let args = args.concat();
        finish(tools.command(PERFORMANCE, &args), PERFORMANCE, &args, "").await;
        let reading = ["--topic", "t", "--from-beginning", "--isolation-level", "read_committed"];
        let count = (50 * step).to_string();
        let read = tools.run(CONSUMER, &[&reading[..], &["--max-messages", &count]].concat()).await;
        assert_eq!(read.lines().count(), 50 * step);
    }
    let error = tools.fails(FEATURES, &["downgrade", "--feature", "metadata.version=20"]).await;
    assert!(error.contains("Could not downgrade metadata.version to 20."), "{error}");
    served.stop().await;
}

/// Keystores as keytool makes them: the broker shows the key of one and checks clients with another, and Kafka's tools get in.
#[tokio::test(flavor = "multi_thread")]
async fn keystores_of_keytool() {
    let Some(class_path) = class_path() else { return };
    // Only in Java's own format a key may have a password of its own.
    for (kind, key_password) in [("PKCS12", "secret-1"), ("JKS", "secret-2")] {
        keystores_of(&class_path, kind, key_password).await;
    }
}

async fn keystores_of(class_path: &str, kind: &str, key_password: &str) {
    let root = tempfile::tempdir().expect("a directory");
    let path = |name: &str| root.path().join(name).display().to_string();
    let (keys, trust, certificate) = (path("keys"), path("trust"), path("certificate.pem"));
    let keytool = |args: &[&str]| {
        let secret = ["-storepass", "secret-1", "-storetype", kind, "-noprompt"];
        let done =
            std::process::Command::new("keytool").args(args).args(secret).output().expect("keytool runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    };
    let made =
        ["-genkeypair", "-alias", "broker", "-keyalg", "EC", "-dname", "CN=localhost", "-validity", "2"];
    let named = ["-ext", "SAN=dns:localhost,ip:127.0.0.1", "-keypass", key_password, "-keystore", &keys];
    keytool(&[&made[..], &named].concat());
    keytool(&["-exportcert", "-rfc", "-alias", "broker", "-keystore", &keys, "-file", &certificate]);
    keytool(&["-importcert", "-alias", "ca", "-file", &certificate, "-keystore", &trust]);
    let stores = [
        ("ssl.keystore.type", kind),
        ("ssl.keystore.location", &keys),
        ("ssl.keystore.password", "secret-1"),
        ("ssl.key.password", key_password),
        ("ssl.truststore.type", kind),
        ("ssl.truststore.location", &trust),
        ("ssl.truststore.password", "secret-1"),
    ];
    let mut options = common::options(&root.path().join("kafka"));
    options.properties.extend(stores.map(|(name, value)| (name.to_owned(), value.to_owned())));
    options.properties.insert("listeners".into(), "SSL://127.0.0.1:0".into());
    options.properties.insert("ssl.client.auth".into(), "required".into());
    let served = Served::with(options, testkit::MemStore::shared()).await;
    let client = path("client.properties");
    let lines = stores.map(|(name, value)| format!("{name}={value}\n")).concat();
    std::fs::write(&client, format!("security.protocol=SSL\n{lines}")).expect("written");
    let tools = Tools { class_path: class_path.to_owned(), bootstrap: served.bootstrap() };
    tools.run(TOPICS, &["--create", "--topic", "guarded", "--command-config", &client]).await;
    let listed = tools.run(TOPICS, &["--list", "--command-config", &client]).await;
    assert_eq!(listed.trim(), "guarded");
    served.stop().await;
}
