//! Pod templates: are two the same, and a short name for one.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::PodTemplateSpec;

use super::HASH_LABEL;
use crate::action::to_value;

/// Letters that cannot form words, upstream's alphabet for generated names.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A stable short hash of a template: FNV-1a of its JSON and the number of collisions met, as safe letters.
#[must_use]
pub fn hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let text = to_value(template).to_string();
    let salt = collisions.map(i32::to_le_bytes);
    let mut hash: u32 = 0x811c_9dc5;
    for byte in text.bytes().chain(salt.into_iter().flatten()) {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    let safe = |digit: u8| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()]);
    hash.to_string().bytes().map(safe).collect()
}

/// True when the set makes pods of this template.
pub(super) fn is_of(set: &ReplicaSet, template: &PodTemplateSpec) -> bool {
    let Some(theirs) = set.spec.as_ref().and_then(|spec| spec.template.as_ref()) else { return false };
    plain(theirs) == plain(template)
}

/// The template without the label that we add ourselves, and without empty collections.
fn plain(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut plain = template.clone();
    let meta = plain.metadata.get_or_insert_default();
    meta.creation_timestamp = None;
    if let Some(labels) = &mut meta.labels {
        labels.remove(HASH_LABEL);
    }
    meta.labels = meta.labels.take().filter(|labels| !labels.is_empty());
    meta.annotations = meta.annotations.take().filter(|annotations| !annotations.is_empty());
    plain
}
