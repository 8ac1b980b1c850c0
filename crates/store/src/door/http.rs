//! What the etcd port serves besides gRPC: health, version, metrics, and the JSON gateway.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use mvcc::alarm::{Alarm, AlarmKind};
use serde_json::json;
use store_api::{KeyRange, RangeRequest, Store as _};
use tonic::body::Body;

use super::grpc::{Services, not_found, plain};
use super::maintenance::ETCD_VERSION;
use super::{Door, gateway, metrics};
use crate::snapshot::STORAGE_VERSION;

/// How long a read may take before the member counts as unhealthy (etcd's request timeout with its defaults).
const PATIENCE: Duration = Duration::from_secs(7);

/// What pages of an allowed origin may do.
const CORS_METHODS: &str = "POST, GET, OPTIONS, PUT, DELETE";
const CORS_HEADERS: &str = "accept, content-type, authorization";

/// Serves what is not gRPC, and tells browsers whose pages may read the answer.
pub(super) async fn serve(
    services: &Arc<Services>,
    door: &Arc<Door>,
    request: Request<Body>,
) -> Response<Body> {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = match *request.method() {
        Method::OPTIONS => Response::new(Body::empty()),
        _ => serve_page(services, door, request).await,
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    let every = door.cors.iter().any(|allowed| allowed == "*").then(|| HeaderValue::from_static("*"));
    let named =
        origin.filter(|origin| door.cors.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()));
    if let Some(origin) = every.or(named) {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(CORS_METHODS));
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(CORS_HEADERS));
    }
    response
}

async fn serve_page(services: &Arc<Services>, door: &Arc<Door>, request: Request<Body>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    if gateway::is_ours(&path) {
        return gateway::serve(services, request, door.store.auth_status().enabled).await;
    }
    let (kind, name) = match path.strip_prefix('/').and_then(|rest| rest.split_once('/')) {
        Some((kind, name)) => (format!("/{kind}"), Some(name)),
        None => (path.clone(), None),
    };
    let probe = PROBES.iter().find(|probe| probe.path == kind);
    let known =
        probe.is_some_and(|probe| name.is_none_or(|name| probe.checks.iter().any(|c| c.name() == name)));
    if !known && !["/health", "/version", "/metrics"].contains(&path.as_str()) {
        return not_found();
    }
    if request.method() != Method::GET {
        let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    let query = Query::of(request.uri().query().unwrap_or_default());
    match (path.as_str(), probe) {
        (_, Some(probe)) => run(door, probe, name, &query).await,
        ("/version", _) => version(),
        ("/metrics", _) => metrics::page(door).await,
        _ => health(door, &query).await,
    }
}

/// The parameters of a query, in order.
struct Query(Vec<(String, String)>);

impl Query {
    fn of(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Self(pairs.map(|(name, value)| (decode(name), decode(value))).collect())
    }

    fn has(&self, name: &str, value: &str) -> bool {
        self.0.iter().any(|(n, v)| n == name && v == value)
    }

    fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// Percent signs and plus signs of a query.
fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let hex = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (byte, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            (b'+', ..) => out.push(b' '),
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn text(status: StatusCode, body: impl Into<Bytes>, content: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(body.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content));
    response
}

/// An error as Go's `http.Error` shows it.
pub(super) fn error(status: StatusCode, message: &str) -> Response<Body> {
    let mut response = plain(status, format!("{message}\n"));
    no_sniff(&mut response);
    response
}

fn no_sniff(response: &mut Response<Body>) {
    let name = HeaderName::from_static("x-content-type-options");
    response.headers_mut().insert(name, HeaderValue::from_static("nosniff"));
}

fn version() -> Response<Body> {
    // In etcd's order of fields.
    let body = format!(
        r#"{{"etcdserver":"{ETCD_VERSION}","etcdcluster":"{STORAGE_VERSION}","storage":"{STORAGE_VERSION}"}}"#
    );
    text(StatusCode::OK, body, "application/json")
}

/// `/health`: alarms, a leader, a read.
async fn health(door: &Door, query: &Query) -> Response<Body> {
    let serializable = query.first("serializable") == Some("true");
    let reason = match unhealthy(door, query, serializable).await {
        None => {
            door.metrics.health_success.add(1);
            return text(StatusCode::OK, r#"{"health":"true","reason":""}"#, "text/plain; charset=utf-8");
        }
        Some(reason) => reason,
    };
    door.metrics.health_failures.add(1);
    let reason = json!(reason);
    error(StatusCode::SERVICE_UNAVAILABLE, &format!(r#"{{"health":"false","reason":{reason}}}"#))
}

/// Why the member is not healthy, if it is not.
async fn unhealthy(door: &Door, query: &Query, serializable: bool) -> Option<String> {
    let alarms = match door.store.alarms() {
        Ok(alarms) => alarms,
        Err(error) => return Some(format!("RANGE ERROR:{error}")),
    };
    // A member whose state differs is sick alone.
    let concerns = |alarm: &&Alarm| alarm.kind != AlarmKind::Corrupt || door.store.state_differs();
    let active = alarms
        .iter()
        .filter(concerns)
        .map(|alarm| alarm_name(alarm.kind))
        .find(|name| !query.has("exclude", name));
    if let Some(name) = active {
        return Some(format!("ALARM {name}"));
    }
    if !serializable && door.store.leader_changes().borrow().is_none() {
        return Some("RAFT NO LEADER".to_owned());
    }
    read(door, serializable).await.err().map(|error| format!("RANGE ERROR:{error}"))
}

fn alarm_name(kind: AlarmKind) -> &'static str {
    match kind {
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
    }
}

/// A read of one key by the process itself.
async fn read(door: &Door, serializable: bool) -> Result<(), String> {
    let request = RangeRequest {
        keys_only: true,
        limit: 1,
        serializable,
        ..RangeRequest::of(KeyRange::One(Bytes::from_static(b"\0")))
    };
    match tokio::time::timeout(PATIENCE, door.store.range(request)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(super::error::status(&error).message().to_owned()),
        Err(_) => Err("context deadline exceeded".to_owned()),
    }
}

/// One thing a probe looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
        }
    }

    async fn run(self, door: &Door) -> Result<(), String> {
        match self {
            Self::DataCorruption => {
                if door.store.state_differs() {
                    Err("alarm activated: CORRUPT".to_owned())
                } else {
                    Ok(())
                }
            }
            Self::SerializableRead => read(door, true).await,
            Self::LinearizableRead => read(door, false).await,
            Self::NonLearner => {
                let status = door.store.status().map_err(|error| error.to_string())?;
                if status.is_learner { Err("not supported for learner".to_owned()) } else { Ok(()) }
            }
        }
    }
}

/// A probe and its checks.
pub(super) struct Probe {
    path: &'static str,
    checks: &'static [Check],
}

const PROBES: [Probe; 2] = [
    Probe { path: "/livez", checks: &[Check::SerializableRead] },
    Probe {
        path: "/readyz",
        checks: &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner],
    },
];

/// `/livez` and `/readyz`: all checks, or the one named in the path.
async fn run(door: &Door, probe: &Probe, only: Option<&str>, query: &Query) -> Response<Body> {
    let (mut report, mut failed) = (String::new(), false);
    for check in probe.checks {
        let wanted = only.map_or_else(|| !query.has("exclude", check.name()), |only| only == check.name());
        if !wanted {
            continue;
        }
        let result = check.run(door).await;
        door.metrics.checked(&probe.path[1..], check.name(), result.is_ok());
        // Writing to a String does not fail.
        let _ = match result {
            Ok(()) => writeln!(report, "[+]{} ok", check.name()),
            Err(why) => {
                failed = true;
                writeln!(report, "[-]{} failed: {why}", check.name())
            }
        };
    }
    if failed {
        return error(StatusCode::SERVICE_UNAVAILABLE, &report);
    }
    let mut body = if query.first("verbose").is_some() { report } else { String::new() };
    body.push_str("ok\n");
    let mut response = text(StatusCode::OK, body, "text/plain; charset=utf-8");
    no_sniff(&mut response);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let query = Query::of("exclude=NOSPACE&exclude=a%20b+c&verbose&serializable=true&x=%zz");
        assert!(query.has("exclude", "NOSPACE") && query.has("exclude", "a b c"));
        assert_eq!((query.first("verbose"), query.first("serializable")), (Some(""), Some("true")));
        assert_eq!((query.first("x"), query.first("none")), (Some("%zz"), None));
    }
}
