//! What is done with a request to a resource: one pipeline for all kinds.
//!
//! ```text
//! dispatch ─┬ get, list, watch                        ◀── store, watch cache
//!           ├ create ─ decode ─ prepare ─ default ─ admit ─ validate ─ manage fields ─▶ Store::txn
//!           ├ update, patch, apply ─ the same, from the current object, again on conflict
//!           ├ delete, deletecollection
//!           └ subresources: status, scale, binding, eviction, finalize, token, log, exec
//! ```

pub(crate) mod body;
mod create;
mod delete;
mod list;
mod options;
mod patch;
pub(crate) mod pods;
mod reviews;
mod scale;
mod select;
mod shape;
mod token;
mod update;
mod watch;
pub(crate) mod write;

use std::sync::Arc;

use http::StatusCode;
use kube_types::registry::{Resource, Subresource, Verb};
use kube_types::status::{Reason, Status};

use crate::http::respond::{self, Answer};
use crate::server::{Request, Server};

/// Sends a request to its handler.
pub(crate) async fn dispatch(server: &Arc<Server>, rq: &mut Request) -> Answer {
    let target = &rq.target;
    let known = server.registry.in_group_version(&target.group, &target.version).next().is_some();
    let Some(resource) = server.registry.find(&target.group, &target.version, &target.resource).cloned()
    else {
        return if known { Err(Status::no_such_resource()) } else { Ok(page_not_found()) };
    };
    if !resource.namespaced && !target.namespace.is_empty() && target.resource != "namespaces" {
        return Err(Status::no_such_resource());
    }
    if resource.namespaced && target.namespace.is_empty() && !resource.is_virtual() {
        match target.verb {
            _ if !target.name.is_empty() => return Err(Status::no_such_resource()),
            "create" | "deletecollection" => return Err(unsupported()),
            _ => {}
        }
    }
    if target.subresource.is_empty() {
        return main(server, rq, &resource).await;
    }
    let Some(sub) = resource.subresource(&target.subresource) else { return Err(Status::no_such_resource()) };
    subresource(server, rq, &resource, sub).await
}

/// What Go's server says to paths it does not know.
pub(crate) fn page_not_found() -> http::Response<crate::http::body::Body> {
    respond::text(StatusCode::NOT_FOUND, "404 page not found\n")
}

async fn main(server: &Arc<Server>, rq: &mut Request, resource: &Arc<Resource>) -> Answer {
    let Some(verb) = verb(rq.target.verb).filter(|verb| resource.has(*verb)) else {
        return Err(unsupported());
    };
    match verb {
        Verb::Create if resource.is_virtual() => reviews::create(server, rq, resource).await,
        Verb::Create if !rq.target.name.is_empty() => Err(unsupported()),
        Verb::Create => create::create(server, rq, resource).await,
        Verb::Get => list::get(server, rq, resource).await,
        Verb::List => list::list(server, rq, resource).await,
        Verb::Watch => watch::watch(server, rq, resource).await,
        Verb::Update if rq.target.name.is_empty() => Err(unsupported()),
        Verb::Update => update::update(server, rq, resource, None).await,
        Verb::Patch if rq.target.name.is_empty() => Err(unsupported()),
        Verb::Patch => patch::patch(server, rq, resource, None).await,
        Verb::Delete => delete::delete(server, rq, resource).await,
        Verb::DeleteCollection => delete::collection(server, rq, resource).await,
    }
}

async fn subresource(
    server: &Arc<Server>,
    rq: &mut Request,
    resource: &Arc<Resource>,
    sub: &Subresource,
) -> Answer {
    let verb = verb(rq.target.verb).filter(|verb| sub.verbs.contains(verb));
    let verb = verb.ok_or_else(unsupported)?;
    match (&*sub.name, verb) {
        ("log", Verb::Get) => pods::log(server, rq).await,
        ("exec", Verb::Get | Verb::Create) => pods::exec(server, rq).await,
        ("binding", Verb::Create) => pods::binding(server, rq, resource).await,
        ("eviction", Verb::Create) => pods::eviction(server, rq, resource).await,
        ("token", Verb::Create) => token::create(server, rq).await,
        ("scale", Verb::Get) => scale::get(server, rq, resource).await,
        ("scale", Verb::Update | Verb::Patch) => scale::write(server, rq, resource, sub).await,
        (_, Verb::Get) => list::get(server, rq, resource).await,
        (name, Verb::Update) => update::update(server, rq, resource, Some(name)).await,
        (name, Verb::Patch) => patch::patch(server, rq, resource, Some(name)).await,
        _ => Err(unsupported()),
    }
}

fn verb(word: &str) -> Option<Verb> {
    Some(match word {
        "create" => Verb::Create,
        "delete" => Verb::Delete,
        "deletecollection" => Verb::DeleteCollection,
        "get" => Verb::Get,
        "list" => Verb::List,
        "patch" => Verb::Patch,
        "update" => Verb::Update,
        "watch" => Verb::Watch,
        _ => return None,
    })
}

/// 405 with the text of upstream's router.
fn unsupported() -> Status {
    let text = "the server does not allow this method on the requested resource";
    Status::failure(405, Reason::MethodNotAllowed, text)
}
