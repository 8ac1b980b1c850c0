//! Whether all members hold the same: the leader asks each for the fingerprint of its history, now and then.
//!
//! For a member whose fingerprint is not the majority's the leader raises the CORRUPT alarm, and it takes no more part: what it
//! holds is not what was agreed on. A member that finds damage in what it holds, whoever read it, raises the alarm itself.

use std::collections::BTreeMap;
use std::time::Duration;

use mvcc::alarm::{Alarm, AlarmKind};
use mvcc::hash::history;
use mvcc::{Entry, read};
use store_api::Revision;
use tokio::sync::Notify;

use super::error::PeerError;
use super::member::Member;
use super::transport::Lane;
use super::types::{self, Command, Origin};
use super::wire::Request;

/// How often, when anything has changed: reading a whole state is not free.
pub(crate) const COMPARE_EVERY: Duration = Duration::from_secs(600);
/// How long a member waits before it tries again to say that it is damaged.
const ACCUSE_EVERY: Duration = Duration::from_secs(1);
/// How long followers get to apply what they are asked about.
const APPLIED_WITHIN: Duration = Duration::from_secs(1);
/// How long a member may take to read its state.
const HASH_PATIENCE: Duration = Duration::from_secs(60);

/// A fingerprint, and what of the history it covers: only equal spans compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fingerprint {
    pub hash: u64,
    pub compacted: i64,
}

/// Members whose fingerprint is not the one most members have; of two halves, the leader's is right.
pub(crate) fn odd_ones(leader: u64, found: &BTreeMap<u64, Fingerprint>) -> Vec<u64> {
    let Some(own) = found.get(&leader) else { return Vec::new() };
    // A member that is behind with a compaction cannot be compared now.
    let comparable: BTreeMap<u64, u64> =
        found.iter().filter(|(_, f)| f.compacted == own.compacted).map(|(id, f)| (*id, f.hash)).collect();
    let count = |hash: u64| comparable.values().filter(|other| **other == hash).count();
    let most = comparable.values().copied().max_by_key(|hash| (count(*hash), *hash == own.hash));
    comparable.iter().filter(|(_, hash)| Some(**hash) != most).map(|(id, _)| *id).collect()
}

impl Member {
    /// Compares now and then, as long as this member leads and something has changed.
    pub(crate) async fn compare_now_and_then(self: std::sync::Arc<Self>) {
        let mut compared = Revision(0);
        loop {
            tokio::time::sleep(COMPARE_EVERY).await;
            let revision = self.shared.applier.lock().hub.revision();
            if revision == compared || *self.leader.borrow() != Some(self.me) {
                continue;
            }
            // Followers in step have applied it by then.
            tokio::time::sleep(APPLIED_WITHIN).await;
            match self.compare(revision).await {
                Ok(()) => compared = revision,
                Err(error) => tracing::warn!(%error, "the members were not compared"),
            }
        }
    }

    /// Raises the alarm for this member when it finds damage in what it holds.
    pub(crate) async fn accuse_itself(self: std::sync::Arc<Self>, damaged: std::sync::Arc<Notify>) {
        loop {
            damaged.notified().await;
            while let Err(error) = self.lead(Request::Propose(vec![accusation(self.me)])).await {
                tracing::warn!(%error, "the alarm for this member's damage is not raised yet");
                tokio::time::sleep(ACCUSE_EVERY).await;
            }
        }
    }

    /// The fingerprint of this member's history up to a revision.
    pub(crate) async fn fingerprint(&self, revision: Revision) -> Result<Fingerprint, PeerError> {
        let db = self.shared.applier.lock().db.clone();
        let hashed = self.shared.hands.run(move || {
            let hashed = db.view().and_then(|view| {
                let hash = history(&view, revision)?.hash;
                Ok(Fingerprint { hash, compacted: read::compacted(&view)?.get() })
            });
            Ok(hashed)
        });
        let hashed = hashed.await.map_err(|error| PeerError::Busy(error.to_string()))?;
        self.shared.health.look(hashed).map_err(|error| match error {
            store_api::Error::Corrupt(why) => PeerError::Damaged(why),
            other => PeerError::Busy(other.to_string()),
        })
    }

    /// Compares all members' fingerprints as the leader; raises the alarm for those that differ.
    pub(crate) async fn compare(&self, revision: Revision) -> Result<(), PeerError> {
        let mut found = BTreeMap::from([(self.me, self.fingerprint(revision).await?)]);
        let members = self.members();
        for (id, _) in members.nodes().filter(|(id, _)| **id != self.me) {
            let Some(line) = self.line(*id) else { continue };
            let asked = Request::Hash { revision: revision.get() };
            // One that does not answer, or is behind, is compared another time.
            if let Ok(Ok(mut answer)) = line.ask(Lane::Bulk, &asked, HASH_PATIENCE).await
                && let (Ok(hash), Ok(compacted)) =
                    (types::take_u64(&mut answer), types::take_u64(&mut answer))
            {
                found.insert(*id, Fingerprint { hash, compacted: compacted.cast_signed() });
            }
        }
        for member in odd_ones(self.me, &found) {
            tracing::error!(member, %revision, ?found, "a member holds something else than the others");
            self.append(vec![accusation(member)]).await?;
        }
        Ok(())
    }
}

/// The alarm for a member, as an entry.
fn accusation(member: u64) -> Command {
    let alarm = Alarm { member, kind: AlarmKind::Corrupt };
    let mut encoded = Vec::new();
    Entry::Alarm { alarm, raise: true }.encode(&mut encoded);
    Command::new(Origin { member: 0, number: 0 }, &encoded)
}

#[cfg(test)]
mod tests;
