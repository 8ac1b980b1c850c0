//! A value whose changes tasks wait for, woken in the order in which they began to wait.
//!
//! tokio's own spreads those who wait over several lists by chance, which no simulation can seed.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use openraft::async_runtime::watch::{RecvError, SendError, Watch, WatchReceiver, WatchSender};
use openraft::{OptionalSend, OptionalSync};
use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::Notify;

/// See the module.
pub(crate) struct InOrder;

struct Shared<T> {
    value: RwLock<T>,
    /// Changes so far; moves under the value's lock.
    version: AtomicU64,
    senders: AtomicUsize,
    receivers: AtomicUsize,
    news: Notify,
}

/// Changes the value.
pub(crate) struct Sender<T>(Arc<Shared<T>>);

/// Waits for changes.
pub(crate) struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

/// The value, as long as nobody changes it.
pub(crate) struct Held<'a, T>(RwLockReadGuard<'a, T>);

impl<T> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Shared<T> {
    fn receiver(self: &Arc<Self>) -> Receiver<T> {
        self.receivers.fetch_add(1, Ordering::AcqRel);
        let value = self.value.read();
        let seen = self.version.load(Ordering::Acquire);
        drop(value);
        Receiver { shared: self.clone(), seen }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.senders.fetch_add(1, Ordering::AcqRel);
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.news.notify_waiters();
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.shared.receivers.fetch_add(1, Ordering::AcqRel);
        Self { shared: self.shared.clone(), seen: self.seen }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.receivers.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Watch for InOrder {
    type Sender<T: OptionalSend + OptionalSync> = Sender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = Receiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = Held<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(init: T) -> (Sender<T>, Receiver<T>) {
        let shared = Arc::new(Shared {
            value: RwLock::new(init),
            version: AtomicU64::new(0),
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(0),
            news: Notify::new(),
        });
        let receiver = shared.receiver();
        (Sender(shared), receiver)
    }
}

impl<T: OptionalSend + OptionalSync> WatchSender<InOrder, T> for Sender<T> {
    fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.0.receivers.load(Ordering::Acquire) == 0 {
            return Err(SendError(value));
        }
        self.send_if_modified(|current| {
            *current = value;
            true
        });
        Ok(())
    }

    fn send_if_modified<F: FnOnce(&mut T) -> bool>(&self, modify: F) -> bool {
        let mut value = self.0.value.write();
        let modified = modify(&mut value);
        if modified {
            self.0.version.fetch_add(1, Ordering::AcqRel);
        }
        drop(value);
        if modified {
            self.0.news.notify_waiters();
        }
        modified
    }

    fn borrow_watched(&self) -> Held<'_, T> {
        Held(self.0.value.read())
    }

    fn subscribe(&self) -> Receiver<T> {
        self.0.receiver()
    }
}

impl<T: OptionalSend + OptionalSync> WatchReceiver<InOrder, T> for Receiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        loop {
            // Made before the look, so that a change between the look and the wait is not missed.
            let news = self.shared.news.notified();
            let version = self.shared.version.load(Ordering::Acquire);
            if version != self.seen {
                self.seen = version;
                return Ok(());
            }
            if self.shared.senders.load(Ordering::Acquire) == 0 {
                return Err(RecvError(()));
            }
            news.await;
        }
    }

    fn borrow_watched(&self) -> Held<'_, T> {
        Held(self.shared.value.read())
    }

    fn borrow_and_update(&mut self) -> Held<'_, T> {
        let value = self.shared.value.read();
        self.seen = self.shared.version.load(Ordering::Acquire);
        Held(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn those_who_wait_hear_of_changes_in_their_order() {
        let (sender, mut first) = InOrder::channel(0);
        let heard = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let waits: Vec<_> = (0..20)
            .map(|n| {
                let (mut receiver, heard) = (sender.subscribe(), heard.clone());
                tokio::spawn(async move {
                    receiver.changed().await.map_err(|_| "no sender").unwrap();
                    heard.lock().push((n, *receiver.borrow_watched()));
                })
            })
            .collect();
        tokio::task::yield_now().await;
        sender.send(7).map_err(|_| "no receiver").unwrap();
        for wait in waits {
            wait.await.unwrap();
        }
        assert_eq!(*heard.lock(), (0..20).map(|n| (n, 7)).collect::<Vec<_>>());
        assert_eq!(*first.borrow_and_update(), 7);
        assert!(
            !sender.send_if_modified(|_| false)
                && sender.send_if_modified(|value| std::mem::replace(value, 8) == 7)
        );
        assert!(first.changed().await.is_ok());
        drop(sender);
        assert!(first.changed().await.is_err());
        let (sender, receiver) = InOrder::channel(0);
        drop(receiver);
        assert!(sender.send(1).is_err());
    }
}
