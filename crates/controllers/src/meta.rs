//! Small questions about metadata, and time.

use jiff::Timestamp;
use k8s_openapi::Metadata;
use k8s_openapi::Resource;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};

/// A `metav1.Time` from milliseconds since 1970, cut to whole seconds as it is written.
#[must_use]
pub fn time(now_ms: i64) -> Time {
    Time(Timestamp::from_second(now_ms.div_euclid(1000)).unwrap_or_default())
}

/// Milliseconds since 1970.
#[must_use]
pub fn unix_ms(time: &Time) -> i64 {
    time.0.as_millisecond()
}

/// The one owner with `controller: true`.
#[must_use]
pub fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// True when `meta` is controlled by the object with this uid.
#[must_use]
pub fn is_controlled_by(meta: &ObjectMeta, uid: &str) -> bool {
    controller(meta).is_some_and(|owner| owner.uid == uid)
}

/// The reference a controller puts on what it makes.
pub fn controller_reference<K: Resource + Metadata<Ty = ObjectMeta>>(owner: &K) -> OwnerReference {
    let meta = owner.metadata();
    OwnerReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The object's name.
#[must_use]
pub fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

/// The object's uid.
#[must_use]
pub fn uid(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}

/// True once somebody asked for its deletion.
#[must_use]
pub fn is_deleting(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
}

/// One annotation.
#[must_use]
pub fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// When it was created, milliseconds since 1970; 0 when it never was.
#[must_use]
pub fn created_ms(meta: &ObjectMeta) -> i64 {
    meta.creation_timestamp.as_ref().map_or(0, unix_ms)
}
