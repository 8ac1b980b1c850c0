//! Where blocking work is done.

use std::io;

/// On threads made for it, or where it stands: a simulation has one thread, and its time must not pass meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hands {
    Threads,
    Inline,
}

impl Hands {
    /// Does `work` to its end, also when nobody waits for it any more.
    pub(crate) async fn run<R: Send + 'static>(
        self,
        work: impl FnOnce() -> io::Result<R> + Send + 'static,
    ) -> io::Result<R> {
        match self {
            Self::Inline => work(),
            Self::Threads => {
                tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(io::Error::other(e)))
            }
        }
    }
}
