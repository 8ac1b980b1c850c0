//! What a controller may ask for. Actions are carried out in order; the first failure stops the rest.

use std::borrow::Cow;
use std::fmt::Write as _;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, Resource};
use serde::Serialize;
use serde_json::{Map, Value};

/// A kind of object, as its URL needs it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    pub api_version: Cow<'static, str>,
    pub kind: Cow<'static, str>,
    pub plural: Cow<'static, str>,
}

impl Kind {
    /// The kind of a typed object.
    #[must_use]
    pub const fn of<K: Resource>() -> Self {
        Self {
            api_version: Cow::Borrowed(K::API_VERSION),
            kind: Cow::Borrowed(K::KIND),
            plural: Cow::Borrowed(K::URL_PATH_SEGMENT),
        }
    }
}

/// One object, by name. The namespace is empty for cluster-scoped kinds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub kind: Kind,
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl Target {
    /// The target that an object is.
    pub fn of<K: Resource + Metadata<Ty = ObjectMeta>>(object: &K) -> Self {
        let meta = object.metadata();
        Self {
            kind: Kind::of::<K>(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
        }
    }

    /// The same, as events name what they are about.
    #[must_use]
    pub fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some(self.kind.api_version.to_string()),
            kind: Some(self.kind.kind.to_string()),
            name: Some(self.name.clone()),
            namespace: Some(self.namespace.clone()).filter(|namespace| !namespace.is_empty()),
            uid: Some(self.uid.clone()).filter(|uid| !uid.is_empty()),
            ..ObjectReference::default()
        }
    }
}

/// What happens to the dependents of a deleted object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    Background,
    Foreground,
    Orphan,
}

impl Propagation {
    /// The word in DeleteOptions.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Background => "Background",
            Self::Foreground => "Foreground",
            Self::Orphan => "Orphan",
        }
    }
}

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventType {
    Normal,
    Warning,
}

impl EventType {
    /// The word in the event.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Something worth telling people: becomes an Event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub about: Target,
    pub kind: EventType,
    pub reason: &'static str,
    pub message: String,
    /// Who says it, such as `replicaset-controller`.
    pub component: &'static str,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// POST. With `owner`, its outcome is told as `SuccessfulCreate` or `FailedCreate` of that object.
    Create { kind: Kind, namespace: String, body: Value, owner: Option<(Target, &'static str)> },
    /// PUT of the whole object; its resourceVersion guards it.
    Update { target: Target, body: Value },
    /// A JSON merge patch of the object, or of its subresource.
    Patch { target: Target, subresource: &'static str, body: Value },
    /// DELETE, guarded by the uid. With `owner`, told as `SuccessfulDelete` or `FailedDelete`.
    Delete { target: Target, propagation: Option<Propagation>, owner: Option<(Target, &'static str)> },
    /// DELETE with grace 0: nobody will confirm its end.
    Force { target: Target },
    /// An event.
    Tell(Notice),
    /// Look again after so many milliseconds even when nothing changes.
    LookAgain { after_ms: i64 },
}

impl Action {
    /// A POST of a typed object.
    pub fn create<K: Resource + Serialize + Metadata<Ty = ObjectMeta>>(object: &K) -> Self {
        Self::Create {
            kind: Kind::of::<K>(),
            namespace: object.metadata().namespace.clone().unwrap_or_default(),
            body: to_value(object),
            owner: None,
        }
    }

    /// A PUT of a typed object.
    pub fn update<K: Resource + Serialize + Metadata<Ty = ObjectMeta>>(object: &K) -> Self {
        Self::Update { target: Target::of(object), body: to_value(object) }
    }

    /// A guarded DELETE of a typed object.
    pub fn delete<K: Resource + Metadata<Ty = ObjectMeta>>(object: &K) -> Self {
        Self::Delete { target: Target::of(object), propagation: None, owner: None }
    }

    /// The merge patch of `/status` that turns `old` into `new`, if they differ. It holds for the object's version only: a
    /// difference from an older status would mix the two.
    pub fn status<K, S>(object: &K, old: &S, new: &S) -> Option<Self>
    where
        K: Resource + Metadata<Ty = ObjectMeta>,
        S: Serialize,
    {
        let difference = merge_difference(&to_value(old), &to_value(new))?;
        let mut body = Map::from_iter([("status".to_owned(), difference)]);
        if let Some(version) = &object.metadata().resource_version {
            body.insert("metadata".to_owned(), serde_json::json!({"resourceVersion": version}));
        }
        let body = Value::Object(body);
        Some(Self::Patch { target: Target::of(object), subresource: "status", body })
    }

    /// A merge patch of a typed object.
    pub fn patch<K: Resource + Metadata<Ty = ObjectMeta>>(object: &K, body: Value) -> Self {
        Self::Patch { target: Target::of(object), subresource: "", body }
    }
}

/// The JSON of a typed object. Types of the API always have one; anything else would be a bug in the generator.
pub(crate) fn to_value<T: Serialize>(object: &T) -> Value {
    serde_json::to_value(object).unwrap_or(Value::Null)
}

/// The smallest merge patch (RFC 7386) from `old` to `new`; None when equal.
#[must_use]
pub fn merge_difference(old: &Value, new: &Value) -> Option<Value> {
    if old == new {
        return None;
    }
    let (Some(before), Some(after)) = (old.as_object(), new.as_object()) else { return Some(new.clone()) };
    let mut out = Map::new();
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        out.insert(key.clone(), Value::Null);
    }
    for (key, value) in after {
        if let Some(difference) = merge_difference(before.get(key).unwrap_or(&Value::Null), value) {
            out.insert(key.clone(), difference);
        }
    }
    Some(Value::Object(out))
}

/// A plan as people read it, one line an action.
#[must_use]
pub fn describe(actions: &[Action]) -> String {
    let mut out = String::new();
    for action in actions {
        // Writing to a String cannot fail.
        let _ = match action {
            Action::Create { kind, namespace, body, .. } => {
                let meta = &body["metadata"];
                let name = meta["name"].as_str().or(meta["generateName"].as_str()).unwrap_or_default();
                let replicas = body["spec"]["replicas"].as_i64();
                let size = replicas.map(|n| format!(" replicas={n}")).unwrap_or_default();
                writeln!(out, "create {} {namespace}/{name}{size}", kind.kind)
            }
            Action::Update { target, body } => {
                let replicas = body["spec"]["replicas"].as_i64();
                let size = replicas.map(|n| format!(" replicas={n}")).unwrap_or_default();
                writeln!(out, "update {} {}{size}", target.kind.kind, target.name)
            }
            Action::Patch { target, subresource, body } => {
                let slash = if subresource.is_empty() { "" } else { "/" };
                writeln!(out, "patch {} {}{slash}{subresource} {body}", target.kind.kind, target.name)
            }
            Action::Delete { target, propagation, .. } => {
                let how = propagation.map(|p| format!(" {}", p.as_str())).unwrap_or_default();
                writeln!(out, "delete {} {}{how}", target.kind.kind, target.name)
            }
            Action::Force { target } => writeln!(out, "delete {} {} now", target.kind.kind, target.name),
            Action::Tell(notice) => {
                let (kind, name) = (&notice.about.kind.kind, &notice.about.name);
                let level = notice.kind.as_str();
                writeln!(out, "tell {level} {kind} {name} {}: {}", notice.reason, notice.message)
            }
            Action::LookAgain { after_ms } => writeln!(out, "look again in {after_ms} ms"),
        };
    }
    out
}
