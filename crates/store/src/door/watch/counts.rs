//! What one stream adds to the door's counts of watches, taken back when it ends.

use std::sync::Arc;

use crate::door::metrics::Metrics;

/// See the module.
pub(super) struct Counts {
    metrics: Arc<Metrics>,
    watchers: i64,
    slow: i64,
}

impl Counts {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        metrics.watch.streams.change(1);
        Self { metrics, watchers: 0, slow: 0 }
    }

    /// The stream has so many watches now, of which so many read history.
    pub(super) fn note(&mut self, watchers: usize, slow: usize) {
        // Bounded far below by the watches a stream may have.
        let (watchers, slow) = (watchers as i64, slow as i64);
        self.metrics.watch.watchers.change(watchers - self.watchers);
        self.metrics.watch.slow.change(slow - self.slow);
        (self.watchers, self.slow) = (watchers, slow);
    }

    /// Events were sent.
    pub(super) fn sent(&self, events: usize) {
        self.metrics.watch.events.add(events as u64);
    }
}

impl Drop for Counts {
    fn drop(&mut self) {
        self.note(0, 0);
        self.metrics.watch.streams.change(-1);
    }
}
