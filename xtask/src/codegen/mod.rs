//! Generators of checked-in tables. Each reads a pinned source and writes Rust or data into a crate.
//!
//! A generator is a module with `generate() -> Result<()>` and `check() -> Result<()>`; the check needs no network:
//! it compares what is checked in with the recorded checksums.

mod etcd;
mod kafka;
mod kafka_configs;
mod kube;
mod proto;

use anyhow::{Result, bail};

/// One generator: its name, how to run it, how to check its output.
type Generator = (&'static str, fn() -> Result<()>, fn() -> Result<()>);

const GENERATORS: &[Generator] = &[
    ("etcd", etcd::generate, etcd::check),
    ("kafka", kafka::generate, kafka::check),
    ("kafka-configs", kafka_configs::generate, kafka_configs::check),
    ("kube", kube::generate, kube::check),
    ("proto", proto::generate, proto::check),
];

/// `codegen NAME`, `codegen NAME --check`, or `codegen --check` for all.
pub fn run(args: &[String]) -> Result<()> {
    let check = args.iter().any(|a| a == "--check");
    let name = args.iter().find(|a| !a.starts_with("--"));
    let chosen: Vec<&Generator> = GENERATORS.iter().filter(|g| name.is_none_or(|n| n == g.0)).collect();
    if chosen.is_empty() && name.is_some() || !check && name.is_none() {
        bail!("codegen wants one of {:?}", GENERATORS.iter().map(|g| g.0).collect::<Vec<_>>());
    }
    chosen.into_iter().try_for_each(|(_, generate, verify)| if check { verify() } else { generate() })
}
