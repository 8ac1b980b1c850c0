//! A whole Ketch in a host of its own, driven by real clients.
//!
//! Every test binary starts its own: network and mount namespaces without an uplink, a temporary data directory, free ports.
//! Dropping it runs `ketch down --purge`, so that nothing outlives the test.

// Each test binary uses its own part of this.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use testkit::Host;

const READY_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// The program under test.
pub const KETCH: &str = env!("CARGO_BIN_EXE_ketch");

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A running `ketch up`, or `ketch server`.
pub struct Ketch {
    command: &'static str,
    pub host: Host,
    pub dir: PathBuf,
    /// Everything `up` printed to standard output until it was ready.
    pub said: Vec<String>,
    root: tempfile::TempDir,
    flags: Vec<String>,
    process: Option<Child>,
}

/// The real client named by a variable, or None with a word when `cargo xtask test` did not set it.
pub fn client(variable: &str) -> Option<String> {
    let found = std::env::var(variable).ok();
    if found.is_none() {
        eprintln!("skipped: {variable} is not set (cargo xtask test sets it)");
    }
    found
}

impl Ketch {
    /// Starts one, or returns None (and says so) where this machine cannot: no root, no kubectl.
    pub fn start(flags: &[&str]) -> Option<Self> {
        Self::start_as("up", flags)
    }

    /// As [`Ketch::start`], by another command with the same flags.
    pub fn start_as(command: &'static str, flags: &[&str]) -> Option<Self> {
        if !testkit::can_isolate() || client("KETCH_TEST_KUBECTL").is_none() {
            return None;
        }
        let host = Host::new().expect("namespaces can be made");
        let root = tempfile::Builder::new().prefix("ketch-").tempdir().expect("a temporary directory");
        let dir = root.path().join("data");
        let flags = flags.iter().map(|f| (*f).to_owned()).collect();
        let mut ketch = Self { command, host, dir, said: Vec::new(), root, flags, process: None };
        ketch.up();
        Some(ketch)
    }

    /// As [`Ketch::start`], with busybox imported.
    pub fn with_busybox(flags: &[&str]) -> Option<Self> {
        Self::with_busybox_as("up", flags)
    }

    /// As [`Ketch::with_busybox`], by another command with the same flags.
    pub fn with_busybox_as(command: &'static str, flags: &[&str]) -> Option<Self> {
        let image = client("KETCH_TEST_BUSYBOX_IMAGE")?;
        let ketch = Self::start_as(command, flags)?;
        let run = ketch.ketch(&["image", "import", &image]);
        assert_eq!(run.code, 0, "{run:?}");
        Some(ketch)
    }

    /// Starts (again) on the same data directory and waits for `ready`.
    pub fn up(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log()).expect("a log file");
        let mut command = Command::new(KETCH);
        command.args([
            self.command,
            "--log",
            "info",
            "--api-port",
            "0",
            "--etcd-port",
            "0",
            "--kafka-port",
            "0",
            "--kubelet-port",
            "0",
            "--console-port",
            "0",
            "--data-dir",
        ]);
        command.arg(&self.dir).args(&self.flags).stdout(Stdio::piped()).stderr(log);
        let mut child = self.host.run(|| command.spawn()).expect("ketch starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        self.process = Some(child);
        let (sender, receiver) = std::sync::mpsc::channel();
        // Keeps the pipe drained for as long as the process writes.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(sender.send(line))));
        self.said.clear();
        let deadline = Instant::now() + READY_WITHIN;
        while let Ok(line) = receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            let ready = line.starts_with("ready in ");
            self.said.push(line);
            if ready {
                return;
            }
        }
        panic!("not ready; it said {:?} and logged:\n{}", self.said, self.log_tail());
    }

    pub fn log(&self) -> PathBuf {
        self.root.path().join("log")
    }

    /// The end of the log, for failure messages.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    pub fn pid(&self) -> i32 {
        self.process.as_ref().map_or(0, |p| p.id() as i32)
    }

    /// Sends a signal and waits for the end; returns the exit code.
    pub fn stop(&mut self, signal: &str) -> Option<i32> {
        let mut process = self.process.take()?;
        let sent = Command::new("kill").arg(format!("-{signal}")).arg(process.id().to_string()).status();
        assert!(sent.expect("kill runs").success());
        let deadline = Instant::now() + STOP_WITHIN;
        while Instant::now() < deadline {
            if let Some(status) = process.try_wait().expect("a child can be waited for") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        process.kill().expect("a child can be killed");
        let _ = process.wait();
        panic!("did not stop within {STOP_WITHIN:?}; log:\n{}", self.log_tail());
    }

    /// A value of endpoints.json.
    pub fn endpoint(&self, name: &str) -> String {
        let text = std::fs::read(self.dir.join("endpoints.json")).expect("endpoints.json");
        let endpoints: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        endpoints[name].as_str().unwrap_or_else(|| panic!("no {name} in {endpoints}")).to_owned()
    }

    /// Runs any program inside the host, for at most two minutes.
    pub fn run(&self, program: &str, args: &[&str], stdin: Option<&str>) -> Run {
        let mut command = Command::new("timeout");
        command.args(["120", program]).args(args).env("KUBECONFIG", self.dir.join("kubeconfig"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = self.host.run(|| {
            let mut child = command.spawn().expect("the program starts");
            let mut pipe = child.stdin.take().expect("piped");
            if let Some(text) = stdin {
                // A program that does not read its input is no failure of the test's.
                let _ = std::io::Write::write_all(&mut pipe, text.as_bytes());
            }
            drop(pipe);
            child.wait_with_output().expect("the program ends")
        });
        Run::of(output)
    }

    /// What a web server answers to the host; None when it does not.
    pub fn fetch(&self, address: &str, path: &str) -> Option<String> {
        let patience = Duration::from_secs(2);
        let address = address.parse().expect("an address with a port");
        let answer = self.host.run(|| {
            let mut stream = TcpStream::connect_timeout(&address, patience).ok()?;
            stream.set_read_timeout(Some(patience)).ok()?;
            write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            Some(answer)
        })?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.contains(" 200 ").then(|| body.to_owned())
    }

    /// The real kubectl.
    pub fn try_kubectl(&self, args: &[&str]) -> Run {
        self.run(&std::env::var("KETCH_TEST_KUBECTL").expect("checked at start"), args, None)
    }

    /// The real kubectl, reading `stdin`.
    pub fn kubectl_with(&self, args: &[&str], stdin: &str) -> Run {
        self.run(&std::env::var("KETCH_TEST_KUBECTL").expect("checked at start"), args, Some(stdin))
    }

    /// The real kubectl, which must succeed; its standard output.
    pub fn kubectl(&self, args: &[&str]) -> String {
        let run = self.try_kubectl(args);
        assert_eq!(
            run.code,
            0,
            "kubectl {}\n{}{}\nlog:\n{}",
            args.join(" "),
            run.stdout,
            run.stderr,
            self.log_tail()
        );
        run.stdout
    }

    /// The real kubectl in words split at spaces.
    pub fn k(&self, words: &str) -> String {
        self.kubectl(&words.split_whitespace().collect::<Vec<_>>())
    }

    /// `ketch` on this data directory.
    pub fn ketch(&self, args: &[&str]) -> Run {
        let dir = self.dir.to_string_lossy().into_owned();
        let args: Vec<&str> = args.iter().copied().chain(["--data-dir", &dir]).collect();
        self.run(KETCH, &args, None)
    }

    /// Waits until `holds` says yes.
    pub fn eventually(&self, what: &str, seconds: u64, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        while !holds() {
            assert!(Instant::now() < deadline, "not within {seconds} s: {what}\nlog:\n{}", self.log_tail());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits for a jsonpath of an object to read `expect`.
    pub fn becomes(&self, object: &str, path: &str, expect: &str, seconds: u64) {
        let mut last = String::new();
        let deadline = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < deadline {
            let output = format!("jsonpath={path}");
            let mut args: Vec<&str> = vec!["get"];
            args.extend(object.split_whitespace());
            args.extend(["-o", &output]);
            let run = self.try_kubectl(&args);
            if run.code == 0 && run.stdout == expect {
                return;
            }
            last = format!("{}{}", run.stdout, run.stderr);
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!(
            "{object} {path} is '{last}', not '{expect}', after {seconds} s\n{}\nlog:\n{}",
            self.try_kubectl(&["get", "pods,events", "-A"]).stdout,
            self.log_tail()
        );
    }

    /// Applies a manifest of examples/basics in a namespace, which is made.
    pub fn apply_basic(&self, name: &str, namespace: &str) {
        let _ = self.try_kubectl(&["create", "namespace", namespace]);
        let file = example(&format!("basics/{name}.yaml"));
        self.kubectl(&["apply", "-n", namespace, "-f", &file]);
    }

    /// Deletes it again and waits for the end.
    pub fn delete_basic(&self, name: &str, namespace: &str) {
        let file = example(&format!("basics/{name}.yaml"));
        self.kubectl(&["delete", "-n", namespace, "-f", &file, "--wait=true", "--timeout=60s"]);
    }
}

/// A path below examples/.
pub fn example(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    root.join(path).to_string_lossy().into_owned()
}

impl Drop for Ketch {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        let run = self.ketch(&["down", "--purge"]);
        if run.code != 0 && !std::thread::panicking() {
            panic!("ketch down: {run:?}");
        }
    }
}
