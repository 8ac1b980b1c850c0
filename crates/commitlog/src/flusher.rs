//! One thread that makes logs durable, with group commit.
//!
//! ```text
//!   request(target, done) ──▶ queue ──▶ round: distinct targets, each flushed once ──▶ every done(result)
//! ```
//! Requests that arrive while a round runs wait for the next one, so that a burst of writers costs one fdatasync a file.
//! The queue is bounded by its callers: each writer has one request under way per append it waits for.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

/// A round of this many targets is spread over [`SPREAD`] threads that live as long as the round: disks work on several
/// syncs at a time (64 files: 13-16 ms one after the other, about 8 ms by four).
const SPREAD_FROM: usize = 8;
const SPREAD: usize = 4;

/// Something the flusher can make durable.
pub trait Flush: Send + Sync {
    /// Begins to write what [`Flush::flush`] will wait for. A round of several targets begins all of them first: the disk
    /// then works on all of them, and one commit of its journal serves all.
    fn begin(&self) {}

    /// Makes everything written before the call durable. Blocks.
    fn flush(&self) -> io::Result<()>;
}

/// Why a flush failed; shared by all who waited for the round.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FlushError {
    /// The disk refused.
    #[error("flush failed: {0}")]
    Io(Arc<io::Error>),
    /// The flusher is gone.
    #[error("the flusher has stopped")]
    Stopped,
}

/// Called once on the flusher's thread when the round ends. Must be short and must not block.
pub type Done = Box<dyn FnOnce(Result<(), FlushError>) + Send>;

struct Request {
    target: Arc<dyn Flush>,
    done: Done,
}

#[derive(Default)]
struct Queue {
    requests: Vec<Request>,
    stopped: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

/// A handle on the thread; clones share it. The thread ends with the last handle.
#[derive(Clone)]
pub struct Flusher {
    inner: Arc<Owner>,
}

struct Owner {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Flusher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flusher").finish_non_exhaustive()
    }
}

impl Flusher {
    /// Starts the thread; `name` is what `ps -L` shows.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(name: &str) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mine = shared.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || run(&mine))?;
        Ok(Self { inner: Arc::new(Owner { shared, thread: Mutex::new(Some(thread)) }) })
    }

    /// Asks for `target` to be durable up to everything written before this call; `done` is told.
    pub fn request(&self, target: Arc<dyn Flush>, done: Done) {
        let mut queue = self.inner.shared.queue.lock();
        if queue.stopped {
            drop(queue);
            return done(Err(FlushError::Stopped));
        }
        queue.requests.push(Request { target, done });
        let first = queue.requests.len() == 1;
        drop(queue);
        // The thread sleeps only over an empty queue, so only the first request of a round has to wake it.
        if first {
            self.inner.shared.wake.notify_one();
        }
    }

    /// Asks and waits. Blocks: not for async workers.
    ///
    /// # Errors
    /// The round's.
    pub fn flush(&self, target: Arc<dyn Flush>) -> Result<(), FlushError> {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        self.request(
            target,
            Box::new(move |result| {
                // The receiver lives until it is told.
                let _ = tell.send(result);
            }),
        );
        told.recv().unwrap_or(Err(FlushError::Stopped))
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.queue.lock().stopped = true;
        self.shared.wake.notify_one();
        let Some(thread) = self.thread.lock().take() else { return };
        // A `done` may hold the last handle: the thread cannot wait for itself.
        if thread.thread().id() != std::thread::current().id() {
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared) {
    while let Some(requests) = next_round(shared) {
        flush_round(requests);
    }
}

/// Waits for requests; None when stopped and nothing is left.
fn next_round(shared: &Shared) -> Option<Vec<Request>> {
    let mut queue = shared.queue.lock();
    while queue.requests.is_empty() {
        if queue.stopped {
            return None;
        }
        shared.wake.wait(&mut queue);
    }
    Some(std::mem::take(&mut queue.requests))
}

/// A target and all who asked for it.
type Target = (Arc<dyn Flush>, Vec<Done>);

/// Flushes each distinct target once and tells all who asked for it as soon as it is done.
fn flush_round(requests: Vec<Request>) {
    let mut targets: Vec<Target> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for Request { target, done } in requests {
        let place = *places.entry(Arc::as_ptr(&target).cast::<()>()).or_insert(targets.len());
        match targets.get_mut(place) {
            Some((_, dones)) => dones.push(done),
            None => targets.push((target, vec![done])),
        }
    }
    if targets.len() > 1 {
        targets.iter().for_each(|(target, _)| target.begin());
    }
    let helpers = if targets.len() < SPREAD_FROM { 0 } else { SPREAD - 1 };
    let left = Mutex::new(targets.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..helpers {
            // Without a thread to spare, those that there are do all of it.
            let _ = std::thread::Builder::new().spawn_scoped(scope, || flush_all(&left));
        }
        flush_all(&left);
    });
}

/// Takes targets until none is left.
fn flush_all(left: &Mutex<std::vec::IntoIter<Target>>) {
    loop {
        let next = left.lock().next();
        let Some((target, dones)) = next else { return };
        let result = target.flush().map_err(|error| FlushError::Io(Arc::new(error)));
        for done in dones {
            done(result.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    struct Gate {
        begun: AtomicUsize,
        flushes: AtomicUsize,
        gate: Mutex<mpsc::Receiver<()>>,
        fail: bool,
    }

    impl Flush for Gate {
        fn begin(&self) {
            self.begun.fetch_add(1, Ordering::SeqCst);
        }

        fn flush(&self) -> io::Result<()> {
            self.gate.lock().recv().ok();
            self.flushes.fetch_add(1, Ordering::SeqCst);
            if self.fail { Err(io::Error::other("gone")) } else { Ok(()) }
        }
    }

    fn gate(fail: bool) -> (Arc<Gate>, mpsc::Sender<()>) {
        let (open, gate) = mpsc::channel();
        (
            Arc::new(Gate {
                begun: AtomicUsize::new(0),
                flushes: AtomicUsize::new(0),
                gate: Mutex::new(gate),
                fail,
            }),
            open,
        )
    }

    #[test]
    fn requests_that_wait_share_a_round() {
        let flusher = Flusher::start("test").unwrap();
        let (target, open) = gate(false);
        let (tell, told) = mpsc::channel();
        for n in 0..10 {
            let tell = tell.clone();
            flusher.request(target.clone(), Box::new(move |r| tell.send((n, r.is_ok())).unwrap()));
            if n == 0 {
                // Let the first round begin alone.
                while !flusher.inner.shared.queue.lock().requests.is_empty() {
                    std::thread::yield_now();
                }
            }
        }
        open.send(()).unwrap();
        open.send(()).unwrap();
        let all: Vec<_> = (0..10).map(|_| told.recv().unwrap()).collect();
        assert_eq!(all, (0..10).map(|n| (n, true)).collect::<Vec<_>>());
        assert_eq!(target.flushes.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_failed_flush_is_told_to_its_own_waiters_only() {
        let flusher = Flusher::start("test").unwrap();
        let ((bad, open_bad), (good, open_good)) = (gate(true), gate(false));
        open_bad.send(()).unwrap();
        open_good.send(()).unwrap();
        assert!(flusher.flush(bad).is_err());
        assert!(flusher.flush(good).is_ok());
    }

    #[test]
    fn a_large_round_flushes_every_target_once() {
        let flusher = Flusher::start("test").unwrap();
        let (blocker, release) = gate(false);
        flusher.request(blocker, Box::new(drop));
        while !flusher.inner.shared.queue.lock().requests.is_empty() {
            std::thread::yield_now();
        }
        let (tell, told) = mpsc::channel();
        let targets: Vec<_> = (0..50).map(|n| gate(n % 7 == 0)).collect();
        for (n, (target, open)) in targets.iter().enumerate() {
            open.send(()).unwrap();
            for _ in 0..2 {
                let tell = tell.clone();
                flusher.request(target.clone(), Box::new(move |r| tell.send((n, r.is_ok())).unwrap()));
            }
        }
        release.send(()).unwrap();
        let mut all: Vec<_> = (0..100).map(|_| told.recv().unwrap()).collect();
        all.sort_unstable();
        assert!(all.iter().all(|&(n, ok)| ok == (n % 7 != 0)));
        assert!(targets.iter().all(|(t, _)| t.flushes.load(Ordering::SeqCst) == 1));
        assert!(targets.iter().all(|(t, _)| t.begun.load(Ordering::SeqCst) == 1));
    }

    #[test]
    fn the_thread_finishes_what_was_asked_and_ends() {
        let flusher = Flusher::start("test").unwrap();
        let (target, open) = gate(false);
        let (tell, told) = mpsc::channel();
        flusher.request(target, Box::new(move |r| tell.send(r.is_ok()).unwrap()));
        open.send(()).unwrap();
        drop(flusher);
        assert!(told.recv().unwrap());
    }
}
