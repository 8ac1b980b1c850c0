//! A real etcd beside the test: the unmodified program named by `KETCH_TEST_ETCD`, on loopback, in a directory of its own.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a start may take on a slow machine.
const START_MAX: Duration = Duration::from_secs(20);
/// How often the port is tried meanwhile.
const START_POLL: Duration = Duration::from_millis(20);
/// Starts tried when somebody takes a port between its choice and its use.
const ATTEMPTS: u32 = 3;

/// A running etcd of one member; dropping it kills it and removes its directory.
#[derive(Debug)]
pub struct Etcd {
    child: Child,
    /// `127.0.0.1:PORT` of its clients' port, in the clear.
    pub address: String,
    _dir: tempfile::TempDir,
}

impl Etcd {
    /// Starts one with more arguments, or says that the test is skipped when the program is not named.
    ///
    /// # Panics
    /// When it does not serve in time.
    #[must_use]
    pub fn start(arguments: &[&str]) -> Option<Self> {
        let Some(program) = std::env::var_os("KETCH_TEST_ETCD") else {
            eprintln!("skipped: KETCH_TEST_ETCD is not set (cargo xtask test sets it)");
            return None;
        };
        (0..ATTEMPTS).find_map(|_| Self::attempt(Command::new(&program), arguments)).or_else(|| {
            panic!("etcd does not start");
        })
    }

    fn attempt(mut command: Command, arguments: &[&str]) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory for etcd");
        let (client, peer) = (free_port(), free_port());
        let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        command
            .arg("--data-dir")
            .arg(dir.path().join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}"), "--log-level", "error"])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().expect("etcd runs");
        let address = client.trim_start_matches("http://").to_owned();
        let mut etcd = Self { child, address, _dir: dir };
        etcd.serves().then_some(etcd)
    }

    /// Waits until it serves; false when it ended instead.
    fn serves(&mut self) -> bool {
        let end = Instant::now() + START_MAX;
        while Instant::now() < end {
            if self.child.try_wait().expect("wait for etcd").is_some() {
                return false;
            }
            if std::net::TcpStream::connect(&self.address).is_ok() {
                return true;
            }
            std::thread::sleep(START_POLL);
        }
        false
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
    listener.local_addr().expect("an address").port()
}
