//! etcd and Ketch's store as programs: started, asked, measured and stopped alike.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::bench::{cpu_ticks, scratch, smaps_kb};
use crate::run::{cargo, output, root, run as run_command};
use crate::tools;

/// How long a start may take.
const START_WITHIN: Duration = Duration::from_secs(120);
/// After a start, before anything is measured.
const SETTLE: Duration = Duration::from_secs(2);
/// Members of a cluster.
pub const MEMBERS: usize = 3;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Etcd,
    Ketch,
}

impl Kind {
    pub const BOTH: [Self; 2] = [Self::Etcd, Self::Ketch];

    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Ketch => "ketch",
        }
    }
}

/// What one run of the client found; latencies in microseconds.
#[derive(Debug, Clone)]
pub struct Figures {
    pub rate: f64,
    pub p50: f64,
    pub p99: f64,
    pub longest: f64,
    /// The servers' processor time a call, microseconds.
    pub cpu_us: f64,
    /// Cores that the client and the servers used together: near what there are, nothing can go faster.
    pub cores: f64,
}

/// The programs, and how they speak.
pub struct Programs {
    etcd: PathBuf,
    serve: PathBuf,
    load: PathBuf,
    embedded: PathBuf,
    /// A directory of certificates when clients and servers speak TLS.
    pki: Option<PathBuf>,
}

impl Programs {
    pub fn build() -> Result<()> {
        let mut build = cargo();
        build.args(["build", "--release", "-p", "store"]);
        for example in ["serve", "load", "embedded"] {
            build.args(["--example", example]);
        }
        run_command(&mut build)
    }

    pub fn find(tls: bool) -> Result<Self> {
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
        let examples = target.join("release/examples");
        let (serve, load, embedded) =
            (examples.join("serve"), examples.join("load"), examples.join("embedded"));
        let pki = if tls { Some(scratch("pki")?) } else { None };
        if let Some(pki) = &pki {
            fs::create_dir_all(pki)?;
            output(Command::new(&serve).arg("certs").arg(pki))?;
        }
        let etcd = tools::etcd_programs()?.join("etcd");
        Ok(Self { etcd, serve, load, embedded, pki })
    }

    /// One on an empty directory.
    pub fn alone(&self, kind: Kind) -> Result<Servers> {
        let dir = scratch(kind.name())?;
        let mut servers = Servers { kind, members: vec![self.start(kind, &dir, None)?] };
        servers.settle();
        Ok(servers)
    }

    /// Several that are one cluster, on empty directories.
    pub fn cluster(&self, kind: Kind) -> Result<Servers> {
        let peers: Vec<String> =
            (0..MEMBERS).map(|_| Ok(format!("127.0.0.1:{}", free_port()?))).collect::<Result<_>>()?;
        let mut members = Vec::new();
        for at in 0..MEMBERS {
            let dir = scratch(&format!("{}-{at}", kind.name()))?;
            members.push(self.spawn(kind, &dir, Some((at, &peers)))?);
        }
        members.iter().try_for_each(Server::healthy)?;
        let mut servers = Servers { kind, members };
        servers.settle();
        Ok(servers)
    }

    /// Starts one and waits until it says that it is healthy.
    pub fn start(&self, kind: Kind, dir: &Path, place: Option<(usize, &[String])>) -> Result<Server> {
        let server = self.spawn(kind, dir, place)?;
        server.healthy()?;
        Ok(server)
    }

    fn spawn(&self, kind: Kind, dir: &Path, place: Option<(usize, &[String])>) -> Result<Server> {
        match kind {
            Kind::Etcd => self.spawn_etcd(dir, place),
            Kind::Ketch => self.spawn_ketch(dir, place),
        }
    }

    fn spawn_etcd(&self, dir: &Path, place: Option<(usize, &[String])>) -> Result<Server> {
        let (me, peers) = match place {
            Some((me, peers)) => (me, peers.to_vec()),
            None => (0, vec![format!("127.0.0.1:{}", free_port()?)]),
        };
        let (address, metrics) = (format!("127.0.0.1:{}", free_port()?), free_port()?);
        let scheme = if self.pki.is_some() { "https" } else { "http" };
        let (client, peer) = (format!("{scheme}://{address}"), format!("http://{}", peers[me]));
        let cluster: Vec<_> =
            peers.iter().enumerate().map(|(at, peer)| format!("m{at}=http://{peer}")).collect();
        let mut command = Command::new(&self.etcd);
        command
            .arg("--data-dir")
            .arg(dir)
            .args(["--name", &format!("m{me}"), "--initial-cluster", &cluster.join(",")])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--listen-metrics-urls", &format!("http://127.0.0.1:{metrics}")])
            .args(["--log-level", "error", "--quota-backend-bytes", "8589934592"]);
        if let Some(pki) = &self.pki {
            let dir = pki.join("etcd");
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(dir.join("ca.crt"));
            command.arg("--cert-file").arg(dir.join("server.crt"));
            command.arg("--key-file").arg(dir.join("server.key"));
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let health = Some(format!("127.0.0.1:{metrics}"));
        Ok(Server { child, address, health, dir: dir.to_owned() })
    }

    fn spawn_ketch(&self, dir: &Path, place: Option<(usize, &[String])>) -> Result<Server> {
        let mut command = Command::new(&self.serve);
        command.arg(dir).args(self.pki.iter().map(|pki| format!("tls={}", pki.display())));
        if let Some((me, peers)) = place {
            command.args([format!("member={me}"), format!("peers={}", peers.join(","))]);
        }
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut address = String::new();
        BufReader::new(child.stdout.take().context("piped")?).read_line(&mut address)?;
        let address = address.trim().to_owned();
        // With TLS the port answers only those who show a certificate: that it listens, with a leader, is asked then.
        let health = self.pki.is_none().then(|| address.clone());
        Ok(Server { child, address, health, dir: dir.to_owned() })
    }

    /// Runs the client against all members.
    pub fn load(&self, servers: &Servers, workload: &str, clients: usize, seconds: u64) -> Result<Figures> {
        let (before, began, children) = (servers.cpu_ticks()?, Instant::now(), children_ticks()?);
        let text = output(&mut self.client(servers, workload, clients, seconds))?;
        let (count, mut figures) = parse(&text)?;
        let (took, used) = (began.elapsed(), servers.cpu_ticks()? - before);
        figures.cpu_us = used as f64 * 10_000.0 / count.max(1.0);
        figures.cores = (used + children_ticks()? - children) as f64 / 100.0 / took.as_secs_f64();
        Ok(figures)
    }

    /// The client's command line.
    pub fn client(&self, servers: &Servers, workload: &str, clients: usize, seconds: u64) -> Command {
        let addresses: Vec<&str> = servers.members.iter().map(|server| &*server.address).collect();
        let mut command = Command::new(&self.load);
        command.args([&addresses.join(","), workload, &clients.to_string(), &seconds.to_string()]);
        command.args(&self.pki);
        // The client keeps what memory it was given: a long range would else cost it most of its time in the kernel.
        command.env("MALLOC_TRIM_THRESHOLD_", "2000000000").env("MALLOC_MMAP_THRESHOLD_", "2000000000");
        command
    }

    /// Puts in process, without a port.
    pub fn embedded(&self, tasks: usize, seconds: u64) -> Result<Figures> {
        let dir = scratch("embedded")?;
        let (tasks, seconds) = (tasks.to_string(), seconds.to_string());
        let text = output(Command::new(&self.embedded).arg(dir).args([&tasks, &seconds]))?;
        Ok(parse(&text)?.1)
    }
}

/// The figures in the client's line, and how many there were of what it counted.
pub fn parse(text: &str) -> Result<(f64, Figures)> {
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [count, rate, p50, p99, _, longest] = numbers[..] else { bail!("the client said: {text}") };
    Ok((count, Figures { rate, p50, p99, longest, cpu_us: 0.0, cores: 0.0 }))
}

/// One server or the members of a cluster.
pub struct Servers {
    pub kind: Kind,
    pub members: Vec<Server>,
}

impl Servers {
    fn settle(&mut self) {
        std::thread::sleep(SETTLE);
    }

    fn cpu_ticks(&self) -> Result<u64> {
        self.members.iter().map(|server| cpu_ticks(server.pid()?)).sum()
    }

    pub fn rss_mb(&self) -> Result<f64> {
        let kb: Result<u64> = self.members.iter().map(|server| smaps_kb(server.pid()?, &["Rss:"])).sum();
        Ok(kb? as f64 / 1024.0)
    }

    /// Stops the only member, and starts it again on its directory; how long until it is healthy.
    pub fn restart(&mut self, programs: &Programs) -> Result<Duration> {
        let server = self.members.first_mut().context("no member")?;
        server.stop();
        let began = Instant::now();
        *server = programs.start(self.kind, &server.dir, None)?;
        Ok(began.elapsed())
    }
}

pub struct Server {
    child: Child,
    pub address: String,
    /// Where `/health` is answered in the clear.
    health: Option<String>,
    dir: PathBuf,
}

impl Server {
    fn pid(&self) -> Result<i32> {
        Ok(i32::try_from(self.child.id())?)
    }

    /// Waits until it serves.
    fn healthy(&self) -> Result<()> {
        let end = Instant::now() + START_WITHIN;
        while Instant::now() < end {
            let well = match &self.health {
                Some(address) => ask_health(address).unwrap_or(false),
                None => TcpStream::connect(&self.address).is_ok(),
            };
            if well {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        bail!("{} is not healthy in time", self.address)
    }

    fn stop(&mut self) {
        // SIGTERM, so that both close their files; it may have ended by itself.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        // The directory of a bench is worth nothing afterwards, and may be gigabytes.
        let _ = fs::remove_dir_all(&self.dir);
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

/// Processor time of the programs that were waited for, in clock ticks (1/100 s): the clients.
fn children_ticks() -> Result<u64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    Ok(fields[13].parse::<u64>()? + fields[14].parse::<u64>()?)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
