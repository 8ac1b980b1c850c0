//! A bound on the bytes that requests and answers of all connections hold at a time.
//!
//! Small frames and answers are not counted: their number is bounded with the connections. Whoever needs more waits its
//! turn, and holds nothing meanwhile.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is counted together: a semaphore has fewer permits than there may be bytes.
const UNIT_BYTES: usize = 1024;
/// The bound where `queued.max.request.bytes` sets none: room for the largest request beside two large answers.
const DEFAULT_BYTES: usize = 256 << 20;

/// The bound.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    units: Arc<Semaphore>,
    total: usize,
}

/// Bytes that are held until this goes.
#[derive(Debug)]
pub(crate) struct Held(OwnedSemaphorePermit);

impl Memory {
    /// `bytes` as `queued.max.request.bytes` has it, -1 for the default; never less than one request may have.
    pub(crate) fn new(bytes: i64, request_max: i64) -> Self {
        let bytes = usize::try_from(bytes).unwrap_or(DEFAULT_BYTES).max(request_max.max(0) as usize);
        let total = bytes.div_ceil(UNIT_BYTES).min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        Self { units: Arc::new(Semaphore::new(total)), total }
    }

    /// Waits until `bytes` are free and takes them. More than there are at all are as many as there are.
    pub(crate) async fn hold(&self, bytes: usize) -> Held {
        let units = bytes.div_ceil(UNIT_BYTES).min(self.total) as u32;
        let permit = self.units.clone().acquire_many_owned(units).await;
        Held(permit.expect("the semaphore is never closed"))
    }

    /// Bytes there are.
    pub(crate) fn total(&self) -> usize {
        self.total * UNIT_BYTES
    }

    /// Bytes that nobody holds.
    pub(crate) fn free(&self) -> usize {
        self.units.available_permits() * UNIT_BYTES
    }
}

impl Held {
    /// Gives back what is not needed.
    pub(crate) fn keep(&mut self, bytes: usize) {
        let spare = self.0.num_permits().saturating_sub(bytes.div_ceil(UNIT_BYTES));
        drop(self.0.split(spare));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_needs_more_waits() {
        let memory = Memory::new(10 * 1024, 1024);
        let mut first = memory.hold(8 * 1024).await;
        let waits = memory.hold(4 * 1024);
        tokio::pin!(waits);
        assert!(futures::poll!(&mut waits).is_pending());
        first.keep(6 * 1024);
        let std::task::Poll::Ready(second) = futures::poll!(&mut waits) else { panic!("there is room") };
        assert_eq!(memory.free(), 0);
        drop((first, second));
        // A request that may be is never refused for ever.
        drop(memory.hold(1 << 40).await);
        assert_eq!(Memory::new(1, 4096).free(), 4096);
    }
}
