//! `shim exec DIR FILE`: runs one more process in the container of `DIR` and exits with its exit code.
//!
//! Without a terminal the process gets this helper's own standard streams, so the agent's pipes lead straight
//! to it. With one, the helper copies between its streams and the terminal, and reads sizes from descriptor 2.

use super::create::{self, Stdio};
use super::protocol::{CONFIG_FILE, ExecConfig, ShimConfig};
use super::{pump, sys};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Exit code when the process could not be started; the text is in the error file.
const NOT_STARTED: i32 = 126;

/// Runs the process described by `file`.
pub fn main(dir: &Path, file: &Path) -> i32 {
    let config: ExecConfig = match std::fs::read(file).and_then(|text| Ok(serde_json::from_slice(&text)?)) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("ketch shim exec: {}: {error}", file.display());
            return NOT_STARTED;
        }
    };
    run(dir, file, &config).unwrap_or_else(|text| {
        let _ = sys::replace_file(&config.error_path, text.as_bytes());
        NOT_STARTED
    })
}

fn run(dir: &Path, file: &Path, config: &ExecConfig) -> Result<i32, String> {
    let text = |error: io::Error| error.to_string();
    let shim: ShimConfig = std::fs::read(dir.join(CONFIG_FILE))
        .and_then(|bytes| Ok(serde_json::from_slice(&bytes)?))
        .map_err(text)?;
    let _ = nix::unistd::setsid();
    sys::become_subreaper().map_err(text)?;
    // The processes in the container must not outlive a client that went away with the agent.
    sys::ignore_sigpipe();
    let process = file.with_extension("process");
    std::fs::write(&process, config.process.to_string()).map_err(text)?;
    let result =
        if config.tty { with_terminal(&shim, &process) } else { plain(&shim, &process, config.timeout_ms) };
    let _ = std::fs::remove_file(&process);
    result
}

fn plain(shim: &ShimConfig, process: &Path, timeout_ms: u64) -> Result<i32, String> {
    let copy = |fd: io::Result<OwnedFd>| fd.map_err(|error| error.to_string());
    let stdio = Stdio {
        stdin: copy(io::stdin().as_fd().try_clone_to_owned())?,
        stdout: copy(io::stdout().as_fd().try_clone_to_owned())?,
        stderr: copy(io::stderr().as_fd().try_clone_to_owned())?,
    };
    let children = sys::child_signals().map_err(|error| error.to_string())?;
    let pid = create::join(shim, process, Some(stdio), Path::new(""))?;
    // The streams now belong to the process: their ends must be seen when it closes them.
    for standard in 0..3 {
        sys::to_dev_null(standard);
    }
    Ok(sys::decode_status(wait_at_most(&children, pid, timeout_ms)).0)
}

/// Waits for the process and kills it when its time is over.
fn wait_at_most(children: &OwnedFd, pid: i32, timeout_ms: u64) -> i32 {
    let end = (timeout_ms > 0).then(|| Instant::now() + Duration::from_millis(timeout_ms));
    loop {
        while let Some((ended, status)) = sys::reap() {
            if ended == pid {
                return status;
            }
        }
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            return sys::wait_for(pid);
        }
        let timeout =
            left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        let _ = poll(&mut [PollFd::new(children.as_fd(), PollFlags::POLLIN)], timeout);
        let _ = sys::read_now(children.as_fd(), &mut [0u8; 1024]);
    }
}

fn with_terminal(shim: &ShimConfig, process: &Path) -> Result<i32, String> {
    let text = |error: io::Error| error.to_string();
    let console = ConsoleSocket::bind(process).map_err(text)?;
    let pid = create::join(shim, process, None, &console.path)?;
    let (socket, _) = console.listener.accept().map_err(text)?;
    let master = sys::receive_fd(socket.as_fd()).map_err(text)?;
    pump::terminal(&master).map_err(text)?;
    drop(master);
    Ok(sys::decode_status(sys::wait_for(pid)).0)
}

/// A listening socket beside the process file, removed when dropped.
struct ConsoleSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ConsoleSocket {
    fn bind(process: &Path) -> io::Result<Self> {
        let path = process.with_extension("console");
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        // Relative to the working directory: a socket's path has at most 107 bytes.
        std::env::set_current_dir(dir)?;
        let listener = UnixListener::bind(name)?;
        Ok(Self { listener, path })
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
