//! `GET /containerLogs/{namespace}/{pod}/{container}`.

use super::{Body, Query, Target, text};
use crate::context::Context;
use crate::inotify::Watch;
use crate::logs::{Reader, Wanted};
use crate::runtime::{Found, Runtime};
use crate::shim::protocol::ShimPhase;
use api_client::Key;
use base::task::TaskKind;
use bytes::Bytes;
use futures::StreamExt;
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::jiff::Timestamp;
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Pieces of log on their way to a slow client.
const PIECES_MAX: usize = 4;

/// Answers with the log, and goes on as it grows when asked to follow.
pub(crate) fn logs(context: &Arc<Context>, target: &Target, query: &Query) -> Response<Body> {
    let found = match find(context, target, query.is_true("previous")) {
        Ok(found) => found,
        Err((status, message)) => return text(status, &message),
    };
    let wanted = match wanted(query) {
        Ok(wanted) => wanted,
        Err(message) => return text(StatusCode::BAD_REQUEST, &message),
    };
    let reader = match Reader::open(&found.meta.log_path, wanted) {
        Ok(reader) => reader,
        Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    };
    let (pieces, receiver) = mpsc::channel::<Bytes>(PIECES_MAX);
    let runtime = context.runtime.clone();
    let follow = query.is_true("follow");
    let token = context.tasks.token();
    context.tasks.spawn(TaskKind::Connection, "container log", async move {
        tokio::select! {
            () = token.cancelled() => Ok(()),
            result = copy(runtime, found, reader, follow, pieces) => result,
        }
    });
    let stream = tokio_stream(receiver).map(|piece| Ok(Frame::data(piece)));
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(stream)));
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn tokio_stream(receiver: mpsc::Receiver<Bytes>) -> impl futures::Stream<Item = Bytes> + Send + Sync {
    futures::stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) })
}

async fn copy(
    runtime: Runtime,
    found: Found,
    mut reader: Reader,
    follow: bool,
    pieces: mpsc::Sender<Bytes>,
) -> io::Result<()> {
    let dir = found.meta.log_path.parent().map(std::path::Path::to_owned).unwrap_or_default();
    // Watched before the first read, so that nothing written in between is missed.
    let watch = if follow { Some(Watch::new(&dir)?) } else { None };
    let id = found.meta.id;
    let mut ended = !follow || !runs(&runtime, &id);
    loop {
        while let Some(piece) = reader.next()? {
            if pieces.send(piece).await.is_err() {
                return Ok(());
            }
        }
        let Some(watch) = watch.as_ref().filter(|_| !ended && !reader.is_exhausted()) else { return Ok(()) };
        tokio::select! {
            () = pieces.closed() => return Ok(()),
            changed = watch.changed() => changed?,
            // One more round reads what was written last.
            _ = runtime.wait(&id) => ended = true,
        }
    }
}

fn runs(runtime: &Runtime, id: &str) -> bool {
    runtime.state(id).is_some_and(|state| state.phase == ShimPhase::Running)
}

fn wanted(query: &Query) -> Result<Wanted, String> {
    let number = |name: &str| match query.get(name).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => text.parse::<u64>().map(Some).map_err(|_| format!("{name}: Invalid value: {text:?}")),
    };
    let since = match (number("sinceSeconds")?, query.get("sinceTime").filter(|text| !text.is_empty())) {
        (Some(seconds), _) => {
            let now = Timestamp::now().as_second();
            Timestamp::from_second(now - i64::try_from(seconds).unwrap_or(now)).ok()
        }
        (None, Some(time)) => Some(time.parse().map_err(|_| format!("sinceTime: Invalid value: {time:?}"))?),
        (None, None) => None,
    };
    Ok(Wanted {
        tail_lines: number("tailLines")?,
        since,
        timestamps: query.is_true("timestamps"),
        limit_bytes: number("limitBytes")?,
    })
}

/// The container's latest (or previous) instance, or the kubelet's words for why there is none.
pub(super) fn find(
    context: &Context,
    target: &Target,
    previous: bool,
) -> Result<Found, (StatusCode, String)> {
    let key = Key { namespace: target.namespace.clone(), name: target.pod.clone() };
    let not_found = || (StatusCode::NOT_FOUND, format!("pod \"{}\" not found", target.pod));
    let pod = context.informers.pods().get(&key).ok_or_else(not_found)?;
    let uid = pod.metadata.uid.as_deref().unwrap_or("");
    let mut instances: Vec<Found> = context
        .runtime
        .containers()
        .into_iter()
        .filter(|found| found.meta.pod.uid == uid && found.meta.name == target.container)
        .filter(|found| found.state.is_some())
        .collect();
    instances.sort_by_key(|found| found.meta.attempt);
    let latest = instances.pop();
    if previous {
        let text = || {
            format!(
                "previous terminated container \"{}\" in pod \"{}\" not found",
                target.container, target.pod
            )
        };
        // While a container waits for its restart, the instance that ended is the previous one too.
        let ended = latest
            .filter(|latest| latest.state.as_ref().is_some_and(|state| state.phase != ShimPhase::Running));
        return instances.pop().or(ended).ok_or_else(|| (StatusCode::BAD_REQUEST, text()));
    }
    latest.ok_or_else(|| (StatusCode::BAD_REQUEST, absence(&pod, target)))
}

/// Why a container has no log yet.
fn absence(pod: &Pod, target: &Target) -> String {
    let spec = pod.spec.as_ref();
    let named = spec.is_some_and(|spec| {
        spec.init_containers
            .iter()
            .flatten()
            .chain(&spec.containers)
            .any(|container| container.name == target.container)
    });
    if !named {
        return format!("container {} is not valid for pod {}", target.container, target.pod);
    }
    let status = pod.status.as_ref();
    let all = status.iter().flat_map(|status| {
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
    });
    let waiting = |status: &ContainerStatus| status.state.as_ref()?.waiting.as_ref()?.reason.clone();
    let reason = all.into_iter().find(|status| status.name == target.container).and_then(waiting);
    let reason = reason.unwrap_or_else(|| "ContainerCreating".to_owned());
    match reason.as_str() {
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" => format!(
            "container \"{}\" in pod \"{}\" is waiting to start: trying and failing to pull image",
            target.container, target.pod
        ),
        _ => format!(
            "container \"{}\" in pod \"{}\" is waiting to start: {reason}",
            target.container, target.pod
        ),
    }
}
