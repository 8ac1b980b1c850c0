//! `cargo xtask bench broker [--quick]`: Ketch beside Apache Kafka 4.3 in one run.
//!
//! ```text
//! for each durability (page cache, fsync before the answer) and each system (kafka, kafka with 512 MB, ketch):
//!   fresh directory, broker on core 0 ─▶ ready, idle memory ─▶ warm-up ─▶ each workload from core 1 ─▶ peak memory
//! ```
//! One broker at a time; the client is the same C library (librdkafka) for all, in `crates/broker/examples/load.rs`. Medians
//! of [`RUNS`] runs. On a machine that does something else the ratio alone counts.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{cpu_ticks, release, scratch};
use crate::run::{cargo, output, run as run_command};
use crate::tools;

const RUNS: usize = 3;
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Cores: the broker has one, the client the other.
const BROKER_CORE: &str = "0";
const CLIENT_CORE: &str = "1";
const CLUSTER_ID: &str = "a2V0Y2gtYmVuY2gtaWQtMQ";
/// What Kafka's own start script gives the JVM besides the heap.
const JVM: [&str; 4] =
    ["-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35"];

/// One workload.
struct Load {
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
        records: 3_000_000,
        size: 100,
        more: &["acks=all"],
        durable: true,
    },
    Load {
        name: "1 KB, 100 partitions, acks=all",
        mode: "produce",
        topic: "wide",
        partitions: 100,
        records: 800_000,
        size: 1024,
        more: &["acks=all"],
        durable: true,
    },
    Load {
        name: "100 B, linger 0, 16 producers",
        mode: "produce",
        topic: "chatty",
        partitions: 6,
        records: 320_000,
        size: 100,
        more: &["producers=16", "linger=0"],
        durable: true,
    },
    Load {
        name: "100 B, keyed, 1,000 partitions, 50 producers",
        mode: "produce",
        topic: "keyed",
        partitions: 1000,
        records: 1_000_000,
        size: 100,
        more: &["producers=50", "keyed=1"],
        durable: false,
    },
    Load {
        name: "100 B, 64 producers, 5 in flight",
        mode: "produce",
        topic: "crowd",
        partitions: 6,
        records: 640_000,
        size: 100,
        more: &["producers=64"],
        durable: true,
    },
    Load {
        name: "1 KB, idempotent",
        mode: "produce",
        topic: "exact",
        partitions: 6,
        records: 500_000,
        size: 1024,
        more: &["idempotent=1"],
        durable: false,
    },
    Load {
        name: "catch-up read of the 1 KB topic",
        mode: "consume",
        topic: "wide",
        partitions: 100,
        records: 800_000,
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
        more: &["rate=20000", "linger=0"],
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

/// The systems side by side.
#[derive(Clone, Copy, PartialEq, Eq)]
enum System {
    KafkaDefault,
    KafkaSmall,
    Ketch,
}

impl System {
    fn name(self) -> &'static str {
        match self {
            Self::KafkaDefault => "kafka",
            Self::KafkaSmall => "kafka-512m",
            Self::Ketch => "ketch",
        }
    }
}

/// What is measured of a workload.
#[derive(Clone, Default)]
struct Figures {
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    cpu_us: f64,
}

/// What is measured of a broker.
struct Broker {
    ready: Duration,
    idle_mb: f64,
    peak_mb: f64,
    loads: Vec<Option<Figures>>,
}

struct Bench {
    ketch: PathBuf,
    load: PathBuf,
    class_path: String,
    quick: bool,
}

/// Runs everything and prints the table in Markdown.
pub fn run(args: &[String]) -> Result<()> {
    let quick = args.iter().any(|arg| arg == "--quick");
    let ketch = release()?;
    run_command(cargo().args(["build", "--release", "-p", "broker", "--example", "load"]))?;
    let load = ketch.with_file_name("examples").join("load");
    let bench = Bench { ketch, load, class_path: tools::kafka_classpath()?, quick };
    let systems: &[System] = match quick {
        true => &[System::KafkaSmall, System::Ketch],
        false => &[System::KafkaDefault, System::KafkaSmall, System::Ketch],
    };
    for durable in [false, true] {
        let mut columns = Vec::new();
        for system in systems {
            eprintln!("== {}, {}", system.name(), if durable { "fsync" } else { "page cache" });
            columns.push((*system, bench.broker(*system, durable)?));
        }
        print(durable, &columns);
    }
    Ok(())
}

impl Bench {
    fn broker(&self, system: System, durable: bool) -> Result<Broker> {
        let dir = scratch(&format!("{}-{}", system.name(), u8::from(durable)))?;
        fs::create_dir_all(&dir)?;
        let running = Running::start(self, system, &dir, durable)?;
        std::thread::sleep(Duration::from_secs(if self.quick { 5 } else { 60 }));
        let idle_mb = running.status_mb("VmRSS:")?;
        self.make_topics(&running)?;
        // A JVM that has compiled nothing yet is not what people run.
        self.one(&running, &LOADS[0], LOADS[0].records / if self.quick { 10 } else { 3 })?;
        let mut loads = Vec::new();
        for load in LOADS {
            loads.push(match durable && !load.durable {
                true => None,
                false => Some(self.measure(&running, load)?),
            });
        }
        Ok(Broker { ready: running.ready, idle_mb, peak_mb: running.status_mb("VmHWM:")?, loads })
    }

    fn make_topics(&self, running: &Running) -> Result<()> {
        for load in LOADS.iter().filter(|load| load.mode != "consume") {
            let partitions = load.partitions.to_string();
            let args = ["topic", "create", load.topic, "--partitions", &partitions, "--bootstrap-server"];
            output(Command::new(&self.ketch).args(args).arg(running.addr.to_string()))?;
        }
        Ok(())
    }

    fn measure(&self, running: &Running, load: &Load) -> Result<Figures> {
        let runs = if self.quick || load.mode == "consume" { 1 } else { RUNS };
        let records = if self.quick { load.records / 10 } else { load.records };
        let all = (0..runs).map(|_| self.one(running, load, records)).collect::<Result<Vec<_>>>()?;
        let middle = |of: fn(&Figures) -> f64| {
            let mut values: Vec<f64> = all.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let figures = Figures {
            rate: middle(|f| f.rate),
            p50_ms: middle(|f| f.p50_ms),
            p99_ms: middle(|f| f.p99_ms),
            p999_ms: middle(|f| f.p999_ms),
            cpu_us: middle(|f| f.cpu_us),
        };
        eprintln!(
            "{:<46} {:>10.0}/s  p99 {:>8.2} ms  {:>6.2} us CPU",
            load.name, figures.rate, figures.p99_ms, figures.cpu_us
        );
        Ok(figures)
    }

    fn one(&self, running: &Running, load: &Load, records: u64) -> Result<Figures> {
        let before = cpu_ticks(running.pid)?;
        let text = output(
            Command::new("taskset")
                .args(["-c", CLIENT_CORE])
                .arg(&self.load)
                .arg(load.mode)
                .args([
                    format!("bootstrap={}", running.addr),
                    format!("topic={}", load.topic),
                    format!("records={records}"),
                    format!("size={}", load.size),
                ])
                .args(load.more),
        )?;
        let ticks = cpu_ticks(running.pid)? - before;
        let told: Value = serde_json::from_str(text.trim()).with_context(|| text.clone())?;
        let number = |name: &str| told[name].as_f64().with_context(|| format!("{name} in {text}"));
        let records = number("records")?;
        Ok(Figures {
            rate: records / number("seconds")?,
            p50_ms: number("p50_us")? / 1e3,
            p99_ms: number("p99_us")? / 1e3,
            p999_ms: number("p999_us")? / 1e3,
            // A tick is 10 ms.
            cpu_us: ticks as f64 * 10_000.0 / records,
        })
    }
}

/// A broker under test; killed and its directory removed when dropped.
struct Running {
    process: Child,
    pid: i32,
    addr: SocketAddr,
    ready: Duration,
    dir: PathBuf,
}

impl Running {
    fn start(bench: &Bench, system: System, dir: &Path, durable: bool) -> Result<Self> {
        let mut command = Command::new("taskset");
        command.args(["-c", BROKER_CORE]);
        let addr = free_address()?;
        match system {
            System::Ketch => ketch(&mut command, bench, dir, addr, durable),
            System::KafkaDefault => kafka(&mut command, bench, dir, addr, durable, "1g")?,
            System::KafkaSmall => kafka(&mut command, bench, dir, addr, durable, "512m")?,
        }
        let log = fs::File::create(dir.join("out.log"))?;
        let start = Instant::now();
        let mut process = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        while TcpStream::connect(addr).is_err() {
            if start.elapsed() > READY_WITHIN || process.try_wait()?.is_some() {
                let _ = process.kill();
                bail!("{} is not ready: {}", system.name(), fs::read_to_string(dir.join("out.log"))?);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // taskset becomes the program: the process id is the broker's.
        let pid = process.id() as i32;
        Ok(Self { process, pid, addr, ready: start.elapsed(), dir: dir.to_owned() })
    }

    /// A line of /proc/PID/status in megabytes.
    fn status_mb(&self, field: &str) -> Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)).context("a field of status")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? * 1024.0 / 1e6)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn ketch(command: &mut Command, bench: &Bench, dir: &Path, addr: SocketAddr, durable: bool) {
    let durability = if durable { "fsync" } else { "page-cache" };
    command.arg(&bench.ketch).args(["up", "--no-node", "--api-port", "0", "--console-port", "0"]);
    command.args(["--kafka-port", &addr.port().to_string(), "--kafka-durability", durability]);
    command.arg("--data-dir").arg(dir.join("data"));
}

fn kafka(
    command: &mut Command,
    bench: &Bench,
    dir: &Path,
    addr: SocketAddr,
    durable: bool,
    heap: &str,
) -> Result<()> {
    let (controller, properties) = (free_address()?, dir.join("server.properties"));
    let mut text = format!(
        "process.roles=broker,controller\nnode.id=1\nlisteners=PLAINTEXT://{addr},CONTROLLER://{controller}\n\
         controller.quorum.bootstrap.servers={controller}\ncontroller.listener.names=CONTROLLER\nlog.dirs={}\n\
         offsets.topic.replication.factor=1\n",
        dir.join("data").display()
    );
    if durable {
        text.push_str("log.flush.interval.messages=1\n");
    }
    fs::write(&properties, text)?;
    let format = ["kafka.tools.StorageTool", "format", "--standalone", "-t", CLUSTER_ID, "-c"];
    output(Command::new("java").args(["-cp", &bench.class_path]).args(format).arg(&properties))?;
    command.arg("java").args(JVM).args([format!("-Xms{heap}"), format!("-Xmx{heap}")]);
    command.args(["-cp", &bench.class_path, "kafka.Kafka"]).arg(&properties);
    Ok(())
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// A row a workload: each system's figures and the ratio of Ketch to the last Kafka.
fn print(durable: bool, columns: &[(System, Broker)]) {
    let mode = if durable { "fsync before the answer on both sides" } else { "page cache on both sides" };
    println!("\n### {mode}\n");
    println!(
        "| workload | system | records/s | p50 ms | p99 ms | p99.9 ms | CPU us/record | ratio |\n|---|---|---|---|---|---|---|---|"
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
                "| {} | {} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} | {ratio} |",
                load.name,
                system.name(),
                f.rate,
                f.p50_ms,
                f.p99_ms,
                f.p999_ms,
                f.cpu_us
            );
        }
    }
    println!("\n| system | ready s | idle RSS MB | peak RSS MB |\n|---|---|---|---|");
    for (system, broker) in columns {
        let ready = broker.ready.as_secs_f64();
        println!("| {} | {ready:.2} | {:.0} | {:.0} |", system.name(), broker.idle_mb, broker.peak_mb);
    }
}
