//! `ketch shim`: the small process beside every container, and the helpers that touch namespaces.
//!
//! ```text
//! agent ── exec(own binary) ─▶ shim run DIR          own session, subreaper, one thread
//!                               ├─ fork ─▶ creator    libcontainer create + start, then exits
//!                               │            └─ init  the container; reparented to the shim
//!                               ├─ stdout/stderr ─▶ log file in CRI format
//!                               ├─ DIR/state.json     written atomically at every change
//!                               └─ DIR/ctl.sock       watch, kill, resize
//! agent ── exec ─▶ shim exec DIR FILE                 one process more in a running container
//! agent ── exec ─▶ shim sandbox FILE                  makes a pod's namespaces, holds them by bind mounts
//! ```
//!
//! libcontainer changes the working directory and forks, so it only ever runs here, never in the agent.
//! The creator is a fork of its own so that what it allocates dies with it and the shim stays small.

mod create;
mod exec;
mod log;
pub mod protocol;
mod pump;
mod run;
mod sandbox;
mod sys;

pub(crate) use log::rotated as rotated_logs;
pub(crate) use sys::start_time;

use std::ffi::OsString;
use std::path::Path;

/// Runs a shim and returns the process' exit code. `args` are what follows `ketch shim`.
///
/// Must be called before any thread or runtime exists.
#[must_use]
pub fn main(args: &[OsString]) -> i32 {
    let text: Vec<&str> = args.iter().map(|arg| arg.to_str().unwrap_or("")).collect();
    match text.as_slice() {
        ["run", dir] => run::main(Path::new(dir)),
        ["exec", dir, file] => exec::main(Path::new(dir), Path::new(file)),
        ["sandbox", file] => sandbox::main(Path::new(file)),
        _ => {
            eprintln!("ketch shim: an internal command, started by the node agent");
            2
        }
    }
}
