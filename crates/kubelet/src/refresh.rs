//! Keeps a running pod's volumes up to date: config maps and secrets by watch, tokens by their age.
//!
//! ```text
//! one watch per named object ─┐
//! root CA's cache ────────────┼─▶ debounce ─▶ volumes::refresh
//! timer of the oldest token ──┘
//! ```
//! A pod that names nothing and holds no token costs one idle task.

use crate::context::Context;
use crate::volumes;
use base::task::TaskKind;
use futures::stream::{BoxStream, SelectAll};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Changes within this time are one refresh: an apply touches several objects.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// A token that could not be renewed is tried again after this time.
const RETRY_MS: i64 = 30_000;

/// Starts the task; it ends with the token, which the worker holds.
pub(crate) fn start(context: &Arc<Context>, pod: Arc<Pod>, ip: String, token: CancellationToken) {
    let context = context.clone();
    let tasks = context.tasks.clone();
    tasks.spawn(TaskKind::Service, "refresh volumes", async move {
        let mut changes = changes(&context, &pod);
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        loop {
            let now = context.now();
            let due =
                context.objects.next_renewal(&uid).map(|at| if at <= now { now + RETRY_MS } else { at });
            let timer = async {
                match due {
                    Some(at) => {
                        tokio::time::sleep(Duration::from_millis(u64::try_from(at - now).unwrap_or(0))).await
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = token.cancelled() => return Ok::<(), Infallible>(()),
                () = timer => {}
                Some(()) = changes.next() => tokio::time::sleep(DEBOUNCE).await,
            }
            while futures::FutureExt::now_or_never(changes.next()).flatten().is_some() {}
            volumes::refresh(&context.runtime, &pod, &context.objects, &context.facts(&ip)).await;
        }
    });
}

fn changes(context: &Context, pod: &Pod) -> SelectAll<BoxStream<'static, ()>> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let (maps, secrets) = volumes::named(pod);
    let mut all = SelectAll::new();
    for name in maps {
        all.push(watch::<ConfigMap>(Api::namespaced(context.client.clone(), &namespace), &name));
    }
    for name in secrets {
        all.push(watch::<Secret>(Api::namespaced(context.client.clone(), &namespace), &name));
    }
    // An empty set would end at once.
    all.push(futures::stream::pending().boxed());
    all
}

fn watch<K>(api: Api<K>, name: &str) -> BoxStream<'static, ()>
where
    K: Resource + Clone + Debug + Send + serde::de::DeserializeOwned + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    watcher(api, config)
        .default_backoff()
        .try_filter_map(|event| {
            let look = matches!(event, watcher::Event::Apply(_) | watcher::Event::InitDone);
            futures::future::ready(Ok(look.then_some(())))
        })
        .filter_map(|event| futures::future::ready(event.ok()))
        .boxed()
}
