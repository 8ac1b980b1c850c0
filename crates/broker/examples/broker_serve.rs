//! A broker alone, for tests that kill it and for trying clients by hand: `broker_serve DIR PORT [fsync|page-cache] [key=value...]`.
//!
//! Its store is in memory; topics are read back from the directories on disk at start. Prints `ready ADDRESS`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

#[path = "../tests/common/mod.rs"]
mod common;

use base::task::Tasks;
use broker::{Durability, Options, Service};

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
    common::restore(Path::new(&dir), &store).await;
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
