//! The thread that takes what is waiting, has it made durable in one go, and passes it on to be applied.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use mvcc::{Entry, Reply};
use store_api::Error;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::applier::{Applying, Work};
use crate::health::Health;
use crate::replicator::{Committed, ProposeError, Replicator};

/// Entries made durable together at most: keeps a batch's latency and the apply thread's transaction bounded.
const BATCH_ENTRIES: usize = 512;
/// Bytes made durable together at most; an entry may be larger alone.
const BATCH_BYTES: usize = 2 * 1024 * 1024;

/// Where an entry's reply goes.
pub(crate) type ReplyTo = oneshot::Sender<Result<Reply, Error>>;

/// An entry that waits to be proposed.
pub(crate) struct Proposal {
    pub entry: Entry,
    /// The entry's bytes, made by the caller so that the thread does not have to.
    pub encoded: Vec<u8>,
    pub reply: ReplyTo,
    /// The room it takes up in the queue, given back when it is applied.
    pub room: OwnedSemaphorePermit,
}

/// What the thread is asked.
pub(crate) enum Request {
    Propose(Proposal),
    /// Take nothing more.
    Close,
}

/// Entries that are committed and wait to be applied.
pub(crate) struct Batch {
    pub committed: Committed,
    pub entries: Vec<Entry>,
    pub waiting: Vec<(ReplyTo, OwnedSemaphorePermit)>,
}

pub(crate) struct Proposer {
    pub requests: mpsc::Receiver<Request>,
    pub replicator: Box<dyn Replicator>,
    pub applying: Arc<Applying>,
    pub out: SyncSender<Work>,
    pub health: Arc<Health>,
}

impl Proposer {
    /// Runs until it is asked to close, or nobody is left to ask.
    pub(crate) fn run(mut self) {
        while let Some(Request::Propose(first)) = self.requests.blocking_recv() {
            let (batch, closing) = self.gather(first);
            self.propose(batch);
            if closing {
                break;
            }
        }
        self.requests.close();
        while let Some(Request::Propose(proposal)) = self.requests.blocking_recv() {
            answer(proposal.reply, Err(Error::ShuttingDown));
        }
    }

    /// All that waits, up to the bounds; and whether a close was among it.
    fn gather(&mut self, first: Proposal) -> (Vec<Proposal>, bool) {
        let mut bytes = first.encoded.len();
        let mut batch = vec![first];
        while batch.len() < BATCH_ENTRIES && bytes < BATCH_BYTES {
            match self.requests.try_recv() {
                Ok(Request::Propose(proposal)) => {
                    bytes += proposal.encoded.len();
                    batch.push(proposal);
                }
                Ok(Request::Close) => return (batch, true),
                Err(_) => break,
            }
        }
        (batch, false)
    }

    fn propose(&mut self, batch: Vec<Proposal>) {
        let (mut encoded, mut entries, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
        for proposal in batch {
            encoded.push(proposal.encoded);
            entries.push(proposal.entry);
            waiting.push((proposal.reply, proposal.room));
        }
        let committed = self.health.check().and_then(|()| self.replicate(&encoded));
        match committed {
            Ok(committed) => {
                let applied = self.applying.apply(Batch { committed, entries, waiting }, &self.out);
                if let Err(unsent) = applied {
                    refuse(unsent.waiting, &Error::Unavailable("the state failed".to_owned()));
                }
            }
            Err(error) => refuse(waiting, &error),
        }
    }

    fn replicate(&mut self, encoded: &[Vec<u8>]) -> Result<Committed, Error> {
        self.replicator.propose(encoded).map_err(|error| match error {
            ProposeError::NoSpace => Error::NoSpace,
            ProposeError::Failed(reason) => {
                self.health.fence(&reason);
                Error::Unavailable(reason)
            }
        })
    }
}

/// Tells all who wait the same.
pub(crate) fn refuse(waiting: Vec<(ReplyTo, OwnedSemaphorePermit)>, error: &Error) {
    for (reply, _) in waiting {
        answer(reply, Err(error.clone()));
    }
}

/// Answers a caller, who may have stopped waiting.
pub(crate) fn answer(reply: ReplyTo, result: Result<Reply, Error>) {
    let _ = reply.send(result);
}
