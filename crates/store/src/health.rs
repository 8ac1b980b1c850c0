//! Whether the member still takes writes.

use std::sync::OnceLock;

/// Set once, when the log or the state failed in a way only a restart mends: what the disk holds is unknown then.
#[derive(Debug, Default)]
pub(crate) struct Health {
    fence: OnceLock<String>,
}

impl Health {
    /// Refuses all writes from now on. The first reason stays.
    pub(crate) fn fence(&self, reason: &str) {
        if self.fence.set(reason.to_owned()).is_ok() {
            tracing::error!(reason, "the store takes no more writes until it is restarted");
        }
    }

    /// Why writes are refused, if they are.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.fence.get().map(String::as_str)
    }

    /// An error when writes are refused.
    pub(crate) fn check(&self) -> Result<(), store_api::Error> {
        self.fence.get().map_or(Ok(()), |reason| Err(store_api::Error::Unavailable(reason.clone())))
    }
}
