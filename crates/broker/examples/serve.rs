//! A broker alone, for tests that kill it and for trying clients by hand: `serve DIR PORT [fsync|page-cache] [key=value...]`.
//!
//! Its store is in memory; topics are read back from the directories on disk at start. Prints `ready ADDRESS`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::task::Tasks;
use broker::{Durability, Options, Service};
use store_api::{Op, Store, Txn};

#[tokio::main]
async fn main() {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let mut args = std::env::args().skip(1);
    let dir = args.next().expect("a directory");
    let port = args.next().map_or(0, |port| port.parse().expect("a port"));
    let mut options = Options::new(&dir, vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))]);
    for arg in args {
        match arg.split_once('=') {
            Some((key, value)) => drop(options.properties.insert(key.to_owned(), value.to_owned())),
            None if arg == "page-cache" => options.durability = Durability::PageCache,
            None => {}
        }
    }
    let store = testkit::MemStore::shared();
    restore(Path::new(&dir), &store).await;
    let tasks = Tasks::new();
    let handle = Service::start(options, store, &tasks).await.expect("the broker starts");
    println!("ready {}", handle.addr());
    let mut term =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("a signal");
    tokio::select! {
        _ = term.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    tasks.shutdown(Duration::from_secs(10)).await;
}

/// Puts the topics found on disk into the store.
async fn restore(dir: &Path, store: &Arc<dyn Store>) {
    let mut topics: BTreeMap<String, (String, i32)> = BTreeMap::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().expect("a name");
        let Some((topic, partition)) = name.rsplit_once('-') else { continue };
        let Ok(partition) = partition.parse::<i32>() else { continue };
        let Ok(text) = std::fs::read_to_string(entry.path().join("partition.metadata")) else { continue };
        let Some(id) = text.lines().nth(1).and_then(|line| line.strip_prefix("topic_id: ")) else { continue };
        let topic = topics.entry(topic.to_owned()).or_insert_with(|| (uuid_text(id), 0));
        topic.1 = topic.1.max(partition + 1);
    }
    for (name, (id, partitions)) in topics {
        let value = format!(r#"{{"id":"{id}","partitions":{partitions}}}"#);
        let put = Op::put(format!("/ketch/kafka/topics/{name}"), value);
        store.txn(Txn { success: vec![put], ..Txn::default() }).await.expect("a topic");
    }
}

/// base64url to 32 digits.
fn uuid_text(base64url: &str) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digit = |c: u8| alphabet.iter().position(|a| *a == c).expect("base64url") as u128;
    let (last, head) = base64url.as_bytes().split_last().expect("not empty");
    let high = head.iter().fold(0u128, |n, c| n << 6 | digit(*c));
    format!("{:032x}", high << 2 | digit(*last) >> 4)
}
