//! Where blocking work is done.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// On threads made for it, or where it stands: a simulation has one thread.
#[derive(Clone, Default)]
pub enum Hands {
    /// Threads that may block.
    #[default]
    Threads,
    /// The thread that asks, after as much (simulated) time as the function says.
    Inline(Arc<dyn Fn() -> Duration + Send + Sync>),
}

impl fmt::Debug for Hands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.are_threads() { "Threads" } else { "Inline" })
    }
}

impl Hands {
    pub(crate) fn are_threads(&self) -> bool {
        matches!(self, Self::Threads)
    }

    /// Does `work` to its end, also when nobody waits for it any more.
    pub(crate) async fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<R> + Send + 'static,
    ) -> io::Result<R> {
        let done = match self {
            Self::Threads => tokio::task::spawn_blocking(work).await,
            Self::Inline(takes) => {
                let takes = takes();
                if takes.is_zero() {
                    return work();
                }
                let later = async move {
                    tokio::time::sleep(takes).await;
                    work()
                };
                // Ends by itself, as a thread would.
                tokio::spawn(later).await
            }
        };
        done.unwrap_or_else(|e| Err(io::Error::other(e)))
    }
}
