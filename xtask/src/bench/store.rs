//! `cargo xtask bench store [--quick]`: etcd 3.6 and Ketch's store behind its etcd port, one after the other in one run, with
//! the same client over eight connections in the clear, on the same disk, both durable before they answer.
//!
//! Each figure is the median of the rounds, which alternate between the two servers.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{cpu_ticks, scratch, smaps_kb};
use crate::run::{cargo, output, root, run as run_command};
use crate::tools;

/// How long a start may take.
const START_WITHIN: Duration = Duration::from_secs(120);
/// After a start, before memory is read.
const SETTLE: Duration = Duration::from_secs(3);

/// How much is measured.
struct Plan {
    seconds: u64,
    rounds: usize,
    /// Thousands of keys that memory, ranges and restarts are measured with.
    thousands: usize,
    watchers: usize,
    events: u64,
}

const FULL: Plan = Plan { seconds: 20, rounds: 3, thousands: 100, watchers: 10_000, events: 20 };
const QUICK: Plan = Plan { seconds: 4, rounds: 1, thousands: 100, watchers: 10_000, events: 5 };

/// Workload, clients, what it is called.
const RATES: &[(&str, usize, &str)] = &[
    ("echo", 64, "empty echo, 64 clients"),
    ("put", 1, "put of 1 KB, 1 client"),
    ("put", 64, "put of 1 KB, 64 clients"),
    ("put", 256, "put of 1 KB, 256 clients"),
    ("create", 64, "create of 4 KiB, 64 clients"),
    ("get", 64, "linearizable get, 64 clients"),
];

/// `cargo xtask bench store`.
pub fn run(args: &[String]) -> Result<()> {
    let plan = if args.iter().any(|a| a == "--quick") { QUICK } else { FULL };
    let programs = Programs::build()?;
    let mut pair = [programs.server("etcd")?, programs.server("ketch")?];
    println!("idle, RSS:{}", both(&pair, |server| Ok(format!("{:.1} MB", server.rss_mb()?)))?);
    println!("{:<32} {:>44} {:>44}  ratio", "", "etcd", "ketch");
    for (workload, clients, name) in RATES {
        let mut found = [Vec::new(), Vec::new()];
        for _ in 0..plan.rounds {
            for (server, found) in pair.iter().zip(&mut found) {
                found.push(programs.load(server, workload, *clients, plan.seconds)?);
            }
        }
        let [etcd, ketch] = found.map(median);
        println!("{name:<32} {etcd} {ketch}  {:.2}", ketch.rate / etcd.rate);
    }
    with_keys(&programs, &mut pair, &plan)
}

/// What is measured with many keys, on fresh directories.
fn with_keys(programs: &Programs, pair: &mut [Server; 2], plan: &Plan) -> Result<()> {
    for server in pair.iter_mut() {
        server.stop();
        *server = programs.server(server.name)?;
    }
    let thousands = plan.thousands;
    for server in &*pair {
        let figures = programs.load(server, "fill", thousands, 0)?;
        println!(
            "fill {thousands}k keys of 1 KB, {}: {:.0} puts/s, RSS {:.1} MB, most {:.1} MB",
            server.name,
            figures.rate,
            server.rss_mb()?,
            server.peak_mb()?
        );
    }
    for server in &*pair {
        let range = programs.load(server, "range", 1, 5)?;
        println!("range of all, {}: p50 {:.1} ms", server.name, range.p50 as f64 / 1e3);
    }
    for server in &*pair {
        let watch = programs.load(server, "watch", plan.watchers, plan.events)?;
        println!(
            "event to the last of {} watchers, {}: p50 {:.1} ms, p99 {:.1} ms",
            plan.watchers,
            server.name,
            watch.p50 as f64 / 1e3,
            watch.p99 as f64 / 1e3
        );
    }
    for server in pair.iter_mut() {
        server.stop();
        let began = Instant::now();
        *server = programs.start(server.name, &server.dir)?;
        println!(
            "start to healthy with {thousands}k keys, {}: {:.0} ms",
            server.name,
            began.elapsed().as_secs_f64() * 1e3
        );
    }
    Ok(())
}

fn both(pair: &[Server; 2], show: impl Fn(&Server) -> Result<String>) -> Result<String> {
    let mut line = String::new();
    for server in pair {
        line += &format!(" {} {}", server.name, show(server)?);
    }
    Ok(line)
}

/// What one run of the client found.
#[derive(Clone)]
struct Figures {
    rate: f64,
    p50: u64,
    p99: u64,
    p999: u64,
    cpu_us: f64,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |us: u64| us as f64 / 1e3;
        let text = format!(
            "{:.0}/s p50 {:.2} p99 {:.2} p99.9 {:.2} ms {:.0} us CPU",
            self.rate,
            ms(self.p50),
            ms(self.p99),
            ms(self.p999),
            self.cpu_us
        );
        write!(f, "{text:>58}")
    }
}

fn median(mut rounds: Vec<Figures>) -> Figures {
    rounds.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    rounds[rounds.len() / 2].clone()
}

struct Programs {
    etcd: PathBuf,
    serve: PathBuf,
    load: PathBuf,
}

impl Programs {
    fn build() -> Result<Self> {
        let examples = ["build", "--release", "-p", "store", "--example", "serve", "--example", "load"];
        run_command(cargo().args(examples))?;
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
        let examples = target.join("release/examples");
        let etcd = tools::etcd()?.programs.join("etcd");
        Ok(Self { etcd, serve: examples.join("serve"), load: examples.join("load") })
    }

    /// One on an empty directory.
    fn server(&self, name: &'static str) -> Result<Server> {
        let server = self.start(name, &scratch(name)?)?;
        std::thread::sleep(SETTLE);
        Ok(server)
    }

    fn start(&self, name: &'static str, dir: &Path) -> Result<Server> {
        if name == "etcd" { self.start_etcd(dir) } else { self.start_ketch(dir) }
    }

    fn start_etcd(&self, dir: &Path) -> Result<Server> {
        let (client, peer) = (free_port()?, free_port()?);
        let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let child = Command::new(&self.etcd)
            .arg("--data-dir")
            .arg(dir)
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}"), "--log-level", "error"])
            .args(["--quota-backend-bytes", "8589934592"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let address = client.trim_start_matches("http://").to_owned();
        let server = Server { name: "etcd", child, address, dir: dir.to_owned() };
        server.healthy()?;
        Ok(server)
    }

    fn start_ketch(&self, dir: &Path) -> Result<Server> {
        let mut child = Command::new(&self.serve).arg(dir).stdout(Stdio::piped()).spawn()?;
        let mut address = String::new();
        BufReader::new(child.stdout.take().context("piped")?).read_line(&mut address)?;
        let server = Server { name: "ketch", child, address: address.trim().to_owned(), dir: dir.to_owned() };
        server.healthy()?;
        Ok(server)
    }

    fn load(&self, server: &Server, workload: &str, clients: usize, seconds: u64) -> Result<Figures> {
        let before = cpu_ticks(server.pid()?)?;
        let (clients, seconds) = (clients.to_string(), seconds.to_string());
        let text = output(Command::new(&self.load).args([&server.address, workload, &clients, &seconds]))?;
        let ticks = cpu_ticks(server.pid()?)? - before;
        let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [count, rate, p50, p99, p999] = numbers[..] else { bail!("the client said: {text}") };
        let cpu_us = ticks as f64 * 10_000.0 / count.max(1.0);
        Ok(Figures { rate, p50: p50 as u64, p99: p99 as u64, p999: p999 as u64, cpu_us })
    }
}

struct Server {
    name: &'static str,
    child: Child,
    address: String,
    dir: PathBuf,
}

impl Server {
    fn pid(&self) -> Result<i32> {
        Ok(i32::try_from(self.child.id())?)
    }

    fn rss_mb(&self) -> Result<f64> {
        Ok(smaps_kb(self.pid()?, &["Rss:"])? as f64 / 1024.0)
    }

    fn peak_mb(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }

    /// Waits until `/health` says so.
    fn healthy(&self) -> Result<()> {
        let end = Instant::now() + START_WITHIN;
        while Instant::now() < end {
            if ask_health(&self.address).unwrap_or(false) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        bail!("{} is not healthy in time", self.name)
    }

    fn stop(&mut self) {
        // SIGTERM, so that both close their files; it may have ended by itself.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask_health(address: &str) -> Result<bool> {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.contains("\"health\":\"true\""))
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
