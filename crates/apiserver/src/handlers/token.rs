//! POST `serviceaccounts/<name>/token`: a bound token (KEP-1205).

use std::sync::Arc;

use http::StatusCode;
use identity::token::{Bound, Claims, Private};
use kube_types::registry::GroupResource;
use kube_types::status::{FieldError, Status};
use kube_types::{meta, path, time};
use serde_json::{Value, json};

use super::body;
use crate::http::respond::{self, Answer};
use crate::server::{Request, Server};

/// When the request does not say: an hour.
const LIFE_DEFAULT_S: i64 = 3600;
const LIFE_MIN_S: i64 = 600;
const LIFE_MAX_S: i64 = 1 << 32;

/// Makes a token.
pub(crate) async fn create(server: &Arc<Server>, rq: &mut Request) -> Answer {
    let account_resource = GroupResource::new("", "serviceaccounts");
    let resource = server.registry.find("", "v1", "serviceaccounts").cloned();
    let sub = resource.as_ref().and_then(|r| r.subresource("token")).ok_or_else(Status::no_such_resource)?;
    let mut request = body::object(rq, &sub.schema, &sub.gvk)?;
    let (namespace, name) = (rq.target.namespace.clone(), rq.target.name.clone());
    let account = server.read(&format!("/registry/serviceaccounts/{namespace}/{name}")).await?;
    let account = account.ok_or_else(|| Status::not_found(&account_resource, &name))?.value;
    let life_s = life(&request)?;
    let now_s = server.now_ms() / 1000;
    let private = private(server, rq, &request, &account).await?;
    let mut aud: Vec<String> = path::items(&request, &["spec", "audiences"])
        .iter()
        .filter_map(|a| a.as_str().map(str::to_owned))
        .collect();
    if aud.is_empty() {
        aud.push(server.issuer().to_owned());
    }
    path::set(&mut request, &["spec", "audiences"], json!(aud));
    path::set(&mut request, &["spec", "expirationSeconds"], json!(life_s));
    let claims = Claims {
        aud,
        exp: now_s + life_s,
        iat: now_s,
        iss: server.issuer().to_owned(),
        jti: server.uid(),
        private,
        nbf: now_s,
        sub: format!("system:serviceaccount:{namespace}:{name}"),
    };
    let token = server.signer().sign(&claims).map_err(Status::internal)?;
    let expires = time::format_seconds(claims.exp * 1_000_000);
    path::set(&mut request, &["status"], json!({ "token": token, "expirationTimestamp": expires }));
    let created = json!(time::format_seconds(server.now_micros()));
    let metadata = json!({ "name": name, "namespace": namespace, "creationTimestamp": created });
    path::set(&mut request, &["metadata"], metadata);
    Ok(respond::json(StatusCode::CREATED, &request))
}

fn life(request: &Value) -> Result<i64, Status> {
    let life_s = path::integer(request, &["spec", "expirationSeconds"]).unwrap_or(LIFE_DEFAULT_S);
    let why = match life_s {
        ..LIFE_MIN_S => "may not specify a duration less than 10 minutes",
        s if s > LIFE_MAX_S => "may not specify a duration larger than 2^32 seconds",
        _ => return Ok(life_s),
    };
    let error = FieldError::invalid("spec.expirationSeconds", life_s, why);
    Err(Status::invalid("authentication.k8s.io", "TokenRequest", "", &[error]))
}

async fn private(
    server: &Arc<Server>,
    rq: &Request,
    request: &Value,
    account: &Value,
) -> Result<Private, Status> {
    let namespace = rq.target.namespace.clone();
    let bound = |o: &Value| Bound { name: meta::name(o).to_owned(), uid: meta::uid(o).to_owned() };
    let mut private = Private { namespace, serviceaccount: Some(bound(account)), ..Private::default() };
    let reference = path::get(request, &["spec", "boundObjectRef"]);
    let is_node = crate::auth::node::of(&rq.user).is_some();
    let Some(reference) = reference.filter(|r| !r.is_null()) else {
        if is_node {
            return Err(refused(rq, "node requested token not bound to a pod"));
        }
        return Ok(private);
    };
    let (kind, name) = (path::text(reference, &["kind"]), path::text(reference, &["name"]));
    let prefix = match kind {
        "Pod" => "/registry/pods/",
        "Secret" => "/registry/secrets/",
        other => {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount {:?} to a {other}",
                rq.target.name
            )));
        }
    };
    let plural = if kind == "Pod" { "pods" } else { "secrets" };
    let object = server.read(&format!("{prefix}{}/{name}", rq.target.namespace)).await?;
    let object = object.ok_or_else(|| Status::not_found(&GroupResource::new("", plural), name))?.value;
    let wanted = path::text(reference, &["uid"]);
    if !wanted.is_empty() && wanted != meta::uid(&object) {
        let why = format!(
            "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(&GroupResource::new("", plural), name, &why));
    }
    if kind == "Secret" {
        private.secret = Some(bound(&object));
        return Ok(private);
    }
    let node = path::text(&object, &["spec", "nodeName"]);
    if is_node && rq.user.name != format!("system:node:{node}") {
        return Err(refused(rq, "node requested token bound to a pod scheduled on a different node"));
    }
    if path::text(&object, &["spec", "serviceAccountName"]) != rq.target.name {
        let why = format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            rq.target.name
        );
        return Err(Status::bad_request(why));
    }
    if let Some(stored) = server.read(&format!("/registry/minions/{node}")).await? {
        private.node = Some(bound(&stored.value));
    }
    private.pod = Some(bound(&object));
    Ok(private)
}

fn refused(rq: &Request, why: &str) -> Status {
    Status::forbidden(&GroupResource::new("", "serviceaccounts"), &rq.target.name, why)
}
