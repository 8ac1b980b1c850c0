//! Whether the member still serves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use store_api::Error;
use tokio::sync::Notify;

/// What a member says whose state is not the others'.
const DIFFERS: &str = "the state of this member differs from the others' (alarm CORRUPT): remove it and let it join anew with \
                       an empty directory";

/// What keeps a member from serving.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// Set once, when the log or the state failed in a way only a restart mends: what the disk holds is unknown then.
    fence: OnceLock<String>,
    /// What this member holds is not what was agreed on: an alarm says so, or it cannot be read.
    differs: AtomicBool,
    /// Told of damage in what this member holds; only where others hold the same.
    told: OnceLock<Arc<Notify>>,
}

impl Health {
    /// Refuses all writes from now on. The first reason stays.
    pub(crate) fn fence(&self, reason: &str) {
        if self.fence.set(reason.to_owned()).is_ok() {
            tracing::error!(reason, "the store takes no more writes until it is restarted");
        }
    }

    /// The one who is told of damage: others hold the same, so that this member need not serve what it cannot rely on.
    pub(crate) fn tell(&self, told: Arc<Notify>) {
        // Set once, at the start.
        let _ = self.told.set(told);
    }

    /// Looks whether a read found damage in what this member holds. One of several serves nothing of it any more; one
    /// that is alone goes on with the rest.
    pub(crate) fn look<T>(&self, read: Result<T, Error>) -> Result<T, Error> {
        if let Err(Error::Corrupt(why)) = &read
            && !self.differs()
        {
            tracing::error!(why, "what the store holds is damaged");
            if let Some(told) = self.told.get() {
                self.set_differs(true);
                told.notify_one();
            }
        }
        read
    }

    /// Why writes are refused, if they are.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.fence.get().map(String::as_str)
    }

    /// That this member's state differs, in words.
    pub(crate) fn difference(&self) -> Option<&str> {
        self.differs().then_some(DIFFERS)
    }

    /// An error when writes are refused.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.fence.get().map_or(Ok(()), |reason| Err(Error::Unavailable(reason.clone())))
    }

    /// Whether this member's state differs from the others'; true when that is news.
    pub(crate) fn set_differs(&self, differs: bool) -> bool {
        let news = self.differs.swap(differs, Ordering::AcqRel) != differs;
        if news && differs {
            tracing::error!(DIFFERS);
        }
        news
    }

    pub(crate) fn differs(&self) -> bool {
        self.differs.load(Ordering::Acquire)
    }

    /// An error when nothing of the state may be served.
    pub(crate) fn check_state(&self) -> Result<(), Error> {
        if self.differs() { Err(Error::Corrupt(DIFFERS.to_owned())) } else { Ok(()) }
    }
}
