//! Brokers under test.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{BROKER_CORE, Bench, cpu_ticks, output, scratch};

/// Kafka that verifies everything after a crash takes its time.
const READY_WITHIN: Duration = Duration::from_secs(240);
const CLUSTER_ID: &str = "a2V0Y2gtYmVuY2gtaWQtMQ";
/// What Kafka's own start script gives the JVM besides the heap.
const JVM: [&str; 4] =
    ["-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35"];
/// ApiVersions of version 0 by a client without a name: what any broker answers as soon as it serves.
const API_VERSIONS: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 255, 255];
/// A client waits so long for an answer before it asks again.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The systems side by side.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum System {
    KafkaDefault,
    KafkaSmall,
    Ketch,
}

impl System {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::KafkaDefault => "kafka",
            Self::KafkaSmall => "kafka-512m",
            Self::Ketch => "ketch",
        }
    }
}

/// How a broker is started.
#[derive(Clone, Default)]
pub(super) struct Setup {
    /// fsync before the answer.
    pub(super) durable: bool,
    /// Broker configurations beside the usual; Ketch's broker runs alone then.
    pub(super) properties: Vec<(String, String)>,
    /// An address for TLS, with the certificate and key of these files.
    pub(super) tls: Option<(SocketAddr, PathBuf, PathBuf)>,
}

/// A directory that goes with this.
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    pub(super) fn new(name: &str) -> Result<Self> {
        let dir = scratch(name)?;
        fs::create_dir_all(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A broker under test; killed when dropped. Its directory stays.
pub(super) struct Running {
    process: Child,
    pub(super) pid: i32,
    pub(super) addr: SocketAddr,
    /// From its start to its first answer.
    pub(super) ready: Duration,
}

impl Running {
    pub(super) fn start(bench: &Bench, system: System, dir: &Path, setup: &Setup) -> Result<Self> {
        let mut command = Command::new("taskset");
        command.args(["-c", BROKER_CORE]);
        let addr = free_address()?;
        match system {
            System::Ketch => ketch(&mut command, bench, dir, addr, setup)?,
            System::KafkaDefault => kafka(&mut command, bench, dir, addr, setup, "1g")?,
            System::KafkaSmall => kafka(&mut command, bench, dir, addr, setup, "512m")?,
        }
        let log = fs::File::create(dir.join("out.log"))?;
        let start = Instant::now();
        let mut process = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        while !answers(addr) {
            if start.elapsed() > READY_WITHIN || process.try_wait()?.is_some() {
                let _ = process.kill();
                bail!("{} is not ready: {}", system.name(), fs::read_to_string(dir.join("out.log"))?);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // taskset becomes the program: the process id is the broker's.
        let pid = process.id() as i32;
        Ok(Self { process, pid, addr, ready: start.elapsed() })
    }

    /// A line of /proc/PID/status in megabytes.
    pub(super) fn status_mb(&self, field: &str) -> Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)).context("a field of status")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? * 1024.0 / 1e6)
    }

    /// Descriptors that are open.
    pub(super) fn open_files(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid))?.count())
    }

    /// The part of a core it uses over `time`, in percent.
    pub(super) fn idle_percent(&self, time: Duration) -> Result<f64> {
        let before = cpu_ticks(self.pid)?;
        std::thread::sleep(time);
        // A tick is 10 ms.
        Ok((cpu_ticks(self.pid)? - before) as f64 / time.as_secs_f64())
    }

    /// Processor time so far, microseconds.
    pub(super) fn cpu_us(&self) -> Result<f64> {
        Ok(cpu_ticks(self.pid)? as f64 * 10_000.0)
    }

    /// Stops it as people do, and waits for that.
    pub(super) fn stop(mut self) -> Result<()> {
        output(Command::new("kill").arg(self.pid.to_string()))?;
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether somebody answers there. A port that is open does not say so yet.
fn answers(addr: SocketAddr) -> bool {
    let asked = || -> std::io::Result<()> {
        let mut socket = TcpStream::connect(addr)?;
        socket.set_read_timeout(Some(ANSWER_WITHIN))?;
        socket.write_all(&API_VERSIONS)?;
        socket.read_exact(&mut [0; 4])
    };
    asked().is_ok()
}

fn ketch(command: &mut Command, bench: &Bench, dir: &Path, addr: SocketAddr, setup: &Setup) -> Result<()> {
    let durability = if setup.durable { "fsync" } else { "page-cache" };
    let usual = setup.properties.is_empty() && setup.tls.is_none();
    if let Some(ketch) = bench.ketch.as_ref().filter(|_| usual) {
        command.arg(ketch).args(["up", "--no-node", "--api-port", "0", "--console-port", "0"]);
        command.args(["--etcd-port", "0", "--kafka-port", &addr.port().to_string()]);
        command.args(["--kafka-durability", durability]).arg("--data-dir").arg(dir.join("data"));
        return Ok(());
    }
    command.arg(&bench.serve).arg(dir.join("data")).arg(addr.port().to_string()).arg(durability);
    command.args(setup.properties.iter().map(|(name, value)| format!("{name}={value}")));
    if let Some((tls, certificate, key)) = &setup.tls {
        command.arg(format!("listeners=PLAINTEXT://{addr},SSL://{tls}"));
        command.args(pem(certificate, key)?.map(|(name, value)| format!("{name}={value}")));
    }
    Ok(())
}

/// Key and certificate as both brokers take them.
fn pem(certificate: &Path, key: &Path) -> Result<[(&'static str, String); 3]> {
    Ok([
        ("ssl.keystore.type", "PEM".to_owned()),
        ("ssl.keystore.certificate.chain", fs::read_to_string(certificate)?),
        ("ssl.keystore.key", fs::read_to_string(key)?),
    ])
}

fn kafka(
    command: &mut Command,
    bench: &Bench,
    dir: &Path,
    addr: SocketAddr,
    setup: &Setup,
    heap: &str,
) -> Result<()> {
    let (controller, properties) = (free_address()?, dir.join("server.properties"));
    let tls = setup.tls.as_ref().map_or_else(String::new, |(tls, ..)| format!(",SSL://{tls}"));
    let map = "PLAINTEXT:PLAINTEXT,SSL:SSL,CONTROLLER:PLAINTEXT";
    let mut text = format!(
        "process.roles=broker,controller\nnode.id=1\n\
         listeners=PLAINTEXT://{addr},CONTROLLER://{controller}{tls}\n\
         controller.quorum.bootstrap.servers={controller}\ncontroller.listener.names=CONTROLLER\n\
         listener.security.protocol.map={map}\nlog.dirs={}\n\
         offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n",
        dir.join("data").display()
    );
    if setup.durable {
        text.push_str("log.flush.interval.messages=1\n");
    }
    let mut more = setup.properties.clone();
    if let Some((_, certificate, key)) = &setup.tls {
        let escaped = |(name, value): (&str, String)| (name.to_owned(), value.replace('\n', "\\n"));
        more.extend(pem(certificate, key)?.map(escaped));
    }
    more.iter().for_each(|(name, value)| text.push_str(&format!("{name}={value}\n")));
    fs::write(&properties, text)?;
    if !dir.join("data/meta.properties").exists() {
        let format = ["kafka.tools.StorageTool", "format", "--standalone", "-t", CLUSTER_ID, "-c"];
        output(Command::new("java").args(["-cp", &bench.class_path]).args(format).arg(&properties))?;
    }
    command.arg("java").args(JVM).args([format!("-Xms{heap}"), format!("-Xmx{heap}")]);
    command.args(["-cp", &bench.class_path, "kafka.Kafka"]).arg(&properties);
    Ok(())
}

pub(super) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
