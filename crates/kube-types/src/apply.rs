//! Server-side apply and the tracking of other writes: `metadata.managedFields` (KEP-555).
//!
//! ```text
//! apply:  live + config --merge--> merged --prune what only this manager owned--> new
//!         compare(live, new) --> conflicts with other owners, or their loss when forced
//! update: compare(live, new) --> what changed is this manager's now, quietly
//! ```

mod managers;
mod set;
#[cfg(test)]
mod tests;
mod walk;

pub use managers::{Entry, Operation, UPDATE_MANAGERS_MAX};
pub use set::{Element, Set, show};

use crate::decode::{self, Raw};
use crate::schema::SchemaRef;
use crate::status::{Details, Reason, Status};
use crate::{meta, path, time};
use serde_json::Value;
use walk::Comparison;

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

impl Manager<'_> {
    fn entry(&self, operation: Operation, fields: Set) -> Entry {
        Entry {
            manager: self.name.into(),
            operation,
            api_version: self.api_version.into(),
            subresource: self.subresource.into(),
            time: time::format_seconds(self.now_micros),
            fields,
        }
    }
}

/// The owner of what was there before anyone applied.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// The manager of `kubectl apply --server-side`, for which fields of the last client-side apply never conflict.
const KUBECTL: &str = "kubectl";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Merges an applied configuration into the live object (`None` when there is none yet).
///
/// The result carries new managedFields and is neither defaulted nor validated; what defaulting adds later is
/// owned by nobody. When nothing changes the live object comes back as it was. Errors: 400 for managedFields
/// in the configuration or another version, 409 with one `FieldManagerConflict` cause per field, 500 (as
/// upstream) for fields the schema does not have.
pub fn server_side_apply(
    schema: &SchemaRef,
    live: Option<&Value>,
    config: &Value,
    manager: &Manager<'_>,
    force: bool,
) -> Result<Value, Status> {
    let config = typed_config(schema, config, manager)?;
    let owners = live_owners(schema, live, manager);
    let nothing = Value::Object(Default::default());
    let base = strip_managed_fields(live.unwrap_or(&nothing));
    let applied = walk::field_set(schema.cursor(), &config).map_err(|why| untyped(&config, &why))?;
    let apply = Apply { schema, base: &base, config: &config, applied, manager, owners: &owners };
    let (merged, mut entries) = match apply.run(force) {
        Ok(done) => done,
        Err(conflicts) => match live.map(|live| apply.without_client_side(live, &conflicts)) {
            Some(left) if left.is_empty() => apply.run(true).map_err(|_| conflict(&conflicts))?,
            Some(left) => return Err(conflict(&left)),
            None => return Err(conflict(&conflicts)),
        },
    };
    if let Some(live) = live
        && merged == base
        && keep_times(&mut entries, &owners)
    {
        return Ok(live.clone());
    }
    let mut merged = merged;
    managers::encode(&mut merged, entries);
    Ok(merged)
}

/// The configuration in the schema's shape, without what no one may apply.
fn typed_config(schema: &SchemaRef, config: &Value, manager: &Manager<'_>) -> Result<Value, Status> {
    if path::get(config, &["metadata", "managedFields"]).is_some_and(|fields| !fields.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let version = path::text(config, &["apiVersion"]);
    if version != manager.api_version {
        return Err(Status::bad_request(format!(
            "Incorrect version specified in apply patch. Specified patch version: {version}, expected: {}",
            manager.api_version
        )));
    }
    let mut unknown = Vec::new();
    walk::undeclared(schema.cursor(), config, &mut Vec::new(), &mut unknown);
    let lines: Vec<String> =
        unknown.iter().map(|path| format!("{path}: field not declared in schema")).collect();
    match lines.as_slice() {
        [] => {}
        [one] => return Err(untyped(config, one)),
        many => return Err(untyped(config, &format!("errors:\n  {}", many.join("\n  ")))),
    }
    let shaped = decode::shape(schema, Raw::from_value(config.clone()));
    shaped.map(|(shaped, _)| shaped).map_err(|why| untyped(config, &why))
}

/// Upstream answers a configuration that does not fit its schema with a bare 500.
fn untyped(config: &Value, why: &str) -> Status {
    let (name, namespace) = (meta::name(config), meta::namespace(config));
    let (version, kind) = (path::text(config, &["apiVersion"]), path::text(config, &["kind"]));
    let message =
        format!("failed to create typed patch object ({namespace}/{name}; {version}, Kind={kind}): {why}");
    Status::failure(500, Reason::Unknown, message)
}

fn strip_managed_fields(object: &Value) -> Value {
    let mut out = object.clone();
    path::remove(&mut out, &["metadata", "managedFields"]);
    out
}

/// The owners of the live object; what nobody owns yet belongs to `before-first-apply`.
fn live_owners(schema: &SchemaRef, live: Option<&Value>, manager: &Manager<'_>) -> Vec<Entry> {
    let Some(live) = live else { return Vec::new() };
    let owners = managers::decode(live).unwrap_or_default();
    if !owners.is_empty() {
        return owners;
    }
    let before = Manager { name: BEFORE_FIRST_APPLY, subresource: "", ..manager.clone() };
    let found = walk::compare(schema.cursor(), None, Some(&strip_managed_fields(live)));
    let fields = stripped(found.added.union(&found.modified), "");
    vec![before.entry(Operation::Update, fields)]
}

/// A field that another manager owns with another value.
struct Conflict {
    owner: String,
    path: Vec<Element>,
}

struct Apply<'a> {
    schema: &'a SchemaRef,
    base: &'a Value,
    config: &'a Value,
    applied: Set,
    manager: &'a Manager<'a>,
    owners: &'a [Entry],
}

impl Apply<'_> {
    fn run(&self, force: bool) -> Result<(Value, Vec<Entry>), Vec<Conflict>> {
        let cursor = self.schema.cursor();
        let ours =
            self.manager.entry(Operation::Apply, stripped(self.applied.clone(), self.manager.subresource));
        let last = self.owners.iter().find(|one| one.is_same(&ours)).map(|one| one.fields.clone());
        let mut entries: Vec<Entry> = self.owners.iter().filter(|one| !one.is_same(&ours)).cloned().collect();
        let merged = walk::merge(cursor, Some(self.base.clone()), self.config);
        let merged = match &last {
            Some(last) => self.prune(merged, last, &entries),
            None => merged,
        };
        let change =
            filtered(walk::compare(cursor, Some(self.base), Some(&merged)), self.manager.subresource);
        let taken = change.modified.union(&change.added);
        if !force {
            let conflicts = find_conflicts(&entries, &taken);
            if !conflicts.is_empty() {
                return Err(conflicts);
            }
        }
        for entry in &mut entries {
            entry.fields = entry.fields.difference(&taken).difference(&change.removed);
        }
        entries.push(ours);
        Ok((merged, entries))
    }

    /// Removes what this manager owned alone and no longer applies.
    fn prune(&self, merged: Value, last: &Set, others: &[Entry]) -> Value {
        let cursor = self.schema.cursor();
        let named = |set: &Set| walk::with_named_fields(Some(cursor), set);
        let all = |value: &Value| walk::field_set(cursor, value).unwrap_or_default();
        let last = named(last);
        let pruned = walk::remove(cursor, &merged, &last).unwrap_or(Value::Null);
        let kept = others.iter().fold(self.applied.clone(), |sum, one| sum.union(&one.fields));
        // What the first removal took and someone still owns comes back, and so does what this manager never had.
        let gone = named(&all(&merged)).difference(&named(&all(&pruned))).difference(&named(&kept));
        walk::remove(cursor, &merged, &gone.intersection(&last)).unwrap_or(Value::Null)
    }

    /// The conflicts that are left when kubectl takes over from its own client-side apply: fields whose live
    /// value is what the annotation of the last client-side apply says do not count.
    fn without_client_side(&self, live: &Value, conflicts: &[Conflict]) -> Vec<Conflict> {
        let allowed = (self.manager.name == KUBECTL).then(|| client_side(self.schema, live)).flatten();
        let allowed: Vec<Vec<Element>> = allowed.map(|set| set.paths()).unwrap_or_default();
        let left = conflicts.iter().filter(|one| !allowed.contains(&one.path));
        left.map(|one| Conflict { owner: one.owner.clone(), path: one.path.clone() }).collect()
    }
}

fn client_side(schema: &SchemaRef, live: &Value) -> Option<Set> {
    let text = meta::annotation(live, LAST_APPLIED)?;
    let last: Value = serde_json::from_str(text).ok()?;
    let (last, _) = decode::shape(schema, Raw::from_value(last)).ok()?;
    let fields = walk::field_set(schema.cursor(), &last).ok()?;
    let change = walk::compare(schema.cursor(), Some(&last), Some(live));
    Some(fields.difference(&change.modified).difference(&change.added).difference(&change.removed))
}

fn find_conflicts(entries: &[Entry], taken: &Set) -> Vec<Conflict> {
    let mut found = Vec::new();
    for entry in entries {
        let paths = entry.fields.intersection(taken).paths();
        found.extend(paths.into_iter().map(|path| Conflict { owner: entry.describe(), path }));
    }
    found
}

fn conflict(conflicts: &[Conflict]) -> Status {
    let message = match conflicts {
        [one] => format!("Apply failed with 1 conflict: conflict with {}: {}", one.owner, show(&one.path)),
        many => {
            let mut owners: Vec<&str> = many.iter().map(|one| one.owner.as_str()).collect();
            owners.sort_unstable();
            owners.dedup();
            let mut lines = Vec::new();
            for owner in owners {
                lines.push(format!("conflicts with {owner}:"));
                lines.extend(
                    many.iter().filter(|one| one.owner == owner).map(|one| format!("- {}", show(&one.path))),
                );
            }
            format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n"))
        }
    };
    let mut status = Status::failure(409, Reason::Conflict, message).with_details(Details::default());
    for one in conflicts {
        status = status.with_cause(
            "FieldManagerConflict",
            format!("conflict with {}", one.owner),
            &show(&one.path),
        );
    }
    status
}

/// Entries whose fields are as before keep their times; true when that is so for all of them.
fn keep_times(entries: &mut [Entry], before: &[Entry]) -> bool {
    let mut same = true;
    for entry in entries.iter_mut() {
        match before.iter().find(|one| one.is_same(entry) && one.fields == entry.fields) {
            Some(old) => entry.time.clone_from(&old.time),
            None => same &= entry.fields.is_empty(),
        }
    }
    same && before.iter().all(|old| entries.iter().any(|one| one.is_same(old) && one.fields == old.fields))
}

/// Writes into `new.metadata.managedFields` what an ordinary write (create, update, patch) owns now.
///
/// Call it after defaulting and the strategy, right before the store; `old` is `None` for a create. A client
/// that sends managedFields through the main resource edits them; `[]` or `[{}]` clears them.
pub fn track_update(schema: &SchemaRef, old: Option<&Value>, new: &mut Value, manager: &Manager<'_>) {
    let reset = old.is_some() && managers::is_reset(new);
    if reset {
        path::remove(new, &["metadata", "managedFields"]);
        return;
    }
    let sent = if manager.subresource.is_empty() { managers::decode(new) } else { None };
    let sent = sent.filter(|entries| !entries.is_empty());
    let mut entries = sent.or_else(|| old.and_then(managers::decode)).unwrap_or_default();
    path::remove(new, &["metadata", "managedFields"]);
    if old.is_some() && entries.is_empty() {
        // Nobody has been tracked so far: tracking begins with the first apply.
        return;
    }
    let base = old.map(strip_managed_fields);
    let change = walk::compare(schema.cursor(), base.as_ref(), Some(new));
    let change = filtered(change, manager.subresource);
    let taken = stripped(change.modified.union(&change.added), manager.subresource);
    for entry in &mut entries {
        entry.fields = entry.fields.difference(&taken).difference(&change.removed);
    }
    let ours = manager.entry(Operation::Update, taken);
    if !ours.fields.is_empty() {
        match entries.iter_mut().find(|one| one.is_same(&ours)) {
            Some(mine) => {
                mine.fields = mine.fields.union(&ours.fields);
                mine.time = ours.time;
            }
            None => entries.push(ours),
        }
    }
    managers::encode(new, entries);
}

/// Metadata that belongs to the server and is owned by nobody.
const UNOWNED: &[&[&str]] = &[
    &["apiVersion"],
    &["kind"],
    &["metadata"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
];

fn set_of(paths: &[&[&str]]) -> Set {
    let mut out = Set::default();
    for path in paths {
        let elements: Vec<Element> = path.iter().map(|name| Element::Field((*name).to_string())).collect();
        out.insert(&elements);
    }
    out
}

/// Without the server's metadata and without what this door does not write.
fn stripped(set: Set, subresource: &str) -> Set {
    set.difference(&set_of(UNOWNED)).recursive_difference(&reset_fields(subresource))
}

/// What a write through this door does not change, whatever it says.
fn reset_fields(subresource: &str) -> Set {
    match subresource {
        "status" => {
            set_of(&[&["spec"], &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]])
        }
        _ => set_of(&[&["status"]]),
    }
}

fn filtered(change: Comparison, subresource: &str) -> Comparison {
    let reset = reset_fields(subresource);
    Comparison {
        removed: change.removed.recursive_difference(&reset),
        modified: change.modified.recursive_difference(&reset),
        added: change.added.recursive_difference(&reset),
    }
}

/// True when two objects differ in nothing but resource version and the times in managedFields: the write is
/// a no-op and must not reach the store.
pub fn is_noop(old: &Value, new: &Value) -> bool {
    old == new || timeless(old) == timeless(new)
}

fn timeless(object: &Value) -> Value {
    let mut out = object.clone();
    path::remove(&mut out, &["metadata", "resourceVersion"]);
    let entries = out.get_mut("metadata").and_then(|metadata| metadata.get_mut("managedFields"));
    for entry in entries.and_then(Value::as_array_mut).into_iter().flatten() {
        path::remove(entry, &["time"]);
    }
    out
}
