//! Paths inside a directory that strangers fill: links are resolved as if the directory were the root.

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Opens a path below `root`; links cannot lead out.
pub fn open(root: &Path, path: &str, flags: OFlag) -> io::Result<OwnedFd> {
    let dir = File::open(root)?;
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    openat2(&dir, path, how).map_err(io::Error::from)
}

/// Reads a file below `root`, at most `limit` bytes.
pub fn read(root: &Path, path: &str, limit: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::from(open(root, path, OFlag::O_RDONLY)?).take(limit).read_to_end(&mut text)?;
    Ok(text)
}

/// Where a path below `root` really lies on the host.
pub fn resolve(root: &Path, path: &str) -> io::Result<PathBuf> {
    use std::os::fd::AsRawFd;
    let fd = open(root, path, OFlag::O_PATH)?;
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}
