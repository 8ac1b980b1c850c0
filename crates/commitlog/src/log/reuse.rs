//! Segments whose frames are not needed any more are written again: their blocks are on the disk, so that a sync of what is
//! written over them changes nothing of the file system, and nothing is filled with zeros.
//!
//! ```text
//! remove_prefix ─▶ <base>.wal becomes <base>.spare ─▶ directory synced ─▶ spare ─▶ roll: becomes <next base>.wal
//! ```
//! - What a file holds beyond the last frame written into it are frames of lower offsets and parts of them; a scan that
//!   comes to such is at the end. Opening cuts the rest off, as it does zeros.
//! - A spare has its name durably before it is written over. Else a power cut might give it the old name back, and the
//!   new frames would stand where the log begins.
//! - A file that somebody may still read is removed instead.

use super::*;

/// More are removed: one for the segment after the active one, one for a front that goes by two segments.
const SPARES_MAX: usize = 2;
const EXTENSION: &str = "spare";

/// Files to write into, and those whose names are not durable yet.
#[derive(Debug, Default)]
pub(super) struct Spares {
    ready: Mutex<Vec<PathBuf>>,
    named: Mutex<Vec<PathBuf>>,
}

impl<F: Framing> Log<F> {
    /// Keeps a segment's file to be written again after [`Log::offer_spares`]; false when it is to be removed.
    pub(super) fn spare(&self, base: Offset) -> Result<bool> {
        let mut named = self.spares.named.lock();
        if !F::REUSED || self.spares.ready.lock().len() + named.len() >= SPARES_MAX {
            return Ok(false);
        }
        let (path, spare) = (self.path(base), file_name(&self.dir, base, EXTENSION));
        self.disk.rename(&path, &spare).map_err(|e| Error::io(&path, e))?;
        named.push(spare);
        Ok(true)
    }

    /// Makes the names of spares durable, so that they can be used.
    pub(super) fn offer_spares(&self) -> Result<()> {
        let mut named = self.spares.named.lock();
        self.disk.sync_dir(&self.dir).map_err(|e| Error::io(&self.dir, e))?;
        self.spares.ready.lock().append(&mut named);
        Ok(())
    }

    /// A file for the segment that begins at `base`, and its length.
    pub(super) fn reuse(&self, base: Offset) -> Result<Option<(Arc<dyn DiskFile>, u64)>> {
        let Some(spare) = self.spares.ready.lock().pop() else { return Ok(None) };
        let path = self.path(base);
        self.disk.rename(&spare, &path).map_err(|e| Error::io(&spare, e))?;
        let file = open_segment::<F>(&*self.disk, &self.dir, base, false)?;
        let len = file.len().map_err(|e| Error::io(&path, e))?;
        Ok(Some((file, len)))
    }

    /// Removes the files that are kept to be written again: the log is about to be closed.
    ///
    /// # Errors
    /// The disk's; the next opening removes what stays.
    pub fn drop_spares(&self) -> Result<()> {
        let (mut ready, mut named) = (self.spares.ready.lock(), self.spares.named.lock());
        for spare in ready.drain(..).chain(named.drain(..)) {
            self.disk.remove_file(&spare).map_err(|e| Error::io(&spare, e))?;
        }
        Ok(())
    }
}

/// Removes the spares that an earlier run left.
pub(super) fn remove_left(disk: &dyn Disk, dir: &Path, names: &[String]) -> Result<()> {
    let left = names.iter().filter(|name| Path::new(name).extension().is_some_and(|is| is == EXTENSION));
    left.map(|name| dir.join(name))
        .try_for_each(|path| disk.remove_file(&path).map_err(|e| Error::io(&path, e)))
}
