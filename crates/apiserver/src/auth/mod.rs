//! Who is calling, and may they.
//!
//! ```text
//! certificate, bearer token, in-process identity ──authn──▶ UserInfo ──impersonation──▶ UserInfo ──authorize──▶ yes | 403
//! ```

pub(crate) mod authn;
pub(crate) mod node;
pub(crate) mod policy;
pub(crate) mod rbac;
mod rules;

use std::fmt;

use identity::UserInfo;
use kube_types::registry::GroupResource;
use kube_types::status::Status;

use crate::http::target::Target;

pub(crate) use rules::Rule;

/// What somebody wants to do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attributes<'a> {
    pub(crate) verb: &'a str,
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    /// A non-resource path; empty for resources.
    pub(crate) path: &'a str,
}

impl<'a> Attributes<'a> {
    pub(crate) fn of(target: &'a Target) -> Self {
        Self {
            verb: target.verb,
            group: &target.group,
            resource: &target.resource,
            subresource: &target.subresource,
            namespace: &target.namespace,
            name: &target.name,
            path: "",
        }
    }

    pub(crate) fn path(verb: &'a str, path: &'a str) -> Self {
        Self { verb, path, ..Self::default() }
    }

    /// The 403 with upstream's text.
    pub(crate) fn forbidden(&self, user: &UserInfo) -> Status {
        let why = format!("User {:?} cannot {self}", user.name);
        Status::forbidden(&GroupResource::new(self.group, self.resource), self.name, &why)
    }
}

impl fmt::Display for Attributes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            return write!(f, "{} path {:?}", self.verb, self.path);
        }
        let slash = if self.subresource.is_empty() { "" } else { "/" };
        let resource = format!("{}{slash}{}", self.resource, self.subresource);
        write!(f, "{} resource {resource:?} in API group {:?}", self.verb, self.group)?;
        match self.namespace {
            "" => f.write_str(" at the cluster scope"),
            namespace => write!(f, " in the namespace {namespace:?}"),
        }
    }
}
