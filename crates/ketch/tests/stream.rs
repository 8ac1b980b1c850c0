//! The Kafka port of a whole Ketch: kcat, Java's console tools, and `kill -9`.

mod common;

use common::{Ketch, Run, client};

#[test]
fn real_clients_stream_and_nothing_acknowledged_is_lost() {
    let Some(mut k) = Ketch::start(&["--no-node"]) else { return };
    kcat_produces_and_consumes(&k);
    java_tools_work(&k);
    survives_kill_nine(&mut k);
}

fn kcat(k: &Ketch, args: &[&str], stdin: Option<&str>) -> Run {
    let broker = k.endpoint("kafka");
    let args: Vec<&str> = ["-b", &broker].into_iter().chain(args.iter().copied()).collect();
    let run = k.run("kcat", &args, stdin);
    assert_eq!(run.code, 0, "kcat {args:?}: {run:?}");
    run
}

fn lines(n: usize) -> String {
    (0..n).map(|i| format!("line {i}\n")).collect()
}

fn kcat_produces_and_consumes(k: &Ketch) {
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("t-{codec}");
        let text = lines(500);
        kcat(k, &["-P", "-t", &topic, "-z", codec, "-X", "enable.idempotence=true"], Some(&text));
        let back = kcat(k, &["-C", "-t", &topic, "-o", "beginning", "-e", "-q"], None);
        assert_eq!(back.stdout, text, "{codec}");
        let tail = kcat(k, &["-C", "-t", &topic, "-o", "490", "-e", "-q"], None);
        assert_eq!(tail.stdout.lines().count(), 10, "{codec}");
    }
    let listed = kcat(k, &["-L"], None).stdout;
    assert!(
        listed.contains("topic \"t-zstd\" with 1 partitions") && listed.contains("broker 1 at"),
        "{listed}"
    );
    let at = kcat(k, &["-Q", "-t", "t-none:0:-2"], None).stdout;
    assert!(at.contains("t-none [0] offset 0"), "{at}");
}

/// One of Kafka's own tools, by its class.
fn java(k: &Ketch, class: &str, args: &[&str], stdin: Option<&str>) -> Run {
    let Some(classpath) = client("KETCH_TEST_KAFKA_CLASSPATH") else {
        return Run { code: 0, stdout: String::new(), stderr: String::new() };
    };
    let broker = k.endpoint("kafka");
    let all: Vec<&str> =
        ["-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", &classpath, class, "--bootstrap-server", &broker]
            .into_iter()
            .chain(args.iter().copied())
            .collect();
    let run = k.run("java", &all, stdin);
    assert_eq!(run.code, 0, "{class} {args:?}: {run:?}");
    run
}

fn java_tools_work(k: &Ketch) {
    if client("KETCH_TEST_KAFKA_CLASSPATH").is_none() {
        return;
    }
    const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
    const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
    let made = java(
        k,
        TOPICS,
        &["--create", "--topic", "java", "--partitions", "3", "--config", "retention.ms=3600000"],
        None,
    );
    assert_eq!(made.stdout.trim(), "Created topic java.");
    let described = java(k, TOPICS, &["--describe", "--topic", "java"], None).stdout;
    assert!(
        described.contains("PartitionCount: 3") && described.contains("retention.ms=3600000"),
        "{described}"
    );
    let text = lines(300);
    java(
        k,
        "org.apache.kafka.tools.ConsoleProducer",
        &["--topic", "java", "--compression-codec", "zstd"],
        Some(&text),
    );
    let consumed = java(
        k,
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        &[
            "--topic",
            "java",
            "--from-beginning",
            "--group",
            "readers",
            "--max-messages",
            "300",
            "--timeout-ms",
            "20000",
        ],
        None,
    );
    let mut got: Vec<&str> = consumed.stdout.lines().collect();
    got.sort_unstable();
    let mut want: Vec<&str> = text.lines().collect();
    want.sort_unstable();
    assert_eq!(got, want);
    let groups = java(k, GROUPS, &["--list"], None).stdout;
    assert_eq!(groups.trim(), "readers");
    let group = java(k, GROUPS, &["--describe", "--group", "readers"], None).stdout;
    let lag: Vec<&str> = group
        .lines()
        .filter(|l| l.starts_with("readers"))
        .filter_map(|l| l.split_whitespace().nth(5))
        .collect();
    assert_eq!(lag, ["0", "0", "0"], "{group}");
    java(k, TOPICS, &["--delete", "--topic", "java"], None);
    assert!(!java(k, TOPICS, &["--list"], None).stdout.lines().any(|l| l == "java"));
}

fn survives_kill_nine(k: &mut Ketch) {
    let text = lines(2000);
    kcat(k, &["-P", "-t", "kept", "-X", "acks=all"], Some(&text));
    k.k("create configmap kept --from-literal=a=b");
    k.stop("KILL");
    k.up();
    assert_eq!(kcat(k, &["-C", "-t", "kept", "-o", "beginning", "-e", "-q"], None).stdout, text);
    assert_eq!(k.k("get configmap kept -o jsonpath={.data.a}"), "b");
}
