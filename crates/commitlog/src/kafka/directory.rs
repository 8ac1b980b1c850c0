//! The broker's directory: identity, lock, clean-shutdown marker, names of partitions.

use std::io;
use std::path::Path;
use std::sync::Arc;

use base::disk::{Disk, DiskFile};

pub(crate) const META: &str = "meta.properties";
const LOCK: &str = ".lock";
const CLEAN: &str = ".kafka_cleanshutdown";
pub(crate) const PARTITION_METADATA: &str = "partition.metadata";

/// Who owns the directory (MetaProperties.java, version 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaProperties {
    pub cluster_id: String,
    pub node_id: i32,
    /// base64url of the directory's UUID.
    pub directory_id: String,
}

impl MetaProperties {
    /// Reads the file; None when there is none.
    ///
    /// # Errors
    /// A file that names no owner, or of a version nobody knows.
    pub fn read(disk: &dyn Disk, dir: &Path) -> io::Result<Option<Self>> {
        let path = dir.join(META);
        if !disk.exists(&path) {
            return Ok(None);
        }
        let text = String::from_utf8(disk.read(&path)?).map_err(io::Error::other)?;
        let value = |key: &str| {
            let mut lines = text.lines().filter(|line| !line.starts_with(['#', '!']));
            lines
                .find_map(|line| line.split_once('=').filter(|(k, _)| k.trim() == key))
                .map(|(_, v)| v.trim().to_owned())
        };
        let parsed = (value("version").as_deref() == Some("1")).then(|| {
            let node_id = value("node.id")?.parse().ok()?;
            let directory_id = value("directory.id").unwrap_or_default();
            Some(Self { cluster_id: value("cluster.id")?, node_id, directory_id })
        });
        let bad =
            || io::Error::new(io::ErrorKind::InvalidData, format!("{} is not version 1", path.display()));
        parsed.flatten().map(Some).ok_or_else(bad)
    }

    /// Writes the file as `java.util.Properties` does.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&self, disk: &dyn Disk, dir: &Path, now_ms: i64) -> io::Result<()> {
        let Self { cluster_id, node_id, directory_id } = self;
        let date = java_date(now_ms);
        let text = format!(
            "#\n#{date}\ncluster.id={cluster_id}\ndirectory.id={directory_id}\nnode.id={node_id}\nversion=1\n"
        );
        disk.write_atomically(&dir.join(META), text.as_bytes())
    }
}

/// `java.util.Date.toString()` in UTC: `Mon Nov 23 22:55:25 UTC 2026`.
fn java_date(unix_ms: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = unix_ms.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days to a civil date, counted in 400-year eras that begin on 1 March (H. Hinnant, chrono-compatible date algorithms).
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12;
    let year = year_of_era + era * 400 + i64::from(month < 2);
    format!(
        "{} {} {day:02} {:02}:{:02}:{:02} UTC {year}",
        DAYS[days.rem_euclid(7) as usize],
        MONTHS[month as usize],
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Holds the directory for this process, against Kafka's own brokers too; released when dropped.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: Arc<dyn DiskFile>,
}

impl DirectoryLock {
    /// Takes the lock.
    ///
    /// # Errors
    /// `WouldBlock` when another process holds it.
    pub fn take(disk: &dyn Disk, dir: &Path) -> io::Result<Self> {
        let file = disk.open(&dir.join(LOCK), true)?;
        if let Some(fd) = file.fd() {
            lock_exclusive(fd)?;
        }
        Ok(Self { _file: file })
    }
}

/// An open-file-description lock: conflicts with the POSIX locks that Java takes, and belongs to this descriptor alone.
fn lock_exclusive(fd: std::os::fd::BorrowedFd<'_>) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: all-zero is a valid `flock` (plain integers).
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    // SAFETY: `fd` is open for the call, and `lock` is a valid `flock` that outlives it.
    let result = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &lock) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Says that every log was closed (CleanShutdownFileHandler.java).
///
/// # Errors
/// The disk's.
pub fn mark_clean(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    disk.write_atomically(&dir.join(CLEAN), br#"{"version":0,"brokerEpoch":0}"#)
}

/// Whether every log was closed when the broker stopped; the marker stays.
#[must_use]
pub fn is_marked_clean(disk: &dyn Disk, dir: &Path) -> bool {
    disk.exists(&dir.join(CLEAN))
}

/// Whether the last stop was clean; the marker is gone afterwards, durably, so that a crash is noticed.
///
/// # Errors
/// The disk's.
pub fn take_clean_mark(disk: &dyn Disk, dir: &Path) -> io::Result<bool> {
    let path = dir.join(CLEAN);
    if !disk.exists(&path) {
        return Ok(false);
    }
    disk.remove_file(&path)?;
    disk.sync_dir(dir)?;
    Ok(true)
}

/// The topic id of a partition's directory (base64url of its UUID); None when there is no file.
#[must_use]
pub fn topic_id(disk: &dyn Disk, partition_dir: &Path) -> Option<String> {
    let text = String::from_utf8(disk.read(&partition_dir.join(PARTITION_METADATA)).ok()?).ok()?;
    let mut lines = text.lines();
    (lines.next()? == "version: 0").then_some(())?;
    lines.next()?.strip_prefix("topic_id: ").map(str::to_owned)
}

/// Writes `partition.metadata`. Not synced here: the partition's first flush follows.
///
/// # Errors
/// The disk's.
pub fn write_topic_id(disk: &dyn Disk, partition_dir: &Path, topic_id: &str) -> io::Result<()> {
    let file = disk.open(&partition_dir.join(PARTITION_METADATA), true)?;
    if !file.is_empty()? {
        file.set_len(0)?;
    }
    file.write_all_at(format!("version: 0\ntopic_id: {topic_id}").as_bytes(), 0)
}

/// `<topic>-<partition>` taken apart; None for any other name (`*-delete`, `*-future`, `*-stray` included).
#[must_use]
pub fn parse_partition_dir(name: &str) -> Option<(&str, i32)> {
    let (topic, partition) = name.rsplit_once('-')?;
    let digits = !partition.is_empty() && partition.bytes().all(|b| b.is_ascii_digit());
    (digits && !topic.is_empty()).then_some(())?;
    Some((topic, partition.parse().ok()?))
}

/// The longest name that file systems take.
const NAME_BYTES_MAX: usize = 255;

/// Name of a partition's directory that was put aside: `<topic>-<partition>.<id>-<suffix>`, the topic cut short where the
/// whole would be too long (LogManager's `logDeleteDirName`).
#[must_use]
pub fn aside_name(dir_name: &str, id: &str, suffix: &str) -> String {
    let (topic, partition) = dir_name.rsplit_once('-').unwrap_or((dir_name, ""));
    let tail = format!("-{partition}.{id}-{suffix}");
    // Topic names are ASCII.
    let room = NAME_BYTES_MAX.saturating_sub(tail.len()).min(topic.len());
    format!("{}{tail}", topic.get(..room).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::disk::RealDisk;

    #[test]
    fn dates() {
        assert_eq!(java_date(0), "Thu Jan 01 00:00:00 UTC 1970");
        assert_eq!(java_date(1_795_474_525_999), "Mon Nov 23 22:55:25 UTC 2026");
        assert_eq!(java_date(951_782_400_000), "Tue Feb 29 00:00:00 UTC 2000");
    }

    #[test]
    fn meta_properties_come_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(MetaProperties::read(&RealDisk, dir.path()).unwrap(), None);
        let meta = MetaProperties {
            cluster_id: "4L6g3nShT-eMCtK--X86sw".into(),
            node_id: 1,
            directory_id: "d".into(),
        };
        meta.write(&RealDisk, dir.path(), 0).unwrap();
        assert_eq!(MetaProperties::read(&RealDisk, dir.path()).unwrap(), Some(meta));
        std::fs::write(dir.path().join(META), "version=9\n").unwrap();
        assert!(MetaProperties::read(&RealDisk, dir.path()).is_err());
    }

    #[test]
    fn one_holder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let held = DirectoryLock::take(&RealDisk, dir.path()).unwrap();
        assert!(DirectoryLock::take(&RealDisk, dir.path()).is_err());
        drop(held);
        assert!(DirectoryLock::take(&RealDisk, dir.path()).is_ok());
    }

    #[test]
    fn markers_and_names() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!take_clean_mark(&RealDisk, dir.path()).unwrap());
        mark_clean(&RealDisk, dir.path()).unwrap();
        assert!(take_clean_mark(&RealDisk, dir.path()).unwrap());
        assert!(!take_clean_mark(&RealDisk, dir.path()).unwrap());
        write_topic_id(&RealDisk, dir.path(), "abc").unwrap();
        assert_eq!(topic_id(&RealDisk, dir.path()).as_deref(), Some("abc"));
        assert_eq!(parse_partition_dir("a-b-12"), Some(("a-b", 12)));
        for bad in ["a", "-1", "a-", "a-1.x-delete", "a-+1", "a-99999999999"] {
            assert_eq!(parse_partition_dir(bad), None, "{bad}");
        }
        assert_eq!(aside_name("a-b-12", "0123", "delete"), "a-b-12.0123-delete");
        let long = aside_name(&format!("{}-7", "t".repeat(249)), &"0".repeat(32), "stray");
        assert_eq!((long.len(), long.ends_with(&format!("t-7.{}-stray", "0".repeat(32)))), (255, true));
    }
}
