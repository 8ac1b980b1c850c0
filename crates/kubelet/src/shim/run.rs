//! `shim run DIR`: starts one container and stays beside it until it ends.
//!
//! ```text
//! poll ─┬─ signalfd     a child ended: is it the init?
//!       ├─ stdout, stderr or the terminal ─▶ LogFile
//!       ├─ ctl.sock     new clients
//!       └─ clients      Watch, Kill, Resize
//! ```

use super::create::{self, Stdio};
use super::log::{LogFile, Stream};
use super::protocol::{
    Answer, CONFIG_FILE, CONTROL_SOCKET, Command, STATE_FILE, ShimConfig, ShimPhase, ShimState,
};
use super::sys;
use crate::cgroup;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{ForkResult, fork};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The socket on which a terminal's master arrives.
pub const CONSOLE_SOCKET: &str = "console.sock";
/// Clients of the control socket at a time: the agent needs one to watch and one to command.
const CLIENTS_MAX: usize = 16;
/// A request line longer than this closes the connection.
const REQUEST_BYTES_MAX: usize = 4096;
/// How long output may still come after the init's end when something else holds the pipe.
const DRAIN: Duration = Duration::from_millis(500);
/// What one read takes; a pipe holds 64 KiB.
const READ_BYTES: usize = 16 << 10;

/// Runs the shim of the container in `dir`.
pub fn main(dir: &Path) -> i32 {
    match Shim::start(dir) {
        Ok(Some(shim)) => shim.serve(),
        // The failure is in the state file and on standard output.
        Ok(None) => 1,
        Err(error) => {
            eprintln!("ketch shim: {}: {error}", dir.display());
            1
        }
    }
}

struct Shim {
    dir: PathBuf,
    config: ShimConfig,
    state: ShimState,
    log: LogFile,
    children: OwnedFd,
    listener: UnixListener,
    outputs: Vec<Output>,
    terminal: Option<OwnedFd>,
    /// Held open so that a container with `stdin: true` waits for input instead of reading its end.
    _stdin: Option<OwnedFd>,
    clients: Vec<Client>,
}

struct Output {
    fd: OwnedFd,
    stream: Stream,
}

struct Client {
    stream: UnixStream,
    request: Vec<u8>,
    watches: bool,
}

/// What the shim keeps of the streams it gave to the container.
struct Streams {
    outputs: Vec<Output>,
    console: Option<UnixListener>,
    stdin: Option<OwnedFd>,
}

impl Shim {
    fn start(dir: &Path) -> io::Result<Option<Self>> {
        let config: ShimConfig = serde_json::from_slice(&std::fs::read(dir.join(CONFIG_FILE))?)?;
        // A failure here means that this process already leads a session.
        let _ = nix::unistd::setsid();
        std::env::set_current_dir(dir)?;
        sys::become_subreaper()?;
        sys::ignore_sigpipe();
        let children = sys::child_signals()?;
        let log = LogFile::open(&config.log_path)?;
        let _ = std::fs::remove_file(CONTROL_SOCKET);
        // Relative to the working directory: a socket's path has at most 107 bytes.
        let listener = UnixListener::bind(CONTROL_SOCKET)?;
        listener.set_nonblocking(true)?;
        let (streams, stdio) = open_streams(&config)?;
        let created = create_in_child(dir, &config, stdio)?;
        let state = initial_state(&created);
        let mut shim = Self {
            dir: dir.to_owned(),
            config,
            state,
            log,
            children,
            listener,
            outputs: streams.outputs,
            terminal: None,
            _stdin: streams.stdin,
            clients: Vec::new(),
        };
        if created.is_ok() {
            shim.take_terminal(streams.console)?;
        }
        shim.publish()?;
        println!("{}", serde_json::to_string(&shim.state)?);
        if created.is_err() {
            shim.clean_up();
            return Ok(None);
        }
        for standard in 0..3 {
            sys::to_dev_null(standard);
        }
        Ok(Some(shim))
    }

    fn take_terminal(&mut self, console: Option<UnixListener>) -> io::Result<()> {
        let Some(console) = console else { return Ok(()) };
        let (socket, _) = console.accept()?;
        let master = sys::receive_fd(socket.as_fd())?;
        sys::set_nonblocking(master.as_fd())?;
        self.outputs.push(Output { fd: master.try_clone()?, stream: Stream::Stdout });
        self.terminal = Some(master);
        std::fs::remove_file(CONSOLE_SOCKET)
    }

    fn serve(mut self) -> i32 {
        while self.state.phase == ShimPhase::Running {
            self.turn(PollTimeout::NONE);
        }
        let end = Instant::now() + DRAIN;
        while !self.outputs.is_empty() && Instant::now() < end {
            self.turn(PollTimeout::from(50u8));
        }
        self.log.finish();
        self.clean_up();
        let _ = self.publish();
        0
    }

    /// One round of the loop.
    fn turn(&mut self, timeout: PollTimeout) {
        let mut fds = vec![poll_in(self.children.as_fd()), poll_in(self.listener.as_fd())];
        fds.extend(self.outputs.iter().map(|output| poll_in(output.fd.as_fd())));
        fds.extend(self.clients.iter().map(|client| poll_in(client.stream.as_fd())));
        if poll(&mut fds, timeout).is_err() {
            return;
        }
        let ready: Vec<bool> =
            fds.iter().map(|fd| fd.revents().is_some_and(|events| !events.is_empty())).collect();
        let outputs = self.outputs.len();
        // Output first: what was written before the end is in the log when the end is reported.
        self.read_outputs(&ready[2..2 + outputs]);
        self.read_clients(&ready[2 + outputs..]);
        if ready[1] {
            self.accept();
        }
        if ready[0] {
            self.reap();
        }
    }

    fn read_outputs(&mut self, ready: &[bool]) {
        let mut index = 0;
        let log = &mut self.log;
        self.outputs.retain(|output| {
            index += 1;
            !ready[index - 1] || copy_to_log(output, log)
        });
    }

    fn accept(&mut self) {
        if let Ok((stream, _)) = self.listener.accept()
            && self.clients.len() < CLIENTS_MAX
            && stream.set_nonblocking(true).is_ok()
        {
            self.clients.push(Client { stream, request: Vec::new(), watches: false });
        }
    }

    fn read_clients(&mut self, ready: &[bool]) {
        let clients = std::mem::take(&mut self.clients);
        for (index, mut client) in clients.into_iter().enumerate() {
            if !ready.get(index).copied().unwrap_or(false) || self.hear(&mut client) {
                self.clients.push(client);
            }
        }
    }

    /// Reads and answers what a client sent; false when it is gone.
    fn hear(&self, client: &mut Client) -> bool {
        let mut chunk = [0u8; 512];
        match client.stream.read(&mut chunk) {
            Ok(0) => return false,
            Ok(n) => client.request.extend_from_slice(&chunk[..n]),
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
        while let Some(end) = client.request.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = client.request.drain(..=end).collect();
            let Ok(command) = serde_json::from_slice::<Command>(&line) else { return false };
            if !self.answer(client, &command) {
                return false;
            }
        }
        client.request.len() <= REQUEST_BYTES_MAX
    }

    fn answer(&self, client: &mut Client, command: &Command) -> bool {
        let result = match *command {
            Command::Watch => {
                client.watches = true;
                return send(&client.stream, &self.state);
            }
            Command::Kill { signal } => self.kill(signal),
            Command::Resize { width, height } => match &self.terminal {
                Some(terminal) => sys::set_window_size(terminal.as_fd(), width, height),
                None => Err(io::Error::new(io::ErrorKind::InvalidInput, "the container has no terminal")),
            },
        };
        send(&client.stream, &Answer { error: result.err().map_or_else(String::new, |e| e.to_string()) })
    }

    /// The init is this process' child and not reaped yet, so its pid cannot name another process.
    fn kill(&self, signal: i32) -> io::Result<()> {
        let (Some(pid), ShimPhase::Running) = (self.state.pid, self.state.phase) else { return Ok(()) };
        let signal = nix::sys::signal::Signal::try_from(signal)?;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).map_err(io::Error::from)
    }

    fn reap(&mut self) {
        let mut drained = [0u8; 1024];
        let _ = sys::read_now(self.children.as_fd(), &mut drained);
        while let Some((pid, status)) = sys::reap() {
            if Some(pid) == self.state.pid {
                let (exit_code, signal) = sys::decode_status(status);
                self.state.phase = ShimPhase::Exited;
                self.state.finished_ms = sys::now_ms();
                self.state.exit_code = exit_code;
                self.state.signal = signal;
                self.state.oom_killed = signal == libc::SIGKILL && cgroup::oom_killed(&self.config.cgroup);
                if self.config.shared_pids {
                    cgroup::kill_all(&self.config.cgroup);
                }
            }
        }
    }

    /// Writes the state file, then tells the watchers.
    fn publish(&mut self) -> io::Result<()> {
        sys::replace_file(&self.dir.join(STATE_FILE), &serde_json::to_vec(&self.state)?)?;
        let state = &self.state;
        self.clients.retain(|client| !client.watches || send(&client.stream, state));
        Ok(())
    }

    /// Removes what libcontainer keeps about the container, its control groups included.
    fn clean_up(&self) {
        cgroup::kill_all(&self.config.cgroup);
        cgroup::remove(&self.config.cgroup);
        let _ = std::fs::remove_dir_all(self.config.runtime_root.join(&self.config.id));
    }
}

fn poll_in(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::new(fd, PollFlags::POLLIN)
}

/// Copies what an output holds; false at its end.
fn copy_to_log(output: &Output, log: &mut LogFile) -> bool {
    let mut buf = [0u8; READ_BYTES];
    match sys::read_now(output.fd.as_fd(), &mut buf) {
        Ok(Some(0)) | Err(_) => false,
        Ok(Some(n)) => {
            log.write(output.stream, &buf[..n]);
            true
        }
        Ok(None) => true,
    }
}

/// One JSON line. A client too slow to take it loses the connection, which it can open again.
fn send(mut stream: &UnixStream, message: &impl serde::Serialize) -> bool {
    let Ok(mut line) = serde_json::to_vec(message) else { return false };
    line.push(b'\n');
    stream.write_all(&line).is_ok()
}

/// The pipes (or the console socket) of a new container.
fn open_streams(config: &ShimConfig) -> io::Result<(Streams, Option<Stdio>)> {
    if config.tty {
        let _ = std::fs::remove_file(CONSOLE_SOCKET);
        let console = Some(UnixListener::bind(CONSOLE_SOCKET)?);
        return Ok((Streams { outputs: Vec::new(), console, stdin: None }, None));
    }
    let (stdout_read, stdout) = sys::pipe()?;
    let (stderr_read, stderr) = sys::pipe()?;
    let mut outputs = Vec::new();
    for (fd, stream) in [(stdout_read, Stream::Stdout), (stderr_read, Stream::Stderr)] {
        sys::set_nonblocking(fd.as_fd())?;
        outputs.push(Output { fd, stream });
    }
    let (stdin, held) = if config.stdin {
        let (read, write) = sys::pipe()?;
        (read, Some(write))
    } else {
        (File::open("/dev/null")?.into(), None)
    };
    Ok((Streams { outputs, console: None, stdin: held }, Some(Stdio { stdin, stdout, stderr })))
}

/// Forks the creator and waits for its report: the init's pid or an error text.
fn create_in_child(dir: &Path, config: &ShimConfig, stdio: Option<Stdio>) -> io::Result<Result<i32, String>> {
    let (read, write) = sys::pipe()?;
    // SAFETY: this process has one thread, so the child may allocate and do as it likes.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(read);
            let report = create::create(dir, config, stdio);
            let text = serde_json::to_vec(&report).unwrap_or_default();
            let _ = File::from(write).write_all(&text);
            // SAFETY: ends the child without running this process' exit handlers a second time.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop(write);
            drop(stdio);
            let mut text = Vec::new();
            File::from(read).read_to_end(&mut text)?;
            sys::wait_for(child.as_raw());
            Ok(serde_json::from_slice(&text)
                .unwrap_or_else(|_| Err("the container could not be created: its creator died".to_owned())))
        }
    }
}

fn initial_state(created: &Result<i32, String>) -> ShimState {
    let shim_pid = std::process::id() as i32;
    let now = sys::now_ms();
    let base = ShimState {
        phase: ShimPhase::Running,
        shim_pid,
        shim_start: sys::start_time(shim_pid).unwrap_or(0),
        pid: None,
        started_ms: now,
        finished_ms: 0,
        exit_code: 0,
        signal: 0,
        oom_killed: false,
        message: String::new(),
    };
    match created {
        Ok(pid) => ShimState { pid: Some(*pid), ..base },
        Err(message) => ShimState {
            phase: ShimPhase::Failed,
            finished_ms: now,
            exit_code: 128,
            message: message.clone(),
            ..base
        },
    }
}
