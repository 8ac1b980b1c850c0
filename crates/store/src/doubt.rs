//! What a failed sync leaves in doubt. The kernel takes pages that it could not write for clean, serves them as long as it
//! has them, and no later sync writes them: a process that starts anew reads what the disk does not hold.
//!
//! ```text
//! a sync of the state or its values fails ─▶ UNSYNCED is made, the member takes no more writes
//! next opening finds it ─▶ everything is written to the same place again, and synced ─▶ every page of the tree is checked
//!                       ─▶ UNSYNCED goes
//! ```
//! The mark need not be durable: after a power cut the page cache is gone, and what the disk holds is what is read. (The log
//! looks after itself, see `commitlog`.)

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::disk::{Disk, DiskFile};

use crate::Error;

const MARK: &str = "UNSYNCED";

/// Notes that a sync below `dir` failed. Best effort: what cannot be noted is trusted, as it would be without this.
pub(crate) fn note(disk: &dyn Disk, dir: &Path) {
    let path = dir.join(MARK);
    if let Err(error) = disk.open(&path, true) {
        tracing::warn!(%error, path = %path.display(), "it is not noted that a sync failed");
    }
}

/// Makes sure that the disk holds what is read; whether that was in doubt. Then the tree is to be checked, and
/// [`forget`] called.
pub(crate) fn settle(disk: &Arc<dyn Disk>, dir: &Path) -> Result<bool, Error> {
    if !disk.exists(&dir.join(MARK)) {
        return Ok(false);
    }
    tracing::warn!("a sync of the state failed in the last run: all of it is written again");
    let values = dir.join("values");
    let mut paths = vec![dir.join("state.redb")];
    if disk.exists(&values) {
        let names = disk.list(&values).map_err(Error::io(&values))?;
        paths.extend(names.into_iter().map(|name| values.join(name)));
    }
    for path in paths {
        let file = disk.open(&path, false).map_err(Error::io(&path))?;
        rewrite(&*file).map_err(Error::io(&path))?;
    }
    for dir in [&*values, dir] {
        if disk.exists(dir) {
            disk.sync_dir(dir).map_err(Error::io(dir))?;
        }
    }
    Ok(true)
}

fn rewrite(file: &dyn DiskFile) -> std::io::Result<()> {
    file.write_again(0, file.len()?)?;
    file.sync_all()
}

/// There is no doubt any more.
pub(crate) fn forget(disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    let path: PathBuf = dir.join(MARK);
    disk.remove_file(&path).map_err(Error::io(&path))?;
    disk.sync_dir(dir).map_err(Error::io(dir))
}
