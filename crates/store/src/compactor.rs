//! Compaction by itself, as etcd's `--auto-compaction-mode` and `--auto-compaction-retention`.
//!
//! ```text
//! periodic   every hour, or every retention where that is shorter: forgets what is older than the retention; looked at
//!            ten times as often, so that the revision of then is known
//! revision   every five minutes: forgets all but so many revisions
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use store_api::{Error, Revision, Store as _};
use tokio::time::{Instant, MissedTickBehavior};

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
        let mut ticks = tokio::time::interval(retention.every());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = token.cancelled() => return,
            }
            let Some(revision) = past.look(retention, Instant::now(), self.revision()) else { continue };
            if self.status().is_ok_and(|status| status.leader != Some(status.header.member_id)) {
                continue;
            }
            match self.compact(revision).await {
                Ok(()) => tracing::info!(%revision, "compacted by itself"),
                Err(Error::Compacted { .. }) => {}
                Err(Error::ShuttingDown) => return,
                // The next look tries again.
                Err(error) => tracing::warn!(%revision, %error, "not compacted"),
            }
        }
    }
}

/// Which revision was when.
#[derive(Debug, Default)]
struct Past {
    seen: VecDeque<(Instant, Revision)>,
    compacted: Option<(Instant, Revision)>,
}

impl Past {
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
        let mut past = Past::default();
        let kept = Retention::Revisions(100);
        let mut look = |revision| past.look(kept, began, Revision(revision)).map(Revision::get);
        assert_eq!(
            [look(50), look(100), look(150), look(150), look(400)],
            [None, None, Some(50), None, Some(300)]
        );
    }
}
