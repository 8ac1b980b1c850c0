//! Alarms of the running member.

use mvcc::alarm::{Alarm, alarms};
use mvcc::{Entry, Reply};
use store_api::Error;

use crate::Handle;

impl Handle {
    /// The alarms that are raised.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn alarms(&self) -> Result<Vec<Alarm>, Error> {
        Ok(alarms(&self.inner.reads.db.view()?)?)
    }

    /// Whether an alarm says that this member's state is not the others', so that it serves nothing of it.
    #[must_use]
    pub fn state_differs(&self) -> bool {
        self.inner.health.differs()
    }

    /// Raises or ends an alarm; None when there was none to end.
    ///
    /// # Errors
    /// As for any write.
    pub async fn set_alarm(&self, alarm: Alarm, raise: bool) -> Result<Option<Alarm>, Error> {
        match self.propose(Entry::Alarm { alarm, raise }).await? {
            Reply::Alarm(changed) => Ok(changed),
            other => Err(Error::Corrupt(format!("unexpected reply {other:?}"))),
        }
    }
}
