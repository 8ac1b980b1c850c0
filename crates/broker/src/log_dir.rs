//! A log directory: who owns it, whether its disk works, how many logs are in it.
//!
//! ```text
//! logs, checkpoints ──▶ Watched disk ──error of the device──▶ Health: failed, once and for good ──▶ Troubles ──▶ catalog
//! ```
//! A directory that has failed stays so until the next start, as in Kafka: its partitions are offline, the rest is served.

use std::collections::HashSet;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use base::disk::{Disk, DiskFile};
use commitlog::kafka::checkpoints::{self, Offsets};
use commitlog::kafka::directory::{self, DirectoryLock, MetaProperties};
use nix::errno::Errno;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::partition::Partition;
use crate::{Error, Options, names};

/// Written and removed again to learn whether a directory takes writes.
const PROBE: &str = ".ketch-probe";

/// What went wrong and has not been acted on.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    /// Partitions whose files are not what they were.
    broken: Mutex<Vec<Weak<Partition>>>,
    told: Notify,
}

impl Troubles {
    /// Has a partition taken offline.
    pub(crate) fn report(&self, partition: &Weak<Partition>) {
        self.broken.lock().push(partition.clone());
        self.told.notify_one();
    }

    /// Resolves when there may be something to do.
    pub(crate) async fn wait(&self) {
        self.told.notified().await;
    }

    /// The partitions reported since the last call.
    pub(crate) fn take(&self) -> Vec<Arc<Partition>> {
        std::mem::take(&mut *self.broken.lock()).iter().filter_map(Weak::upgrade).collect()
    }
}

/// Whether a directory works.
#[derive(Debug)]
struct Health {
    dir: PathBuf,
    failed: OnceLock<String>,
    troubles: Arc<Troubles>,
}

impl Health {
    /// Looks at an error of the disk; one of the device fails the directory.
    fn note(&self, error: &io::Error) {
        if is_of_device(error) {
            self.fail(&error.to_string());
        }
    }

    fn fail(&self, why: &str) {
        if self.failed.set(why.to_owned()).is_ok() {
            tracing::error!(dir = %self.dir.display(), error = why,
                "log directory has failed: its partitions are offline until the broker is started anew");
            self.troubles.told.notify_one();
        }
    }
}

/// Errors that concern all of a directory. A full disk is none: space comes back.
fn is_of_device(error: &io::Error) -> bool {
    let Some(code) = error.raw_os_error() else { return false };
    matches!(
        Errno::from_raw(code),
        Errno::EIO
            | Errno::EROFS
            | Errno::ENODEV
            | Errno::ENXIO
            | Errno::ESTALE
            | Errno::EUCLEAN
            | Errno::ENOTCONN
            | Errno::ESHUTDOWN
            | Errno::EREMOTEIO
            | Errno::ENOMEDIUM
    )
}

/// What was known of a directory's logs when the broker last stopped.
#[derive(Debug, Default)]
pub(crate) struct DirStop {
    pub clean: bool,
    pub recovery_points: Offsets,
    pub log_starts: Offsets,
    /// The directories that were there.
    pub directories: HashSet<String>,
}

/// A directory of `log.dirs`.
pub(crate) struct LogDir {
    pub path: PathBuf,
    /// Looks at what fails.
    pub disk: Arc<dyn Disk>,
    health: Arc<Health>,
    /// `directory.id`, once claimed.
    id: OnceLock<String>,
    lock: Mutex<Option<DirectoryLock>>,
    /// Partitions' directories were made that no sync of this one has made durable.
    new_directories: AtomicBool,
    /// No new partitions go here (`cordoned.log.dirs`, KIP-1066).
    cordoned: AtomicBool,
    /// Logs in it, those that are on their way here included.
    logs: AtomicUsize,
    /// One writer of the checkpoint files at a time.
    pub checkpointing: Mutex<()>,
}

impl std::fmt::Debug for LogDir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogDir").field("path", &self.path).finish_non_exhaustive()
    }
}

impl LogDir {
    pub(crate) fn new(path: PathBuf, disk: Arc<dyn Disk>, troubles: &Arc<Troubles>) -> Arc<Self> {
        let (failed, troubles) = (OnceLock::new(), troubles.clone());
        let health = Arc::new(Health { dir: path.clone(), failed, troubles });
        Arc::new(Self {
            path,
            disk: Arc::new(Watched { inner: disk, health: health.clone() }),
            health,
            id: OnceLock::new(),
            lock: Mutex::default(),
            new_directories: AtomicBool::new(false),
            cordoned: AtomicBool::new(false),
            logs: AtomicUsize::new(0),
            checkpointing: Mutex::default(),
        })
    }

    /// Takes the directory into possession; what it says of its owner and of the last stop. A disk that fails makes a
    /// failed directory, not an error.
    pub(crate) fn open(&self, options: &Options) -> Result<Option<(Option<MetaProperties>, DirStop)>, Error> {
        if let Err(error) = self.disk.create_dir_all(&self.path) {
            self.fail(&error);
            return Ok(None);
        }
        match DirectoryLock::take(&*self.disk, &self.path) {
            Ok(lock) => *self.lock.lock() = Some(lock),
            // Who cannot even make the file is not kept out by another process.
            Err(_) if self.failure().is_some() => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !self.takes_writes() => {
                self.fail(&error);
                return Ok(None);
            }
            Err(_) => return Err(Error::InUse(self.path.clone())),
        }
        match self.read(options) {
            Err(Error::Io { .. }) if self.failure().is_some() => Ok(None),
            read => read.map(Some),
        }
    }

    fn read(&self, options: &Options) -> Result<(Option<MetaProperties>, DirStop), Error> {
        let (disk, dir) = (&*self.disk, &self.path);
        let meta =
            MetaProperties::read(disk, dir).map_err(Error::io(dir.join("meta.properties").display()))?;
        if let Some(meta) = meta.as_ref().filter(|meta| meta.node_id != options.broker_id) {
            let (dir, is, want) = (dir.display(), meta.node_id, options.broker_id);
            return Err(Error::WrongOwner(format!("{dir} belongs to broker {is}, not {want}")));
        }
        let clean = directory::take_clean_mark(disk, dir).map_err(Error::io("clean-shutdown marker"))?;
        let read = |name| checkpoints::read(disk, &dir.join(name));
        let directories = disk.list(dir).map_err(Error::io(dir.display()))?.into_iter().collect();
        let (recovery_points, log_starts) = (read(checkpoints::RECOVERY_POINT), read(checkpoints::LOG_START));
        Ok((meta, DirStop { clean, recovery_points, log_starts, directories }))
    }

    /// Makes the directory this broker's, with the id it has or a new one.
    pub(crate) fn claim(
        &self,
        options: &Options,
        cluster_id: &str,
        meta: Option<MetaProperties>,
    ) -> Result<(), Error> {
        let named = meta.filter(|meta| !meta.directory_id.is_empty());
        let id = match named {
            Some(meta) => meta.directory_id,
            None => {
                let directory_id = names::base64url(&names::random_id());
                let id = directory_id.clone();
                let meta = MetaProperties {
                    cluster_id: cluster_id.to_owned(),
                    node_id: options.broker_id,
                    directory_id,
                };
                let written = meta.write(&*self.disk, &self.path, options.clock.unix_ms());
                match written {
                    Err(_) if self.failure().is_some() => return Ok(()),
                    written => written.map_err(Error::io(self.path.join("meta.properties").display()))?,
                }
                id
            }
        };
        // Claimed once, by the start.
        let _ = self.id.set(id);
        Ok(())
    }

    /// `directory.id`; None while the directory could not be claimed.
    pub(crate) fn id(&self) -> Option<&str> {
        self.id.get().map(String::as_str)
    }

    /// Why the directory does not work, where it does not.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.health.failed.get().map(String::as_str)
    }

    pub(crate) fn is_online(&self) -> bool {
        self.failure().is_none()
    }

    /// Whether no new partitions go here.
    pub(crate) fn is_cordoned(&self) -> bool {
        self.cordoned.load(Ordering::Acquire)
    }

    pub(crate) fn set_cordoned(&self, cordoned: bool) {
        self.cordoned.store(cordoned, Ordering::Release);
    }

    /// The directory is out of use from here on.
    pub(crate) fn fail(&self, error: &io::Error) {
        self.health.fail(&error.to_string());
    }

    /// Looks whether the directory is still the one that was opened (its file system may be gone from under it); where it
    /// is not, it has failed.
    pub(crate) fn probe(&self) -> bool {
        if let Some(id) = self.id() {
            match MetaProperties::read(&*self.disk, &self.path) {
                Ok(Some(meta)) if meta.directory_id == id => {}
                Ok(_) => self.health.fail("its meta.properties is gone: is the file system still mounted?"),
                Err(error) => self.fail(&error),
            }
        }
        self.is_online()
    }

    /// Whether a file can be made in it; fails the directory where that is refused for good.
    pub(crate) fn takes_writes(&self) -> bool {
        let path = self.path.join(PROBE);
        let tried = self.disk.open(&path, true).and_then(|file| file.write_all_at(b"?", 0));
        // Best effort: it holds nothing.
        let _ = self.disk.remove_file(&path);
        tried.is_ok()
    }

    /// Lets another process have the directory.
    pub(crate) fn release(&self) {
        self.lock.lock().take();
    }

    /// Where a partition's files are.
    pub(crate) fn partition_dir(&self, topic: &str, index: i32) -> PathBuf {
        self.path.join(format!("{topic}-{index}"))
    }

    /// Logs in it.
    pub(crate) fn logs(&self) -> usize {
        self.logs.load(Ordering::Relaxed)
    }

    /// So many were found at the start.
    pub(crate) fn set_logs(&self, logs: usize) {
        self.logs.store(logs, Ordering::Relaxed);
    }

    pub(crate) fn note_log(&self) {
        self.logs.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn note_log_gone(&self) {
        // Never below zero, whatever was counted.
        let _ = self.logs.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |logs| logs.checked_sub(1));
    }

    /// A partition's directory was made: the next flush of any partition in here makes its name durable.
    pub(crate) fn note_new_directory(&self) {
        self.new_directories.store(true, Ordering::Release);
    }

    /// Makes the names of new directories durable; one sync serves all that were made since the last.
    pub(crate) fn sync_new_directories(&self) -> io::Result<()> {
        if self.new_directories.swap(false, Ordering::AcqRel) {
            self.disk.sync_dir(&self.path).inspect_err(|_| self.note_new_directory())?;
        }
        Ok(())
    }

    /// Renames a partition's directory to `<name>.<32 digits>-<suffix>`.
    pub(crate) fn put_aside(&self, path: &Path, suffix: &str) -> io::Result<PathBuf> {
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        self.put_aside_as(path, &name, suffix)
    }

    /// The same with another name than the directory has.
    pub(crate) fn put_aside_as(&self, path: &Path, name: &str, suffix: &str) -> io::Result<PathBuf> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let to = path.with_file_name(directory::aside_name(name, &id, suffix));
        self.disk.rename(path, &to)?;
        Ok(to)
    }

    /// Bytes of the file system, in all and to be had; -1 where it does not say.
    pub(crate) fn space(&self) -> (i64, i64) {
        let Ok(found) = nix::sys::statvfs::statvfs(&self.path) else { return (-1, -1) };
        let bytes =
            |blocks: u64| i64::try_from(blocks.saturating_mul(found.fragment_size())).unwrap_or(i64::MAX);
        (bytes(found.blocks()), bytes(found.blocks_available()))
    }
}

/// A disk whose errors a directory's health hears of.
#[derive(Debug)]
struct Watched {
    inner: Arc<dyn Disk>,
    health: Arc<Health>,
}

impl Watched {
    fn look<T>(&self, done: io::Result<T>) -> io::Result<T> {
        done.inspect_err(|error| self.health.note(error))
    }
}

impl Disk for Watched {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let inner = self.look(self.inner.open(path, create))?;
        Ok(Arc::new(WatchedFile { inner, health: self.health.clone() }))
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.look(self.inner.list(dir))
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.look(self.inner.create_dir_all(dir))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.look(self.inner.rename(from, to))
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.look(self.inner.remove_file(path))
    }
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.look(self.inner.remove_dir_all(dir))
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.look(self.inner.sync_dir(dir))
    }
    fn exists(&self, path: &Path) -> bool {
        self.inner.exists(path)
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.look(self.inner.read(path))
    }
}

#[derive(Debug)]
struct WatchedFile {
    inner: Arc<dyn DiskFile>,
    health: Arc<Health>,
}

impl WatchedFile {
    fn look<T>(&self, done: io::Result<T>) -> io::Result<T> {
        done.inspect_err(|error| self.health.note(error))
    }
}

impl DiskFile for WatchedFile {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        self.look(self.inner.read_at(out, offset))
    }
    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.look(self.inner.write_all_at(data, offset))
    }
    fn write_vectored_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.look(self.inner.write_vectored_at(parts, offset))
    }
    fn sync_data(&self) -> io::Result<()> {
        self.look(self.inner.sync_data())
    }
    fn sync_all(&self) -> io::Result<()> {
        self.look(self.inner.sync_all())
    }
    fn len(&self) -> io::Result<u64> {
        self.look(self.inner.len())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.look(self.inner.set_len(len))
    }
    fn fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.inner.fd()
    }
}
