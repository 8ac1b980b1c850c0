//! Waiting for changes of files without polling.

use std::ffi::CString;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use tokio::io::unix::AsyncFd;

/// Wakes when entries of a directory are written, made, moved or removed.
pub(crate) struct Watch {
    fd: AsyncFd<OwnedFd>,
}

impl Watch {
    /// Watches the directory from now on.
    pub fn new(dir: &Path) -> io::Result<Self> {
        let path = CString::new(dir.as_os_str().as_bytes())?;
        let mask =
            libc::IN_MODIFY | libc::IN_CREATE | libc::IN_MOVED_TO | libc::IN_MOVED_FROM | libc::IN_DELETE;
        // SAFETY: the new descriptor is owned by nobody else; the path is NUL-terminated and outlives the call.
        let fd = unsafe {
            let fd = libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            let fd = OwnedFd::from_raw_fd(fd);
            if libc::inotify_add_watch(std::os::fd::AsRawFd::as_raw_fd(&fd), path.as_ptr(), mask) < 0 {
                return Err(io::Error::last_os_error());
            }
            fd
        };
        // SAFETY: the descriptor is owned by the AsyncFd and closed with it, never before.
        let fd = unsafe { AsyncFd::register(fd) }.map_err(io::Error::other)?;
        Ok(Self { fd })
    }

    /// Waits for a change and forgets all that are pending.
    pub async fn changed(&self) -> io::Result<()> {
        let mut guard = self.fd.readable().await?;
        let mut events = [0u8; 4096];
        while matches!(nix::unistd::read(guard.get_inner(), &mut events), Ok(n) if n > 0) {}
        guard.clear_ready();
        Ok(())
    }
}
