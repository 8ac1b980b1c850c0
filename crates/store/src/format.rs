//! `FORMAT`: one line that says which version of the layout the directory has.

use std::path::Path;

use base::disk::Disk;

use crate::Error;

/// The layout this program writes.
const FORMAT: u32 = 1;
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
        Some(found) if found > FORMAT => {
            Err(Error::NewerFormat { dir: dir.to_path_buf(), found, known: FORMAT })
        }
        Some(FORMAT) => Ok(()),
        _ => Err(Error::corrupt(&path, format!("not a format: {:?}", content.escape_ascii().to_string()))),
    }
}
