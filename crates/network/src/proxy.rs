//! Keeps table, routes and names as Services and EndpointSlices say.
//!
//! ```text
//! services.changes() ─┐
//! slices.changes() ───┴─▶ wait 10 ms ─▶ rules() ─▶ difference ─▶ nft ─▶ routes on lo
//!                                    └─▶ Zone::build ─▶ watch channel ─▶ dns
//! ```
//!
//! A failed transaction changed nothing; the next round, a second later, replaces the whole table.

use crate::room::Options;
use crate::rules::{Base, Ruleset, rules};
use crate::{Error, Zone, conntrack, netlink, nft};
use api_client::Informers;
use base::task::Tasks;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Changes within this time become one transaction.
const DEBOUNCE: Duration = Duration::from_millis(10);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// The loop's state: what the kernel holds, as far as we know.
pub struct Proxy {
    options: Options,
    base: Base,
    informers: Informers,
    zone: watch::Sender<Arc<Zone>>,
    /// None: unknown, replace everything.
    applied: Option<Ruleset>,
}

impl Proxy {
    pub const fn new(
        options: Options,
        base: Base,
        informers: Informers,
        zone: watch::Sender<Arc<Zone>>,
    ) -> Self {
        Self { options, base, informers, zone, applied: None }
    }

    /// Runs until the tasks end.
    pub async fn run(mut self, tasks: Tasks) -> Result<(), Infallible> {
        let token = tasks.token();
        tokio::select! {
            () = token.cancelled() => {}
            () = self.serve() => {}
        }
        Ok(())
    }

    async fn serve(&mut self) {
        let services = self.informers.services().clone();
        let slices = self.informers.endpoint_slices().clone();
        let (mut service_changes, mut slice_changes) = (services.changes(), slices.changes());
        // Until both caches are full, an empty table would cut off what a restart left running.
        if !(services.synced().await && slices.synced().await) {
            return;
        }
        loop {
            let failed =
                self.sync().await.inspect_err(|error| tracing::warn!(%error, "pod network")).is_err();
            if failed {
                self.applied = None;
                tokio::time::sleep(RETRY).await;
                continue;
            }
            let more = tokio::select! {
                change = service_changes.next() => change.is_some(),
                change = slice_changes.next() => change.is_some(),
            };
            if !more {
                return;
            }
            tokio::time::sleep(DEBOUNCE).await;
        }
    }

    async fn sync(&mut self) -> Result<(), Error> {
        let services = self.informers.services().all();
        let slices = self.informers.endpoint_slices().all();
        let ranges = vec![self.options.pod_cidr, self.options.service_cidr];
        self.zone.send_replace(Arc::new(Zone::build(
            &self.options.cluster_domain,
            ranges,
            &services,
            &slices,
        )));
        let wanted = rules(&services, &slices);
        let transaction = match &self.applied {
            Some(applied) => self.base.difference(applied, &wanted),
            None => self.base.full(&wanted),
        };
        if !transaction.is_empty() {
            nft::apply(&transaction).await?;
        }
        if self.applied.as_ref().is_none_or(|applied| applied.cluster_ips != wanted.cluster_ips) {
            self.sync_routes(&wanted).await?;
        }
        if self.applied.as_ref().is_none_or(|applied| applied.udp != wanted.udp) {
            let udp = wanted.udp.clone();
            // A full table takes a while to read.
            tokio::task::spawn_blocking(move || conntrack::forget_stale(udp)).await.ok();
        }
        self.applied = Some(wanted);
        Ok(())
    }

    /// One route on `lo` for each ClusterIP, so that the host's own packets get as far as the nat hook.
    async fn sync_routes(&self, wanted: &Ruleset) -> Result<(), Error> {
        let (connection, rt) = netlink::open()?;
        netlink::drive(connection, async {
            let lo =
                netlink::link_index(&rt, "lo").await?.ok_or_else(|| Error::Gone("the link lo".into()))?;
            let present: Vec<Ipv4Addr> = netlink::host_routes_on(&rt, lo).await?;
            for ip in present.iter().filter(|ip| !wanted.cluster_ips.contains(ip)) {
                netlink::delete_host_route(&rt, *ip, lo).await?;
            }
            for ip in wanted.cluster_ips.iter().filter(|ip| !present.contains(ip)) {
                netlink::add_host_route(&rt, *ip, lo, Some(self.base.gateway)).await?;
            }
            Ok(())
        })
        .await
    }
}
