//! What a path and a method ask for (upstream's RequestInfo).
//!
//! ```text
//! /api/v1/namespaces/<ns>/<resource>/<name>/<subresource>
//! /apis/<group>/<version>/...            everything else is a non-resource path
//! ```

use http::Method;
use kube_types::registry::Resource;

use super::query::{Query, unescape_path};

/// A request to a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Target {
    /// get, list, watch, create, update, patch, delete, deletecollection.
    pub(crate) verb: &'static str,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) name: String,
    /// What follows the subresource (of `proxy`), with its leading slash.
    pub(crate) rest: String,
}

impl Target {
    /// The namespace its objects live in: none for kinds of the cluster, namespaces included.
    pub(crate) fn namespace_of(&self, resource: &Resource) -> String {
        if resource.namespaced { self.namespace.clone() } else { String::new() }
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    Resource(Box<Target>),
    /// Health, version, discovery and the like.
    Path,
}

/// Reads method, path and query.
pub(crate) fn parse(method: &Method, path: &str, query: &Query) -> Asked {
    let segments: Vec<String> = path.split('/').filter(|s| !s.is_empty()).map(unescape_path).collect();
    let words: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (group, version, rest) = match words.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
        _ => return Asked::Path,
    };
    // The deprecated `/watch/` prefix.
    let (old_watch, rest) = match rest {
        ["watch", rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut target = Target { group: group.into(), version: version.into(), ..Target::default() };
    place(&mut target, rest);
    let watch = old_watch || query.flag("watch");
    target.verb = verb(method, &target, watch, query);
    Asked::Resource(Box::new(target))
}

fn place(target: &mut Target, words: &[&str]) {
    let rest = match words {
        ["namespaces", namespace, resource, ..] if !NAMESPACE_SUBRESOURCES.contains(resource) => {
            target.namespace = (*namespace).into();
            &words[2..]
        }
        // A namespace is in itself, for authorization.
        ["namespaces", name, ..] => {
            target.namespace = (*name).into();
            words
        }
        words => words,
    };
    let at = |i: usize| rest.get(i).map_or_else(String::new, ToString::to_string);
    (target.resource, target.name, target.subresource) = (at(0), at(1), at(2));
    if rest.len() > 3 {
        target.rest = format!("/{}", rest[3..].join("/"));
    }
}

const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

fn verb(method: &Method, target: &Target, watch: bool, query: &Query) -> &'static str {
    let named = !target.name.is_empty();
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        Method::GET | Method::HEAD if named && !watch => "get",
        // A watch of one name on the old path, or a selector for one name, still needs only what the list needs.
        Method::GET | Method::HEAD if watch && (query.flag("watch") || !named) => "watch",
        Method::GET | Method::HEAD if named => "watch",
        Method::GET | Method::HEAD => "list",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: Method, uri: &str, expect: &str) {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let got = match parse(&method, path, &Query::parse(Some(query))) {
            Asked::Path => "path".into(),
            Asked::Resource(t) => {
                let fields =
                    [t.verb, &t.group, &t.version, &t.namespace, &t.resource, &t.name, &t.subresource];
                format!("{}{}", fields.join("|"), t.rest)
            }
        };
        assert_eq!(got, expect, "{uri}");
    }

    #[test]
    fn paths_are_read() {
        check(Method::GET, "/healthz", "path");
        check(Method::GET, "/api/v1", "path");
        check(Method::GET, "/apis/apps/v1", "path");
        check(Method::GET, "/api/v1/pods", "list||v1||pods||");
        check(Method::GET, "/api/v1/pods?watch=1", "watch||v1||pods||");
        check(Method::GET, "/api/v1/namespaces", "list||v1||namespaces||");
        check(Method::GET, "/api/v1/namespaces/a", "get||v1|a|namespaces|a|");
        check(Method::PUT, "/api/v1/namespaces/a/finalize", "update||v1|a|namespaces|a|finalize");
        check(Method::POST, "/api/v1/namespaces/a/pods", "create||v1|a|pods||");
        check(Method::POST, "/api/v1/namespaces/a/pods/b/binding", "create||v1|a|pods|b|binding");
        check(Method::GET, "/api/v1/watch/namespaces/a/pods/b", "watch||v1|a|pods|b|");
        check(
            Method::DELETE,
            "/apis/apps/v1/namespaces/a/deployments",
            "deletecollection|apps|v1|a|deployments||",
        );
        check(Method::GET, "/api/v1/nodes/n/proxy/x/y", "get||v1||nodes|n|proxy/x/y");
    }
}
