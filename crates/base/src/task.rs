//! Every task has a kind, and the kind says what its end means. There is no anonymous spawn.
//!
//! ```text
//! Tasks ──spawn(kind, name, future)──▶ task
//!   │                                    │ Err(e) or panic
//!   │  kind Critical: cancel all, remember the error  ◀┤
//!   │  kind Service:  log an error                    ◀┤
//!   │  kind Connection: log at debug                  ◀┘
//!   └─shutdown(): cancel the token, wait for all
//! ```

use std::fmt::Display;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What the end of a task means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskKind {
    /// The process cannot go on without it: an error or a panic stops everything.
    Critical,
    /// A loop that should live as long as its room: an error is logged as one.
    Service,
    /// One peer's work: an error concerns that peer and is logged at debug level.
    Connection,
}

/// The tasks of a room: spawned by kind, cancelled together, awaited together.
#[derive(Debug, Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    token: CancellationToken,
    failure: Arc<Mutex<Option<String>>>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    /// An empty set with a token of its own.
    #[must_use]
    pub fn new() -> Self {
        Self { tracker: TaskTracker::new(), token: CancellationToken::new(), failure: Arc::default() }
    }

    /// A set that ends with this one (its token is a child) but can be shut down alone; failures are shared.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { tracker: TaskTracker::new(), token: self.token.child_token(), failure: self.failure.clone() }
    }

    /// Cancelled when the set shuts down. Tasks select over it and their receivers only.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Spawns on the current runtime.
    pub fn spawn<E: Display + Send + 'static>(
        &self,
        kind: TaskKind,
        name: &'static str,
        future: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let (token, failure) = (self.token.clone(), self.failure.clone());
        let inner = tokio::spawn(future);
        self.tracker.spawn(async move {
            let message = match inner.await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(join) if join.is_cancelled() => return,
                Err(join) => format!("panicked: {join}"),
            };
            match kind {
                TaskKind::Critical => {
                    tracing::error!(task = name, error = message, "critical task ended; stopping");
                    let mut slot = failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    slot.get_or_insert(format!("{name}: {message}"));
                    token.cancel();
                }
                TaskKind::Service => tracing::error!(task = name, error = message, "task ended"),
                TaskKind::Connection => tracing::debug!(task = name, error = message, "connection ended"),
            }
        });
    }

    /// The first failure of a critical task, if any.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Cancels the token and waits at most `patience` for the tasks to end. True when all ended.
    pub async fn shutdown(&self, patience: Duration) -> bool {
        self.token.cancel();
        self.tracker.close();
        tokio::time::timeout(patience, self.tracker.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_critical_failure_cancels_the_set_and_is_remembered() {
        let tasks = Tasks::new();
        tasks.spawn(TaskKind::Service, "quiet", async { Err("ignored") });
        tasks.spawn(TaskKind::Critical, "apply", async { Err("disk gone") });
        tasks.token().cancelled().await;
        assert_eq!(tasks.failure().as_deref(), Some("apply: disk gone"));
        assert!(tasks.shutdown(Duration::from_secs(1)).await);
    }
}
