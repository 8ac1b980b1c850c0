//! Tables: what `kubectl get` prints, made by the server (`as=Table;g=meta.k8s.io;v=v1`).
//!
//! Column names, order, priorities and cell texts are those of upstream's printers for 1.36. Priority 0 columns
//! are always shown, priority 1 with `-o wide`. Cells are strings, integers or booleans.
//!
//! ```text
//! (group, kind) ──▶ printer ──▶ columns()
//!                      │
//!         object, now ─┴─────▶ row()
//! ```

mod age;
mod cells;
mod node;
mod pod;
mod workloads;

use serde_json::Value;

pub use age::human_duration;

/// One column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Header as upstream spells it; kubectl prints it in upper case.
    pub name: &'static str,
    /// OpenAPI type of the cells: `string`, `integer` or `boolean`.
    pub kind: &'static str,
    /// `name` for the column that identifies the row, else empty.
    pub format: &'static str,
    /// One line for people who read the raw table.
    pub description: &'static str,
    /// 0: always shown; 1: with `-o wide`.
    pub priority: i32,
}

/// How one kind is printed.
struct Printer {
    group: &'static str,
    kind: &'static str,
    columns: &'static [Column],
    row: fn(&Value, i64) -> Vec<Value>,
}

const fn text(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "string", format: "", description, priority: 0 }
}
const fn wide(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "string", format: "", description, priority: 1 }
}
const fn number(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "integer", format: "", description, priority: 0 }
}
const NAME: Column = Column {
    name: "Name",
    kind: "string",
    format: "name",
    description: "Name of the object, unique in its namespace",
    priority: 0,
};
const AGE: Column = text("Age", "Time since the object was created");
const CREATED_AT: Column = Column {
    name: "Created At",
    kind: "date",
    format: "",
    description: "When the object was created",
    priority: 0,
};
const CONTAINERS: Column = wide("Containers", "Names of the containers of the template");
const IMAGES: Column = wide("Images", "Images of the containers of the template");
const SELECTOR: Column = wide("Selector", "Label selector of the pods");

const DEFAULT: Printer =
    Printer { group: "", kind: "", columns: &[NAME, CREATED_AT], row: cells::default_row };

/// Every kind that prints more than its name and creation time.
const PRINTERS: &[Printer] = &[
    pod::PRINTER,
    node::PRINTER,
    workloads::DEPLOYMENT,
    workloads::REPLICA_SET,
    cells::SERVICE,
    cells::ENDPOINTS,
    cells::ENDPOINT_SLICE,
    cells::CONFIG_MAP,
    cells::SECRET,
    cells::NAMESPACE,
    cells::SERVICE_ACCOUNT,
    cells::EVENT,
    cells::EVENTS_EVENT,
    cells::LEASE,
    cells::ROLE_BINDING,
    cells::CLUSTER_ROLE_BINDING,
    cells::PRIORITY_CLASS,
];

fn printer(group: &str, kind: &str) -> &'static Printer {
    PRINTERS.iter().find(|p| p.kind == kind && p.group == group).unwrap_or(&DEFAULT)
}

/// The columns of a kind; `group` is empty for core.
#[must_use]
pub fn columns(group: &str, kind: &str) -> &'static [Column] {
    printer(group, kind).columns
}

/// The cells of one object, one for each of [`columns`], wide ones included. `now_ms` is Unix time in milliseconds.
#[must_use]
pub fn row(group: &str, kind: &str, object: &Value, now_ms: i64) -> Vec<Value> {
    (printer(group, kind).row)(object, now_ms)
}

/// The string at a JSON pointer, or "".
fn str_at<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}
/// The integer at a JSON pointer, or 0.
fn int_at(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}
/// The list at a JSON pointer, or an empty one.
fn list_at<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
fn name_of(object: &Value) -> Value {
    str_at(object, "/metadata/name").into()
}
fn age_of(object: &Value, now_ms: i64) -> Value {
    age::since(str_at(object, "/metadata/creationTimestamp"), now_ms).into()
}
/// `text`, or `<none>` when it is empty.
fn or_none(text: impl Into<String>) -> String {
    let text = text.into();
    if text.is_empty() { "<none>".into() } else { text }
}

#[cfg(test)]
mod tests;
