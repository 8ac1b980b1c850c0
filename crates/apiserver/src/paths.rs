//! Paths that are no resources: health, version, discovery, OpenAPI, the issuer's documents.

use std::sync::Arc;

use http::header::{ETAG, HeaderValue, IF_NONE_MATCH};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use kube_types::openapi;
use kube_types::status::{Reason, Status};
use serde_json::{Value, json};
use store_api::RangeRequest;

use crate::http::body::Body;
use crate::http::negotiate::{self, Discovery};
use crate::http::query::Query;
use crate::http::respond::{self, Answer};
use crate::server::Server;
use crate::{discovery, handlers};

/// What clients are told to speak to.
pub const GIT_VERSION: &str = "v1.36.6+ketch";

/// Paths that anybody may ask for.
pub(crate) fn is_public(path: &str) -> bool {
    let first = path.trim_matches('/').split('/').next().unwrap_or_default();
    matches!(first, "healthz" | "livez" | "readyz" | "version")
}

/// Serves a path.
pub(crate) async fn serve(server: &Arc<Server>, parts: &Parts, query: &Query) -> Answer {
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        let text = "the server does not allow this method on the requested resource";
        return Err(Status::failure(405, Reason::MethodNotAllowed, text));
    }
    let words: Vec<&str> = parts.uri.path().split('/').filter(|w| !w.is_empty()).collect();
    match words.as_slice() {
        [] => Ok(respond::json(StatusCode::OK, &index(server))),
        [probe @ ("healthz" | "livez" | "readyz"), checks @ ..] => {
            Ok(health(server, probe, checks, query).await)
        }
        ["version"] => Ok(respond::json(StatusCode::OK, &version())),
        ["api"] => Ok(groups(server, parts, true)),
        ["apis"] => Ok(groups(server, parts, false)),
        ["api", version] => legacy(discovery::resources(server.registry, "", version)),
        ["apis", group] => legacy(discovery::group(server.registry, group)),
        ["apis", group, version] => legacy(discovery::resources(server.registry, group, version)),
        ["openapi", "v3"] => Ok(tagged(parts, server.openapi_index(), None)),
        ["openapi", "v3", "api", version] => document(server, parts, query, "", version),
        ["openapi", "v3", "apis", group, version] => document(server, parts, query, group, version),
        [".well-known", "openid-configuration"] => Ok(respond::json(StatusCode::OK, &issuer(server))),
        ["openid", "v1", "jwks"] => Ok(jwks(server)),
        _ => Ok(handlers::page_not_found()),
    }
}

fn legacy(document: Option<Value>) -> Answer {
    Ok(document.map_or_else(handlers::page_not_found, |d| respond::json(StatusCode::OK, &d)))
}

fn index(server: &Server) -> Value {
    let mut paths: Vec<String> = [
        "/.well-known/openid-configuration",
        "/api",
        "/api/v1",
        "/apis",
        "/healthz",
        "/healthz/etcd",
        "/healthz/ping",
        "/livez",
        "/livez/etcd",
        "/livez/ping",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/readyz/etcd",
        "/readyz/ping",
        "/readyz/shutdown",
        "/version",
    ]
    .map(String::from)
    .to_vec();
    for (group, version) in server.registry.group_versions().into_iter().filter(|(g, _)| !g.is_empty()) {
        paths.push(format!("/apis/{group}"));
        paths.push(format!("/apis/{group}/{version}"));
    }
    paths.sort_unstable();
    paths.dedup();
    json!({ "paths": paths })
}

/// `/version`.
pub(crate) fn version() -> Value {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
        "gitVersion": GIT_VERSION, "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "go1.26.0", "compiler": "rustc", "platform": format!("linux/{arch}"),
    })
}

/// The checks of a health endpoint, with why each failed.
async fn checks(server: &Server, probe: &str) -> Vec<(&'static str, Option<String>)> {
    let store = server.store.range(RangeRequest::key("/registry/health")).await.err().map(|e| e.to_string());
    let mut checks = vec![("ping", None), ("etcd", store)];
    if probe == "readyz" {
        let stopping = server.token().is_cancelled().then(|| "process is shutting down".to_owned());
        checks.push(("shutdown", stopping));
    }
    checks
}

async fn health(server: &Server, probe: &str, only: &[&str], query: &Query) -> Response<Body> {
    let mut checks = checks(server, probe).await;
    if let [one] = only {
        checks.retain(|(name, _)| name == one);
        if checks.is_empty() {
            return handlers::page_not_found();
        }
    }
    let excluded: Vec<&str> = query.all("exclude").collect();
    let (mut report, mut failed) = (String::new(), false);
    for (name, error) in checks {
        if excluded.contains(&name) {
            report.push_str(&format!("[+]{name} excluded: ok\n"));
            continue;
        }
        failed |= error.is_some();
        // The reason is for those who may read the log.
        report.push_str(&match error {
            None => format!("[+]{name} ok\n"),
            Some(_) => format!("[-]{name} failed: reason withheld\n"),
        });
    }
    if failed {
        return respond::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{report}{probe} check failed\n"));
    }
    let verbose = query.get("verbose").is_some();
    respond::text(
        StatusCode::OK,
        if verbose { format!("{report}{probe} check passed\n") } else { "ok".to_owned() },
    )
}

fn groups(server: &Server, parts: &Parts, core: bool) -> Response<Body> {
    const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let accept = parts.headers.get("accept").and_then(|v| v.to_str().ok()).unwrap_or_default();
    match negotiate::discovery(accept) {
        Discovery::Aggregated => {
            tagged(parts, &discovery::aggregated(server.registry, core), Some(AGGREGATED))
        }
        Discovery::Legacy if core => respond::json(StatusCode::OK, &discovery::versions()),
        Discovery::Legacy => respond::json(StatusCode::OK, &discovery::groups(server.registry)),
    }
}

/// A document that clients keep: with an ETag, and 304 when they have it already.
fn tagged(parts: &Parts, document: &Value, content_type: Option<&'static str>) -> Response<Body> {
    let bytes = respond::to_json(document);
    let tag = format!("\"{:016X}\"", discovery::hash(&bytes));
    let known = parts.headers.get(IF_NONE_MATCH).is_some_and(|v| v.as_bytes() == tag.as_bytes());
    let mut response =
        if known { Response::new(Body::empty()) } else { respond::json_bytes(StatusCode::OK, bytes) };
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(ETAG, tag);
    }
    headers.insert("vary", HeaderValue::from_static("Accept"));
    headers.insert("cache-control", HeaderValue::from_static("public"));
    if let Some(content_type) = content_type.filter(|_| !known) {
        headers.insert("content-type", HeaderValue::from_static(content_type));
    }
    response
}

fn document(server: &Server, parts: &Parts, query: &Query, group: &str, version: &str) -> Answer {
    let Some(document) = openapi::v3_document(server.registry, group, version) else {
        return Ok(handlers::page_not_found());
    };
    let mut response = tagged(parts, &document, None);
    if query.has("hash") {
        // The hash is part of the address, so what is there never changes.
        let forever = HeaderValue::from_static("public, immutable");
        response.headers_mut().insert("cache-control", forever);
    }
    Ok(response)
}

fn issuer(server: &Server) -> Value {
    json!({
        "issuer": server.issuer(),
        "jwks_uri": format!("{}/openid/v1/jwks", server.issuer()),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    })
}

fn jwks(server: &Server) -> Response<Body> {
    let document = identity::token::jwks(server.verifier().keys());
    let content_type = HeaderValue::from_static("application/jwk-set+json");
    respond::raw(StatusCode::OK, content_type, Body::full(respond::to_json(&document)))
}
