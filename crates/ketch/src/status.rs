//! `ketch status`: what runs in a data directory, and where.

use anyhow::Result;

use crate::cli::DataDir;
use crate::files::{Endpoints, Lock};

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
    println!("  api      {}", endpoints.api);
    for (name, address) in [("kafka", endpoints.kafka), ("kubelet", endpoints.kubelet)] {
        println!("  {name:<8} {}", address.as_deref().unwrap_or("off"));
    }
    Ok(())
}
