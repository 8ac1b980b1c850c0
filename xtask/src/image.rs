//! Builds the example application and packs it as an OCI image archive.

use anyhow::{Result, bail};

/// `cargo xtask image [OUT]`.
pub fn run(_args: &[String]) -> Result<()> {
    bail!("no example application in this tree")
}
