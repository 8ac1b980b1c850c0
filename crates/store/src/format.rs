//! `FORMAT`: one line that says which version of the layout the directory has.

use std::path::Path;

use base::disk::Disk;

use crate::Error;

/// The layout of a member that runs alone.
const FORMAT: u32 = 1;
/// The layout of a member of a cluster: kinds of entries and a directory `raft` that format 1 does not know.
const FORMAT_MEMBER: u32 = 2;
const NAME: &str = "ketch-store";

/// Checks the directory's version, and writes ours into a directory that has none.
pub(crate) fn check(disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    let path = dir.join("FORMAT");
    if !disk.exists(&path) {
        return disk
            .write_atomically(&path, format!("{NAME} {FORMAT}\n").as_bytes())
            .map_err(Error::io(&path));
    }
    let content = disk.read(&path).map_err(Error::io(&path))?;
    let found = std::str::from_utf8(&content)
        .ok()
        .and_then(|text| text.trim_end().strip_prefix(NAME)?.trim().parse().ok());
    match found {
        Some(found) if found > FORMAT_MEMBER => {
            Err(Error::NewerFormat { dir: dir.to_path_buf(), found, known: FORMAT_MEMBER })
        }
        Some(FORMAT | FORMAT_MEMBER) => Ok(()),
        _ => Err(Error::corrupt(&path, format!("not a format: {:?}", content.escape_ascii().to_string()))),
    }
}

/// Checks the directory's version, and makes it a cluster member's: programs that know only format 1 refuse it then.
pub(crate) fn check_member(disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    check(disk, dir)?;
    let path = dir.join("FORMAT");
    disk.write_atomically(&path, format!("{NAME} {FORMAT_MEMBER}\n").as_bytes()).map_err(Error::io(&path))
}
