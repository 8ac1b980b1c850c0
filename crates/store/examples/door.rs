//! A store alone with its etcd port in the clear, for trying clients: `cargo run -p store --example door -- DIR PORT`.

use std::net::SocketAddr;
use std::time::Duration;

use base::task::Tasks;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("which directory?")?;
    let port: u16 = args.next().map_or(Ok(0), |port| port.parse())?;
    let tasks = Tasks::new();
    let store = store::Service::start(store::Options::new(dir), &tasks)?;
    let listen = vec![SocketAddr::from(([127, 0, 0, 1], port))];
    let options = store::door::Options::new(listen, None);
    let door = store::door::Service::start(options, store, &tasks).await?;
    println!("http://{}", door.addrs()[0]);
    tokio::signal::ctrl_c().await?;
    tasks.shutdown(Duration::from_secs(10)).await;
    Ok(())
}
