//! What the hub tells a stream and the stream has not looked at yet.

use std::collections::VecDeque;
use std::sync::Arc;

use mvcc::watch::{Delivery, Listener};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Deliveries a stream may have waiting: several rounds of group commit.
const DELIVERIES_MAX: usize = 1024;
/// Bytes of events they may hold (shared with other streams, so this bounds what one slow stream keeps alive).
const BYTES_MAX: usize = 8 << 20;

/// The queue of one stream.
#[derive(Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    ready: Notify,
}

#[derive(Default)]
struct Inner {
    deliveries: VecDeque<(u64, Arc<Delivery>)>,
    bytes: usize,
    /// Tags that fell out of step.
    fallen: Vec<u64>,
}

impl Queue {
    /// Ends when there may be something.
    pub(super) async fn ready(&self) {
        self.ready.notified().await;
    }

    /// The next delivery with the tag of its range.
    pub(super) fn pop(&self) -> Option<(u64, Arc<Delivery>)> {
        let mut inner = self.inner.lock();
        let (tag, delivery) = inner.deliveries.pop_front()?;
        inner.bytes -= delivery.bytes;
        Some((tag, delivery))
    }

    /// Ranges that fell out of step; to be asked for when the queue is empty, so that all before is known.
    pub(super) fn fallen(&self) -> Vec<u64> {
        std::mem::take(&mut self.inner.lock().fallen)
    }
}

impl Listener for Queue {
    fn offer(&self, tag: u64, delivery: &Arc<Delivery>) -> bool {
        let mut inner = self.inner.lock();
        let full = inner.deliveries.len() >= DELIVERIES_MAX || inner.bytes + delivery.bytes > BYTES_MAX;
        // A delivery larger than the bound goes alone.
        let room = !full || inner.deliveries.is_empty();
        if room {
            inner.bytes += delivery.bytes;
            inner.deliveries.push_back((tag, delivery.clone()));
        } else {
            inner.fallen.push(tag);
        }
        drop(inner);
        self.ready.notify_one();
        room
    }

    fn fell(&self, tag: u64) {
        self.inner.lock().fallen.push(tag);
        self.ready.notify_one();
    }
}
