//! Users, roles and permissions over ranges of keys, in etcd's terms.
//!
//! ```text
//! Entry::Auth(op) ──apply──▶ records under `u` (see `layout`), a new auth revision, AuthChange for the room's tokens
//! Entry::As { caller, entry } ──permit──▶ entry, or a refusal: checked where it is applied, under the auth revision there
//! reads ──permit_range, permit_txn, ...──▶ the same checks on the view that is read
//! ```
//! An entry that is not wrapped in `As` comes from the process itself, which is trusted. Passwords arrive hashed: hashing
//! is slow on purpose and belongs to the room. The auth revision rises with every change of users and roles; a caller that
//! proved its name under an older one has to do so again.

mod access;
mod apply;
pub(crate) mod codec;
mod intervals;
mod records;
#[cfg(test)]
mod tests;

pub use access::{
    Gate, permit, permit_admin, permit_lease_read, permit_lease_write, permit_lookup_role,
    permit_lookup_user, permit_range, permit_txn, require_user,
};
pub(crate) use apply::apply;
pub use intervals::Intervals;
pub use records::{restore, role, roles, status, user, users};

use bytes::Bytes;
use store_api::KeyRange;

/// The user that must exist before authentication can be turned on.
pub const ROOT_USER: &str = "root";
/// The role that may do everything.
pub const ROOT_ROLE: &str = "root";

/// Who asked, as the room found out. The default is somebody without a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// Empty when nobody said.
    pub user: String,
    /// The auth revision under which the name was proved; 0 without one.
    pub auth_revision: u64,
}

/// Whether authentication is on, and how often users and roles have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    pub enabled: bool,
    /// 1 in a new store.
    pub revision: u64,
}

impl Default for Status {
    fn default() -> Self {
        Self { enabled: false, revision: 1 }
    }
}

/// What a permission allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PermissionKind {
    Read,
    Write,
    ReadWrite,
}

/// A permission of a role, as it was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    pub kind: PermissionKind,
    pub key: Bytes,
    /// Empty: the key alone; one zero byte: no upper bound.
    pub range_end: Bytes,
}

impl Permission {
    /// The keys it is about.
    #[must_use]
    pub fn range(&self) -> KeyRange {
        match &self.range_end[..] {
            [] => KeyRange::One(self.key.clone()),
            [0] => KeyRange::Span { start: self.key.clone(), end: Bytes::new() },
            _ => KeyRange::Span { start: self.key.clone(), end: self.range_end.clone() },
        }
    }
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    /// bcrypt's text; empty for a user without a password.
    pub password_hash: Bytes,
    pub no_password: bool,
    /// In order.
    pub roles: Vec<String>,
}

impl User {
    /// Whether the user may do everything.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.roles.iter().any(|role| role == ROOT_ROLE)
    }
}

/// A role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    pub name: String,
    /// In order of their keys.
    pub permissions: Vec<Permission>,
}

/// A change of users, roles, or of authentication itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthOp {
    Enable,
    Disable,
    UserAdd {
        name: String,
        password_hash: Bytes,
        no_password: bool,
    },
    UserDelete {
        name: String,
    },
    UserChangePassword {
        name: String,
        password_hash: Bytes,
    },
    UserGrantRole {
        user: String,
        role: String,
    },
    UserRevokeRole {
        user: String,
        role: String,
    },
    RoleAdd {
        name: String,
    },
    RoleDelete {
        name: String,
    },
    RoleGrantPermission {
        role: String,
        permission: Permission,
    },
    RoleRevokePermission {
        role: String,
        key: Bytes,
        range_end: Bytes,
    },
    /// A password was checked: every member learns the token. Changes nothing in the state.
    Authenticate {
        user: String,
        token: String,
    },
}

/// What the room has to know after an [`AuthOp`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthChange {
    Status(Status),
    /// Tokens of this user are void.
    Forget {
        user: String,
    },
    /// This token stands for this user.
    Token {
        user: String,
        token: String,
    },
}
