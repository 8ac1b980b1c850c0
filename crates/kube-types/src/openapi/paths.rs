//! `paths`: each resource's collection, items and subresources with their operations.

use super::schemas::reference;
use crate::registry::{GroupVersionKind, Resource, Verb};
use crate::schema::SchemaRef;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
const PATCH_TYPES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// An operation: HTTP method, the verb in `operationId`, `x-kubernetes-action`, and its query parameters.
struct Kind {
    method: &'static str,
    word: &'static str,
    action: &'static str,
    query: &'static [(&'static str, &'static str)],
}

const LIST_QUERY: &[(&str, &str)] = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const WRITE_QUERY: &[(&str, &str)] =
    &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const PATCH_QUERY: &[(&str, &str)] =
    &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"), ("force", "boolean")];
const DELETE_QUERY: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];
const DELETE_COLLECTION_QUERY: &[(&str, &str)] = &[
    ("continue", "string"),
    ("dryRun", "string"),
    ("fieldSelector", "string"),
    ("gracePeriodSeconds", "integer"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("timeoutSeconds", "integer"),
];

const LIST: Kind = Kind { method: "get", word: "list", action: "list", query: LIST_QUERY };
const CREATE: Kind = Kind { method: "post", word: "create", action: "post", query: WRITE_QUERY };
const DELETE_COLLECTION: Kind =
    Kind { method: "delete", word: "delete", action: "deletecollection", query: DELETE_COLLECTION_QUERY };
const READ: Kind = Kind { method: "get", word: "read", action: "get", query: &[] };
const REPLACE: Kind = Kind { method: "put", word: "replace", action: "put", query: WRITE_QUERY };
const MODIFY: Kind = Kind { method: "patch", word: "patch", action: "patch", query: PATCH_QUERY };
const DELETE: Kind = Kind { method: "delete", word: "delete", action: "delete", query: DELETE_QUERY };

/// What is being written while one resource's paths are made.
struct Writer<'a> {
    resource: &'a Resource,
    roots: &'a mut BTreeSet<String>,
}

/// Adds a resource's paths, and the types they name to `roots`.
pub(super) fn add(resource: &Resource, paths: &mut Map<String, Value>, roots: &mut BTreeSet<String>) {
    let base = format!("/{}", super::path_of(&resource.gvk.group, &resource.gvk.version));
    let plural = &resource.plural;
    let collection = if resource.namespaced {
        format!("{base}/namespaces/{{namespace}}/{plural}")
    } else {
        format!("{base}/{plural}")
    };
    let item = format!("{collection}/{{name}}");
    let own = type_name(&resource.schema);
    let mut writer = Writer { resource, roots };

    let list = writer.list_type();
    let on_collection = [
        (Verb::List, &LIST, &list),
        (Verb::Create, &CREATE, &own),
        (Verb::DeleteCollection, &DELETE_COLLECTION, &own),
    ];
    writer.path(paths, &collection, false, "", &resource.gvk, &resource.verbs, &on_collection);
    let on_item = [
        (Verb::Get, &READ, &own),
        (Verb::Update, &REPLACE, &own),
        (Verb::Patch, &MODIFY, &own),
        (Verb::Delete, &DELETE, &own),
    ];
    writer.path(paths, &item, true, "", &resource.gvk, &resource.verbs, &on_item);
    if resource.namespaced && resource.has(Verb::List) {
        let everywhere = format!("{base}/{plural}");
        writer.path(
            paths,
            &everywhere,
            false,
            "ForAllNamespaces",
            &resource.gvk,
            &[Verb::List],
            &[(Verb::List, &LIST, &list)],
        );
    }
    for sub in &resource.subresources {
        let body = type_name(&sub.schema);
        let at = format!("{item}/{}", sub.name);
        let on_sub = [
            (Verb::Get, &READ, &body),
            (Verb::Update, &REPLACE, &body),
            (Verb::Patch, &MODIFY, &body),
            (Verb::Create, &CREATE, &body),
        ];
        writer.path(paths, &at, true, &capital(&sub.name), &sub.gvk, &sub.verbs, &on_sub);
    }
}

fn type_name(schema: &SchemaRef) -> String {
    schema.type_def().map(|def| def.name.to_string()).unwrap_or_default()
}

impl Writer<'_> {
    fn list_type(&self) -> String {
        let gvk = &self.resource.gvk;
        let list =
            GroupVersionKind::new(gvk.group.clone(), gvk.version.clone(), self.resource.list_kind.clone());
        SchemaRef::builtin(&list).map(|schema| type_name(&schema)).unwrap_or_default()
    }

    #[allow(clippy::too_many_arguments, reason = "one row of a table of paths")]
    fn path(
        &mut self,
        paths: &mut Map<String, Value>,
        at: &str,
        named: bool,
        suffix: &str,
        gvk: &GroupVersionKind,
        verbs: &[Verb],
        kinds: &[(Verb, &Kind, &String)],
    ) {
        let mut operations = Map::new();
        for (_, kind, body) in kinds.iter().filter(|(verb, ..)| verbs.contains(verb)) {
            operations.insert(kind.method.into(), self.operation(kind, suffix, gvk, body));
        }
        if operations.is_empty() {
            return;
        }
        let mut parameters = Vec::new();
        if at.contains("{namespace}") {
            parameters.push(parameter("namespace", "path", "string"));
        }
        if named {
            parameters.push(parameter("name", "path", "string"));
        }
        operations.insert("parameters".into(), Value::Array(parameters));
        paths.insert(at.into(), Value::Object(operations));
    }

    fn operation(&mut self, kind: &Kind, suffix: &str, gvk: &GroupVersionKind, body: &str) -> Value {
        let mut out = Map::new();
        let query = kind.query.iter().map(|(name, ty)| parameter(name, "query", ty));
        if !kind.query.is_empty() {
            out.insert("parameters".into(), query.collect());
        }
        out.insert("operationId".into(), json!(self.operation_id(kind, suffix)));
        let shown = json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind});
        out.insert("x-kubernetes-group-version-kind".into(), shown);
        out.insert("x-kubernetes-action".into(), json!(kind.action));
        if let Some(request) = self.request(kind, body) {
            out.insert("requestBody".into(), request);
        }
        let answer = if kind.method == "delete" { STATUS } else { body };
        let ok = if answer.is_empty() {
            json!({"description": "OK"})
        } else {
            self.roots.insert(answer.into());
            json!({"description": "OK", "content": content(&["application/json", "application/yaml"], answer)})
        };
        out.insert("responses".into(), json!({"200": ok, "401": {"description": "Unauthorized"}}));
        Value::Object(out)
    }

    fn request(&mut self, kind: &Kind, body: &str) -> Option<Value> {
        let (types, name): (&[&str], &str) = match kind.method {
            "patch" => (PATCH_TYPES, PATCH),
            "delete" => (&["application/json"], DELETE_OPTIONS),
            "post" | "put" if !body.is_empty() => (&["application/json", "application/yaml"], body),
            _ => return None,
        };
        self.roots.insert(name.into());
        Some(json!({"content": content(types, name), "required": kind.method != "delete"}))
    }

    /// `patchAppsV1NamespacedDeploymentScale`.
    fn operation_id(&self, kind: &Kind, suffix: &str) -> String {
        let gvk = &self.resource.gvk;
        let group: String = match gvk.group.as_ref() {
            "" => "Core".into(),
            group => group.trim_end_matches(".k8s.io").split('.').map(capital).collect(),
        };
        let everywhere = suffix == "ForAllNamespaces";
        let scope = if self.resource.namespaced && !everywhere { "Namespaced" } else { "" };
        let many = if kind.action == "deletecollection" { "Collection" } else { "" };
        format!("{}{group}{}{many}{scope}{}{suffix}", kind.word, capital(&gvk.version), gvk.kind)
    }
}

fn content(types: &[&str], name: &str) -> Map<String, Value> {
    types.iter().map(|media| ((*media).to_string(), json!({"schema": reference(name)}))).collect()
}

fn parameter(name: &str, place: &str, ty: &str) -> Value {
    let mut out = json!({"name": name, "in": place, "schema": {"type": ty, "uniqueItems": true}});
    if place == "path" {
        out["required"] = json!(true);
    }
    out
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}
