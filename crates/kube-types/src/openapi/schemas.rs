//! `components.schemas`: the types a document refers to, and theirs.

use crate::schema::{Facts, Field, ListType, Schema, Shape, TypeDef};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";
const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

/// `{"$ref": "#/components/schemas/<name>"}`.
pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// The schemas of these types and of all that they lead to.
pub(super) fn closure(roots: BTreeSet<String>) -> Map<String, Value> {
    let schema = Schema::builtin();
    let mut out = Map::new();
    for (name, value) in scalars() {
        out.insert(name.into(), value);
    }
    let mut open: Vec<String> = roots.into_iter().collect();
    while let Some(name) = open.pop() {
        if out.contains_key(&name) {
            continue;
        }
        let Some(id) = schema.by_name(&name) else { continue };
        let def = schema.get(id);
        def.fields.iter().for_each(|field| leads_to(schema, &field.shape, &mut open));
        out.insert(name, definition(schema, def));
    }
    out
}

fn scalars() -> [(&'static str, Value); 5] {
    [
        (QUANTITY, json!({"oneOf": [{"type": "string"}, {"type": "number"}]})),
        (
            INT_OR_STRING,
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}),
        ),
        (TIME, json!({"type": "string", "format": "date-time"})),
        (MICRO_TIME, json!({"type": "string", "format": "date-time"})),
        (PATCH, json!({"type": "object"})),
    ]
}

fn leads_to(schema: &Schema, shape: &Shape, open: &mut Vec<String>) {
    match shape {
        Shape::Object(id) => open.push(schema.get(*id).name.to_string()),
        Shape::List(item) | Shape::Map(item) => leads_to(schema, item, open),
        _ => {}
    }
}

fn definition(schema: &Schema, def: &TypeDef) -> Value {
    let mut out = Map::new();
    out.insert("type".into(), json!("object"));
    let properties: Map<String, Value> =
        def.fields.iter().map(|field| (field.name.to_string(), property(schema, field))).collect();
    if !properties.is_empty() {
        out.insert("properties".into(), Value::Object(properties));
    }
    let required: Vec<&str> =
        def.fields.iter().filter(|field| field.required).map(|field| field.name.as_ref()).collect();
    if !required.is_empty() {
        out.insert("required".into(), json!(required));
    }
    if def.atomic {
        out.insert("x-kubernetes-map-type".into(), json!("atomic"));
    }
    if !def.kinds.is_empty() {
        let kinds: Vec<Value> = def
            .kinds
            .iter()
            .map(|kind| json!({"group": kind.group, "version": kind.version, "kind": kind.kind}))
            .collect();
        out.insert("x-kubernetes-group-version-kind".into(), Value::Array(kinds));
    }
    Value::Object(out)
}

fn property(schema: &Schema, field: &Field) -> Value {
    let mut value = shape(schema, &field.shape);
    if let Some(map) = value.as_object_mut() {
        extensions(map, &field.shape, &field.facts);
        if let Some(default) = &field.facts.default {
            map.insert("default".into(), json!(default));
        }
    }
    value
}

fn extensions(map: &mut Map<String, Value>, shape: &Shape, facts: &Facts) {
    if matches!(shape, Shape::List(_)) {
        let kind = match facts.list_type {
            ListType::Atomic => "atomic",
            ListType::Set => "set",
            ListType::Map => "map",
        };
        map.insert("x-kubernetes-list-type".into(), json!(kind));
    }
    if !facts.map_keys.is_empty() {
        map.insert("x-kubernetes-list-map-keys".into(), json!(facts.map_keys));
    }
    let strategy = match (facts.patch_merge, facts.patch_retain_keys) {
        (true, true) => "merge,retainKeys",
        (true, false) => "merge",
        (false, true) => "retainKeys",
        (false, false) => "",
    };
    if !strategy.is_empty() {
        map.insert("x-kubernetes-patch-strategy".into(), json!(strategy));
    }
    if let Some(key) = &facts.patch_merge_key {
        map.insert("x-kubernetes-patch-merge-key".into(), json!(key));
    }
    if facts.atomic_map {
        map.insert("x-kubernetes-map-type".into(), json!("atomic"));
    }
}

/// References stand in `allOf`, as upstream's, so that siblings of `$ref` are allowed.
fn shape(schema: &Schema, shape_of: &Shape) -> Value {
    let named = |name: &str| json!({"allOf": [reference(name)]});
    match shape_of {
        Shape::String => json!({"type": "string"}),
        Shape::Int32 => json!({"type": "integer", "format": "int32"}),
        Shape::Int64 => json!({"type": "integer", "format": "int64"}),
        Shape::Double => json!({"type": "number", "format": "double"}),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Bytes => json!({"type": "string", "format": "byte"}),
        Shape::Any => json!({"type": "object"}),
        Shape::Quantity => named(QUANTITY),
        Shape::IntOrString => named(INT_OR_STRING),
        Shape::Time => named(TIME),
        Shape::MicroTime => named(MICRO_TIME),
        Shape::Object(id) => named(&schema.get(*id).name),
        Shape::List(item) => json!({"type": "array", "items": shape(schema, item)}),
        Shape::Map(item) => json!({"type": "object", "additionalProperties": shape(schema, item)}),
    }
}
