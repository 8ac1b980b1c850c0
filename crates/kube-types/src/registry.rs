//! The kinds that are served: one [`Resource`] each, in one [`Registry`].
//!
//! `registry/table.rs` lists the built-in ones; adding a kind is one entry there. Custom kinds will make
//! `Resource`s of the same form.

mod table;

use crate::schema::SchemaRef;
use crate::strategy::Strategy;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Group, version and kind. The core group is the empty string.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionKind {
    pub group: Cow<'static, str>,
    pub version: Cow<'static, str>,
    pub kind: Cow<'static, str>,
}

impl GroupVersionKind {
    pub fn new(
        group: impl Into<Cow<'static, str>>,
        version: impl Into<Cow<'static, str>>,
        kind: impl Into<Cow<'static, str>>,
    ) -> Self {
        GroupVersionKind { group: group.into(), version: version.into(), kind: kind.into() }
    }

    /// `apps/v1`, or `v1` for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

/// Group and resource, as error texts name things: `pods`, `deployments.apps`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupResource {
    pub group: String,
    pub resource: String,
}

impl GroupResource {
    pub fn new(group: impl Into<String>, resource: impl Into<String>) -> Self {
        GroupResource { group: group.into(), resource: resource.into() }
    }
}

impl fmt::Display for GroupResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group.as_str() {
            "" => f.write_str(&self.resource),
            group => write!(f, "{}.{group}", self.resource),
        }
    }
}

/// What a client can do with a resource, in the words of discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    Create,
    Delete,
    DeleteCollection,
    Get,
    List,
    Patch,
    Update,
    Watch,
}

impl Verb {
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Create => "create",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Patch => "patch",
            Verb::Update => "update",
            Verb::Watch => "watch",
        }
    }
}

/// A path below an object: `status`, `scale`, `log`...
#[derive(Clone, Debug)]
pub struct Subresource {
    pub name: Cow<'static, str>,
    /// The kind its bodies have: the parent's own, `Scale`, `Binding`, `TokenRequest`...
    pub gvk: GroupVersionKind,
    pub verbs: Vec<Verb>,
    /// The schema of its bodies.
    pub schema: SchemaRef,
}

/// A label that field selectors may name, and where its value is found.
#[derive(Clone, Debug)]
pub struct FieldLabel {
    pub label: &'static str,
    pub paths: FieldPath,
}

/// Where a field label's value comes from.
#[derive(Clone, Copy, Debug)]
pub enum FieldPath {
    /// The scalar at this path; absent is the empty string (booleans: `false`, numbers: `0`).
    At(&'static [&'static str]),
    /// The first of these paths that is not empty.
    FirstOf(&'static [&'static [&'static str]]),
    /// As `At`, absent is `false`.
    Bool(&'static [&'static str]),
    /// As `At`, absent is `0`.
    Int(&'static [&'static str]),
}

/// A kind that is served at one group and version.
#[derive(Clone, Debug)]
pub struct Resource {
    pub gvk: GroupVersionKind,
    pub plural: Cow<'static, str>,
    pub singular: Cow<'static, str>,
    pub list_kind: Cow<'static, str>,
    pub short_names: Vec<Cow<'static, str>>,
    pub categories: Vec<Cow<'static, str>>,
    pub namespaced: bool,
    pub verbs: Vec<Verb>,
    pub subresources: Vec<Subresource>,
    pub schema: SchemaRef,
    pub strategy: &'static Strategy,
    /// The first part of its keys, with both slashes: `/registry/services/specs/`. Empty when nothing is stored.
    pub storage_prefix: Cow<'static, str>,
    /// The kind whose form is stored; another one than `gvk` where two groups share storage (events).
    pub storage_gvk: GroupVersionKind,
    /// Field labels beside `metadata.name` and `metadata.namespace`.
    pub field_labels: Vec<FieldLabel>,
    /// The kind has its own list of field labels upstream, which changes the error for unknown ones.
    pub own_field_labels: bool,
}

impl Resource {
    /// Group and plural, for error texts.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(self.gvk.group.clone(), self.plural.clone())
    }

    /// `apps/v1`.
    pub fn api_version(&self) -> String {
        self.gvk.api_version()
    }

    pub fn has(&self, verb: Verb) -> bool {
        self.verbs.contains(&verb)
    }

    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|one| one.name == name)
    }

    /// True for kinds that are answered and not kept (reviews).
    pub fn is_virtual(&self) -> bool {
        self.storage_prefix.is_empty()
    }

    /// The key of one object: prefix, namespace when it has one, name.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        format!("{}{name}", self.key_prefix(namespace))
    }

    /// The prefix of all keys in a namespace; the empty namespace means all of them.
    pub fn key_prefix(&self, namespace: &str) -> String {
        match (self.namespaced, namespace) {
            (true, namespace) if !namespace.is_empty() => format!("{}{namespace}/", self.storage_prefix),
            _ => self.storage_prefix.to_string(),
        }
    }

    /// A short stable text that changes when the stored form would: discovery's `storageVersionHash`.
    pub fn storage_version_hash(&self) -> String {
        use base64::Engine;
        let stored = &self.storage_gvk;
        let text = format!("{}/{}/{}", stored.group, stored.version, stored.kind);
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        base64::engine::general_purpose::STANDARD.encode(&digest.as_ref()[..8])
    }
}

/// All served resources.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    resources: Vec<Arc<Resource>>,
    by_path: HashMap<(String, String, String), usize>,
    by_kind: HashMap<GroupVersionKind, usize>,
}

impl Registry {
    /// The built-in kinds.
    pub fn builtin() -> &'static Registry {
        static BUILTIN: OnceLock<Registry> = OnceLock::new();
        BUILTIN.get_or_init(|| Registry::new(table::resources()))
    }

    /// A registry of these resources.
    pub fn new(resources: impl IntoIterator<Item = Resource>) -> Registry {
        let mut registry = Registry::default();
        for resource in resources {
            let at = registry.resources.len();
            let gvk = resource.gvk.clone();
            let path = (gvk.group.to_string(), gvk.version.to_string(), resource.plural.to_string());
            registry.by_path.insert(path, at);
            registry.by_kind.insert(gvk, at);
            registry.resources.push(Arc::new(resource));
        }
        registry
    }

    /// In the table's order: by group, then by name.
    pub fn resources(&self) -> &[Arc<Resource>] {
        &self.resources
    }

    /// The resource at `/apis/<group>/<version>/.../<plural>`.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        let at = self.by_path.get(&(group.to_string(), version.to_string(), plural.to_string()))?;
        self.resources.get(*at)
    }

    /// The resource of a kind.
    pub fn by_kind(&self, kind: &GroupVersionKind) -> Option<&Arc<Resource>> {
        self.resources.get(*self.by_kind.get(kind)?)
    }

    /// Group and version pairs, each once, in the table's order; a group's first version is its preferred one.
    pub fn group_versions(&self) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = Vec::new();
        for resource in &self.resources {
            let pair = (resource.gvk.group.to_string(), resource.gvk.version.to_string());
            if !found.contains(&pair) {
                found.push(pair);
            }
        }
        found
    }

    /// The resources of one group and version.
    pub fn in_group_version<'a>(
        &'a self,
        group: &'a str,
        version: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Resource>> {
        self.resources.iter().filter(move |one| one.gvk.group == group && one.gvk.version == version)
    }
}

#[cfg(test)]
mod tests;
