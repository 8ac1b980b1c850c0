//! The authenticated caller, in the API's own terms (`authentication.k8s.io/v1` UserInfo).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Names of the groups the API server itself gives meaning to.
pub mod groups {
    /// Passes every authorization check.
    pub const MASTERS: &str = "system:masters";
    /// Everyone who proved an identity.
    pub const AUTHENTICATED: &str = "system:authenticated";
    /// Everyone else.
    pub const UNAUTHENTICATED: &str = "system:unauthenticated";
    /// Node agents.
    pub const NODES: &str = "system:nodes";
    /// Every service account; one group per namespace is this plus `:<namespace>`.
    pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
}

/// A user as authentication found it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserInfo {
    #[serde(rename = "username")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// A user with the given groups, and `system:authenticated` besides.
    #[must_use]
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        let mut user = Self { name: name.into(), ..Self::default() };
        user.groups = groups.iter().map(ToString::to_string).collect();
        user.join(groups::AUTHENTICATED);
        user
    }

    /// Somebody who showed nothing.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            name: "system:anonymous".into(),
            groups: vec![groups::UNAUTHENTICATED.into()],
            ..Self::default()
        }
    }

    /// A service account, with the two groups every one of them has.
    #[must_use]
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        let of_namespace = format!("{}:{namespace}", groups::SERVICE_ACCOUNTS);
        let mut user = Self::new(
            format!("system:serviceaccount:{namespace}:{name}"),
            &[groups::SERVICE_ACCOUNTS, &of_namespace],
        );
        user.uid = uid.into();
        user
    }

    /// The node agent of `node`.
    #[must_use]
    pub fn node(node: &str) -> Self {
        Self::new(format!("system:node:{node}"), &[groups::NODES])
    }

    /// Adds a group once.
    pub fn join(&mut self, group: &str) {
        if !self.in_group(group) {
            self.groups.push(group.into());
        }
    }

    /// Whether the user is a member.
    #[must_use]
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}

/// Splits `system:serviceaccount:<namespace>:<name>`.
#[must_use]
pub(crate) fn split_service_account(subject: &str) -> Option<(&str, &str)> {
    subject.strip_prefix("system:serviceaccount:")?.split_once(':')
}
