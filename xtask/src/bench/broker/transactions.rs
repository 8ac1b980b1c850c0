//! A topic copied to another in transactions, with the offsets that were read: how many records a second, and how long a
//! commit takes.

use super::running::{Scratch, Setup, System};
use super::*;

const FROM: &str = "in";
const PARTITIONS: u32 = 6;
const RECORDS: u64 = 200_000;
/// Records a transaction: many small ones, and few large.
const BATCHES: [u64; 2] = [100, 10_000];

/// Transactional copy, each way of being durable.
pub(super) fn run(bench: &Bench) -> Result<()> {
    println!("\n### transactional copy, 1 KB records, {PARTITIONS} partitions\n");
    println!(
        "| durable by | records a transaction | system | records/s | commit p50 ms | p99 ms | CPU us/record | ratio |\n\
         |---|---|---|---|---|---|---|---|"
    );
    for durable in [false, true] {
        let mut theirs = Vec::new();
        for system in [System::KafkaSmall, System::Ketch] {
            let dir = Scratch::new(&format!("{}-transactions", system.name()))?;
            let running = Running::start(bench, system, &dir.0, &Setup { durable, ..Setup::default() })?;
            let records = if bench.quick { RECORDS / 10 } else { RECORDS };
            bench.topic(&running, FROM, PARTITIONS, &[])?;
            bench.fill(&running, FROM, records)?;
            for (at, batch) in BATCHES.into_iter().enumerate() {
                let rate =
                    row(bench, &running, (system, durable), (records, batch), theirs.get(at).copied())?;
                if system != System::Ketch {
                    theirs.push(rate);
                }
            }
        }
    }
    Ok(())
}

/// One row: medians of the runs; records a second.
fn row(
    bench: &Bench,
    running: &Running,
    (system, durable): (System, bool),
    (records, batch): (u64, u64),
    theirs: Option<f64>,
) -> Result<f64> {
    let mut figures = Vec::new();
    for run in 0..bench.runs {
        let topic = format!("out-{batch}-{run}");
        bench.topic(running, &topic, PARTITIONS, &[])?;
        let before = running.cpu_us()?;
        let args = [
            "copy".to_owned(),
            format!("bootstrap={}", running.addr),
            format!("from={FROM}"),
            format!("topic={topic}"),
            format!("records={records}"),
            format!("batch={batch}"),
            format!("id={topic}"),
        ];
        let told = bench.client(&bench.load, &args)?;
        let copied = field(&told, "records")?;
        figures.push([
            copied / field(&told, "seconds")?,
            field(&told, "p50_us")? / 1e3,
            field(&told, "p99_us")? / 1e3,
            (running.cpu_us()? - before) / copied,
        ]);
    }
    let of = |at: usize| middle(figures.iter().map(|figures| figures[at]).collect());
    let (by, rate) = (if durable { "fsync" } else { "page cache" }, of(0));
    let ratio = theirs.map_or_else(String::new, |theirs| format!("{:.2}", rate / theirs));
    let name = system.name();
    println!(
        "| {by} | {batch} | {name} | {rate:.0} | {:.2} | {:.2} | {:.2} | {ratio} |",
        of(1),
        of(2),
        of(3)
    );
    Ok(rate)
}
