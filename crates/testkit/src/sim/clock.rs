//! A clock that stands still until it is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::clock::Clock;

/// What the wall clock shows at the start, milliseconds since 1970: 2026-01-01 UTC.
const START_UNIX_MS: i64 = 1_767_225_600_000;

/// A clock under the test's control. Clones are the same clock.
#[derive(Debug, Clone, Default)]
pub struct SimClock {
    elapsed_ms: Arc<AtomicU64>,
}

impl SimClock {
    /// A clock at 2026-01-01 UTC.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the time on.
    pub fn advance(&self, by: Duration) {
        self.elapsed_ms.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn unix_ms(&self) -> i64 {
        START_UNIX_MS + self.elapsed_ms.load(Ordering::SeqCst).cast_signed()
    }
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.elapsed_ms.load(Ordering::SeqCst))
    }
}
