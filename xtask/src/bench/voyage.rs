//! `cargo xtask bench voyage`: the bars of the first voyage, `ketch up` alone in a network and mount namespace of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{cpu_ticks, median, release, scratch, smaps_kb, write_bytes};
use crate::run::output;
use crate::tools;

/// Runs of each timed start; the median counts.
const STARTS: usize = 5;
/// Pods of the storm.
const STORM_PODS: usize = 100;
const READY_WITHIN: Duration = Duration::from_secs(60);
const STORM_WITHIN: Duration = Duration::from_secs(120);
/// How long after `ready` memory is read, and how long idleness is watched.
const IDLE: Duration = Duration::from_secs(60);

/// The bars of the first voyage.
pub fn run() -> Result<()> {
    if !tools::is_root() {
        bail!("the bench runs containers: start it as root");
    }
    let binary = release()?;
    let tools = tools::ensure_all()?;
    let bench = Bench { binary, kubectl: tools.kubectl, image: tools.busybox_image };

    report("release binary", &format!("{:.1} MB", fs::metadata(&bench.binary)?.len() as f64 / 1e6), "60 MB");
    bench.starts()?;
    bench.idle()?;
    bench.pods()
}

fn report(what: &str, measured: &str, bar: &str) {
    println!("{what:<44} {measured:>16}   bar {bar}");
}

struct Bench {
    binary: PathBuf,
    kubectl: PathBuf,
    image: PathBuf,
}

/// A network and mount namespace without an uplink, held by a sleeping process.
struct Namespace {
    holder: Child,
}

impl Namespace {
    fn new() -> Result<Self> {
        let mut holder = Command::new("unshare")
            .args([
                "--net",
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                "ip link set lo up && echo up && exec sleep 3600",
            ])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(holder.stdout.take().context("piped")?).read_line(&mut line)?;
        Ok(Self { holder })
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--mount", "--target"]).arg(self.holder.id().to_string()).arg(program);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A running `ketch up` with its data directory; `down --purge` when dropped.
struct Up<'a> {
    bench: &'a Bench,
    namespace: &'a Namespace,
    dir: PathBuf,
    process: Child,
    ready: Duration,
}

impl<'a> Up<'a> {
    fn start(bench: &'a Bench, namespace: &'a Namespace, dir: &Path) -> Result<Self> {
        let start = Instant::now();
        let mut process = namespace
            .command(&bench.binary)
            .args(["up", "--data-dir"])
            .arg(dir)
            .stdout(Stdio::piped())
            .stderr(fs::File::create(dir.with_extension("log"))?)
            .spawn()?;
        let lines = BufReader::new(process.stdout.take().context("piped")?).lines();
        for line in lines {
            if line?.starts_with("ready in ") {
                return Ok(Self { bench, namespace, dir: dir.to_owned(), process, ready: start.elapsed() });
            }
            if start.elapsed() > READY_WITHIN {
                break;
            }
        }
        bail!("not ready; see {}", dir.with_extension("log").display())
    }

    fn pid(&self) -> Result<i32> {
        let endpoints: Value = serde_json::from_slice(&fs::read(self.dir.join("endpoints.json"))?)?;
        Ok(endpoints["pid"].as_i64().context("endpoints.json has a pid")? as i32)
    }

    fn kubectl(&self, args: &[&str]) -> Command {
        let mut command = self.namespace.command(&self.bench.kubectl);
        command.arg("--kubeconfig").arg(self.dir.join("kubeconfig")).args(args);
        command
    }

    fn stop(&mut self) -> Result<()> {
        if self.process.try_wait()?.is_none() {
            run_quietly(Command::new("kill").arg("-TERM").arg(self.pid()?.to_string()))?;
        }
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        let _ = self.stop();
        let mut down = self.namespace.command(&self.bench.binary);
        let _ = run_quietly(down.args(["down", "--purge", "--data-dir"]).arg(&self.dir));
    }
}

fn run_quietly(command: &mut Command) -> Result<()> {
    output(command).map(|_| ())
}

impl Bench {
    fn starts(&self) -> Result<()> {
        let (mut cold, mut warm) = (Vec::new(), Vec::new());
        for i in 0..STARTS {
            let (namespace, dir) = (Namespace::new()?, scratch(&format!("start-{i}"))?);
            let mut first = Up::start(self, &namespace, &dir)?;
            cold.push(first.ready);
            first.stop()?;
            let second = Up::start(self, &namespace, &dir)?;
            warm.push(second.ready);
        }
        report("cold start to ready, median of 5", &format!("{:.3} s", median(cold).as_secs_f64()), "1.0 s");
        report("restart to ready, median of 5", &format!("{:.3} s", median(warm).as_secs_f64()), "0.5 s");
        Ok(())
    }

    fn idle(&self) -> Result<()> {
        let (namespace, dir) = (Namespace::new()?, scratch("idle")?);
        let up = Up::start(self, &namespace, &dir)?;
        let pid = up.pid()?;
        std::thread::sleep(IDLE);
        let pss_kb = smaps_kb(pid, &["Pss:"])?;
        let (cpu, written) = (cpu_ticks(pid)?, write_bytes(pid)?);
        std::thread::sleep(IDLE);
        let cpu_percent = (cpu_ticks(pid)? - cpu) as f64 / IDLE.as_secs_f64();
        report("idle memory (PSS) 60 s after ready", &format!("{:.1} MB", pss_kb as f64 / 1e3), "100 MB");
        report("idle CPU of one core over 60 s", &format!("{cpu_percent:.2} %"), "2 %");
        report(
            "idle write_bytes over 60 s",
            &format!("{} KiB", (write_bytes(pid)? - written) / 1024),
            "512 KiB",
        );
        Ok(())
    }

    fn pods(&self) -> Result<()> {
        let (namespace, dir) = (Namespace::new()?, scratch("pods")?);
        let up = Up::start(self, &namespace, &dir)?;
        let mut import = namespace.command(&self.binary);
        run_quietly(import.args(["image", "import", "--data-dir"]).arg(&dir).arg(&self.image))?;

        let mut times = Vec::new();
        for i in 0..STARTS {
            times.push(deployment_to_running(&up, &format!("one-{i}"))?);
        }
        report(
            "Deployment POST to running, median of 5",
            &format!("{} ms", median(times).as_millis()),
            "300 ms",
        );
        let shims = shim_private_kb(&dir)?;
        let worst = shims.iter().max().copied().unwrap_or(0);
        report("private memory of a shim, worst", &format!("{:.2} MB", worst as f64 / 1e3), "3 MB");

        let storm = storm(&up)?;
        report("100 pods applied at once to all Running", &format!("{:.1} s", storm.as_secs_f64()), "15 s");
        Ok(())
    }
}

/// From the end of kubectl's POST to the container running, as a watch sees it.
fn deployment_to_running(up: &Up<'_>, name: &str) -> Result<Duration> {
    let selector = format!("-l=app={name}");
    let mut watch = up
        .kubectl(&["get", "pods", "-w", &selector, "-o", "jsonpath={.status.phase}{\"\\n\"}"])
        .stdout(Stdio::piped())
        .spawn()?;
    // The watch must be open before the clock starts.
    std::thread::sleep(Duration::from_millis(500));
    let manifest = deployment(name, 1);
    let file = up.dir.with_extension("yaml");
    fs::write(&file, manifest)?;
    run_quietly(up.kubectl(&["create", "-f"]).arg(&file))?;
    let start = Instant::now();
    let lines = BufReader::new(watch.stdout.take().context("piped")?).lines();
    let mut took = None;
    for line in lines {
        if line? == "Running" {
            took = Some(start.elapsed());
            break;
        }
        if start.elapsed() > READY_WITHIN {
            break;
        }
    }
    watch.kill()?;
    watch.wait()?;
    took.context("the pod did not run")
}

fn deployment(name: &str, replicas: usize) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  replicas: {replicas}\n  \
         selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec:\n      \
         terminationGracePeriodSeconds: 1\n      containers:\n        - name: c\n          image: busybox\n          \
         imagePullPolicy: IfNotPresent\n          command: [sleep, '3600']\n"
    )
}

fn storm(up: &Up<'_>) -> Result<Duration> {
    let file = up.dir.with_extension("yaml");
    fs::write(&file, deployment("storm", STORM_PODS))?;
    run_quietly(up.kubectl(&["apply", "-f"]).arg(&file))?;
    let start = Instant::now();
    let fields = "jsonpath={.items[*].status.phase}";
    while start.elapsed() < STORM_WITHIN {
        let phases = output(&mut up.kubectl(&["get", "pods", "-l", "app=storm", "-o", fields]))?;
        if phases.split_whitespace().filter(|p| *p == "Running").count() == STORM_PODS {
            return Ok(start.elapsed());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    bail!("not all of {STORM_PODS} pods ran within {STORM_WITHIN:?}")
}

/// Private memory of every shim of a data directory.
fn shim_private_kb(dir: &Path) -> Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).into_owned();
        if line.contains("shim") && line.contains(&*dir.to_string_lossy()) {
            found.push(smaps_kb(pid, &["Private_Clean:", "Private_Dirty:"])?);
        }
    }
    Ok(found)
}
