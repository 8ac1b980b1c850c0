//! Strategic merge, after `k8s.io/apimachinery/pkg/util/strategicpatch`.
//!
//! ```text
//! merge_map: $patch? -> $retainKeys -> ordered lists ($setElementOrder) -> each field by its strategy
//! merge_list: special items ($patch: delete|replace) -> merge by key -> order
//! ```
//!
//! A `None` cursor is a place without a schema (inside free-form JSON): maps merge, lists replace.

use crate::schema::Cursor;
use serde_json::{Map, Value};

type Object = Map<String, Value>;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";

/// Merges `patch` into `original`.
pub(super) fn merge_map(
    cursor: Option<Cursor<'_>>,
    mut original: Object,
    mut patch: Object,
) -> Result<Object, String> {
    match patch.remove(PATCH) {
        None => {}
        Some(Value::String(word)) => match word.as_str() {
            "replace" => return drop_directives(patch),
            "delete" => return Ok(Object::new()),
            "merge" => {}
            other => return Err(format!("unknown patch type found: {other}")),
        },
        Some(_) => return Err("unknown patch type found".into()),
    }
    retain_keys(&mut original, &mut patch)?;
    ordered_lists(cursor, &mut original, &mut patch)?;
    for (key, value) in patch {
        merge_field(cursor, &mut original, key, value)?;
    }
    Ok(original)
}

fn merge_field(
    cursor: Option<Cursor<'_>>,
    original: &mut Object,
    key: String,
    value: Value,
) -> Result<(), String> {
    if let Some(name) = key.strip_prefix(DELETE_FROM_LIST) {
        let Value::Array(gone) = value else {
            return Err("invalid patch format of primitive list".into());
        };
        if let Some(Value::Array(items)) = original.get_mut(name) {
            items.retain(|item| !gone.contains(item));
        }
        return Ok(());
    }
    if value.is_null() {
        original.remove(&key);
        return Ok(());
    }
    let place = cursor.and_then(|cursor| cursor.child(&key));
    let merged = match (original.remove(&key), value) {
        (Some(Value::Object(old)), Value::Object(new)) => Value::Object(merge_map(place, old, new)?),
        (Some(Value::Array(old)), Value::Array(new)) => {
            Value::Array(merge_list_by_strategy(place, old, new)?)
        }
        (_, new) => clean(new)?,
    };
    original.insert(key, merged);
    Ok(())
}

/// A value that is taken as it is, without directives and nulls.
fn clean(value: Value) -> Result<Value, String> {
    match value {
        Value::Object(map) => drop_directives(map).map(Value::Object),
        Value::Array(items) => {
            let kept = items.into_iter().filter(|item| item.get(PATCH).is_none());
            kept.map(clean).collect::<Result<_, _>>().map(Value::Array)
        }
        other => Ok(other),
    }
}

fn drop_directives(map: Object) -> Result<Object, String> {
    let plain = map.into_iter().filter(|(key, value)| !is_directive(key) && !value.is_null());
    plain.map(|(key, value)| Ok((key, clean(value)?))).collect()
}

fn is_directive(key: &str) -> bool {
    key == PATCH || key == RETAIN_KEYS || key.starts_with(SET_ORDER) || key.starts_with(DELETE_FROM_LIST)
}

/// `$retainKeys`: what the list does not name goes; the patch itself must stay inside the list.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), String> {
    let Some(list) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(keys) = list else {
        return Err("invalid patch format of retainKeys".into());
    };
    let named = |key: &String| keys.iter().any(|one| one == key);
    if patch.iter().any(|(key, value)| !value.is_null() && !is_directive(key) && !named(key)) {
        return Err("invalid patch format of retainKeys".into());
    }
    original.retain(|key, _| named(key));
    Ok(())
}

/// Handles each list that comes with a `$setElementOrder`, and takes both out of the patch.
fn ordered_lists(
    cursor: Option<Cursor<'_>>,
    original: &mut Object,
    patch: &mut Object,
) -> Result<(), String> {
    let names: Vec<String> =
        patch.keys().filter_map(|key| key.strip_prefix(SET_ORDER)).map(str::to_string).collect();
    for name in names {
        let Some(Value::Array(order)) = patch.remove(&format!("{SET_ORDER}{name}")) else {
            return Err("invalid patch format of setElementOrder list".into());
        };
        if patch.get(&name).is_some_and(Value::is_null) {
            continue;
        }
        let place = cursor.and_then(|cursor| cursor.child(&name));
        // Removals from a list of scalars come under their own name and happen before the order is made.
        if let Some(gone) = patch.remove(&format!("{DELETE_FROM_LIST}{name}")) {
            merge_field(cursor, original, format!("{DELETE_FROM_LIST}{name}"), gone)?;
        }
        let server = list(original.get(&name));
        let merged = match (original.remove(&name), patch.remove(&name)) {
            (None, None) => continue,
            (Some(Value::Array(old)), Some(Value::Array(new))) => merge_list_by_strategy(place, old, new)?,
            (Some(Value::Array(old)), None) => old,
            (_, Some(new)) => list(Some(&clean(new)?)),
            (Some(_), None) => return Err("invalid patch format of setElementOrder list".into()),
        };
        let sorted = reorder(merged, &order, &server, merge_key(place));
        original.insert(name, Value::Array(sorted));
    }
    Ok(())
}

fn list(value: Option<&Value>) -> Vec<Value> {
    value.and_then(Value::as_array).cloned().unwrap_or_default()
}

fn merge_key<'a>(place: Option<Cursor<'a>>) -> Option<&'a str> {
    place.and_then(|place| place.facts.patch_merge_key.as_deref())
}

fn merge_list_by_strategy(
    place: Option<Cursor<'_>>,
    old: Vec<Value>,
    new: Vec<Value>,
) -> Result<Vec<Value>, String> {
    match place.filter(|place| place.facts.patch_merge) {
        Some(place) => merge_list(place, old, new),
        None => new.into_iter().map(clean).collect(),
    }
}

fn merge_list(place: Cursor<'_>, old: Vec<Value>, new: Vec<Value>) -> Result<Vec<Value>, String> {
    let Some(key) = merge_key(Some(place)) else {
        let mut merged = old.clone();
        merged.extend(new.iter().filter(|item| !old.contains(item)).cloned());
        return Ok(reorder(merged, &new, &old, None));
    };
    let server = old.clone();
    let (mut merged, new) = special_items(key, old, new)?;
    for item in &new {
        let Value::Object(fields) = item else {
            return Err(format!(
                "invalid JSON document: an item of a list with merge key {key} is no object"
            ));
        };
        let found = merged.iter().position(|one| same(one, item, Some(key)));
        match found {
            Some(at) => {
                let old = std::mem::take(&mut merged[at]).as_object().cloned().unwrap_or_default();
                merged[at] = Value::Object(merge_map(place.item(), old, fields.clone())?);
            }
            None => merged.push(clean(item.clone())?),
        }
    }
    Ok(reorder(merged, &new, &server, Some(key)))
}

/// Takes the items with a `$patch` out of the patch and does what they say.
fn special_items(
    key: &str,
    mut old: Vec<Value>,
    new: Vec<Value>,
) -> Result<(Vec<Value>, Vec<Value>), String> {
    let (mut plain, mut replace) = (Vec::new(), false);
    for item in new {
        match item.get(PATCH).and_then(Value::as_str) {
            None | Some("merge") if item.get(key).is_none() => {
                return Err(format!("map: {item} does not contain declared merge key: {key}"));
            }
            None | Some("merge") => plain.push(item),
            Some("delete") if item.get(key).is_none() => {
                return Err(format!("delete patch type with no merge key defined: {key}"));
            }
            Some("delete") => old.retain(|one| !same(one, &item, Some(key))),
            Some("replace") => replace = true,
            Some(other) => return Err(format!("unknown patch type found: {other}")),
        }
    }
    if replace {
        old.clear();
    }
    Ok((old, plain))
}

/// Two items are the same thing when their merge keys, or the scalars themselves, are equal.
fn same(left: &Value, right: &Value, key: Option<&str>) -> bool {
    match key {
        Some(key) => left.get(key).is_some_and(|value| Some(value) == right.get(key)),
        None => left == right,
    }
}

/// Orders a merged list: items of `order` as it says, the others as they were in `server`, woven together so
/// that two items the server knows keep their order where they can; new ones come as early as possible.
fn reorder(merged: Vec<Value>, order: &[Value], server: &[Value], key: Option<&str>) -> Vec<Value> {
    let position = |list: &[Value], item: &Value| list.iter().position(|one| same(one, item, key));
    let (mut ours, mut theirs): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| position(order, item).is_some());
    ours.sort_by_key(|item| position(order, item));
    theirs.sort_by_key(|item| position(server, item));
    let mut out = Vec::with_capacity(ours.len() + theirs.len());
    let (mut ours, mut theirs) = (ours.into_iter().peekable(), theirs.into_iter().peekable());
    while let (Some(our), Some(their)) = (ours.peek(), theirs.peek()) {
        let places = position(server, their).zip(position(server, our));
        let their_turn = places.is_some_and(|(their, our)| their < our);
        out.extend(if their_turn { theirs.next() } else { ours.next() });
    }
    out.extend(ours);
    out.extend(theirs);
    out
}
