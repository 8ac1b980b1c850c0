//! Copies between the helper's standard streams and a terminal.

use super::protocol::Resize;
use super::sys;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What one read takes.
const CHUNK: usize = 16 << 10;
/// Ctrl-D: what a terminal's reader takes for the end of input.
const END_OF_INPUT: u8 = 4;

/// Copies until the terminal is closed by its last process.
pub fn terminal(master: &OwnedFd) -> io::Result<()> {
    let (stdin, stderr) = (io::stdin(), io::stderr());
    let mut input = Some(stdin.as_fd());
    let mut control = Some(stderr.as_fd());
    let mut sizes = Vec::new();
    loop {
        let mut fds = vec![PollFd::new(master.as_fd(), PollFlags::POLLIN)];
        let input_at = input.map(|fd| add(&mut fds, fd));
        let control_at = control.map(|fd| add(&mut fds, fd));
        poll(&mut fds, PollTimeout::NONE)?;
        let ready = |at: usize| fds[at].revents().is_some_and(|events| !events.is_empty());
        if input_at.is_some_and(ready) && !copy_input(master) {
            input = None;
        }
        if control_at.is_some_and(ready) && !read_sizes(master, &mut sizes) {
            control = None;
        }
        if ready(0) && !copy_output(master)? {
            return Ok(());
        }
    }
}

fn add<'fd>(fds: &mut Vec<PollFd<'fd>>, fd: BorrowedFd<'fd>) -> usize {
    fds.push(PollFd::new(fd, PollFlags::POLLIN));
    fds.len() - 1
}

fn copy_output(master: &OwnedFd) -> io::Result<bool> {
    let mut chunk = [0u8; CHUNK];
    match sys::read_now(master.as_fd(), &mut chunk)? {
        Some(0) => Ok(false),
        Some(n) => {
            let mut stdout = io::stdout().lock();
            // A client that left does not end the process: its output is dropped, as with a closed terminal.
            let _ = stdout.write_all(&chunk[..n]).and_then(|()| stdout.flush());
            Ok(true)
        }
        None => Ok(true),
    }
}

fn copy_input(master: &OwnedFd) -> bool {
    let mut chunk = [0u8; CHUNK];
    let stdin = io::stdin();
    match sys::read_now(stdin.as_fd(), &mut chunk) {
        Ok(Some(0)) | Err(_) => {
            let _ = nix::unistd::write(master, &[END_OF_INPUT]);
            false
        }
        Ok(Some(n)) => write_all(master, &chunk[..n]),
        Ok(None) => true,
    }
}

fn write_all(fd: &OwnedFd, mut data: &[u8]) -> bool {
    while !data.is_empty() {
        match nix::unistd::write(fd, data) {
            Ok(n) => data = &data[n..],
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
    true
}

fn read_sizes(master: &OwnedFd, pending: &mut Vec<u8>) -> bool {
    let mut chunk = [0u8; 512];
    let stderr = io::stderr();
    let Ok(Some(n)) = sys::read_now(stderr.as_fd(), &mut chunk) else { return false };
    if n == 0 {
        return false;
    }
    pending.extend_from_slice(&chunk[..n]);
    while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
        let line: Vec<u8> = pending.drain(..=end).collect();
        if let Ok(size) = serde_json::from_slice::<Resize>(&line) {
            let _ = sys::set_window_size(master.as_fd(), size.width, size.height);
        }
    }
    true
}
