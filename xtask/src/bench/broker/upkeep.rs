//! Latency while old segments go and a topic is compacted.

use std::process::Stdio;

use super::*;

/// Both brokers look often, so that the run sees many rounds.
const OFTEN: [(&str, &str); 2] =
    [("log.retention.check.interval.ms", "1000"), ("log.cleaner.backoff.ms", "1000")];
const SHORT_LIVED: [&str; 2] = ["segment.bytes=16777216", "retention.bytes=33554432"];
const COMPACTED: [&str; 3] =
    ["cleanup.policy=compact", "segment.bytes=4194304", "min.cleanable.dirty.ratio=0.01"];

/// Prints a row a rate and system.
pub(super) fn run(bench: &Bench) -> Result<()> {
    println!("\n### end to end with 1 KB records while retention and compaction run, page cache\n");
    println!("| records/s | system | p50 ms | p99 ms | p99.9 ms |\n|---|---|---|---|---|");
    let seconds = if bench.quick { 5 } else { 30 };
    for system in [System::KafkaSmall, System::Ketch] {
        let dir = Scratch::new(&format!("{}-upkeep", system.name()))?;
        let properties = OFTEN.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let running = Running::start(bench, system, &dir.0, &Setup { properties, ..Setup::default() })?;
        bench.topic(&running, "fast", 6, &SHORT_LIVED)?;
        bench.topic(&running, "table", 1, &COMPACTED)?;
        // Warms up.
        bench.fill(&running, "fast", 100_000)?;
        for rate in [20_000, 100_000] {
            let told = one(bench, &running, rate, seconds)?;
            let ms = |name: &str| field(&told, name).map(|us| us / 1e3);
            let (p50, p99, p999) = (ms("p50_us")?, ms("p99_us")?, ms("p999_us")?);
            println!("| {rate} | {} | {p50:.2} | {p99:.2} | {p999:.2} |", system.name());
        }
    }
    Ok(())
}

fn one(bench: &Bench, running: &Running, rate: u64, seconds: u64) -> Result<Value> {
    let args = |topic: &str, rate: u64, more: &str| {
        vec![
            "latency".to_owned(),
            format!("bootstrap={}", running.addr),
            format!("topic={topic}"),
            format!("records={}", rate * seconds),
            format!("rate={rate}"),
            "size=1024".to_owned(),
            more.to_owned(),
        ]
    };
    // Keys that come again, so that there is something to compact.
    let mut beside = Command::new("taskset")
        .args(["-c", CLIENT_CORE])
        .arg(&bench.load)
        .args(args("table", 2000, "keyed=1"))
        .stdout(Stdio::null())
        .spawn()?;
    let told = bench.client(&bench.load, &args("fast", rate, "linger=1"));
    beside.wait()?;
    told
}
