//! Questions about who and whether: answered, never stored.

use std::sync::Arc;

use http::StatusCode;
use identity::UserInfo;
use kube_types::registry::Resource;
use kube_types::status::Status;
use kube_types::{path, time};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::body;
use crate::auth::{Attributes, Rule, authn};
use crate::http::respond::{self, Answer};
use crate::server::{Request, Server};

/// POST of a review.
pub(crate) async fn create(server: &Arc<Server>, rq: &mut Request, resource: &Arc<Resource>) -> Answer {
    let mut review = body::object(rq, &resource.schema, &resource.gvk)?;
    let status = match &*resource.gvk.kind {
        "SelfSubjectReview" => json!({ "userInfo": rq.user }),
        "TokenReview" => token(server, &review).await?,
        "SelfSubjectAccessReview" => access(server, &rq.user, &review, None).await?,
        "SubjectAccessReview" => access(server, &subject(&review)?, &review, None).await?,
        "LocalSubjectAccessReview" => {
            access(server, &subject(&review)?, &review, Some(&rq.target.namespace)).await?
        }
        "SelfSubjectRulesReview" => rules(server, &rq.user, &review).await?,
        _ => return Err(Status::no_such_resource()),
    };
    path::set(&mut review, &["status"], status);
    let created = json!(time::format_seconds(server.now_micros()));
    path::set(&mut review, &["metadata", "creationTimestamp"], created);
    let accepted = rq.accepted()?;
    Ok(respond::object(StatusCode::CREATED, accepted.format, &review))
}

async fn token(server: &Arc<Server>, review: &Value) -> Result<Value, Status> {
    let token = path::text(review, &["spec", "token"]);
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences: Vec<String> = path::items(review, &["spec", "audiences"])
        .iter()
        .filter_map(|a| a.as_str().map(str::to_owned))
        .collect();
    let audiences = if audiences.is_empty() { vec![server.issuer().to_owned()] } else { audiences };
    let claims = authn::verify_token(server, token, &audiences).await;
    match claims.map(|c| (c.user(), c.aud)) {
        Ok((Some(user), aud)) => {
            let fitting: Vec<String> = aud.into_iter().filter(|a| audiences.contains(a)).collect();
            Ok(json!({ "authenticated": true, "user": user, "audiences": fitting }))
        }
        Ok((None, _)) => Ok(json!({ "user": {} })),
        Err(why) => Ok(json!({ "user": {}, "error": format!("[invalid bearer token, {why}]") })),
    }
}

fn subject(review: &Value) -> Result<UserInfo, Status> {
    let text = |key| path::text(review, &["spec", key]).to_owned();
    let groups =
        path::items(review, &["spec", "groups"]).iter().filter_map(|g| g.as_str().map(str::to_owned));
    let user =
        UserInfo { name: text("user"), uid: text("uid"), groups: groups.collect(), ..UserInfo::default() };
    if user.name.is_empty() && user.groups.is_empty() {
        return Err(Status::bad_request("at least one of user or group must be specified"));
    }
    Ok(user)
}

async fn access(
    server: &Arc<Server>,
    user: &UserInfo,
    review: &Value,
    namespace: Option<&str>,
) -> Result<Value, Status> {
    let of_resource = path::get(review, &["spec", "resourceAttributes"]).filter(|v| v.is_object());
    let of_path = path::get(review, &["spec", "nonResourceAttributes"]).filter(|v| v.is_object());
    let wanted = match (of_resource, of_path) {
        (Some(r), None) => {
            let text = |key: &'static str| path::text(r, &[key]);
            if namespace.is_some_and(|n| n != text("namespace")) {
                return Err(Status::bad_request(
                    "spec.resourceAttributes.namespace must match metadata.namespace",
                ));
            }
            Attributes {
                verb: text("verb"),
                group: text("group"),
                resource: text("resource"),
                subresource: text("subresource"),
                namespace: text("namespace"),
                name: text("name"),
                path: "",
            }
        }
        (None, Some(p)) if namespace.is_none() => {
            Attributes::path(path::text(p, &["verb"]), path::text(p, &["path"]))
        }
        _ => {
            return Err(Status::bad_request(
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            ));
        }
    };
    let allowed = server.rbac().allows(user, &wanted, server.revision()).await;
    Ok(json!({ "allowed": allowed }))
}

async fn rules(server: &Arc<Server>, user: &UserInfo, review: &Value) -> Result<Value, Status> {
    let namespace = path::text(review, &["spec", "namespace"]);
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let rules = server.rbac().rules(user, namespace, server.revision()).await;
    let (of_paths, of_resources): (Vec<Rule>, Vec<Rule>) =
        rules.into_iter().partition(|r| !r.non_resource_urls.is_empty());
    let shown = |rules: Vec<Rule>| Vec::<Value>::deserialize(json!(rules)).unwrap_or_default();
    Ok(json!({
        "resourceRules": shown(of_resources), "nonResourceRules": shown(of_paths), "incomplete": false,
    }))
}
