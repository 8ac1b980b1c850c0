//! A broker in a process of its own, to be killed: the test binary itself, asked for its test `child_broker`.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use store_api::{Op, Txn};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::Served;

const DIR: &str = "KETCH_TEST_KILL_DIR";
const PORT: &str = "KETCH_TEST_KILL_PORT";
const ROUND: &str = "KETCH_TEST_KILL_ROUND";
/// Longer than the recovery of a broker takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the test `child_broker` does: serves until it is killed. Returns at once when nobody asked for it.
pub async fn serve(options: impl FnOnce(&Path) -> broker::Options) {
    let Ok(dir) = std::env::var(DIR) else { return };
    let number = |name: &str| std::env::var(name).unwrap().parse::<u16>().unwrap();
    let dir = Path::new(&dir);
    let store = testkit::MemStore::shared();
    super::restore(dir, &store).await;
    // The store of this test forgets: no id is handed out by two lives.
    let taken = (u32::from(number(ROUND)) * 1_000).to_string();
    let put = Op::put("/ketch/kafka/producer-ids", taken);
    store.txn(Txn { success: vec![put], ..Txn::default() }).await.unwrap();
    let mut options = options(dir);
    options.listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, number(PORT)))];
    let served = Served::with(options, store).await;
    println!("ready {}", served.bootstrap());
    std::future::pending::<()>().await;
}

/// Starts it on `dir`, for the `round`th time; it is ready when this returns.
pub async fn start(dir: &Path, port: u16, round: u64) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_broker", "--nocapture"])
        .envs([(PORT, port.to_string()), (ROUND, round.to_string())])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("ready ") {
                return;
            }
        }
        panic!("the child ended");
    };
    tokio::time::timeout(PATIENCE, ready).await.expect("ready in time");
    child
}

/// A port nobody listens on now.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}
