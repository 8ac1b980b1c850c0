//! Stands in for the `ketch` binary where only its hidden subcommand is needed: tests re-execute this as the shim.

use std::ffi::OsString;

fn main() {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    std::process::exit(kubelet::shim::main(&args));
}
