//! Small files with modes, replaced atomically.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::Error;

/// Who may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Private,
    Public,
}

impl Mode {
    const fn bits(self) -> u32 {
        match self {
            Self::Private => 0o600,
            Self::Public => 0o644,
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    |source| Error::File { path, source }
}

/// Makes a directory (and parents) that only the owner can enter.
pub(crate) fn create_private_dir(path: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))
}

/// The content, or None when there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(at(path)(e)),
    }
}

/// Replaces a file; a crash leaves the old content, the new, or (leaves are reissued then) none.
pub(crate) fn write(path: &Path, text: &str, mode: Mode) -> Result<(), Error> {
    write_to(path, text, mode, false).map_err(at(path))
}

/// Replaces a file that cannot be made again: on disk when this returns.
pub(crate) fn write_durable(path: &Path, text: &str, mode: Mode) -> Result<(), Error> {
    write_to(path, text, mode, true).map_err(at(path))
}

fn write_to(path: &Path, text: &str, mode: Mode, durable: bool) -> io::Result<()> {
    let tmp = PathBuf::from(format!("{}.tmp", path.display()));
    // A left-over temporary may have a wider mode than the new file is to have.
    let _ = fs::remove_file(&tmp);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode.bits()).open(&tmp)?;
    file.write_all(text.as_bytes())?;
    if durable {
        file.sync_all()?;
    }
    fs::rename(&tmp, path)?;
    match path.parent() {
        Some(dir) if durable => File::open(dir)?.sync_all(),
        _ => Ok(()),
    }
}
