//! Deletion of a namespace: its pods first, then everything else, then its finalizer.

use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition, NamespaceStatus};

use crate::action::Action;
use crate::meta;

/// The finalizer that this controller takes away at the end.
pub const FINALIZER: &str = "kubernetes";

/// What a look at the contents of a namespace found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// What is left: the resource as `plural.group`, and how many.
    pub left: Vec<(String, usize)>,
    /// Finalizers that hold objects back, and how many each.
    pub held: Vec<(String, usize)>,
    /// Why the kinds could not be listed, if so.
    pub discovery_error: Option<String>,
    /// Why something could not be deleted, if so.
    pub deletion_error: Option<String>,
}

/// What to do next with a namespace on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it lives, or its end is another's business.
    Nothing,
    /// Delete its contents, pods before all else.
    Empty,
}

/// Whether a namespace is to be emptied.
#[must_use]
pub fn next(namespace: &Namespace) -> Next {
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_ref());
    let ours = finalizers.into_iter().flatten().any(|finalizer| finalizer == FINALIZER);
    if meta::is_deleting(&namespace.metadata) && ours { Next::Empty } else { Next::Nothing }
}

/// True when nothing is left and nothing went wrong: the finalizer may go.
#[must_use]
pub fn is_done(contents: &Contents) -> bool {
    contents.left.is_empty() && contents.discovery_error.is_none() && contents.deletion_error.is_none()
}

/// The namespace without our finalizer, as `/finalize` takes it.
#[must_use]
pub fn finalized(namespace: &Namespace) -> Namespace {
    let mut out = namespace.clone();
    if let Some(finalizers) = out.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
        finalizers.retain(|finalizer| finalizer != FINALIZER);
    }
    out
}

/// The patch that tells people how the deletion goes, if it tells anything new.
#[must_use]
pub fn report(now_ms: i64, namespace: &Namespace, contents: &Contents) -> Option<Action> {
    let old = namespace.status.clone().unwrap_or_default();
    let new = NamespaceStatus {
        phase: Some("Terminating".to_owned()),
        conditions: Some(conditions(now_ms, old.conditions.clone().unwrap_or_default(), contents)),
    };
    Action::status(namespace, &old, &new)
}

fn conditions(now_ms: i64, old: Vec<NamespaceCondition>, contents: &Contents) -> Vec<NamespaceCondition> {
    let listed = |items: &[(String, usize)], what: fn(&str, usize) -> String| {
        items.iter().map(|(name, count)| what(name, *count)).collect::<Vec<_>>().join(", ")
    };
    let left = listed(&contents.left, |name, count| format!("{name} has {count} resource instances"));
    let held = listed(&contents.held, |name, count| format!("{name} in {count} resource instances"));
    let remains = |text: String, what: &str| (!text.is_empty()).then(|| format!("{what}: {text}"));
    let rows = [
        (
            "NamespaceDeletionDiscoveryFailure",
            contents.discovery_error.clone(),
            "DiscoveryFailed",
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            "GroupVersionParsingFailed",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        (
            "NamespaceDeletionContentFailure",
            contents.deletion_error.clone(),
            "ContentDeletionFailed",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        (
            "NamespaceContentRemaining",
            remains(left, "Some resources are remaining"),
            "SomeResourcesRemain",
            "ContentRemoved",
            "All content successfully removed",
        ),
        (
            "NamespaceFinalizersRemaining",
            remains(held, "Some content in the namespace has finalizers remaining"),
            "SomeFinalizersRemain",
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished",
        ),
    ];
    let row = |(kind, trouble, bad, good, fine): (&str, Option<String>, &str, &str, &str)| {
        let (value, reason) = if trouble.is_some() { ("True", bad) } else { ("False", good) };
        let before = old.iter().find(|one| one.type_ == kind && one.status == value);
        NamespaceCondition {
            type_: kind.to_owned(),
            status: value.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(trouble.unwrap_or_else(|| fine.to_owned())),
            last_transition_time: before
                .and_then(|one| one.last_transition_time.clone())
                .or_else(|| Some(meta::time(now_ms))),
        }
    };
    rows.into_iter().map(row).collect()
}
