//! The API server alone, over a store in memory, for trying clients by hand:
//! `cargo run -p apiserver --example serve -- DIR`, then `kubectl --kubeconfig DIR/kubeconfig get ns`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use base::clock::SystemClock;
use base::random::Random;
use base::task::Tasks;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let dir = PathBuf::from(std::env::args().nth(1).ok_or("usage: serve DIR")?);
    let started = std::time::Instant::now();
    let clock = SystemClock::shared();
    let pki = pki::Pki::open(&dir.join("pki"), clock.unix_ms() / 1000)?;
    let service_ip = IpAddr::V4(Ipv4Addr::new(10, 43, 0, 1));
    let serving = pki.api_server(&pki::Names::api_server("cluster.local", service_ip, "", &[]))?;
    let options = apiserver::Options {
        listen: vec!["127.0.0.1:0".parse()?],
        tls: pki.server_config(&serving)?,
        kubelet_tls: pki.client_config(Some(&pki.kubelet_client()?))?,
        service_account_key: pki.service_account_key_der().to_vec(),
        issuer: identity::token::DEFAULT_ISSUER.into(),
        service_cidr: "10.43.0.0/16".parse()?,
        advertise: None,
        shared_store: false,
        clock,
        random: Random::from_entropy(),
    };
    let tasks = Tasks::new();
    let handle = apiserver::Service::start(options, testkit::MemStore::shared(), &tasks).await?;
    handle.ready().await;
    let url = format!("https://{}", handle.addr().ok_or("no address")?);
    pki::write_kubeconfig(&dir.join("kubeconfig"), &url, pki.ca_pem(), &pki.admin()?)?;
    println!("ready in {:?} at {url}", started.elapsed());
    tokio::signal::ctrl_c().await?;
    tasks.shutdown(Duration::from_secs(3)).await;
    Ok(())
}
