//! A disk that loses, tears and refuses writes, by seed.
//!
//! What was written but not synced may, after [`SimDisk::crash`], be there, be lost, or be there in part (whole sectors
//! of 512 bytes, with [`SimDisk::leave_garbage`] also sectors of garbage where nothing was before); names made, changed or
//! removed since the last sync of a directory are kept up to a random point. A directory that was made is there after a
//! crash; one that was renamed has the old name or the new. A sync that fails forgets what it was to write, as kernels do:
//! it is still read, and no later sync writes it. [`SimDisk::rot`] changes what was synced long ago.
//! What it cannot produce: a sector that cannot be read at all, a directory sync that covers only its own directory (any covers
//! all, as with one journal), writes torn inside a sector.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::disk::{Disk, DiskFile};
use base::random::Random;
use parking_lot::Mutex;

use super::Digest;

const SECTOR: usize = 512;
/// How often a byte that may rot is looked for.
const ROT_ATTEMPTS: usize = 64;

/// What goes wrong from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SimFault {
    #[default]
    None,
    /// The power goes after this many more calls that change or sync something; the rest fail.
    PowerOffAfter(u64),
    /// No file gets more blocks than it has: a write beyond the furthest byte ever written fails with ENOSPC.
    Full,
    /// Every sync fails with EIO, and what it was to write never is.
    SyncFails,
    /// The same after so many more syncs.
    SyncFailsAfter(u64),
    /// The same, of files under this directory only.
    SyncFailsUnder(&'static str),
    /// The write that is so many calls away (1: the next), or the next one behind it, is cut short and fails with EIO.
    ShortWriteAfter(u64),
    /// Every sync says that it is done, and is not: what no program survives, to see that a test would notice.
    SyncLies,
}

#[derive(Debug, Clone)]
enum Change {
    Write { at: u64, data: Vec<u8> },
    SetLen(u64),
}

#[derive(Debug, Clone, Default)]
struct File {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    /// End of the furthest write: a length set beyond it is a hole without blocks.
    written: u64,
}

impl File {
    /// Whether a byte is on the disk as it is read.
    fn is_settled(&self, at: u64) -> bool {
        let touches = |change: &Change| match change {
            Change::Write { at: from, data } => (*from..from + data.len() as u64).contains(&at),
            Change::SetLen(len) => at >= *len,
        };
        let both = (self.durable.get(at as usize), self.now.get(at as usize));
        matches!(both, (Some(durable), Some(now)) if durable == now) && !self.pending.iter().any(touches)
    }
}

#[derive(Debug, Clone)]
enum Naming {
    Create(PathBuf, u64),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    RenameDir(PathBuf, PathBuf),
    RemoveDir(PathBuf),
}

/// A part of the tree whose device fails.
#[derive(Debug, Clone)]
struct Failing {
    under: PathBuf,
    errno: i32,
}

#[derive(Debug, Default)]
struct Inner {
    files: BTreeMap<u64, File>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    pending_names: Vec<Naming>,
    dirs: BTreeSet<PathBuf>,
    durable_dirs: BTreeSet<PathBuf>,
    next_file: u64,
    calls: u64,
    fault: SimFault,
    garbage: bool,
    digest: Digest,
    failing: Option<Failing>,
}

/// A disk in memory. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct SimDisk {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct SimFile {
    id: u64,
    /// As it was opened.
    path: PathBuf,
    inner: Arc<Mutex<Inner>>,
}

impl SimDisk {
    /// An empty disk without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same disk, as rooms take it.
    #[must_use]
    pub fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// Sets what goes wrong from now on.
    pub fn set_fault(&self, fault: SimFault) {
        self.inner.lock().fault = fault;
    }

    /// What goes wrong now.
    #[must_use]
    pub fn fault(&self) -> SimFault {
        self.inner.lock().fault
    }

    /// From now on every call on something under `dir` fails with this error of the system.
    pub fn fail_under(&self, dir: impl Into<PathBuf>, errno: i32) {
        self.inner.lock().failing = Some(Failing { under: dir.into(), errno });
    }

    /// The device that failed works again.
    pub fn mend(&self) {
        self.inner.lock().failing = None;
    }

    /// Calls so far that changed or synced something.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.inner.lock().calls
    }

    /// The disk as a restarted machine finds it: a new disk without faults; this one must not be used any more.
    #[must_use]
    pub fn crash(&self, random: &mut Random) -> Self {
        let inner = self.inner.lock();
        let (mut names, mut dirs) = (inner.durable_names.clone(), inner.durable_dirs.clone());
        let kept = random.below(inner.pending_names.len() as u64 + 1) as usize;
        inner.pending_names.iter().take(kept).for_each(|naming| apply_naming(&mut names, &mut dirs, naming));
        let mut files = BTreeMap::new();
        for id in names.values() {
            let content =
                inner.files.get(id).map(|file| survived(file, inner.garbage, random)).unwrap_or_default();
            let written = content.len() as u64;
            files.insert(*id, File { now: content.clone(), durable: content, pending: Vec::new(), written });
        }
        let fresh = Inner {
            files,
            durable_names: names.clone(),
            names,
            durable_dirs: dirs.clone(),
            dirs,
            next_file: inner.next_file,
            garbage: inner.garbage,
            digest: inner.digest,
            ..Inner::default()
        };
        Self { inner: Arc::new(Mutex::new(fresh)) }
    }

    /// The disk as the next process finds it when only the last one was killed: nothing is lost. A new disk without
    /// faults; whoever still has this one finds its power off.
    #[must_use]
    pub fn survive(&self) -> Self {
        let mut inner = self.inner.lock();
        let fresh = Inner { fault: SimFault::None, ..std::mem::take(&mut *inner) };
        inner.fault = SimFault::PowerOffAfter(0);
        Self { inner: Arc::new(Mutex::new(fresh)) }
    }

    /// Changes something of a file that was synced: mostly one bit, sometimes a whole sector, and mostly where the file is
    /// not zero. Where the first changed byte is; None when the file has nothing synced that could change.
    #[must_use]
    pub fn rot(&self, path: &Path, random: &mut Random) -> Option<u64> {
        let mut inner = self.inner.lock();
        let id = *inner.names.get(path)?;
        let file = inner.file(id);
        let anywhere = random.below(4) == 0;
        let at = (0..ROT_ATTEMPTS).find_map(|_| {
            let at = random.below(file.durable.len() as u64);
            (file.is_settled(at) && (anywhere || file.durable[at as usize] != 0)).then_some(at)
        })?;
        let sector = at - at % SECTOR as u64;
        let whole: Vec<u64> = (sector..sector + SECTOR as u64).filter(|at| file.is_settled(*at)).collect();
        let wide = random.below(4) == 0;
        for at in if wide { whole } else { vec![at] } {
            let old = file.durable[at as usize];
            let new = if wide { random.below(256) as u8 } else { old ^ 1 << random.below(8) };
            (file.durable[at as usize], file.now[at as usize]) = (new, new);
        }
        let first = if wide { sector } else { at };
        [id, first].into_iter().for_each(|number| inner.digest.add_number(number));
        Some(first)
    }

    /// From now on a crash may leave garbage in sectors that were being written.
    pub fn leave_garbage(&self) {
        self.inner.lock().garbage = true;
    }

    /// What all that was written and synced so far comes to.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.inner.lock().digest.get()
    }

    /// Every file and its content, as the running system sees it.
    #[must_use]
    pub fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let inner = self.inner.lock();
        inner.names.iter().map(|(path, id)| (path.clone(), inner.files[id].now.clone())).collect()
    }
}

fn survived(file: &File, garbage: bool, random: &mut Random) -> Vec<u8> {
    let mut content = file.durable.clone();
    for change in &file.pending {
        match (random.below(4), change) {
            (0, _) => {}
            (1, Change::Write { at, data }) => tear(&mut content, *at, data, garbage, random),
            (_, change) => apply(&mut content, change),
        }
    }
    content
}

/// Writes only some of the sectors; with `garbage`, also something else than what was meant.
fn tear(content: &mut Vec<u8>, at: u64, data: &[u8], garbage: bool, random: &mut Random) {
    let mut from = 0;
    while from < data.len() {
        let to_boundary = SECTOR - (at as usize + from) % SECTOR;
        let to = data.len().min(from + to_boundary);
        let mut sector = data[from..to].to_vec();
        let at_sector = at as usize + from;
        let fresh = content.iter().skip(at_sector).take(sector.len()).all(|byte| *byte == 0);
        if garbage && fresh && random.below(4) == 0 {
            random.fill(&mut sector);
            apply(content, &Change::Write { at: at + from as u64, data: sector });
        } else if random.below(2) == 0 {
            apply(content, &Change::Write { at: at + from as u64, data: sector });
        }
        from = to;
    }
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { at, data } => {
            let (from, to) = (*at as usize, *at as usize + data.len());
            if content.len() < to {
                content.resize(to, 0);
            }
            content[from..to].copy_from_slice(data);
        }
        Change::SetLen(len) => content.resize(*len as usize, 0),
    }
}

fn apply_naming(names: &mut BTreeMap<PathBuf, u64>, dirs: &mut BTreeSet<PathBuf>, naming: &Naming) {
    match naming {
        Naming::Create(path, id) => drop(names.insert(path.clone(), *id)),
        Naming::Rename(from, to) => {
            if let Some(id) = names.remove(from) {
                names.insert(to.clone(), id);
            }
        }
        Naming::Remove(path) => drop(names.remove(path)),
        Naming::RenameDir(from, to) => {
            let moved = |path: &PathBuf| path.strip_prefix(from).ok().map(|rest| to.join(rest));
            *names = std::mem::take(names).into_iter().map(|(p, id)| (moved(&p).unwrap_or(p), id)).collect();
            *dirs = std::mem::take(dirs).into_iter().map(|p| moved(&p).unwrap_or(p)).collect();
        }
        Naming::RemoveDir(path) => dirs.retain(|dir| !dir.starts_with(path)),
    }
}

impl Inner {
    /// Counts a call that changes something; fails when the power is off.
    fn call(&mut self) -> io::Result<()> {
        self.calls += 1;
        match &mut self.fault {
            SimFault::PowerOffAfter(0) => Err(io::Error::other("the power is off")),
            SimFault::PowerOffAfter(left) => {
                *left -= 1;
                Ok(())
            }
            SimFault::ShortWriteAfter(left) => {
                *left = left.saturating_sub(1);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn power(&self) -> io::Result<()> {
        if self.fault == SimFault::PowerOffAfter(0) {
            Err(io::Error::other("the power is off"))
        } else {
            Ok(())
        }
    }

    /// Fails when `path` is on the device that fails.
    fn device(&self, path: &Path) -> io::Result<()> {
        match &self.failing {
            Some(failing) if path.starts_with(&failing.under) => {
                Err(io::Error::from_raw_os_error(failing.errno))
            }
            _ => Ok(()),
        }
    }

    fn name(&mut self, naming: Naming) {
        apply_naming(&mut self.names, &mut self.dirs, &naming);
        self.pending_names.push(naming);
    }

    fn file(&mut self, id: u64) -> &mut File {
        self.files.entry(id).or_default()
    }

    fn change(&mut self, id: u64, mut change: Change) -> io::Result<()> {
        self.call()?;
        let mut short = false;
        if let (SimFault::ShortWriteAfter(0), Change::Write { data, .. }) = (self.fault, &mut change) {
            self.fault = SimFault::None;
            data.truncate(data.len() / 2);
            short = true;
        }
        self.digest_change(id, &change);
        let full = self.fault == SimFault::Full;
        let file = self.file(id);
        match &change {
            Change::Write { at, data } => {
                let end = at + data.len() as u64;
                if full && end > file.written {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                file.written = file.written.max(end);
            }
            Change::SetLen(len) => file.written = file.written.min(*len),
        }
        apply(&mut file.now, &change);
        file.pending.push(change);
        if short { Err(io::Error::other("input/output error")) } else { Ok(()) }
    }

    fn digest_change(&mut self, id: u64, change: &Change) {
        match change {
            Change::Write { at, data } => {
                self.digest.add_number(id);
                self.digest.add_number(*at);
                self.digest.add(data);
            }
            Change::SetLen(len) => self.digest.add_number(*len),
        }
    }

    /// Whether a sync of something at `path` fails now.
    fn sync_fails(&mut self, path: &Path) -> bool {
        match self.fault {
            SimFault::SyncFails | SimFault::SyncFailsAfter(0) => true,
            SimFault::SyncFailsAfter(left) => {
                self.fault = SimFault::SyncFailsAfter(left - 1);
                false
            }
            SimFault::SyncFailsUnder(dir) => path.starts_with(dir),
            _ => false,
        }
    }

    fn sync(&mut self, id: u64, path: &Path) -> io::Result<()> {
        self.call()?;
        self.digest.add_number(id);
        if self.sync_fails(path) {
            self.file(id).pending.clear();
            return Err(io::Error::other("input/output error"));
        }
        if self.fault == SimFault::SyncLies {
            return Ok(());
        }
        let file = self.file(id);
        for change in std::mem::take(&mut file.pending) {
            apply(&mut file.durable, &change);
        }
        Ok(())
    }
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, path.display().to_string())
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.inner.lock();
        inner.device(path)?;
        inner.power()?;
        let id = match inner.names.get(path) {
            Some(id) => *id,
            None if create => {
                inner.call()?;
                inner.next_file += 1;
                let id = inner.next_file;
                inner.name(Naming::Create(path.to_path_buf(), id));
                inner.files.insert(id, File::default());
                id
            }
            None => return Err(not_found(path)),
        };
        Ok(Arc::new(SimFile { id, path: path.to_path_buf(), inner: self.inner.clone() }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let inner = self.inner.lock();
        inner.device(dir)?;
        let inside = inner.names.keys().chain(&inner.dirs).filter(|path| path.parent() == Some(dir));
        let names: BTreeSet<_> =
            inside.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect();
        Ok(names.into_iter().collect())
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.device(dir)?;
        inner.power()?;
        let dirs: Vec<_> = dir.ancestors().map(Path::to_path_buf).collect();
        inner.dirs.extend(dirs.iter().cloned());
        inner.durable_dirs.extend(dirs);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.device(from)?;
        inner.call()?;
        if inner.dirs.contains(from) {
            inner.name(Naming::RenameDir(from.to_path_buf(), to.to_path_buf()));
            return Ok(());
        }
        if !inner.names.contains_key(from) {
            return Err(not_found(from));
        }
        inner.name(Naming::Rename(from.to_path_buf(), to.to_path_buf()));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.device(path)?;
        inner.call()?;
        if !inner.names.contains_key(path) {
            return Err(not_found(path));
        }
        inner.name(Naming::Remove(path.to_path_buf()));
        Ok(())
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.device(dir)?;
        inner.call()?;
        let inside: Vec<_> = inner.names.keys().filter(|path| path.starts_with(dir)).cloned().collect();
        inside.into_iter().for_each(|path| inner.name(Naming::Remove(path)));
        inner.name(Naming::RemoveDir(dir.to_path_buf()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.device(dir)?;
        inner.call()?;
        if inner.sync_fails(dir) {
            return Err(io::Error::other("input/output error"));
        }
        if inner.fault == SimFault::SyncLies {
            return Ok(());
        }
        inner.durable_names = inner.names.clone();
        inner.durable_dirs = inner.dirs.clone();
        inner.pending_names.clear();
        Ok(())
    }

    fn exists(&self, path: &Path) -> bool {
        let inner = self.inner.lock();
        inner.names.contains_key(path) || inner.dirs.contains(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut inner = self.inner.lock();
        inner.device(path)?;
        inner.power()?;
        let id = *inner.names.get(path).ok_or_else(|| not_found(path))?;
        Ok(inner.file(id).now.clone())
    }

    fn free_bytes(&self, _dir: &Path) -> Option<u64> {
        let full = self.inner.lock().fault == SimFault::Full;
        Some(if full { 0 } else { u64::MAX })
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut inner = self.inner.lock();
        inner.device(&self.path)?;
        inner.power()?;
        let file = inner.file(self.id);
        let rest = file.now.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(out.len());
        out[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.device(&self.path)?;
        inner.change(self.id, Change::Write { at: offset, data: data.to_vec() })
    }

    fn write_vectored_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let data: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.write_all_at(&data, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.device(&self.path)?;
        inner.sync(self.id, &self.path)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        let mut inner = self.inner.lock();
        inner.device(&self.path)?;
        inner.power()?;
        Ok(inner.file(self.id).now.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.device(&self.path)?;
        inner.change(self.id, Change::SetLen(len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(disk: &SimDisk, path: &str, at: u64, data: &[u8]) -> Arc<dyn DiskFile> {
        let file = disk.open(Path::new(path), true).unwrap();
        file.write_all_at(data, at).unwrap();
        file
    }

    #[test]
    fn what_was_synced_survives_and_the_rest_may() {
        let (mut kept, mut lost, mut torn) = (0, 0, 0);
        for seed in 0..64 {
            let disk = SimDisk::new();
            write(&disk, "/d/a", 0, &[1; 2048]).sync_data().unwrap();
            disk.sync_dir(Path::new("/d")).unwrap();
            write(&disk, "/d/a", 0, &[2; 2048]);
            let found = disk.crash(&mut Random::from_seed(seed)).read(Path::new("/d/a")).unwrap();
            assert_eq!(found.len(), 2048);
            match found.iter().filter(|&&b| b == 2).count() {
                2048 => kept += 1,
                0 => lost += 1,
                part => torn += usize::from(part % SECTOR == 0),
            }
        }
        assert!(kept > 0 && lost > 0 && torn > 0 && kept + lost + torn == 64);
    }

    #[test]
    fn what_a_failed_sync_forgot_no_later_one_writes() {
        let disk = SimDisk::new();
        let file = write(&disk, "/d/a", 0, b"one");
        file.sync_data().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        file.write_all_at(b"two", 0).unwrap();
        disk.set_fault(SimFault::SyncFails);
        assert!(file.sync_data().is_err());
        disk.set_fault(SimFault::None);
        file.sync_data().unwrap();
        assert_eq!(disk.read(Path::new("/d/a")).unwrap(), b"two");
        assert_eq!(disk.crash(&mut Random::from_seed(1)).read(Path::new("/d/a")).unwrap(), b"one");
    }

    #[test]
    fn what_was_synced_rots_and_the_rest_does_not() {
        let (mut bits, mut sectors) = (0, 0);
        for seed in 0..64 {
            let (disk, mut random) = (SimDisk::new(), Random::from_seed(seed));
            let path = Path::new("/d/a");
            let file = write(&disk, "/d/a", 0, &[7; 2048]);
            assert_eq!(disk.rot(path, &mut random), None, "nothing is synced");
            file.sync_data().unwrap();
            disk.sync_dir(Path::new("/d")).unwrap();
            file.write_all_at(&[8; 1024], 0).unwrap();
            let at = disk.rot(path, &mut random).unwrap();
            let now = disk.read(path).unwrap();
            assert!(at >= 1024 && now[..1024] == [8; 1024]);
            let changed: Vec<_> = now[1024..].iter().filter(|byte| **byte != 7).collect();
            if let [one] = changed[..] {
                assert_eq!((one ^ 7).count_ones(), 1);
                bits += 1;
            } else {
                assert!((400..=SECTOR).contains(&changed.len()));
                sectors += 1;
            }
            file.sync_data().unwrap();
            assert_eq!(disk.crash(&mut random).read(path).unwrap(), now);
        }
        assert!(bits > sectors && sectors > 0 && bits + sectors == 64);
    }

    #[test]
    fn a_short_write_fails_once_and_a_killed_process_loses_nothing() {
        let disk = SimDisk::new();
        let file = write(&disk, "/d/a", 0, b"....");
        disk.set_fault(SimFault::ShortWriteAfter(1));
        assert!(file.write_all_at(b"abcd", 0).is_err());
        file.write_all_at(b"x", 3).unwrap();
        let next = disk.survive();
        assert_eq!(next.read(Path::new("/d/a")).unwrap(), b"ab.x");
        assert!(file.write_all_at(b"late", 0).is_err() && disk.read(Path::new("/d/a")).is_err());
    }

    #[test]
    fn a_replaced_file_is_old_or_new() {
        for seed in 0..32 {
            let disk = SimDisk::new();
            let path = Path::new("/d/a");
            disk.write_atomically(path, b"old").unwrap();
            disk.set_fault(SimFault::PowerOffAfter(seed % 6));
            let done = disk.write_atomically(path, b"new!").is_ok();
            let found = disk.crash(&mut Random::from_seed(seed)).read(path).unwrap();
            assert!(found == b"new!" || (found == b"old" && !done), "{found:?} {done}");
        }
    }

    #[test]
    fn a_renamed_directory_has_the_old_name_or_the_new() {
        let mut seen = BTreeSet::new();
        for seed in 0..32 {
            let disk = SimDisk::new();
            disk.create_dir_all(Path::new("/d/a")).unwrap();
            write(&disk, "/d/a/f", 0, b"x").sync_data().unwrap();
            disk.sync_dir(Path::new("/d")).unwrap();
            disk.rename(Path::new("/d/a"), Path::new("/d/b")).unwrap();
            assert_eq!(disk.list(Path::new("/d")).unwrap(), ["b"]);
            let after = disk.crash(&mut Random::from_seed(seed));
            let found = after.list(Path::new("/d")).unwrap();
            assert_eq!(after.read(&Path::new("/d").join(&found[0]).join("f")).unwrap(), b"x");
            seen.insert(found);
        }
        assert_eq!(seen.into_iter().flatten().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn what_fails_is_under_one_directory() {
        let disk = SimDisk::new();
        let file = write(&disk, "/a/f", 0, b"x");
        disk.fail_under("/a", 5);
        assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(5));
        assert_eq!(disk.read(Path::new("/a/f")).unwrap_err().raw_os_error(), Some(5));
        write(&disk, "/b/f", 0, b"x").sync_data().unwrap();
        disk.mend();
        file.sync_data().unwrap();
    }
}
