//! `cargo xtask bench broker [--quick] [--runs=N] [--alone] [--built] [--only=TOPIC,...] [PART...]`: Ketch beside Apache Kafka 4.3 in one run.
//!
//! ```text
//! loads, durable   throughput and latency, page cache and fsync before the answer on both sides
//! partitions       many idle partitions: start after a clean stop, memory, open files, processor time
//! crash            kill -9 with much data in many partitions, until it answers again
//! catchup, tls     a topic read from its beginning, beside a loop that only reads and writes; the same under TLS
//! readers          several readers at once, and reads that the disk must serve
//! upkeep           latency while retention and compaction run
//! transactions     a topic copied in transactions, page cache and fsync before the answer
//! ```
//! One broker at a time on core 0, the client on core 1, fresh directories, the same client for all (librdkafka in
//! `crates/broker/examples/broker_load.rs`, or a bare socket in `broker_raw.rs`). Medians of [`RUNS`] runs. On a machine that does
//! something else the ratio alone counts. `--alone` measures Ketch's broker without the rest of `ketch up`,
//! `--built` takes what a release build has left; `--only` takes those of the `loads` that write to these topics.

mod loads;
mod reads;
mod running;
mod scale;
mod transactions;
mod upkeep;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{cpu_ticks, release, release_dir, scratch};
use crate::run::{cargo, output, run as run_command};
use crate::tools;
use running::{Running, Scratch, Setup, System};

const RUNS: usize = 3;
/// Cores: the broker has one, the client the other.
const BROKER_CORE: &str = "0";
const CLIENT_CORE: &str = "1";

/// A part by name.
type Part = (&'static str, fn(&Bench) -> Result<()>);
const PARTS: &[Part] = &[
    ("loads", |bench| loads::run(bench, false)),
    ("durable", |bench| loads::run(bench, true)),
    ("partitions", scale::partitions),
    ("crash", scale::crash),
    ("catchup", reads::catchup),
    ("tls", reads::tls),
    ("readers", reads::readers),
    ("upkeep", upkeep::run),
    ("transactions", transactions::run),
];

/// What is measured and with what.
struct Bench {
    /// Absent where the broker is measured alone.
    ketch: Option<PathBuf>,
    load: PathBuf,
    raw: PathBuf,
    /// The broker alone, for configurations that `ketch up` does not take.
    serve: PathBuf,
    class_path: String,
    /// Less of everything.
    quick: bool,
    /// Runs of which the median counts.
    runs: usize,
    /// Topics of the loads that are wanted; all where none is named.
    only: Vec<String>,
}

/// Runs the parts that are named, or all, and prints their tables in Markdown.
pub fn run(args: &[String]) -> Result<()> {
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let (quick, alone, built) = (has("--quick"), has("--alone"), has("--built"));
    let runs = args.iter().find_map(|arg| arg.strip_prefix("--runs=")).map(str::parse).transpose()?;
    let only = args.iter().find_map(|arg| arg.strip_prefix("--only="));
    let named: Vec<_> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    if let Some(unknown) = named.iter().find(|name| !PARTS.iter().any(|(part, _)| *part == name.as_str())) {
        let all: Vec<_> = PARTS.iter().map(|(name, _)| *name).collect();
        bail!("no part is called {unknown}; there are: {}", all.join(", "));
    }
    let ketch = if alone { None } else { Some(if built { release_dir().join("ketch") } else { release()? }) };
    if !built {
        let examples = ["broker_load", "broker_raw", "broker_serve"].map(|name| ["--example", name]);
        run_command(cargo().args(["build", "--release", "-p", "broker"]).args(examples.concat()))?;
    }
    let examples = release_dir().join("examples");
    let example = |name: &str| examples.join(name);
    let bench = Bench {
        load: example("broker_load"),
        raw: example("broker_raw"),
        serve: example("broker_serve"),
        class_path: tools::kafka_classpath()?,
        only: only.map(|names| names.split(',').map(str::to_owned).collect()).unwrap_or_default(),
        runs: runs.unwrap_or(if quick { 1 } else { RUNS }).max(1),
        quick,
        ketch,
    };
    for (name, part) in PARTS {
        if named.is_empty() || named.iter().any(|wanted| wanted == name) {
            part(&bench).with_context(|| format!("part {name}"))?;
        }
    }
    Ok(())
}

impl Bench {
    /// Whether the load that writes to a topic is to be measured.
    fn wants(&self, topic: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == topic)
    }

    /// A program on the client's core; the JSON it prints.
    fn client(&self, program: &PathBuf, args: &[String]) -> Result<Value> {
        let text = output(Command::new("taskset").args(["-c", CLIENT_CORE]).arg(program).args(args))?;
        serde_json::from_str(text.trim()).with_context(|| text.clone())
    }

    /// Makes a topic.
    fn topic(&self, running: &Running, name: &str, partitions: u32, configs: &[&str]) -> Result<()> {
        let mut args = vec![
            "create".to_owned(),
            format!("bootstrap={}", running.addr),
            format!("topic={name}"),
            format!("partitions={partitions}"),
        ];
        args.extend(configs.iter().map(|config| format!("config.{config}")));
        self.client(&self.load, &args).map(drop)
    }

    /// Fills a topic with records of 1 KB.
    fn fill(&self, running: &Running, topic: &str, records: u64) -> Result<()> {
        let args = [
            "produce".to_owned(),
            format!("bootstrap={}", running.addr),
            format!("topic={topic}"),
            format!("records={records}"),
            "size=1024".to_owned(),
        ];
        self.client(&self.load, &args).map(drop)
    }
}

/// The middle one.
fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn field(told: &Value, name: &str) -> Result<f64> {
    told[name].as_f64().with_context(|| format!("{name} in {told}"))
}
