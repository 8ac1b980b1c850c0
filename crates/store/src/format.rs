//! `FORMAT`: one line that says which version of the layout the directory has.

use std::path::Path;

use base::disk::Disk;

use crate::Error;

/// The newest layout. 1 was that of a member that runs alone, 2 that of a member of a cluster; 3 is both, with large values
/// apart from the tree. What 1 and 2 wrote is read as it is, and only what is written from now on is of 3.
const FORMAT: u32 = 3;
const NAME: &str = "ketch-store";

/// Checks the directory's version, and makes it ours: programs that know only earlier ones refuse it from then on.
pub(crate) fn check(disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    let path = dir.join("FORMAT");
    let found = if disk.exists(&path) { Some(found(disk, &path)?) } else { None };
    match found {
        Some(FORMAT) => Ok(()),
        Some(found) if found > FORMAT => {
            Err(Error::NewerFormat { dir: dir.to_path_buf(), found, known: FORMAT })
        }
        Some(_) | None => {
            disk.write_atomically(&path, format!("{NAME} {FORMAT}\n").as_bytes()).map_err(Error::io(&path))
        }
    }
}

fn found(disk: &dyn Disk, path: &Path) -> Result<u32, Error> {
    let content = disk.read(path).map_err(Error::io(path))?;
    let found = std::str::from_utf8(&content)
        .ok()
        .and_then(|text| text.trim_end().strip_prefix(NAME)?.trim().parse().ok())
        .filter(|found| *found > 0);
    found.ok_or_else(|| {
        Error::corrupt(path, format!("not a format: {:?}", content.escape_ascii().to_string()))
    })
}
