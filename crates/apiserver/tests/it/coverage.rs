//! Every resource with every verb of the registry has a handler, and nobody gets past the door without a right.

use identity::UserInfo;
use kube_types::registry::{Registry, Resource, Verb};
use serde_json::json;

use crate::world::{Call, World, admin, read};

struct Case {
    method: &'static str,
    path: String,
    content_type: &'static str,
    body: String,
}

fn path(resource: &Resource, name: &str) -> String {
    let gvk = &resource.gvk;
    let root = if gvk.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", gvk.group) };
    let namespace = if resource.namespaced { "/namespaces/default" } else { "" };
    format!("{root}/{}{namespace}/{}{name}", gvk.version, resource.plural)
}

fn case(resource: &Resource, verb: Verb, sub: &str) -> Case {
    let body = json!({ "metadata": { "name": "nobody" } }).to_string();
    let name = if sub.is_empty() { "/nobody".to_owned() } else { format!("/nobody/{sub}") };
    let with = |method, name: &str, content_type, body: &str| Case {
        method,
        path: path(resource, name),
        content_type,
        body: body.to_owned(),
    };
    let json = "application/json";
    match verb {
        Verb::Create if sub.is_empty() => with("POST", "", json, &body),
        Verb::Create => with("POST", &name, json, &body),
        Verb::Get => with("GET", &name, json, ""),
        Verb::List => with("GET", "", json, ""),
        Verb::Watch => with("GET", "?watch=1&timeoutSeconds=1", json, ""),
        Verb::Update => with("PUT", &name, json, &body),
        Verb::Patch => with("PATCH", &name, "application/merge-patch+json", "{}"),
        Verb::Delete => with("DELETE", &name, json, ""),
        Verb::DeleteCollection => with("DELETE", "?labelSelector=none=of-them", json, ""),
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for resource in Registry::builtin().resources() {
        cases.extend(resource.verbs.iter().map(|verb| case(resource, *verb, "")));
        for sub in &resource.subresources {
            cases.extend(sub.verbs.iter().map(|verb| case(resource, *verb, &sub.name)));
        }
    }
    cases
}

async fn code(world: &World, user: UserInfo, case: &Case) -> (u16, String) {
    let headers = [("content-type", case.content_type)];
    let call = Call { user, method: case.method, path: &case.path, headers: &headers, body: &case.body };
    let response = world.send(call).await;
    if case.path.contains("watch=1") && response.status() == 200 {
        return (200, String::new());
    }
    let (code, value) = read(response).await;
    (code, value.to_string())
}

#[tokio::test]
async fn every_verb_is_handled() {
    let world = World::new().await;
    world
        .ask("POST", "/api/v1/namespaces/default/serviceaccounts", r#"{"metadata":{"name":"default"}}"#)
        .await;
    for case in cases() {
        let (code, text) = code(&world, admin(), &case).await;
        let handled = match code {
            200 | 201 | 400 | 409 | 422 => true,
            // The object is missing, not the handler.
            404 => text.contains("\"nobody\\\" not found") || text.contains("nobody"),
            _ => false,
        };
        assert!(handled, "{} {}: {code} {text}", case.method, case.path);
    }
}

#[tokio::test]
async fn nothing_is_open() {
    let world = World::new().await;
    let open = ["selfsubjectreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews"];
    for case in cases() {
        let (got, text) = code(&world, UserInfo::new("bob", &[]), &case).await;
        if open.iter().any(|o| case.path.ends_with(o)) {
            assert_ne!(got, 403, "{}", case.path);
            continue;
        }
        assert_eq!(got, 403, "{} {}: {text}", case.method, case.path);
    }
}
