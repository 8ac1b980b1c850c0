//! Walks of objects beside their schema: which fields are there, what changed, merging, removing.
//!
//! After `sigs.k8s.io/structured-merge-diff`. A place is a leaf (owned as one), a map, or a list whose items
//! have identities.

use super::set::{Element, Set, show};
use crate::schema::{Cursor, ListType, Shape};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// What owning a place means.
enum Place {
    /// Owned as one: scalars, atomic lists and maps, free-form values.
    Leaf,
    Map,
    /// Items are found by these keys; by their value when there are none.
    Items,
}

fn place(cursor: Cursor<'_>, value: Option<&Value>) -> Place {
    match cursor.shape {
        // Without any schema maps are taken apart and lists are not.
        Shape::Any if cursor.is_untyped() && value.is_some_and(Value::is_object) => Place::Map,
        Shape::Object(_) | Shape::Map(_) if !cursor.is_atomic_map() => Place::Map,
        Shape::List(_) if cursor.facts.list_type != ListType::Atomic => Place::Items,
        _ => Place::Leaf,
    }
}

/// Struct fields of Go that are there even when nothing is in them (no pointers, no `omitempty`): creating an
/// object does not create these.
const ALWAYS_THERE: &[(&str, &str)] = &[
    ("DeploymentSpec", "strategy"),
    ("DeploymentSpec", "template"),
    ("ReplicaSetSpec", "template"),
    ("PodTemplateSpec", "metadata"),
    ("PodTemplateSpec", "spec"),
    ("PodSpec", "containers"),
    ("ServiceStatus", "loadBalancer"),
    ("NodeStatus", "daemonEndpoints"),
    ("NodeStatus", "nodeInfo"),
    ("Event", "source"),
    ("Event", "involvedObject"),
    ("Role", "rules"),
    ("ClusterRole", "rules"),
    ("RoleBinding", "roleRef"),
    ("ClusterRoleBinding", "roleRef"),
    ("EndpointSlice", "endpoints"),
    ("EndpointSlice", "ports"),
];

fn is_always_there(cursor: Cursor<'_>, field: &str, depth: usize) -> bool {
    if depth == 0 {
        return matches!(field, "metadata" | "spec" | "status");
    }
    let Some(def) = cursor.type_def() else { return false };
    ALWAYS_THERE.iter().any(|(ty, name)| *name == field && *ty == def.short_name())
}

/// The identity of a list's item; the error names what is missing.
pub(super) fn identity(list: Cursor<'_>, item: &Value) -> Result<Element, String> {
    let keys = &list.facts.map_keys;
    if list.facts.list_type == ListType::Set || keys.is_empty() {
        return Ok(Element::value(item));
    }
    let item_place = list.item();
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let default =
            || item_place?.child(key)?.facts.default.as_ref().map(|text| Value::from(text.as_ref()));
        let value = item.get(key.as_ref()).filter(|value| !value.is_null()).cloned().or_else(default);
        let value = value.ok_or_else(|| {
            format!("associative list with keys has an element that omits key field \"{key}\" (and doesn't have default value)")
        })?;
        found.push((key.as_ref(), value));
    }
    Ok(Element::key(found))
}

/// Items with their identities. Items without one (which validation refuses elsewhere) go by their place.
fn identified<'a>(list: Cursor<'_>, value: Option<&'a Value>) -> Vec<(Element, &'a Value)> {
    let items = value.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let named = |(at, item)| (identity(list, item).unwrap_or(Element::Index(at)), item);
    items.iter().enumerate().map(named).collect()
}

fn fields(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

fn is_blank(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    }
}

/// The set of fields an applied configuration speaks for. `Err` is a complaint with its path.
pub(super) fn field_set(cursor: Cursor<'_>, value: &Value) -> Result<Set, String> {
    let mut set = Set::default();
    gather(cursor, value, &mut Vec::new(), &mut set)?;
    Ok(set)
}

fn gather(cursor: Cursor<'_>, value: &Value, at: &mut Vec<Element>, out: &mut Set) -> Result<(), String> {
    match place(cursor, Some(value)) {
        Place::Leaf => out.insert(at),
        Place::Map => {
            let named = matches!(cursor.shape, Shape::Object(_));
            for (key, value) in fields(Some(value)).into_iter().flatten() {
                at.push(Element::Field(key.clone()));
                let child =
                    cursor.child(key).ok_or_else(|| format!("{}: field not declared in schema", show(at)))?;
                gather(child, value, at, out)?;
                let empty_map = value.as_object().is_some_and(Map::is_empty);
                if !named || value.is_null() || empty_map {
                    out.insert(at);
                }
                at.pop();
            }
        }
        Place::Items => {
            let item_place = cursor.item().unwrap_or(cursor);
            let mut seen = BTreeSet::new();
            for item in value.as_array().into_iter().flatten() {
                let id = identity(cursor, item).map_err(|why| format!("{}: {why}", show(at)))?;
                if !seen.insert(id.clone()) {
                    return Err(format!("{}: duplicate entries for key {id}", show(at)));
                }
                at.push(id);
                gather(item_place, item, at, out)?;
                out.insert(at);
                at.pop();
            }
        }
    }
    Ok(())
}

/// The paths of fields that the schema does not have.
pub(super) fn undeclared(cursor: Cursor<'_>, value: &Value, at: &mut Vec<Element>, out: &mut Vec<String>) {
    match place(cursor, Some(value)) {
        Place::Leaf => {}
        Place::Map => {
            for (key, value) in fields(Some(value)).into_iter().flatten() {
                at.push(Element::Field(key.clone()));
                match cursor.child(key) {
                    Some(child) => undeclared(child, value, at, out),
                    None => out.push(show(at)),
                }
                at.pop();
            }
        }
        Place::Items => {
            for (id, item) in identified(cursor, Some(value)) {
                at.push(id);
                undeclared(cursor.item().unwrap_or(cursor), item, at, out);
                at.pop();
            }
        }
    }
}

/// What differs between two objects.
#[derive(Clone, Debug, Default)]
pub(super) struct Comparison {
    pub removed: Set,
    pub modified: Set,
    pub added: Set,
}

/// Compares two objects field by field.
pub(super) fn compare(cursor: Cursor<'_>, old: Option<&Value>, new: Option<&Value>) -> Comparison {
    let mut out = Comparison::default();
    let nothing = Value::Object(Map::new());
    compare_at(cursor, Some(old.unwrap_or(&nothing)), new, &mut Vec::new(), &mut out);
    out
}

fn compare_at(
    cursor: Cursor<'_>,
    old: Option<&Value>,
    new: Option<&Value>,
    at: &mut Vec<Element>,
    out: &mut Comparison,
) {
    let both_blank = is_blank(old) && is_blank(new);
    match place(cursor, new.or(old)) {
        Place::Map if !both_blank => compare_fields(cursor, old, new, at, out),
        Place::Items if !both_blank => compare_items(cursor, old, new, at, out),
        _ => {
            if old.is_some() && new.is_some() && old != new {
                out.modified.insert(at);
            }
        }
    }
    match (old, new) {
        (None, Some(_)) => out.added.insert(at),
        (Some(_), None) => out.removed.insert(at),
        _ => {}
    }
}

fn compare_fields(
    cursor: Cursor<'_>,
    old: Option<&Value>,
    new: Option<&Value>,
    at: &mut Vec<Element>,
    out: &mut Comparison,
) {
    let (old_fields, new_fields) = (fields(old), fields(new));
    let mut keys: Vec<&String> = old_fields.into_iter().chain(new_fields).flat_map(Map::keys).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let Some(child) = cursor.child(key) else { continue };
        let implied = is_always_there(cursor, key, at.len());
        let old_value = field_or_implied(old, key, implied);
        let new_value = field_or_implied(new, key, implied);
        at.push(Element::Field(key.clone()));
        compare_at(child, old_value, new_value, at, out);
        at.pop();
    }
}

/// A field's value; one that Go always has is null when the object around it is there.
fn field_or_implied<'a>(object: Option<&'a Value>, key: &str, implied: bool) -> Option<&'a Value> {
    static NULL: Value = Value::Null;
    let object = object?;
    object.get(key).or_else(|| implied.then_some(&NULL))
}

fn compare_items(
    cursor: Cursor<'_>,
    old: Option<&Value>,
    new: Option<&Value>,
    at: &mut Vec<Element>,
    out: &mut Comparison,
) {
    let item_place = cursor.item().unwrap_or(cursor);
    let by_id = |value| identified(cursor, value).into_iter().collect::<BTreeMap<Element, &Value>>();
    let (old_items, new_items) = (by_id(old), by_id(new));
    let ids: BTreeSet<&Element> = old_items.keys().chain(new_items.keys()).collect();
    for id in ids {
        at.push(id.clone());
        compare_at(item_place, old_items.get(id).copied(), new_items.get(id).copied(), at, out);
        at.pop();
    }
}

/// Lays a configuration over a live object.
pub(super) fn merge(cursor: Cursor<'_>, live: Option<Value>, config: &Value) -> Value {
    let Some(live) = live.filter(|live| !live.is_null()) else { return config.clone() };
    match (place(cursor, Some(config)), live, config) {
        (Place::Map, Value::Object(mut out), Value::Object(new)) => {
            for (key, value) in new {
                let old = out.remove(key);
                let merged =
                    cursor.child(key).map_or_else(|| value.clone(), |child| merge(child, old, value));
                out.insert(key.clone(), merged);
            }
            Value::Object(out)
        }
        (Place::Items, live @ Value::Array(_), Value::Array(_)) => merge_items(cursor, &live, config),
        (_, _, config) => config.clone(),
    }
}

/// Shared items in the configuration's order; items of the live object alone stay where they were.
fn merge_items(cursor: Cursor<'_>, live: &Value, config: &Value) -> Value {
    let item_place = cursor.item().unwrap_or(cursor);
    let (old, new) = (identified(cursor, Some(live)), identified(cursor, Some(config)));
    let in_config = |id: &Element| new.iter().any(|(one, _)| one == id);
    let mut out = Vec::with_capacity(old.len().max(new.len()));
    let (mut left, mut right) = (old.iter().peekable(), new.iter().peekable());
    let mut placed: Vec<&Element> = Vec::new();
    loop {
        match (left.peek(), right.peek()) {
            (Some((id, _)), _) if placed.contains(&id) => {
                left.next();
            }
            (Some((id, item)), _) if !in_config(id) => {
                out.push((*item).clone());
                left.next();
            }
            (_, Some((id, item))) => {
                let before = old.iter().find(|(one, _)| one == id).map(|(_, value)| (*value).clone());
                out.push(merge(item_place, before, item));
                placed.push(id);
                right.next();
            }
            (_, None) => break,
        }
    }
    Value::Array(out)
}

/// The object without the members of a set and all that is below them. What becomes empty thereby goes too.
pub(super) fn remove(cursor: Cursor<'_>, value: &Value, gone: &Set) -> Option<Value> {
    match (place(cursor, Some(value)), value) {
        (Place::Map, Value::Object(map)) => {
            let mut out = Map::new();
            for (key, value) in map {
                let element = Element::Field(key.clone());
                if gone.has(&element) {
                    continue;
                }
                let kept = match (gone.below(&element), cursor.child(key)) {
                    (Some(below), Some(child)) => remove(child, value, below),
                    _ => Some(value.clone()),
                };
                out.extend(kept.map(|kept| (key.clone(), kept)));
            }
            (!out.is_empty()).then_some(Value::Object(out))
        }
        (Place::Items, Value::Array(_)) => {
            let item_place = cursor.item().unwrap_or(cursor);
            let kept = identified(cursor, Some(value)).into_iter().filter(|(id, _)| !gone.has(id));
            let kept = kept.filter_map(|(id, item)| match gone.below(&id) {
                Some(below) => remove(item_place, item, below),
                None => Some(item.clone()),
            });
            let out: Vec<Value> = kept.collect();
            (!out.is_empty()).then_some(Value::Array(out))
        }
        _ => Some(value.clone()),
    }
}

/// The set with every named field that has members below it made a member.
pub(super) fn with_named_fields(cursor: Option<Cursor<'_>>, set: &Set) -> Set {
    let named = cursor.is_some_and(|cursor| matches!(cursor.shape, Shape::Object(_)));
    set.map_nodes(|element, member, below| {
        let (child, is_field) = match element {
            Element::Field(name) => (cursor.and_then(|cursor| cursor.child(name)), true),
            _ => (cursor.and_then(|cursor| cursor.item()), false),
        };
        let known = named && is_field && child.is_some();
        (member || (known && !below.is_empty()), with_named_fields(child, below))
    })
}
