//! Benches by name. Each measures a release build and prints a table.

mod broker;
mod store;
mod voyage;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::run::{cargo, root, run as run_command};

/// `cargo xtask bench NAME`.
pub fn run(args: &[String]) -> Result<()> {
    match args.first().map(String::as_str) {
        Some("broker") => broker::run(&args[1..]),
        Some("voyage") => voyage::run(),
        Some("store") => store::run(&args[1..]),
        other => bail!("no bench is called '{}'; there are: broker, store, voyage", other.unwrap_or("")),
    }
}

/// Builds the release binary and says where it is.
fn release() -> Result<PathBuf> {
    run_command(cargo().args(["build", "--release", "-p", "ketch"]))?;
    Ok(release_dir().join("ketch"))
}

/// Where release builds go.
fn release_dir() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join("release")
}

fn scratch(name: &str) -> Result<PathBuf> {
    let dir = root().join("target/bench").join(name);
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent)?;
    }
    let _ = fs::remove_dir_all(&dir);
    Ok(dir)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Sum of some lines of smaps_rollup, in kB.
fn smaps_kb(pid: i32, fields: &[&str]) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let chosen = text.lines().filter(|line| fields.iter().any(|f| line.starts_with(f)));
    Ok(chosen.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum())
}

/// User and system time in clock ticks (1/100 s).
fn cpu_ticks(pid: i32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}

fn write_bytes(pid: i32) -> Result<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
    let line = io.lines().find_map(|l| l.strip_prefix("write_bytes: ")).context("no write_bytes")?;
    Ok(line.trim().parse()?)
}
