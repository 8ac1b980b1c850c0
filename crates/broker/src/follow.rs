//! Keeping memory in step with a prefix of the store.
//!
//! ```text
//! watch behind the last revision ──events──▶ event()
//!   │ compacted, fell behind, ended ──▶ reload() ──▶ watch again
//!   └ the store does not answer ──▶ wait, longer each time ──▶ watch again behind the last revision
//! ```

use std::sync::Arc;
use std::time::Duration;

use store_api::{Error, Event, Future_, KeyRange, Revision, Store, WatchMessage, WatchRequest};
use tokio_util::sync::CancellationToken;

/// After a store that did not answer is asked again; doubled up to the most.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// What a prefix of the store is kept in.
pub(crate) trait Follower: Send + Sync {
    /// The prefix.
    fn prefix(&self) -> &'static str;
    /// Takes a change in; one that is known already is passed over.
    fn event(&self, event: &Event);
    /// Reads everything anew; the revision read.
    fn reload(&self) -> Future_<'_, Revision>;
}

/// Follows until cancelled, from behind `from` on. An outage of the store is waited out: what is in memory is served
/// meanwhile.
pub(crate) async fn follow(
    store: Arc<dyn Store>,
    follower: Arc<impl Follower>,
    mut from: Revision,
    stop: CancellationToken,
) -> Result<(), crate::Error> {
    let (mut retry, mut anew) = (RETRY_MIN, false);
    loop {
        let (revision, was_anew) = (from, anew);
        let error = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            error = watch(&*store, &*follower, &mut from, &mut anew) => error,
        };
        let behind =
            matches!(error, Error::Compacted { .. } | Error::SlowWatcher | Error::FutureRevision { .. });
        if from > revision {
            retry = RETRY_MIN;
        }
        anew |= behind;
        if behind && !was_anew {
            continue;
        }
        let prefix = follower.prefix();
        if matches!(error, Error::ShuttingDown) {
            tracing::debug!(prefix, ?retry, "the store stops; its watch is asked for again");
        } else {
            tracing::warn!(prefix, %error, ?retry, "the store's watch ended; asked again");
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(retry) => {}
        }
        retry = (retry * 2).min(RETRY_MAX);
    }
}

/// Reads everything, when `anew`, and watches; why that ended.
async fn watch(store: &dyn Store, follower: &impl Follower, from: &mut Revision, anew: &mut bool) -> Error {
    if *anew {
        match follower.reload().await {
            Ok(revision) => (*from, *anew) = (revision, false),
            Err(error) => return error,
        }
    }
    let request = WatchRequest {
        range: KeyRange::prefix(follower.prefix()),
        start_revision: Some(from.next()),
        prev_kv: false,
    };
    let mut watch = match store.watch(request).await {
        Ok(watch) => watch,
        Err(error) => return error,
    };
    loop {
        match watch.messages.recv().await {
            Some(WatchMessage::Events { events, revision }) => {
                events.iter().for_each(|event| follower.event(event));
                *from = (*from).max(revision);
            }
            Some(WatchMessage::Progress { .. }) => {}
            Some(WatchMessage::Cancelled { error }) => return error,
            // Ended without a word: whatever was missed is read.
            None => return Error::SlowWatcher,
        }
    }
}
