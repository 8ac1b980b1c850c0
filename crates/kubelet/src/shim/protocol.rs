//! The files and lines that pass between the agent and a shim. All of them are JSON.
//!
//! A container's directory:
//! ```text
//! shim.json    ShimConfig, written by the agent before the shim starts
//! config.json  the OCI runtime configuration (the directory is the bundle)
//! state.json   ShimState, replaced atomically by the shim
//! ctl.sock     one JSON Command a line in, one ShimState or Answer a line out
//! rootfs/      mount point of the overlay; upper/ and work/ beside it
//! ```

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// File name of [`ShimConfig`].
pub const CONFIG_FILE: &str = "shim.json";
/// File name of [`ShimState`].
pub const STATE_FILE: &str = "state.json";
/// File name of the control socket.
pub const CONTROL_SOCKET: &str = "ctl.sock";

/// What a shim needs to know besides the OCI configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShimConfig {
    /// The container's id, `[0-9a-f]+`.
    pub id: String,
    /// libcontainer's own state directory, shared by all containers of the agent.
    pub runtime_root: PathBuf,
    /// The log file, `.../<container>/<restart>.log`.
    pub log_path: PathBuf,
    /// The container has a terminal.
    pub tty: bool,
    /// The container's stdin is open (else /dev/null).
    pub stdin: bool,
    /// The container's cgroup, absolute from each hierarchy's root.
    pub cgroup: PathBuf,
    /// Processes may outlive the container's init, because the pid namespace is not its own.
    pub shared_pids: bool,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShimPhase {
    /// The program was started.
    Running,
    /// The program has ended.
    Exited,
    /// The program could not be started; `message` says why.
    Failed,
}

/// What a shim reports, on its standard output once, in its state file, and to watchers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimState {
    /// Where the container is.
    pub phase: ShimPhase,
    /// The shim's process id.
    pub shim_pid: i32,
    /// The shim's start time in clock ticks since boot (field 22 of /proc/PID/stat): with the pid it names a process.
    pub shim_start: u64,
    /// The container's init, as the host sees it.
    pub pid: Option<i32>,
    /// When the program was started, ms since 1970.
    pub started_ms: i64,
    /// When it ended, ms since 1970; 0 while it runs.
    pub finished_ms: i64,
    /// The exit code; 128 + n for signal n.
    pub exit_code: i32,
    /// The signal that ended it, 0 if none.
    pub signal: i32,
    /// The kernel killed a process of the container for lack of memory.
    pub oom_killed: bool,
    /// Why it failed to start.
    pub message: String,
}

/// A request on the control socket.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "op")]
pub enum Command {
    /// Sends the state now and at every change until the shim ends.
    Watch,
    /// Sends a signal to the container's init.
    Kill {
        /// The signal's number.
        signal: i32,
    },
    /// Sets the terminal's size.
    Resize {
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
}

/// The reply to [`Command::Kill`] and [`Command::Resize`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Answer {
    /// Empty when it worked.
    pub error: String,
}

/// A request to run one more process in a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecConfig {
    /// The OCI `process` object, complete.
    pub process: serde_json::Value,
    /// Allocate a terminal; the helper's stderr is then the channel of [`Resize`] lines.
    pub tty: bool,
    /// The process is killed after this time, ms; 0 for never.
    pub timeout_ms: u64,
    /// Written by the helper when the process cannot be started.
    pub error_path: PathBuf,
}

/// A terminal's new size, one JSON line on the helper's fd 2.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Resize {
    /// Columns.
    #[serde(rename = "Width")]
    pub width: u16,
    /// Rows.
    #[serde(rename = "Height")]
    pub height: u16,
}

/// A request to make a pod's namespaces.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SandboxConfig {
    /// Directory that gets the files `net`, `uts`, `ipc` and `pid`, each a bind mount of a namespace.
    pub dir: PathBuf,
    /// The host name in the new UTS namespace.
    pub hostname: String,
    /// Make a network namespace (not `hostNetwork`).
    pub net: bool,
    /// Make an IPC namespace (not `hostIPC`).
    pub ipc: bool,
    /// Make a pid namespace held by a pause process (`shareProcessNamespace`).
    pub pid: bool,
    /// Namespaced sysctls, name with dots to value.
    pub sysctls: Vec<(String, String)>,
}

/// What the sandbox helper prints.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SandboxReport {
    /// Empty when it worked.
    pub error: String,
    /// The pause process, if one was asked for.
    pub pause_pid: Option<i32>,
}
