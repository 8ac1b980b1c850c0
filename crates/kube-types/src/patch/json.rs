//! One operation of RFC 6902 on a value. Errors are texts in the words of upstream's library.

use serde_json::Value;

/// Applies one operation.
pub(super) fn apply(document: &mut Value, operation: &Value) -> Result<(), String> {
    let text = |key: &str| operation.get(key).and_then(Value::as_str);
    let kind = text("op").unwrap_or("");
    let path = text("path").ok_or_else(|| format!("{kind} operation: missing path"))?;
    let value = || operation.get("value").cloned().ok_or_else(|| format!("{kind} operation: missing value"));
    let from = || text("from").ok_or_else(|| format!("{kind} operation: missing from"));
    match kind {
        "add" => add(document, path, value()?),
        "remove" => remove(document, path).map(|_| ()),
        "replace" => replace(document, path, value()?),
        "move" => {
            let from = from()?;
            if path.starts_with(&format!("{from}/")) {
                return Err(format!("move operation: cannot move {from:?} into itself"));
            }
            let value = remove(document, from)?;
            add(document, path, value)
        }
        "copy" => {
            let value = find(document, from()?)?.clone();
            add(document, path, value)
        }
        "test" => test(document, path, operation.get("value").unwrap_or(&Value::Null)),
        other => Err(format!("Unexpected kind: {other}")),
    }
}

fn tokens(path: &str) -> Result<Vec<String>, String> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let rest = path.strip_prefix('/').ok_or_else(|| missing("path", path))?;
    Ok(rest.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect())
}

fn missing(operation: &str, path: &str) -> String {
    format!("{operation} operation does not apply: doc is missing path: \"{path}\": missing value")
}

/// The index a token names in a list; negative ones count from the end.
fn index(token: &str, length: usize) -> Option<usize> {
    if token.len() > 1 && token.starts_with('0') {
        return None;
    }
    let number: i64 = token.parse().ok()?;
    let length = length as i64;
    let at = if number < 0 { number + length } else { number };
    (0..length).contains(&at).then_some(at as usize)
}

fn step<'a>(value: &'a Value, token: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) => map.get(token),
        Value::Array(items) => items.get(index(token, items.len())?),
        _ => None,
    }
}

fn step_mut<'a>(value: &'a mut Value, token: &str) -> Option<&'a mut Value> {
    match value {
        Value::Object(map) => map.get_mut(token),
        Value::Array(items) => {
            let at = index(token, items.len())?;
            items.get_mut(at)
        }
        _ => None,
    }
}

fn find<'a>(document: &'a Value, path: &str) -> Result<&'a Value, String> {
    let found = tokens(path)?.iter().try_fold(document, |at, token| step(at, token));
    found.ok_or_else(|| missing("copy", path))
}

/// The container of the last token and that token; `None` for the whole document.
fn parent<'a>(
    document: &'a mut Value,
    path: &str,
    operation: &str,
) -> Result<Option<(&'a mut Value, String)>, String> {
    let mut tokens = tokens(path)?;
    let Some(last) = tokens.pop() else { return Ok(None) };
    let found = tokens.iter().try_fold(document, |at, token| step_mut(at, token));
    found.map(|container| Some((container, last))).ok_or_else(|| missing(operation, path))
}

fn add(document: &mut Value, path: &str, value: Value) -> Result<(), String> {
    let Some((container, last)) = parent(document, path, "add")? else {
        *document = value;
        return Ok(());
    };
    match container {
        Value::Object(map) => {
            map.insert(last, value);
        }
        Value::Array(items) if last == "-" => items.push(value),
        Value::Array(items) => {
            // One past the end is allowed: it appends.
            let at = index(&last, items.len() + 1)
                .ok_or_else(|| format!("Unable to access invalid index: {last}: invalid index referenced"))?;
            items.insert(at, value);
        }
        _ => return Err(missing("add", path)),
    }
    Ok(())
}

fn remove(document: &mut Value, path: &str) -> Result<Value, String> {
    let Some((container, last)) = parent(document, path, "remove")? else {
        return Ok(document.take());
    };
    let gone = match container {
        Value::Object(map) => map.remove(&last),
        Value::Array(items) => index(&last, items.len()).map(|at| items.remove(at)),
        _ => None,
    };
    gone.ok_or_else(|| missing("remove", path))
}

fn replace(document: &mut Value, path: &str, value: Value) -> Result<(), String> {
    let Some((container, last)) = parent(document, path, "replace")? else {
        *document = value;
        return Ok(());
    };
    let slot = step_mut(container, &last).ok_or_else(|| missing("replace", path))?;
    *slot = value;
    Ok(())
}

fn test(document: &Value, path: &str, value: &Value) -> Result<(), String> {
    let found = tokens(path)?.iter().try_fold(document, |at, token| step(at, token));
    // An absent value passes for null.
    if found.unwrap_or(&Value::Null) == value {
        return Ok(());
    }
    Err(format!("testing value {path} failed: test failed"))
}
