//! A host of a test's own: network and mount namespaces without an uplink.
//!
//! ```text
//! test thread ── Host::new() ──▶ thread: unshare(net, mnt), lo up ── keeps two open files ──▶ ends
//!      │
//!      ├── host.run(closure) ──▶ thread: setns(mnt, net) ── closure ──▶ joined
//!      ├── host.output(["ip", "route"]) ──▶ the same, with a child process (bounded)
//!      └── host.namespace() ──▶ another network namespace (a pod's), named by /proc/self/fd/N
//! ```
//!
//! Namespaces belong to threads, and threads and children inherit them from their maker, so a whole tokio runtime
//! can live inside. Nothing is mounted and no process holds them: when the files close, the kernel removes
//! everything that was made inside. The test's own threads never change namespace.

use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::future::Future;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The longest a command inside may run: tests do nothing that takes longer on a slow machine.
const COMMAND_MAX: Duration = Duration::from_secs(20);
/// How often a running command is looked at.
const COMMAND_POLL: Duration = Duration::from_millis(2);

/// Whether this process may make namespaces. When not, prints that the test is skipped.
#[must_use]
pub fn can_isolate() -> bool {
    let able =
        nix::unistd::geteuid().is_root() && std::thread::spawn(enter_new).join().is_ok_and(|r| r.is_ok());
    if !able {
        eprintln!("skipped: needs root to make network namespaces");
    }
    able
}

/// A host without uplink: its own network and mounts. See the module for how it lives.
#[derive(Debug)]
pub struct Host {
    net: Namespace,
    mounts: File,
}

/// A network namespace, held by an open file.
#[derive(Debug)]
pub struct Namespace {
    file: File,
}

impl Host {
    /// Makes one, with `lo` up.
    ///
    /// # Errors
    /// When the kernel refuses (ask [`can_isolate`] first).
    pub fn new() -> io::Result<Self> {
        let (net, mounts) = join(std::thread::spawn(|| {
            enter_new()?;
            lo_up()?;
            Ok::<_, io::Error>((
                File::open("/proc/thread-self/ns/net")?,
                File::open("/proc/thread-self/ns/mnt")?,
            ))
        }))?;
        Ok(Self { net: Namespace { file: net }, mounts })
    }

    /// Runs `work` on a thread inside and returns what it returns; a panic inside is a panic here.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.within(&self.net, work)
    }

    /// Runs a future on a runtime all of whose threads live inside.
    pub fn block_on<F: Future<Output = T>, T: Send>(&self, work: impl FnOnce() -> F + Send) -> T {
        self.run(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.expect("a runtime inside the host").block_on(work())
        })
    }

    /// Runs a command inside, for at most 20 seconds.
    pub fn output(&self, command: &[&str]) -> Output {
        self.run(|| bounded(command))
    }

    /// Like [`Host::output`], and the command must succeed: its standard output.
    ///
    /// # Panics
    /// When the command fails, with its standard error.
    #[must_use]
    pub fn succeed(&self, command: &[&str]) -> String {
        succeeded(command, &self.output(command))
    }

    /// Makes another network namespace, as a pod has one, with `lo` down.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn namespace(&self) -> io::Result<Namespace> {
        let file = join(std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        }))?;
        Ok(Namespace { file })
    }

    /// Like [`Host::run`] in another network namespace, with this host's mounts.
    pub fn within<T: Send>(&self, net: &Namespace, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            unshare(CloneFlags::CLONE_FS).expect("own file system state");
            setns(&self.mounts, CloneFlags::CLONE_NEWNS).expect("enter the host's mounts");
            setns(&net.file, CloneFlags::CLONE_NEWNET).expect("enter the network");
            work()
        };
        std::thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Runs a command in another network namespace; it must succeed: its standard output.
    ///
    /// # Panics
    /// When the command fails, with its standard error.
    #[must_use]
    pub fn succeed_in(&self, net: &Namespace, command: &[&str]) -> String {
        succeeded(command, &self.within(net, || bounded(command)))
    }
}

impl Namespace {
    /// A path that names the namespace while this value lives, in this process.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }
}

fn join<T>(thread: std::thread::JoinHandle<io::Result<T>>) -> io::Result<T> {
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that made the namespace panicked")))
}

fn enter_new() -> io::Result<()> {
    use nix::mount::{MsFlags, mount};
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
    // Nothing mounted inside may show outside.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    Ok(())
}

fn lo_up() -> io::Result<()> {
    let out = bounded(&["ip", "link", "set", "lo", "up"]);
    if out.status.success() {
        Ok(())
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&out.stderr).into_owned()))
    }
}

fn succeeded(command: &[&str], out: &Output) -> String {
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Runs to its end or kills at [`COMMAND_MAX`]; the pipes are drained by threads so that no output can block it.
fn bounded(command: &[&str]) -> Output {
    let mut child = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (stdout, stderr) = (drain(child.stdout.take()), drain(child.stderr.take()));
    let end = Instant::now() + COMMAND_MAX;
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait for the command") {
            break status;
        }
        if Instant::now() > end {
            child.kill().expect("kill the command");
            break child.wait().expect("wait for the killed command");
        }
        std::thread::sleep(COMMAND_POLL);
    };
    Output { status, stdout: stdout.join().unwrap_or_default(), stderr: stderr.join().unwrap_or_default() }
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_end(&mut all).ok();
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_only_lo_and_nothing_leaks() {
        if !can_isolate() {
            return;
        }
        let before = bounded(&["ip", "-o", "link"]).stdout;
        let host = Host::new().expect("a host");
        assert_eq!(host.succeed(&["ip", "-o", "link"]).lines().count(), 1);
        let _ = host.succeed(&["ip", "link", "add", "br-test", "type", "bridge"]);
        assert_eq!(host.succeed(&["ip", "-o", "link"]).lines().count(), 2);
        assert!(host.block_on(|| async { tokio::net::TcpListener::bind("127.0.0.1:0").await.is_ok() }));
        let pod = host.namespace().expect("a namespace");
        assert!(host.succeed_in(&pod, &["ip", "-o", "link"]).contains("lo:"));
        assert!(pod.path().exists());
        assert_eq!(bounded(&["ip", "-o", "link"]).stdout, before, "the outside is as before");
    }

    #[test]
    #[should_panic(expected = "inside")]
    fn a_panic_inside_is_a_panic_outside() {
        if !can_isolate() {
            panic!("inside (skipped)");
        }
        Host::new().expect("a host").run(|| panic!("inside"));
    }
}
