//! One of many: a Lease says which process acts, as upstream's leader election.
//!
//! ```text
//! does not lead   watches the Lease; when it has not been renewed for as long as it says, or is nobody's: takes it
//! leads           renews it every few seconds; gives up well before others may take it
//! stops           makes it nobody's, so that another takes it at once
//! ```
//! Nobody compares clocks of two hosts: how old a renewal is counts from when this process saw it.

use std::convert::Infallible;
use std::time::Duration;

use base::clock::SharedClock;
use base::task::{TaskKind, Tasks};
use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a Lease counts, seconds: upstream's `--leader-elect-lease-duration`.
const LEASE_S: i32 = 15;
/// How often the holder renews it.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// A holder that has not renewed it for so long stops: upstream's `--leader-elect-renew-deadline`.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);
/// After a failed renewal.
const RETRY: Duration = Duration::from_secs(1);
/// How long a call may take: a lead that nobody can renew must end in time.
const CALL_PATIENCE: Duration = Duration::from_secs(3);

/// Who takes part in an election, and for what.
#[derive(Clone)]
pub struct Election {
    pub client: Client,
    pub namespace: &'static str,
    /// Of the Lease.
    pub name: &'static str,
    /// Who this is; no two processes are the same.
    pub identity: String,
    pub clock: SharedClock,
}

/// The Lease as it was last seen.
struct Seen {
    lease: Lease,
    since: Instant,
}

impl Election {
    /// Takes part for as long as the tasks run. What is returned says whether this process leads now; it reads false
    /// before another process can read true.
    #[must_use]
    pub fn start(self, tasks: &Tasks) -> watch::Receiver<bool> {
        let (leads, told) = watch::channel(false);
        let token = tasks.token();
        tasks.spawn(TaskKind::Service, "election", async move {
            tokio::select! {
                () = token.cancelled() => {}
                () = self.run(&leads) => {}
            }
            if leads.send_replace(false) {
                self.release().await;
            }
            Ok::<_, Infallible>(())
        });
        told
    }

    fn api(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    async fn run(&self, leads: &watch::Sender<bool>) {
        loop {
            let renewed = self.wait_and_take().await;
            leads.send_replace(true);
            tracing::info!(lease = self.name, "leads");
            self.keep(renewed).await;
            leads.send_replace(false);
            tracing::warn!(lease = self.name, "does not lead any more");
        }
    }

    /// Waits until the Lease is free or too old, and takes it; when it was asked for.
    async fn wait_and_take(&self) -> Instant {
        let config = watcher::Config::default().fields(&format!("metadata.name={}", self.name));
        let mut changes = std::pin::pin!(watcher(self.api(), config).default_backoff().applied_objects());
        let mut seen: Option<Seen> = None;
        loop {
            let began = Instant::now();
            match tokio::time::timeout(CALL_PATIENCE, self.try_take(&mut seen)).await {
                Ok(Ok(true)) => return began,
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::debug!(%error, "the lease cannot be had now"),
                Err(_) => tracing::debug!("no answer about the lease"),
            }
            let due = seen.as_ref().map_or(Instant::now() + RETRY, |seen| seen.since + lasts(&seen.lease));
            // A try that failed is not made again at once.
            let due = due.max(began + RETRY);
            // An error of the watch is tried again by itself; the time ends the wait at any rate.
            let _ = tokio::time::timeout_at(due, changes.next()).await;
        }
    }

    /// Looks at the Lease and takes it when it may.
    async fn try_take(&self, seen: &mut Option<Seen>) -> Result<bool, kube::Error> {
        let api = self.api();
        let Some(mut lease) = api.get_opt(self.name).await? else {
            let metadata = ObjectMeta { name: Some(self.name.to_owned()), ..ObjectMeta::default() };
            let mut lease = Lease { metadata, spec: None };
            self.put_name(&mut lease);
            return taken(api.create(&PostParams::default(), &lease).await);
        };
        let known = seen
            .as_ref()
            .is_some_and(|seen| seen.lease.metadata.resource_version == lease.metadata.resource_version);
        if !known {
            *seen = Some(Seen { lease: lease.clone(), since: Instant::now() });
        }
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
        let over = seen.as_ref().is_some_and(|seen| seen.since.elapsed() >= lasts(&seen.lease));
        if !holder.is_empty() && holder != self.identity && !over {
            return Ok(false);
        }
        self.put_name(&mut lease);
        taken(api.replace(self.name, &PostParams::default(), &lease).await)
    }

    /// Renews until that fails for too long, or another has it.
    async fn keep(&self, mut renewed: Instant) {
        let mut pause = RENEW_EVERY;
        loop {
            let give_up = renewed + GIVE_UP_AFTER;
            tokio::time::sleep_until((Instant::now() + pause).min(give_up)).await;
            let began = Instant::now();
            if began >= give_up {
                return;
            }
            match tokio::time::timeout_at(give_up.min(began + CALL_PATIENCE), self.renew()).await {
                Ok(Ok(true)) => (renewed, pause) = (began, RENEW_EVERY),
                Ok(Ok(false)) => return,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "the lease is not renewed");
                    pause = RETRY;
                }
                Err(_) => pause = RETRY,
            }
        }
    }

    /// Renews; false when it is another's.
    async fn renew(&self) -> Result<bool, kube::Error> {
        let api = self.api();
        let mut lease = api.get(self.name).await?;
        if lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_ref()) != Some(&self.identity) {
            return Ok(false);
        }
        self.put_name(&mut lease);
        api.replace(self.name, &PostParams::default(), &lease).await?;
        Ok(true)
    }

    /// Makes the Lease nobody's.
    async fn release(&self) {
        let released = async {
            let api = self.api();
            let mut lease = api.get(self.name).await?;
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_ref() == Some(&self.identity) {
                // As upstream: an empty holder, and a time that is over at once.
                (spec.holder_identity, spec.lease_duration_seconds) = (Some(String::new()), Some(1));
                api.replace(self.name, &PostParams::default(), &lease).await?;
            }
            Ok::<_, kube::Error>(())
        };
        match tokio::time::timeout(CALL_PATIENCE, released).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the lease runs out by itself"),
            Err(_) => tracing::debug!("the lease runs out by itself"),
        }
    }

    /// Writes this process in as the holder, as of now.
    fn put_name(&self, lease: &mut Lease) {
        let now = Timestamp::from_millisecond(self.clock.unix_ms()).ok().map(MicroTime);
        let before = lease.spec.take().unwrap_or_default();
        let same = before.holder_identity.as_ref() == Some(&self.identity);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(LEASE_S),
            acquire_time: if same { before.acquire_time.clone() } else { now.clone() },
            renew_time: now,
            lease_transitions: Some(before.lease_transitions.map_or(0, |before| before + i32::from(!same))),
            ..before
        });
    }
}

/// How long a Lease counts from its last renewal.
fn lasts(lease: &Lease) -> Duration {
    let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or(LEASE_S);
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

/// Somebody else who was faster is no error.
fn taken<T>(written: Result<T, kube::Error>) -> Result<bool, kube::Error> {
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
