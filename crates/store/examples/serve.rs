//! The store alone behind its etcd port, in the clear: what `cargo xtask bench store` measures beside etcd.
//!
//! `cargo run --release -p store --example serve -- DIR [PORT]`; prints its address, ends on SIGTERM.

use base::task::Tasks;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args().nth(1).ok_or("a directory")?;
    let port: u16 = std::env::args().nth(2).map_or(Ok(0), |text| text.parse())?;
    let tasks = Tasks::new();
    let store = store::Service::start(store::Options::new(dir), &tasks)?;
    let options = store::door::Options::new(vec![([127, 0, 0, 1], port).into()], None);
    let door = store::door::Service::start(options, store, &tasks).await?;
    println!("{}", door.addrs()[0]);
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?.recv().await;
    tasks.shutdown(std::time::Duration::from_secs(10)).await;
    Ok(())
}
