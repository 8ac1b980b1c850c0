//! Compaction by itself, as etcd's `--auto-compaction-mode` and `--auto-compaction-retention`.
//!
//! ```text
//! periodic   every hour, or every retention where that is shorter: forgets what is older than the retention; looked at
//!            ten times as often, so that the revision of then is known
//! revision   every five minutes: forgets all but so many revisions
//! ```
//! Once there is nothing left to forget it waits for the next change: an idle store is not looked at.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mvcc::watch::{Delivery, Listener};
use store_api::{Error, KeyRange, Revision, Store as _};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::Handle;

/// etcd's `revInterval`.
const REVISION_EVERY: Duration = Duration::from_secs(5 * 60);
/// etcd compacts at least once an hour.
const PERIOD_MAX: Duration = Duration::from_secs(3600);
/// Looks in a period: etcd's `retryDivisor`.
const LOOKS: u32 = 10;

/// What to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// History of this time.
    Time(Duration),
    /// So many revisions.
    Revisions(i64),
}

impl Retention {
    fn every(self) -> Duration {
        match self {
            Self::Time(time) => (time.min(PERIOD_MAX) / LOOKS).max(Duration::from_millis(100)),
            Self::Revisions(_) => REVISION_EVERY,
        }
    }
}

impl Handle {
    /// Compacts for as long as the member runs; only where it leads.
    pub async fn compact_always(self, retention: Retention) {
        let token = self.inner.tasks.token();
        let mut past = Past::default();
        loop {
            let now = self.revision();
            let found = past.look(retention, Instant::now(), now);
            let Some(revision) = found else {
                let settled = past.is_settled(retention, now);
                tokio::select! {
                    () = self.next_look(retention, settled.then_some(now)) => continue,
                    () = token.cancelled() => return,
                }
            };
            if self.status().is_ok_and(|status| status.leader != Some(status.header.member_id)) {
                continue;
            }
            match self.compact(revision).await {
                Ok(()) => tracing::info!(%revision, "compacted by itself"),
                Err(Error::Compacted { .. }) => {}
                Err(Error::ShuttingDown) => return,
                Err(error) => {
                    tracing::warn!(%revision, %error, "not compacted");
                    // A later look tries again.
                    past.compacted = None;
                    tokio::select! {
                        () = tokio::time::sleep(retention.every()) => {}
                        () = token.cancelled() => return,
                    }
                }
            }
        }
    }

    /// Waits until it is time to look again; first, where there is nothing to forget, until something happens.
    async fn next_look(&self, retention: Retention, settled: Option<Revision>) {
        if let Some(revision) = settled {
            self.changed(revision).await;
        }
        tokio::time::sleep(retention.every()).await;
    }

    /// Waits until something has happened since `revision`.
    async fn changed(&self, revision: Revision) {
        let everything = KeyRange::Span { start: Bytes::from_static(b"\0"), end: Bytes::new() };
        let alarm = Arc::new(Alarm::default());
        let (membership, now) = self.hub().join(&everything, 0, alarm.clone());
        let _leaves = Leaves { handle: self, membership };
        if now <= revision {
            alarm.rung.notified().await;
        }
    }
}

/// Hears once that something happened, whatever it was.
#[derive(Debug, Default)]
struct Alarm {
    rung: Notify,
}

impl Listener for Alarm {
    fn offer(&self, _tag: u64, _delivery: &Arc<Delivery>) -> bool {
        self.rung.notify_one();
        false
    }

    fn fell(&self, _tag: u64) {
        self.rung.notify_one();
    }
}

/// Ends a membership, also when nobody waits for it any more.
struct Leaves<'a> {
    handle: &'a Handle,
    membership: u64,
}

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.handle.hub().leave(self.membership);
    }
}

/// Which revision was when.
#[derive(Debug, Default)]
struct Past {
    seen: VecDeque<(Instant, Revision)>,
    compacted: Option<(Instant, Revision)>,
}

impl Past {
    /// Whether there is nothing to forget before something happens.
    fn is_settled(&self, retention: Retention, revision: Revision) -> bool {
        let last = match retention {
            Retention::Time(_) => revision,
            Retention::Revisions(keep) => Revision(revision.get() - keep),
        };
        last.get() <= 0 || self.compacted.is_some_and(|(_, compacted)| compacted >= last)
    }

    /// The revision to compact at now, if it is time.
    fn look(&mut self, retention: Retention, now: Instant, revision: Revision) -> Option<Revision> {
        let at = match retention {
            Retention::Revisions(keep) => Revision(revision.get() - keep),
            Retention::Time(time) => self.before(time, now, revision)?,
        };
        let again = self.compacted.is_some_and(|(_, last)| last >= at);
        if again || at.get() <= 0 {
            return None;
        }
        self.compacted = Some((now, at));
        Some(at)
    }

    /// The revision as it was `time` ago, once a period.
    fn before(&mut self, time: Duration, now: Instant, revision: Revision) -> Option<Revision> {
        self.seen.push_back((now, revision));
        let period = time.min(PERIOD_MAX);
        let mut old = None;
        while let Some((then, revision)) = self.seen.front().copied().filter(|(then, _)| *then + time <= now)
        {
            old = Some((then, revision));
            self.seen.pop_front();
        }
        let (then, revision) = old?;
        if self.compacted.is_some_and(|(last, _)| now < last + period) {
            // Too early; what was found is needed then.
            self.seen.push_front((then, revision));
            return None;
        }
        Some(revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_revisions_are_kept() {
        let began = Instant::now();
        let at = |minutes: u64| began + Duration::from_secs(minutes * 60);
        let mut past = Past::default();
        let kept = Retention::Time(Duration::from_secs(600));
        let looks: Vec<_> = (0..=40)
            .filter_map(|minute| {
                let found = past.look(kept, at(minute), Revision(1 + minute as i64 * 10))?;
                Some((minute, found.get()))
            })
            .collect();
        assert_eq!(looks, [(10, 1), (20, 101), (30, 201), (40, 301)]);
        assert!(!past.is_settled(kept, Revision(302)) && past.is_settled(kept, Revision(301)));
        let mut past = Past::default();
        let kept = Retention::Revisions(100);
        let mut look = |revision| past.look(kept, began, Revision(revision)).map(Revision::get);
        assert_eq!(
            [look(50), look(100), look(150), look(150), look(400)],
            [None, None, Some(50), None, Some(300)]
        );
        assert!(past.is_settled(kept, Revision(400)) && !past.is_settled(kept, Revision(401)));
    }
}
