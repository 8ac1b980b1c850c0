//! From the directory of one member, whose cluster is lost, to the directory of a new store with the latest state that
//! member knows: what it has applied, and everything in its log behind that, acknowledged or not (as etcd's
//! `--force-new-cluster`).
//!
//! ```text
//! old/state.redb, old/values, old/wal ─copied─▶ state, log ─▶ entries behind the applied one are applied ─▶ members forgotten
//! ```
//! The old directory is only read.

use std::path::Path;

use base::disk::{Disk, RealDisk};
use bytes::Bytes;
use commitlog::wal::{WalFrame, WalMeta};
use commitlog::{Log, LogOptions, Offset, OpenFrom};
use mvcc::{Entry, State as _, read};

use super::restore::{CACHE_BYTES, Restored, into_new_dir};
use super::{SnapshotError, mvcc_error};
use crate::db::{self, AppliedIndex, Change, Db, MEMBERS};
use crate::raft::types::{Command, KIND_BLANK, KIND_COMMAND, KIND_MEMBERSHIP};
use crate::replicator::{KIND_ENTRY, NODE, TERM};
use crate::service::{SEGMENT_BYTES, ZERO_FILL_BYTES, unreadable};
use crate::{Error, LogIndex};

/// Entries applied in one transaction.
const STEP_ENTRIES: usize = 512;

/// Makes the directory of a new store from a member's. No process may run on `old`. The store gets ids of its own when
/// it starts. `dir` appears whole or not at all.
///
/// # Errors
/// A directory that is not empty, or holds no store; a disk that refuses; a log that does not fit the state.
pub fn revive(old: &Path, dir: &Path) -> Result<Restored, SnapshotError> {
    let disk = RealDisk;
    if !disk.exists(&old.join("state.redb")) {
        return Err(SnapshotError::Refused(format!("{}: no store is here", old.display())));
    }
    into_new_dir(dir, |beside| {
        std::fs::copy(old.join("state.redb"), beside.join("state.redb"))?;
        for part in ["values", "wal"] {
            let (from, to) = (old.join(part), beside.join(part));
            disk.create_dir_all(&to)?;
            for name in if disk.exists(&from) { disk.list(&from)? } else { Vec::new() } {
                std::fs::copy(from.join(&name), to.join(&name))?;
            }
        }
        let wal = beside.join("wal");
        let db = Db::open(&RealDisk::shared(), beside, CACHE_BYTES)?;
        let revived = catch_up(&db, &wal);
        db.close();
        disk.remove_dir_all(&wal)?;
        revived
    })
}

fn catch_up(db: &Db, wal: &Path) -> Result<Restored, SnapshotError> {
    let applied = db::applied(&db.view().map_err(mvcc_error)?)?;
    let next = Offset(applied.index.get() + 1);
    let layout = LogOptions {
        segment_bytes: SEGMENT_BYTES,
        zero_fill_bytes: ZERO_FILL_BYTES,
        ..LogOptions::default()
    };
    let mut tail: Vec<(WalMeta, Bytes)> = Vec::new();
    let opened = Log::<WalFrame>::open(
        RealDisk::shared(),
        wal,
        layout,
        OpenFrom::RecoveryPoint(next),
        next,
        &mut |frame, bytes| {
            if frame.first >= next {
                tail.extend(WalFrame::decode(bytes));
            }
        },
    );
    drop(opened.map_err(|error| unreadable(wal, error))?);
    let mut changes = 0;
    for step in tail.chunks(STEP_ENTRIES) {
        let mut entries = Vec::new();
        for (meta, payload) in step {
            entries.extend(entry(meta, payload).map_err(|what| Error::corrupt(wal, what))?);
        }
        changes += entries.len() as u64;
        db.update(false, |state| mvcc::apply(state, &entries))?;
    }
    let last = tail.last().map_or(applied.index.get(), |(meta, _)| meta.index.get());
    // What one member wrote that runs alone is of this term and node.
    let applied = AppliedIndex { index: LogIndex(last), term: TERM, node: NODE };
    db.update(true, |state: &mut Change<'_>| {
        state.delete(MEMBERS)?;
        state.set_applied(applied)
    })?;
    let view = db.view().map_err(mvcc_error)?;
    let leases = read::leases(&view)?.len() as u64;
    Ok(Restored { revision: read::revision(&view)?, compacted: read::compacted(&view)?, changes, leases })
}

/// The entry in a frame; None in one that is about the cluster only.
fn entry(meta: &WalMeta, payload: &Bytes) -> Result<Option<Entry>, String> {
    let what = |error: &dyn std::fmt::Display| format!("entry {}: {error}", meta.index);
    let bytes = match meta.kind {
        KIND_BLANK | KIND_MEMBERSHIP => return Ok(None),
        KIND_ENTRY | KIND_COMMAND => {
            let command = Command { kind: meta.kind, payload: payload.clone() };
            command.split().map_err(|error| what(&error))?.1
        }
        kind => return Err(what(&format!("unknown kind {kind}"))),
    };
    Entry::decode(bytes).map(Some).map_err(|error| what(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use store_api::{Op, RangeRequest, Store as _, Txn};

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_acknowledged_is_there_also_when_the_state_had_not_seen_it() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        let tasks = base::task::Tasks::new();
        let put = async |store: &crate::Handle, n: usize| {
            // Half of the values are apart from the tree.
            let put = Op::put(format!("k{n}"), "v".repeat(1 + n % 2 * 300));
            store.txn(Txn { success: vec![put], ..Txn::default() }).await.unwrap();
        };
        let store = crate::Service::start(crate::Options::new(&old), &tasks).unwrap();
        for n in 0..40 {
            put(&store, n).await;
        }
        store.close().await;
        let store = crate::Service::start(crate::Options::new(&old), &tasks).unwrap();
        for n in 30..70 {
            put(&store, n).await;
        }
        // As a crash leaves it: the state has no durable commit of the last, the log has all.
        let crashed = dir.path().join("crashed");
        std::fs::create_dir_all(&crashed).unwrap();
        for name in ["state.redb", "FORMAT", "MEMBER"] {
            std::fs::copy(old.join(name), crashed.join(name)).unwrap();
        }
        for part in ["values", "wal"] {
            std::fs::create_dir_all(crashed.join(part)).unwrap();
            for name in RealDisk.list(&old.join(part)).unwrap() {
                std::fs::copy(old.join(part).join(&name), crashed.join(part).join(&name)).unwrap();
            }
        }
        let told = revive(&crashed, &new).unwrap();
        assert_eq!(told.revision, store.revision());
        let again = crate::Service::start(crate::Options::new(&new), &base::task::Tasks::new()).unwrap();
        let all = RangeRequest::prefix("");
        assert_eq!(again.range(all.clone()).await.unwrap(), store.range(all).await.unwrap());
        assert_ne!(again.header().cluster_id, store.header().cluster_id);
        again.txn(Txn { success: vec![Op::put("more", "1")], ..Txn::default() }).await.unwrap();
        assert!(revive(&dir.path().join("nothing"), &dir.path().join("x")).is_err());
        store.close().await;
    }
}
