//! A topic read from its beginning over one socket by a client that only counts.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use super::running::free_address;
use super::*;

const TOPIC: &str = "deep";
const PARTITIONS: u32 = 20;

/// MB/s and the broker's microseconds a MB.
struct Read {
    mb_s: f64,
    cpu_us: f64,
}

/// Plain, beside a loop that reads a file by 1 MiB and writes what it read.
pub(super) fn catchup(bench: &Bench) -> Result<()> {
    println!("\n### catch-up read, 1 KB records, {PARTITIONS} partitions, page cache\n");
    println!("| system | MB/s | CPU us/MB | ratio to the loop |\n|---|---|---|---|");
    for system in [System::KafkaSmall, System::Ketch] {
        let dir = Scratch::new(&format!("{}-catchup", system.name()))?;
        let running = filled(bench, system, &dir.0, &Setup::default())?;
        let read = fetch(bench, &running, running.addr, &[], None)?;
        let bare = middle((0..bench.runs).map(|_| bare(bench, &dir.0)).collect::<Result<_>>()?);
        println!("| {} | {:.0} | {:.0} | {:.2} |", system.name(), read.mb_s, read.cpu_us, read.mb_s / bare);
        println!("| a read-and-write loop over its files | {bare:.0} | | 1 |");
    }
    Ok(())
}

/// Several readers of the whole topic at once, and reads of what only the disk holds.
pub(super) fn readers(bench: &Bench) -> Result<()> {
    println!("\n### reads by several groups at once, and cold, 1 KB records, {PARTITIONS} partitions\n");
    println!("| what | system | MB/s in all | CPU us/MB | ratio |\n|---|---|---|---|---|");
    let mut theirs = Vec::new();
    for system in [System::KafkaSmall, System::Ketch] {
        let dir = Scratch::new(&format!("{}-readers", system.name()))?;
        let running = filled(bench, system, &dir.0, &Setup::default())?;
        let mut rows = Vec::new();
        for readers in [1, 3, 10] {
            let read = fetch(bench, &running, running.addr, &[format!("readers={readers}")], None)?;
            rows.push((format!("{readers} at once, page cache"), read));
        }
        for readers in [1, 10] {
            let cold = ["cold".to_owned(), format!("topic={TOPIC}"), format!("dir={}", dir.0.display())];
            let read = fetch(bench, &running, running.addr, &[format!("readers={readers}")], Some(&cold))?;
            rows.push((format!("{readers} at once, cold"), read));
        }
        for (at, (what, read)) in rows.iter().enumerate() {
            let ratio = theirs.get(at).map_or_else(String::new, |them| format!("{:.2}", read.mb_s / them));
            println!("| {what} | {} | {:.0} | {:.0} | {ratio} |", system.name(), read.mb_s, read.cpu_us);
        }
        theirs = rows.iter().map(|(_, read)| read.mb_s).collect();
    }
    Ok(())
}

/// Under TLS 1.3, both with the same certificate.
pub(super) fn tls(bench: &Bench) -> Result<()> {
    println!("\n### catch-up read under TLS, page cache\n");
    println!("| system | MB/s | CPU us/MB | ratio |\n|---|---|---|---|");
    let (files, mut theirs) = (Scratch::new("tls")?, 0.0);
    let (certificate, key) = (files.0.join("certificate.pem"), files.0.join("key.pem"));
    let request =
        ["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-days", "2"];
    let names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
    let leaf = ["-addext", "basicConstraints=critical,CA:FALSE"];
    let mut openssl = Command::new("openssl");
    output(
        openssl.args(request).args(names).args(leaf).arg("-out").arg(&certificate).arg("-keyout").arg(&key),
    )?;
    for system in [System::KafkaSmall, System::Ketch] {
        let dir = Scratch::new(&format!("{}-tls", system.name()))?;
        let addr = free_address()?;
        let setup = Setup { tls: Some((addr, certificate.clone(), key.clone())), ..Setup::default() };
        let running = filled(bench, system, &dir.0, &setup)?;
        let read = fetch(bench, &running, addr, &[format!("ca={}", certificate.display())], None)?;
        let ratio = if theirs > 0.0 { format!("{:.2}", read.mb_s / theirs) } else { String::new() };
        println!("| {} | {:.0} | {:.0} | {ratio} |", system.name(), read.mb_s, read.cpu_us);
        theirs = read.mb_s;
    }
    Ok(())
}

fn filled(bench: &Bench, system: System, dir: &Path, setup: &Setup) -> Result<Running> {
    let running = Running::start(bench, system, dir, setup)?;
    bench.topic(&running, TOPIC, PARTITIONS, &[])?;
    bench.fill(&running, TOPIC, if bench.quick { 300_000 } else { 2_000_000 })?;
    Ok(running)
}

/// The median of some reads, after one that warms up; `before` each, something else is run.
fn fetch(
    bench: &Bench,
    running: &Running,
    addr: SocketAddr,
    more: &[String],
    before: Option<&[String]>,
) -> Result<Read> {
    let mut args = vec![
        "fetch".to_owned(),
        format!("bootstrap={addr}"),
        format!("topic={TOPIC}"),
        format!("partitions={PARTITIONS}"),
    ];
    args.extend(more.iter().cloned());
    bench.client(&bench.raw, &args)?;
    let (mut rates, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..bench.runs {
        if let Some(before) = before {
            bench.client(&bench.raw, before)?;
        }
        let used = running.cpu_us()?;
        let told = bench.client(&bench.raw, &args)?;
        let mb = field(&told, "bytes")? / 1e6;
        rates.push(mb / field(&told, "seconds")?);
        cpu.push((running.cpu_us()? - used) / mb);
    }
    Ok(Read { mb_s: middle(rates), cpu_us: middle(cpu) })
}

/// MB/s of the loop over the files of the topic.
fn bare(bench: &Bench, dir: &Path) -> Result<f64> {
    let mut serving = Command::new("taskset")
        .args(["-c", BROKER_CORE])
        .arg(&bench.raw)
        .args(["loop", &format!("topic={TOPIC}"), &format!("dir={}", dir.display())])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(serving.stdout.take().context("a pipe")?).read_line(&mut line)?;
    let addr = line.trim().strip_prefix("ready ").context("ready")?.to_owned();
    let told = bench.client(&bench.raw, &["drain".to_owned(), format!("bootstrap={addr}")])?;
    serving.wait()?;
    Ok(field(&told, "bytes")? / 1e6 / field(&told, "seconds")?)
}
