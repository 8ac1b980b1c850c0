//! Snapshots by themselves: one every so often while there is something new, the newest few kept.
//!
//! ```text
//! due (the newest one's time + every) ─▶ this member leads, and the revision has moved? ─▶ save ─▶ remove the oldest
//!
//! ketch-20261126T220000Z-r1234.db      when, in UTC, and of which revision
//! ```
//! What is there says when the next one is due, so a restart neither skips one nor makes one too many. A file appears whole
//! or not at all; others' files in the same place are not looked at.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ring::digest::{Context, SHA256};
use store_api::{Revision, Store as _};

use super::objects::Objects;
use super::{Snapshot, SnapshotError};
use crate::Handle;

/// Bytes read and written at once.
const PIECE_BYTES: usize = 1024 * 1024;
/// After a failure; also the least time between two looks.
const RETRY: Duration = Duration::from_secs(60);
const TIME_FORM: &str = "%Y%m%dT%H%M%SZ";

/// Where snapshots are kept.
#[derive(Debug, Clone)]
pub enum Target {
    /// A directory, made when it is absent.
    Directory(PathBuf),
    /// A bucket.
    Objects(Objects),
}

/// When to save, where, and how many to keep.
#[derive(Debug, Clone)]
pub struct Schedule {
    pub every: Duration,
    /// At least 1.
    pub keep: usize,
    pub target: Target,
}

/// A snapshot's name, which says all there is to know of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    unix_s: i64,
    revision: Revision,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Seconds of this clock are years away from the bounds of what can be written.
        let time = Timestamp::from_second(self.unix_s).unwrap_or_default();
        write!(f, "ketch-{}-r{}.db", time.strftime(TIME_FORM), self.revision.get())
    }
}

impl Name {
    fn parse(text: &str) -> Option<Self> {
        let (time, revision) = text.strip_prefix("ketch-")?.strip_suffix(".db")?.split_once("-r")?;
        let time = DateTime::strptime(TIME_FORM, time).ok()?.to_zoned(TimeZone::UTC).ok()?;
        Some(Self { unix_s: time.timestamp().as_second(), revision: Revision(revision.parse().ok()?) })
    }
}

impl Target {
    /// The names that are there, the oldest first.
    async fn list(&self) -> Result<Vec<Name>, SnapshotError> {
        let names: Vec<String> = match self {
            Self::Directory(dir) => list(dir)?,
            Self::Objects(objects) => objects.list().await?,
        };
        let mut names: Vec<Name> = names.iter().filter_map(|name| Name::parse(name)).collect();
        names.sort_unstable();
        Ok(names)
    }

    async fn put(&self, name: Name, snapshot: Snapshot) -> Result<(), SnapshotError> {
        match self {
            Self::Directory(dir) => {
                let dir = dir.clone();
                let written = tokio::task::spawn_blocking(move || put(&dir, &name.to_string(), snapshot));
                written.await.unwrap_or_else(|join| Err(io::Error::other(join).into()))
            }
            Self::Objects(objects) => objects.put(&name.to_string(), snapshot).await,
        }
    }

    async fn remove(&self, name: Name) -> Result<(), SnapshotError> {
        match self {
            Self::Directory(dir) => Ok(fs::remove_file(dir.join(name.to_string()))?),
            Self::Objects(objects) => objects.remove(&name.to_string()).await,
        }
    }
}

fn list(dir: &Path) -> Result<Vec<String>, SnapshotError> {
    fs::create_dir_all(dir)?;
    let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    fs::read_dir(dir)?.map(name).collect()
}

/// The file's pieces, and its hash last.
pub(super) struct Pieces {
    file: File,
    left: u64,
    hash: Option<Context>,
}

impl Pieces {
    pub(super) fn of(snapshot: Snapshot) -> Self {
        Self { file: snapshot.file, left: snapshot.bytes, hash: Some(Context::new(&SHA256)) }
    }

    /// The next piece; None behind the last. Blocks for a read of the disk.
    pub(super) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(hash) = &mut self.hash else { return Ok(None) };
        let mut piece = vec![0; self.left.min(PIECE_BYTES as u64) as usize];
        self.file.read_exact(&mut piece)?;
        hash.update(&piece);
        self.left -= piece.len() as u64;
        if self.left == 0
            && let Some(hash) = self.hash.take()
        {
            piece.extend_from_slice(hash.finish().as_ref());
        }
        Ok(Some(piece))
    }
}

fn put(dir: &Path, name: &str, snapshot: Snapshot) -> Result<(), SnapshotError> {
    let part = dir.join(format!("{name}.part"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    let mut pieces = Pieces::of(snapshot);
    let mut written = || {
        while let Some(piece) = pieces.next()? {
            file.write_all(&piece)?;
        }
        file.sync_all()?;
        fs::rename(&part, dir.join(name))?;
        File::open(dir)?.sync_all()
    };
    let done = written();
    if done.is_err() {
        // Half a snapshot is of no use; that it may stay changes nothing about the error.
        let _ = fs::remove_file(&part);
    }
    Ok(done?)
}

impl Handle {
    /// Saves snapshots for as long as the member runs; only where it leads.
    pub async fn save_always(self, schedule: Schedule) {
        let token = self.inner.tasks.token();
        let mut leader = self.leader_changes();
        loop {
            let wait = match self.save_if_due(&schedule).await {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::warn!(%error, "no snapshot was saved; it is tried again in a minute");
                    RETRY.min(schedule.every)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // Whoever leads from now on looks at once; an end of the store ends this by the token.
                Ok(()) = leader.changed() => {}
                () = token.cancelled() => return,
            }
        }
    }

    /// Saves one if it is time: how long until the next look.
    async fn save_if_due(&self, schedule: &Schedule) -> Result<Duration, SnapshotError> {
        let mut names = schedule.target.list().await?;
        let now_s = self.inner.clock.unix_ms() / 1000;
        let last = names.last().copied();
        // A clock that went back does not keep one from being made for longer than the period.
        let age =
            last.map(|last| Duration::from_secs(now_s.saturating_sub(last.unix_s).max(0).unsigned_abs()));
        if let Some(left) = age.and_then(|age| schedule.every.checked_sub(age)).filter(|left| !left.is_zero())
        {
            return Ok(left);
        }
        let leads = *self.leader_changes().borrow() == Some(self.header().member_id);
        let revision = self.revision();
        if !leads || last.is_some_and(|last| last.revision == revision) {
            return Ok(schedule.every);
        }
        let name = Name { unix_s: now_s, revision };
        let refused = |error: store_api::Error| SnapshotError::Refused(error.to_string());
        schedule.target.put(name, self.snapshot().await.map_err(refused)?).await?;
        tracing::info!(%name, "a snapshot was saved");
        names.push(name);
        let surplus = names.len().saturating_sub(schedule.keep.max(1));
        for name in names.drain(..surplus) {
            schedule.target.remove(name).await?;
        }
        Ok(schedule.every)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_when_and_of_what() {
        let name = Name { unix_s: 1_795_730_400, revision: Revision(12) };
        assert_eq!(name.to_string(), "ketch-20261126T220000Z-r12.db");
        assert_eq!(Name::parse(&name.to_string()), Some(name));
        for other in
            ["ketch-20261126T220000Z-r12.db.part", "x.db", "ketch-2026-r1.db", "ketch-20261126T220000Z-rx.db"]
        {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }
}
