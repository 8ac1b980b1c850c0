//! Walking into objects by path, for those who read and write single fields.

use serde_json::{Map, Value};

/// The value at `path` (keys of nested objects), if every step exists.
pub fn get<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |at, key| at.get(key))
}

/// The text at `path`; empty when absent or no text.
pub fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    get(value, path).and_then(Value::as_str).unwrap_or("")
}

/// The number at `path`, when it is there.
pub fn integer(value: &Value, path: &[&str]) -> Option<i64> {
    get(value, path).and_then(Value::as_i64)
}

/// True when the boolean at `path` is there and true.
pub fn is_true(value: &Value, path: &[&str]) -> bool {
    get(value, path).and_then(Value::as_bool).unwrap_or(false)
}

/// The items of the list at `path`; none when absent.
pub fn items<'a>(value: &'a Value, path: &[&str]) -> &'a [Value] {
    get(value, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The object at `path`, made (with its parents) when absent; what is no object is replaced.
pub fn object_mut<'a>(value: &'a mut Value, path: &[&str]) -> &'a mut Map<String, Value> {
    let mut at = as_object(value);
    for key in path {
        at = as_object(at.entry(*key).or_insert(Value::Null));
    }
    at
}

fn as_object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("made an object just above")
}

/// Puts `new` at `path`, making the parents.
pub fn set(value: &mut Value, path: &[&str], new: Value) {
    let Some((last, parents)) = path.split_last() else {
        *value = new;
        return;
    };
    object_mut(value, parents).insert((*last).to_string(), new);
}

/// Takes the value at `path` away, if it is there.
pub fn remove(value: &mut Value, path: &[&str]) -> Option<Value> {
    let (last, parents) = path.split_last()?;
    let parent = parents.iter().try_fold(value, |at, key| at.get_mut(key))?;
    parent.as_object_mut()?.remove(*last)
}

/// True for what Go's `omitempty` leaves out: null, "", 0, false, [] and {}.
pub fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
    }
}
