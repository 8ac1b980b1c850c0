//! One more process in a running container, through `shim exec`.

use super::Runtime;
use crate::shim::protocol::{ExecConfig, Resize};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};

/// Output of a probe or hook that is kept (upstream's limit for probes).
const OUTPUT_BYTES_MAX: u64 = 10 << 10;

/// A process to run.
#[derive(Debug, Clone)]
pub struct ExecRequest {
    /// Program and arguments.
    pub command: Vec<String>,
    /// With a terminal.
    pub tty: bool,
    /// With input.
    pub stdin: bool,
    /// It is killed after this time.
    pub timeout: Option<Duration>,
}

/// A process that runs; dropping it kills the helper, not the process.
#[derive(Debug)]
pub struct ExecProcess {
    child: Child,
    error_path: PathBuf,
    request_path: PathBuf,
    /// Its input, if asked for.
    pub stdin: Option<ChildStdin>,
    /// Its output (the terminal's, with one).
    pub stdout: Option<ChildStdout>,
    /// Its error output; None with a terminal.
    pub stderr: Option<ChildStderr>,
    /// Where terminal sizes go.
    pub resize: Option<UnixStream>,
}

/// What a process that ran to its end left.
#[derive(Debug, Clone)]
pub struct ExecOutput {
    /// Its exit code.
    pub code: i32,
    /// Standard output and error.
    pub output: String,
}

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Runtime {
    /// Starts a process in a container.
    ///
    /// # Errors
    /// The helper could not be started. That the process could not be started is told by [`ExecProcess::wait`].
    pub fn exec(&self, id: &str, request: &ExecRequest) -> io::Result<ExecProcess> {
        let dir = self.container_dir(id);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("exec-{}-{number}", std::process::id());
        let error_path = dir.join(format!("{name}.error"));
        let request_path = dir.join(format!("{name}.json"));
        let config = ExecConfig {
            process: process_of(&dir, request)?,
            tty: request.tty,
            timeout_ms: request.timeout.map_or(0, |timeout| timeout.as_millis() as u64),
            error_path: error_path.clone(),
        };
        fs::write(&request_path, serde_json::to_vec(&config)?)?;
        let (control, resize) = control_channel(request.tty)?;
        let mut child = self
            .shim()
            .arg("exec")
            .arg(&dir)
            .arg(&request_path)
            .stdin(if request.stdin { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(control)
            .spawn()?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        Ok(ExecProcess { child, error_path, request_path, stdin, stdout, stderr, resize })
    }

    /// Runs a process to its end, for probes and hooks.
    ///
    /// # Errors
    /// It could not be started, or took longer than `timeout` (`TimedOut`).
    pub async fn exec_sync(&self, id: &str, command: &[String], timeout: Duration) -> io::Result<ExecOutput> {
        let request =
            ExecRequest { command: command.to_vec(), tty: false, stdin: false, timeout: Some(timeout) };
        let mut process = self.exec(id, &request)?;
        let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
        let run = async {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let read_out = async {
                if let Some(stdout) = stdout {
                    let _ = stdout.take(OUTPUT_BYTES_MAX).read_to_end(&mut out).await;
                }
            };
            let read_err = async {
                if let Some(stderr) = stderr {
                    let _ = stderr.take(OUTPUT_BYTES_MAX).read_to_end(&mut err).await;
                }
            };
            tokio::join!(read_out, read_err);
            out.extend(err);
            let code = process.wait().await?;
            Ok(ExecOutput { code, output: String::from_utf8_lossy(&out).into_owned() })
        };
        match tokio::time::timeout(timeout, run).await {
            Ok(result) => result,
            Err(_) => {
                let text = format!("command timed out: {command:?} timed out after {}s", timeout.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }
        }
    }
}

impl ExecProcess {
    /// Waits for the end: the exit code.
    ///
    /// # Errors
    /// The process could not be started: the runtime's text.
    pub async fn wait(&mut self) -> io::Result<i32> {
        let status = self.child.wait().await;
        let _ = fs::remove_file(&self.request_path);
        let error = fs::read_to_string(&self.error_path);
        let _ = fs::remove_file(&self.error_path);
        match error {
            Ok(text) => Err(io::Error::other(text)),
            Err(_) => Ok(status?.code().unwrap_or(137)),
        }
    }

    /// Sets the terminal's size; ignored without one.
    pub async fn resize(&mut self, size: Resize) {
        if let (Some(channel), Ok(mut line)) = (&mut self.resize, serde_json::to_vec(&size)) {
            line.push(b'\n');
            let _ = channel.write_all(&line).await;
        }
    }
}

/// With a terminal, the helper's descriptor 2 is the channel for sizes.
fn control_channel(tty: bool) -> io::Result<(Stdio, Option<UnixStream>)> {
    if !tty {
        return Ok((Stdio::piped(), None));
    }
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((Stdio::from(OwnedFd::from(theirs)), Some(UnixStream::from_std(ours)?)))
}

/// The container's own `process` object with another command.
fn process_of(dir: &std::path::Path, request: &ExecRequest) -> io::Result<serde_json::Value> {
    let config: serde_json::Value = serde_json::from_slice(&fs::read(dir.join("config.json"))?)?;
    let mut process = config.get("process").cloned().unwrap_or_default();
    let Some(fields) = process.as_object_mut() else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "config.json has no process"));
    };
    fields.insert("args".to_owned(), serde_json::json!(request.command));
    fields.insert("terminal".to_owned(), serde_json::json!(request.tty));
    // Inherited from the agent: lowering it again could be refused.
    fields.remove("oomScoreAdj");
    if request.tty
        && let Some(env) = fields.get_mut("env").and_then(serde_json::Value::as_array_mut)
        && !env.iter().any(|entry| entry.as_str().is_some_and(|entry| entry.starts_with("TERM=")))
    {
        env.push(serde_json::json!("TERM=xterm"));
    }
    Ok(process)
}
