//! The quota: a state that has outgrown it raises an alarm, and what adds to it is refused until somebody has made room
//! and ended the alarm (etcd's NOSPACE).

use mvcc::Entry;
use mvcc::alarm::{Alarm, AlarmKind, grows};
use store_api::Error;

use crate::Handle;

impl Handle {
    /// Bytes of the state at which additions are refused; None without a bound.
    #[must_use]
    pub fn quota_bytes(&self) -> Option<u64> {
        self.inner.reads.db.quota_bytes()
    }

    /// Refuses an entry of `bytes` bytes that the quota has no room for, and raises the alarm.
    pub(crate) async fn check_quota(&self, entry: &Entry, bytes: usize) -> Result<(), Error> {
        let Some(quota) = self.quota_bytes() else { return Ok(()) };
        if !grows(entry) || self.inner.reads.db.committed_bytes() + (bytes as u64) < quota {
            return Ok(());
        }
        let alarm = Alarm { member: self.header().member_id, kind: AlarmKind::NoSpace };
        if !self.alarms()?.contains(&alarm) {
            tracing::warn!(
                quota,
                "the state has reached its quota: compact, defragment, then disarm the alarm"
            );
            // Boxed: an alarm is an entry, too, but one that adds nothing and so ends here.
            Box::pin(self.set_alarm(alarm, true)).await?;
        }
        Err(Error::NoSpace)
    }

    /// Bytes of the state's file that hold something.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn used_bytes(&self) -> Result<u64, Error> {
        let reads = self.inner.reads.clone();
        let counted = tokio::task::spawn_blocking(move || reads.db.used_bytes()).await;
        counted.unwrap_or_else(|join| Err(Error::Unavailable(format!("the count was not finished: {join}"))))
    }

    /// Writes the state anew into a file without holes. Reads go on; writes wait.
    ///
    /// # Errors
    /// When the disk refuses; the state is as it was then.
    pub async fn defragment(&self) -> Result<(), Error> {
        let reads = self.inner.reads.clone();
        let rewritten = tokio::task::spawn_blocking(move || reads.db.rewrite()).await;
        let rewritten =
            rewritten.map_err(|join| join.to_string()).and_then(|done| done.map_err(|e| e.to_string()));
        rewritten.map_err(|error| Error::Unavailable(format!("not defragmented: {error}")))
    }
}
