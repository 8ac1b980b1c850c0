//! `metadata.managedFields`: who owns what.

use super::set::Set;
use serde_json::{Map, Value, json};

/// The most managers that are kept apart for updates; older ones are merged.
pub const UPDATE_MANAGERS_MAX: usize = 10;
/// The manager that inherits from those merged away.
const ANCIENT: &str = "ancient-changes";

/// How a manager came by its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Apply,
    Update,
}

/// One entry of managedFields.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub manager: String,
    pub operation: Operation,
    pub api_version: String,
    pub subresource: String,
    /// RFC 3339; empty when the entry has none.
    pub time: String,
    pub fields: Set,
}

impl Entry {
    /// Same manager: by name, operation, subresource and, for updates, version.
    pub fn is_same(&self, other: &Entry) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// As conflicts name it: `"kubectl" with subresource "scale" using apps/v1`.
    pub fn describe(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text += &format!(" with subresource {:?}", self.subresource);
        }
        if self.operation == Operation::Update {
            text += &format!(" using {}", self.api_version);
        }
        text
    }

    fn to_value(&self) -> Value {
        let mut out = Map::new();
        let operation = if self.operation == Operation::Apply { "Apply" } else { "Update" };
        out.insert("operation".into(), json!(operation));
        out.insert("fieldsType".into(), json!("FieldsV1"));
        out.insert("fieldsV1".into(), self.fields.to_fields_v1());
        for (key, text) in [
            ("manager", &self.manager),
            ("apiVersion", &self.api_version),
            ("time", &self.time),
            ("subresource", &self.subresource),
        ] {
            if !text.is_empty() {
                out.insert(key.into(), json!(text));
            }
        }
        Value::Object(out)
    }

    fn from_value(value: &Value) -> Option<Entry> {
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or("").to_string();
        let operation = match text("operation").as_str() {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        let fields = value.get("fieldsV1").map_or_else(|| Some(Set::default()), Set::from_fields_v1)?;
        Some(Entry {
            manager: text("manager"),
            operation,
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: text("time"),
            fields,
        })
    }
}

/// Reads managedFields; `None` when an entry is malformed.
pub fn decode(object: &Value) -> Option<Vec<Entry>> {
    let entries = crate::path::items(object, &["metadata", "managedFields"]);
    entries.iter().map(Entry::from_value).collect()
}

/// True for the two forms by which a client clears managedFields: `[]` and `[{}]`.
pub fn is_reset(object: &Value) -> bool {
    let entries = object.get("metadata").and_then(|metadata| metadata.get("managedFields"));
    match entries.and_then(Value::as_array).map(Vec::as_slice) {
        Some([]) => true,
        Some([one]) => one.as_object().is_some_and(Map::is_empty),
        _ => false,
    }
}

/// Writes managedFields in upstream's order: applies first, then by time, name and version.
pub fn encode(object: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|entry| !entry.fields.is_empty());
    cap(&mut entries);
    entries.sort_by(|a, b| order(a).cmp(&order(b)));
    let metadata = crate::path::object_mut(object, &["metadata"]);
    if entries.is_empty() {
        metadata.remove("managedFields");
        return;
    }
    metadata.insert("managedFields".into(), entries.iter().map(Entry::to_value).collect());
}

fn order(entry: &Entry) -> (Operation, &str, &str, &str, &str) {
    (entry.operation, &entry.time, &entry.manager, &entry.api_version, &entry.subresource)
}

/// Merges the oldest updates into one entry per version when there are too many.
fn cap(entries: &mut Vec<Entry>) {
    let updates = entries.iter().filter(|one| one.operation == Operation::Update).count();
    if updates <= UPDATE_MANAGERS_MAX {
        return;
    }
    let (mut kept, mut updates): (Vec<Entry>, Vec<Entry>) =
        std::mem::take(entries).into_iter().partition(|one| one.operation == Operation::Apply);
    updates.sort_by(|a, b| order(a).cmp(&order(b)));
    // Every bucket made takes a place itself, so merge until the sum fits.
    let mut buckets: Vec<Entry> = Vec::new();
    let mut rest = updates.into_iter();
    while rest.len() + buckets.len() > UPDATE_MANAGERS_MAX {
        let Some(oldest) = rest.next() else { break };
        match buckets.iter_mut().find(|bucket| bucket.api_version == oldest.api_version) {
            Some(bucket) => {
                bucket.fields = bucket.fields.union(&oldest.fields);
                bucket.time = bucket.time.clone().max(oldest.time);
            }
            None => {
                buckets.push(Entry { manager: ANCIENT.into(), subresource: String::new(), ..oldest });
            }
        }
    }
    kept.extend(buckets);
    kept.extend(rest);
    *entries = kept;
}
