//! `ketch down`: stops what a data directory runs and removes every trace of it on the host.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cli::DownArgs;
use crate::config::is_root;
use crate::files::{Lock, directory_id};

/// How long a running `ketch up` may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Stops, removes, and with `--purge` deletes.
///
/// # Errors
/// When the process does not stop, or something of it cannot be removed.
pub fn run(args: &DownArgs) -> Result<()> {
    let dir = args.data_dir.resolve()?;
    if !dir.is_dir() {
        println!("nothing in {}", dir.display());
        return Ok(());
    }
    if !dir.join("FORMAT").is_file() {
        bail!("{} is not a data directory of ketch", dir.display());
    }
    let lock = stop(&dir)?;
    let id = directory_id(&dir);
    if is_root() {
        let stopped = kubelet::down(&dir.join("node"));
        if stopped > 0 {
            println!("{stopped} containers stopped");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(network::down(&id)).context("the network remains")?;
    }
    drop(lock);
    if args.purge {
        std::fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        println!("stopped, and {} removed", dir.display());
    } else {
        println!("stopped; the data stays in {}", dir.display());
    }
    Ok(())
}

/// Takes the lock, asking the process that holds it to stop.
fn stop(dir: &Path) -> Result<Lock> {
    let deadline = Instant::now() + STOP_WITHIN;
    let mut asked = None;
    loop {
        let pid = match Lock::try_take(dir)? {
            Ok(lock) => return Ok(lock),
            Err(pid) => pid,
        };
        if asked.as_ref() != Some(&pid) {
            let number =
                pid.parse().with_context(|| format!("{} is in use, by whom is unknown", dir.display()))?;
            kill(Pid::from_raw(number), Signal::SIGTERM)
                .with_context(|| format!("cannot stop process {pid}"))?;
            asked = Some(pid);
        } else if Instant::now() > deadline {
            bail!("process {pid} does not stop");
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}
