//! Benches by name.

use anyhow::{Result, bail};

/// `cargo xtask bench NAME`.
pub fn run(args: &[String]) -> Result<()> {
    bail!("no bench is called {:?}", args.first().map_or("", String::as_str))
}
