//! Throughput and latency, workload by workload.

use std::time::Duration;

use super::*;

/// A quick run sends so much less.
const QUICK: u64 = 5;

/// One workload.
pub(super) struct Load {
    name: &'static str,
    mode: &'static str,
    topic: &'static str,
    partitions: u32,
    /// Records of a full run.
    records: u64,
    size: u64,
    more: &'static [&'static str],
    /// Also measured where every answer waits for the disk on both sides.
    durable: bool,
}

const LOADS: &[Load] = &[
    Load {
        name: "100 B, 1 producer, 6 partitions",
        mode: "produce",
        topic: "small",
        partitions: 6,
        records: 1_500_000,
        size: 100,
        more: &["acks=all"],
        durable: true,
    },
    Load {
        name: "1 KB, 100 partitions, acks=all",
        mode: "produce",
        topic: "wide",
        partitions: 100,
        records: 400_000,
        size: 1024,
        more: &["acks=all"],
        durable: true,
    },
    Load {
        name: "100 B, linger 0, 16 producers",
        mode: "produce",
        topic: "chatty",
        partitions: 6,
        records: 800_000,
        size: 100,
        more: &["producers=16", "linger=0"],
        durable: true,
    },
    Load {
        name: "100 B, keyed, 1,000 partitions, 50 producers",
        mode: "produce",
        topic: "keyed",
        partitions: 1000,
        records: 150_000,
        size: 100,
        more: &["producers=50", "keyed=1"],
        durable: false,
    },
    Load {
        name: "100 B, 64 producers, 5 in flight",
        mode: "produce",
        topic: "crowd",
        partitions: 6,
        records: 1_280_000,
        size: 100,
        more: &["producers=64"],
        durable: true,
    },
    Load {
        name: "1 KB, idempotent",
        mode: "produce",
        topic: "exact",
        partitions: 6,
        records: 250_000,
        size: 1024,
        more: &["idempotent=1"],
        durable: false,
    },
    Load {
        name: "catch-up read of the 1 KB topic",
        mode: "consume",
        topic: "wide",
        partitions: 100,
        records: 400_000,
        size: 1024,
        more: &[],
        durable: false,
    },
    Load {
        name: "end to end at 20,000/s of 1 KB",
        mode: "latency",
        topic: "steady",
        partitions: 6,
        records: 200_000,
        size: 1024,
        more: &["rate=20000", "linger=1"],
        durable: false,
    },
    Load {
        name: "end to end at 100,000/s of 1 KB",
        mode: "latency",
        topic: "fast",
        partitions: 6,
        records: 1_000_000,
        size: 1024,
        more: &["rate=100000", "linger=1"],
        durable: false,
    },
];

/// What is measured of a workload.
#[derive(Clone, Default)]
struct Figures {
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    cpu_us: f64,
    /// The part of its core that the client took: near 1 the figures are the client's.
    client: f64,
}

/// What is measured of a broker.
struct Broker {
    ready: Duration,
    idle_mb: f64,
    peak_mb: f64,
    loads: Vec<Option<Figures>>,
}

/// All workloads on all systems, with or without fsync before the answer.
pub(super) fn run(bench: &Bench, durable: bool) -> Result<()> {
    let systems: &[System] = match durable {
        true => &[System::KafkaSmall, System::Ketch],
        false => &[System::KafkaDefault, System::KafkaSmall, System::Ketch],
    };
    let mut columns = Vec::new();
    for system in systems {
        eprintln!("== {}, {}", system.name(), if durable { "fsync" } else { "page cache" });
        columns.push((*system, broker(bench, *system, durable)?));
    }
    print(durable, &columns);
    Ok(())
}

fn broker(bench: &Bench, system: System, durable: bool) -> Result<Broker> {
    let dir = Scratch::new(&format!("{}-{}", system.name(), u8::from(durable)))?;
    let running = Running::start(bench, system, &dir.0, &Setup { durable, ..Setup::default() })?;
    std::thread::sleep(Duration::from_secs(if bench.quick { 3 } else { 30 }));
    let idle_mb = running.status_mb("VmRSS:")?;
    for load in LOADS.iter().filter(|load| load.mode != "consume" && (load.durable || !durable)) {
        bench.topic(&running, load.topic, load.partitions, &[])?;
    }
    // A JVM that has compiled nothing yet is not what people run.
    one(bench, &running, &LOADS[0], LOADS[0].records / if bench.quick { QUICK } else { 2 })?;
    let mut loads = Vec::new();
    for load in LOADS {
        loads.push(match durable && !load.durable {
            true => None,
            false if !bench.wants(load.topic) => None,
            false => Some(measure(bench, &running, load)?),
        });
    }
    Ok(Broker { ready: running.ready, idle_mb, peak_mb: running.status_mb("VmHWM:")?, loads })
}

fn measure(bench: &Bench, running: &Running, load: &Load) -> Result<Figures> {
    let runs = if load.mode == "consume" { 1 } else { bench.runs };
    let records = if bench.quick { load.records / QUICK } else { load.records };
    let all = (0..runs).map(|_| one(bench, running, load, records)).collect::<Result<Vec<_>>>()?;
    let of = |figure: fn(&Figures) -> f64| middle(all.iter().map(figure).collect());
    let figures = Figures {
        rate: of(|f| f.rate),
        p50_ms: of(|f| f.p50_ms),
        p99_ms: of(|f| f.p99_ms),
        p999_ms: of(|f| f.p999_ms),
        cpu_us: of(|f| f.cpu_us),
        client: of(|f| f.client),
    };
    eprintln!(
        "{:<46} {:>10.0}/s  p99 {:>8.2} ms  {:>6.2} us CPU  client {:.2}",
        load.name, figures.rate, figures.p99_ms, figures.cpu_us, figures.client
    );
    Ok(figures)
}

fn one(bench: &Bench, running: &Running, load: &Load, records: u64) -> Result<Figures> {
    let before = running.cpu_us()?;
    let mut args = vec![
        load.mode.to_owned(),
        format!("bootstrap={}", running.addr),
        format!("topic={}", load.topic),
        format!("records={records}"),
        format!("size={}", load.size),
    ];
    args.extend(load.more.iter().map(ToString::to_string));
    let told = bench.client(&bench.load, &args)?;
    let records = field(&told, "records")?;
    Ok(Figures {
        rate: records / field(&told, "seconds")?,
        p50_ms: field(&told, "p50_us")? / 1e3,
        p99_ms: field(&told, "p99_us")? / 1e3,
        p999_ms: field(&told, "p999_us")? / 1e3,
        cpu_us: (running.cpu_us()? - before) / records,
        client: field(&told, "busy")?,
    })
}

/// A row a workload: each system's figures and the ratio of Ketch to the last Kafka.
fn print(durable: bool, columns: &[(System, Broker)]) {
    let mode = if durable { "fsync before the answer on both sides" } else { "page cache on both sides" };
    println!("\n### {mode}\n");
    println!(
        "| workload | system | records/s | p50 ms | p99 ms | p99.9 ms | CPU us/record | client's core | ratio |\n\
         |---|---|---|---|---|---|---|---|---|"
    );
    for (index, load) in LOADS.iter().enumerate() {
        let kafka = columns.iter().rev().find(|(system, _)| *system != System::Ketch);
        let theirs = kafka.and_then(|(_, broker)| broker.loads[index].as_ref()).map_or(0.0, |f| f.rate);
        for (system, broker) in columns {
            let Some(f) = &broker.loads[index] else { continue };
            let ratio = match system {
                System::Ketch if load.mode != "latency" => format!("{:.2}", f.rate / theirs),
                _ => String::new(),
            };
            println!(
                "| {} | {} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {ratio} |",
                load.name,
                system.name(),
                f.rate,
                f.p50_ms,
                f.p99_ms,
                f.p999_ms,
                f.cpu_us,
                f.client
            );
        }
    }
    println!("\n| system | ready s | idle RSS MB | peak RSS MB |\n|---|---|---|---|");
    for (system, broker) in columns {
        let ready = broker.ready.as_secs_f64();
        println!("| {} | {ready:.2} | {:.0} | {:.0} |", system.name(), broker.idle_mb, broker.peak_mb);
    }
}
