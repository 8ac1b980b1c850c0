//! `ketch up --demo`: the orders application, and what it does each second.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use identity::UserInfo;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::{Api, Client};

use crate::config::Config;
use crate::image;
use crate::offsets::Offsets;

const MANIFESTS: &str = include_str!("../../../examples/orders/manifests/orders.yaml");
const NAMESPACE: &str = "orders";
const TOPIC: &str = "orders";
const GROUP: &str = "order-aggregators";
/// Where `cargo xtask image` leaves the archive, seen from the source tree.
const ARCHIVE: &str = "target/orders.tar";
const EACH: Duration = Duration::from_secs(1);

/// Kinds that the cluster, not a namespace, holds.
const CLUSTER_SCOPED: &[&str] = &["Namespace", "ClusterRole", "ClusterRoleBinding", "Node"];

/// Imports the image, applies the manifests, and prints one line a second until the caller stops.
///
/// # Errors
/// When the image is missing, a manifest is refused, or the parts it needs are off.
pub async fn run(config: &Config, api: &apiserver::Handle, broker: Option<&broker::Handle>) -> Result<()> {
    let Some(broker) = broker else { bail!("the demo needs the broker: leave --no-broker out") };
    if !config.node {
        bail!("the demo runs containers: leave --no-node out");
    }
    let archive = archive()?;
    image::import(&config.data_dir.join(image::IMAGES), &archive)?;
    let client = api_client::client(api.local(UserInfo::new("ketch-demo", &[identity::groups::MASTERS])));
    for (kind, name) in apply(&client).await? {
        println!("{kind}/{name} applied");
    }
    println!("the totals: kubectl -n orders get service orders; Ctrl-C stops");
    watch(&client, Offsets::new(broker.addr())).await
}

fn archive() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("KETCH_DEMO_IMAGE") {
        return Ok(named.into());
    }
    let here = PathBuf::from(ARCHIVE);
    if !here.is_file() {
        bail!("no {ARCHIVE} here: build it with 'cargo xtask image', or name an archive in KETCH_DEMO_IMAGE");
    }
    Ok(here)
}

/// Applies every document server-side, as `kubectl apply --server-side` does.
async fn apply(client: &Client) -> Result<Vec<(String, String)>> {
    let mut applied = Vec::new();
    for document in MANIFESTS.split("\n---\n") {
        let value: serde_json::Value = serde_saphyr::from_str(document).context("the manifest is YAML")?;
        let object: DynamicObject = serde_json::from_value(value).context("the manifest is an object")?;
        let types = object.types.clone().context("the manifest names its kind")?;
        let kind = ApiResource::from_gvk(&GroupVersionKind::try_from(&types)?);
        let name = object.metadata.name.clone().context("the manifest has a name")?;
        let namespace = object.metadata.namespace.as_deref().unwrap_or("default");
        let api: Api<DynamicObject> = if CLUSTER_SCOPED.contains(&types.kind.as_str()) {
            Api::all_with(client.clone(), &kind)
        } else {
            Api::namespaced_with(client.clone(), namespace, &kind)
        };
        let params = PatchParams::apply("ketch-demo").force();
        api.patch(&name, &params, &Patch::Apply(&object))
            .await
            .with_context(|| format!("{} {name}", types.kind))?;
        applied.push((types.kind.to_lowercase(), name));
    }
    Ok(applied)
}

async fn watch(client: &Client, mut offsets: Offsets) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let mut ticks = tokio::time::interval(EACH);
    let mut last: Option<(Instant, i64)> = None;
    loop {
        ticks.tick().await;
        let listed = pods.list(&ListParams::default()).await?.items;
        let running = |p: &&Pod| p.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running");
        let running = listed.iter().filter(running).count();
        // The topic is made by the first producer: until then there is nothing to tell.
        let Ok(end) = offsets.end(TOPIC).await else {
            println!("pods {running}/{}  waiting for the first order", listed.len());
            continue;
        };
        let committed = offsets.committed(GROUP, TOPIC, &end).await.unwrap_or_default();
        let (total, done): (i64, i64) = (end.iter().sum(), committed.iter().sum());
        let rate = last.map_or(0.0, |(at, before)| (total - before) as f64 / at.elapsed().as_secs_f64());
        last = Some((Instant::now(), total));
        println!(
            "pods {running}/{}  records/s {rate:.0}  orders {total}  lag {}",
            listed.len(),
            total - done
        );
    }
}
