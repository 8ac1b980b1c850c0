//! `ketch status`: what runs in a data directory, and where.

use anyhow::Result;

use crate::cli::DataDir;
use crate::files::{Endpoints, Lock};

/// What a kind of durability promises.
pub fn durability_text(kind: &str) -> &'static str {
    match kind {
        "fsync" => "acks=all waits for the disk",
        _ => "acks=all waits for the page cache",
    }
}

/// Prints the addresses of what runs, or says that nothing does.
///
/// # Errors
/// When the directory cannot be used.
pub fn run(args: &DataDir) -> Result<()> {
    let dir = args.resolve()?;
    if !dir.is_dir() || Lock::try_take(&dir)?.is_ok() {
        println!("not running in {}; start it with: ketch up --data-dir {}", dir.display(), dir.display());
        return Ok(());
    }
    let Some(endpoints) = Endpoints::read(&dir) else {
        println!("starting in {}", dir.display());
        return Ok(());
    };
    println!("running in {}, process {}", dir.display(), endpoints.pid);
    let api = Some(endpoints.api).filter(|api| !api.is_empty());
    let parts = [
        ("api", api),
        ("etcd", endpoints.etcd),
        ("peers", endpoints.peer),
        ("kafka", endpoints.kafka),
        ("kubelet", endpoints.kubelet),
        ("console", endpoints.console),
    ];
    for (name, address) in parts {
        println!("  {name:<8} {}", address.as_deref().unwrap_or("off"));
    }
    if let Some(durability) = endpoints.kafka_durability {
        println!("kafka durability: {durability}, {}", durability_text(&durability));
    }
    Ok(())
}
