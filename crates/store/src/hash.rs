//! Fingerprints of what a member holds, to compare with other members'.

use mvcc::hash::{HistoryHash, history};
use store_api::{Error, Revision};

use crate::Handle;

impl Handle {
    /// The fingerprint of the history up to a revision (0: now). Reads the whole state.
    ///
    /// # Errors
    /// `Compacted`, `FutureRevision`; or the state's.
    pub async fn history_hash(&self, at: Revision) -> Result<HistoryHash, Error> {
        let reads = self.inner.reads.clone();
        if let Some(member) = &self.inner.member {
            // Where a member's blocking work is done.
            let hashed = member
                .shared
                .hands
                .run(move || Ok(reads.db.view().and_then(|view| history(&view, at).map_err(Error::from))));
            let hashed = hashed.await.unwrap_or_else(|e| Err(Error::Unavailable(e.to_string())));
            return self.inner.health.look(hashed);
        }
        let hashed = tokio::task::spawn_blocking(move || Ok(history(&reads.db.view()?, at)?)).await;
        hashed.unwrap_or_else(|join| Err(Error::Unavailable(format!("the hash was not finished: {join}"))))
    }
}
