//! `/scale`: one number of a workload, as `autoscaling/v1` Scale.

use std::sync::Arc;

use http::{Method, StatusCode};
use kube_types::apply::Manager;
use kube_types::registry::{Resource, Subresource};
use kube_types::status::{FieldError, Status};
use kube_types::{meta, path};
use serde_json::{Map, Value, json};

use super::patch::{self, Patch};
use super::shape::Look;
use super::update::{self, Change};
use super::{body, options};
use crate::http::respond::{self, Answer};
use crate::server::{Request, Server};

/// GET of the scale.
pub(crate) async fn get(server: &Arc<Server>, rq: &mut Request, resource: &Arc<Resource>) -> Answer {
    let look = Look::new(rq.accepted()?, &rq.query, server.now_ms())?;
    let stored = server.read(&update::key(rq, resource)).await?;
    let stored = stored.ok_or_else(|| Status::not_found(&resource.group_resource(), &rq.target.name))?;
    Ok(respond::object(StatusCode::OK, look.accepted.format, &of(&stored.value)))
}

/// PUT and PATCH of the scale: changes the parent's `spec.replicas`.
pub(crate) async fn write(
    server: &Arc<Server>,
    rq: &mut Request,
    resource: &Arc<Resource>,
    sub: &Subresource,
) -> Answer {
    let look = Look::new(rq.accepted()?, &rq.query, server.now_ms())?;
    let dry_run = options::dry_run("UpdateOptions", rq.query.all("dryRun"))?;
    let manager = body::field_manager(rq)?;
    let patch = match rq.parts.method {
        Method::PATCH => patch::read(rq)?,
        // A PUT is the whole scale.
        _ => Patch::Json(
            json!([{ "op": "replace", "path": "", "value": body::object(rq, &sub.schema, &sub.gvk)? }]),
        ),
    };
    let api_version = resource.api_version();
    let now_micros = server.now_micros();
    let who = Manager { name: &manager, api_version: &api_version, subresource: "scale", now_micros };
    let compute = |_: &mut Request, live: &Value| scaled(live, resource, sub, &patch, &who);
    let change =
        Change { resource, subresource: Some("scale"), manager: Some(&manager), dry_run, conditional: false };
    let changed = update::run(server, rq, &change, compute).await?;
    Ok(respond::object(StatusCode::OK, look.accepted.format, &of(&changed.object)))
}

fn scaled(
    live: &Value,
    resource: &Resource,
    sub: &Subresource,
    patch: &Patch,
    who: &Manager<'_>,
) -> Result<Value, Status> {
    let scale = patch.apply(&sub.schema, &of(live), who)?;
    let name = meta::name(live);
    let version = meta::resource_version(&scale);
    if !version.is_empty() && version != meta::resource_version(live) {
        return Err(Status::modified(&resource.group_resource(), name));
    }
    let replicas = match path::get(&scale, &["spec", "replicas"]) {
        None | Some(Value::Null) => 0,
        Some(number) => {
            number.as_i64().ok_or_else(|| Status::bad_request("spec.replicas must be a number"))?
        }
    };
    if replicas < 0 {
        let error = FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
        return Err(Status::invalid("autoscaling", "Scale", name, &[error]));
    }
    let mut new = live.clone();
    path::set(&mut new, &["spec", "replicas"], json!(replicas));
    Ok(new)
}

/// The scale of an object.
fn of(object: &Value) -> Value {
    let mut metadata = Map::new();
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = path::get(object, &["metadata", key]) {
            metadata.insert(key.into(), value.clone());
        }
    }
    let replicas = |at| path::integer(object, &[at, "replicas"]).unwrap_or(0);
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": { "replicas": replicas("spec") },
        "status": { "replicas": replicas("status"), "selector": selector(object) },
    })
}

/// The selector in its query form.
fn selector(object: &Value) -> String {
    let labels = path::get(object, &["spec", "selector", "matchLabels"]).and_then(Value::as_object);
    let mut terms: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    for expression in path::items(object, &["spec", "selector", "matchExpressions"]) {
        let key = path::text(expression, &["key"]);
        let mut values: Vec<&str> =
            path::items(expression, &["values"]).iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        terms.push(match path::text(expression, &["operator"]) {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    terms.sort_unstable();
    terms.join(",")
}
