//! Where pods reach the API: Endpoints and EndpointSlice of `default/kubernetes`, kept as they should be.
//!
//! ```text
//! one server       says where it is when it starts
//! several          each has /ketch/apiservers/<address> under a lease it keeps alive; each writes down who is there,
//!                  when that is not what is written
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base::task::{TaskKind, Tasks};
use kube_types::meta;
use kube_types::registry::GroupVersionKind;
use kube_types::status::Status;
use serde_json::{Value, json};
use store_api::{LeaseId, Op, RangeRequest, Txn};

use crate::bootstrap::{commit, core, finish};
use crate::objects;
use crate::server::Server;

const SERVERS: &str = "/ketch/apiservers/";
/// A server that is not heard of for so long, seconds, is not listed any more: upstream's figure.
const LEASE_S: i64 = 15;
/// How often a server says that it is there, and looks who else is.
const EVERY: Duration = Duration::from_secs(5);

/// Writes where this server is, and where others share the store, goes on doing so.
pub(crate) async fn keep(server: &Arc<Server>, at: SocketAddr, tasks: &Tasks) -> Result<(), Status> {
    if !server.settings.shared_store {
        return write(server, &BTreeSet::from([at])).await;
    }
    let mut lease = LeaseId(0);
    announce(server, at, &mut lease).await?;
    let (server, token) = (server.clone(), tasks.token());
    tasks.spawn(TaskKind::Service, "api endpoints", async move {
        loop {
            tokio::select! {
                () = token.cancelled() => return Ok::<_, Infallible>(()),
                () = tokio::time::sleep(EVERY) => {}
            }
            if let Err(status) = announce(&server, at, &mut lease).await {
                tracing::debug!(%status, "the endpoints of default/kubernetes stay as they are");
            }
        }
    });
    Ok(())
}

/// Says that this server is there, and writes down all that are.
async fn announce(server: &Arc<Server>, at: SocketAddr, lease: &mut LeaseId) -> Result<(), Status> {
    let refused = |error: store_api::Error| objects::store_status(&error);
    let alive = lease.get() != 0 && server.store.lease_keep_alive(*lease).await.is_ok();
    if !alive {
        *lease = server.store.lease_grant(LeaseId(0), LEASE_S).await.map_err(refused)?.id;
        let key = format!("{SERVERS}{at}").into();
        let put = Op::Put { key, value: bytes::Bytes::new(), lease: *lease, prev_kv: false };
        server.store.txn(Txn { success: vec![put], ..Txn::default() }).await.map_err(refused)?;
    }
    let kvs = server.read_range(RangeRequest::prefix(SERVERS)).await?.kvs;
    let address = |key: &[u8]| std::str::from_utf8(&key[SERVERS.len()..]).ok()?.parse().ok();
    write(server, &kvs.iter().filter_map(|kv| address(&kv.key)).collect()).await
}

/// Makes both objects say where the servers are. A slice has one port for all its endpoints: that of the first server.
async fn write(server: &Arc<Server>, all: &BTreeSet<SocketAddr>) -> Result<(), Status> {
    let Some(first) = all.first() else { return Ok(()) };
    let mut by_port: BTreeMap<u16, Vec<Value>> = BTreeMap::new();
    for at in all {
        by_port.entry(at.port()).or_default().push(json!({ "ip": at.ip().to_string() }));
    }
    let subset = |(port, addresses): (u16, Vec<Value>)| json!({ "addresses": addresses, "ports": [{ "name": "https", "port": port, "protocol": "TCP" }] });
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" },
        },
        "subsets": by_port.into_iter().map(subset).collect::<Vec<_>>(),
    });
    let alike = all.iter().filter(|at| at.port() == first.port() && at.is_ipv4() == first.is_ipv4());
    let alike =
        alike.map(|at| json!({ "addresses": [at.ip().to_string()], "conditions": { "ready": true } }));
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": { "kubernetes.io/service-name": "kubernetes" },
        },
        "addressType": if first.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": alike.collect::<Vec<_>>(),
        "ports": [{ "name": "https", "port": first.port(), "protocol": "TCP" }],
    });
    put(server, &core("Endpoints"), endpoints, &["subsets"]).await?;
    let kind = GroupVersionKind::new("discovery.k8s.io", "v1", "EndpointSlice");
    put(server, &kind, slice, &["endpoints", "ports"]).await
}

/// Writes an object unless what is stored says the same in these fields.
async fn put(
    server: &Arc<Server>,
    kind: &GroupVersionKind,
    wanted: Value,
    fields: &[&str],
) -> Result<(), Status> {
    let Some(resource) = server.registry.by_kind(kind) else { return Ok(()) };
    let key = resource.key(meta::namespace(&wanted), meta::name(&wanted));
    let mut object = wanted;
    match server.read(&key).await? {
        None => finish(server, resource, &mut object),
        Some(stored) => {
            let mut new = stored.value.clone();
            for field in fields {
                new[*field] = object[*field].clone();
            }
            if new == stored.value {
                return Ok(());
            }
            object = new;
        }
    }
    commit(server, Txn { success: vec![Op::put(key, objects::encode(&mut object))], ..Txn::default() }).await
}
