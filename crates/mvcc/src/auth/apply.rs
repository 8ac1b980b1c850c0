//! Applying changes of users and roles. Checks first, then writes, so that a refusal leaves the state as it was.

use bytes::Bytes;
use store_api::AuthError;

use super::records::{put_role, put_status, put_user};
use super::{AuthChange, AuthOp, Permission, ROOT_ROLE, ROOT_USER, Role, Status, User, records};
use crate::{Failure, State, StateError, layout};

/// Applies one change; what the room must know goes to `changes`.
pub(crate) fn apply(
    state: &mut impl State,
    op: &AuthOp,
    changes: &mut Vec<AuthChange>,
) -> Result<(), Failure> {
    let mut change = Change { status: records::status(state)?, state, changes };
    match op {
        AuthOp::Enable => change.enable(),
        AuthOp::Disable => change.disable(),
        AuthOp::UserAdd { name, password_hash, no_password } => {
            change.user_add(name, password_hash, *no_password)
        }
        AuthOp::UserDelete { name } => change.user_delete(name),
        AuthOp::UserChangePassword { name, password_hash } => change.change_password(name, password_hash),
        AuthOp::UserGrantRole { user, role } => change.grant_role(user, role),
        AuthOp::UserRevokeRole { user, role } => change.revoke_role(user, role),
        AuthOp::RoleAdd { name } => change.role_add(name),
        AuthOp::RoleDelete { name } => change.role_delete(name),
        AuthOp::RoleGrantPermission { role, permission } => change.grant_permission(role, permission),
        AuthOp::RoleRevokePermission { role, key, range_end } => {
            change.revoke_permission(role, key, range_end)
        }
        AuthOp::Authenticate { user, token } => change.authenticate(user, token),
    }
}

impl From<AuthError> for Failure {
    fn from(error: AuthError) -> Self {
        Self::Refused(error.into())
    }
}

struct Change<'a, S> {
    status: Status,
    state: &'a mut S,
    changes: &'a mut Vec<AuthChange>,
}

impl<S: State> Change<'_, S> {
    fn user(&self, name: &str) -> Result<User, Failure> {
        Ok(records::user(self.state, name)?.ok_or(AuthError::UserNotFound)?)
    }

    fn role(&self, name: &str) -> Result<Role, Failure> {
        Ok(records::role(self.state, name)?.ok_or(AuthError::RoleNotFound)?)
    }

    /// Something changed: the auth revision rises.
    fn commit(&mut self) -> Result<(), Failure> {
        self.status.revision += 1;
        Ok(self.publish()?)
    }

    fn publish(&mut self) -> Result<(), StateError> {
        put_status(self.state, self.status)?;
        self.changes.push(AuthChange::Status(self.status));
        Ok(())
    }

    /// Does not raise the revision, as etcd's does not.
    fn enable(&mut self) -> Result<(), Failure> {
        if self.status.enabled {
            return Ok(());
        }
        let root = records::user(self.state, ROOT_USER)?.ok_or(AuthError::RootUserMissing)?;
        if !root.is_root() {
            return Err(AuthError::RootRoleMissing.into());
        }
        self.status.enabled = true;
        Ok(self.publish()?)
    }

    fn disable(&mut self) -> Result<(), Failure> {
        if !self.status.enabled {
            return Ok(());
        }
        self.status.enabled = false;
        self.commit()
    }

    fn user_add(&mut self, name: &str, password_hash: &Bytes, no_password: bool) -> Result<(), Failure> {
        if name.is_empty() {
            return Err(AuthError::UserEmpty.into());
        }
        if records::user(self.state, name)?.is_some() {
            return Err(AuthError::UserExists.into());
        }
        let password_hash = if no_password { Bytes::new() } else { password_hash.clone() };
        put_user(self.state, &User { name: name.to_owned(), password_hash, no_password, roles: Vec::new() })?;
        self.commit()
    }

    fn user_delete(&mut self, name: &str) -> Result<(), Failure> {
        if self.status.enabled && name == ROOT_USER {
            return Err(AuthError::InvalidManagement.into());
        }
        self.user(name)?;
        self.state.delete(&layout::auth_user(name))?;
        self.changes.push(AuthChange::Forget { user: name.to_owned() });
        self.commit()
    }

    fn change_password(&mut self, name: &str, password_hash: &Bytes) -> Result<(), Failure> {
        let mut user = self.user(name)?;
        if !user.no_password {
            user.password_hash = password_hash.clone();
        }
        put_user(self.state, &user)?;
        self.changes.push(AuthChange::Forget { user: name.to_owned() });
        self.commit()
    }

    /// The role of the root needs no record. A role granted twice changes nothing.
    fn grant_role(&mut self, name: &str, role: &str) -> Result<(), Failure> {
        let mut user = self.user(name)?;
        if role != ROOT_ROLE {
            self.role(role)?;
        }
        let Err(at) = user.roles.binary_search_by(|held| held.as_str().cmp(role)) else { return Ok(()) };
        user.roles.insert(at, role.to_owned());
        put_user(self.state, &user)?;
        self.commit()
    }

    fn revoke_role(&mut self, name: &str, role: &str) -> Result<(), Failure> {
        if self.status.enabled && name == ROOT_USER && role == ROOT_ROLE {
            return Err(AuthError::InvalidManagement.into());
        }
        let user = self.user(name)?;
        if !self.take_role(user, role)? {
            return Err(AuthError::RoleNotGranted.into());
        }
        self.commit()
    }

    /// Whether the user had the role.
    fn take_role(&mut self, mut user: User, role: &str) -> Result<bool, StateError> {
        let before = user.roles.len();
        user.roles.retain(|held| held != role);
        let taken = user.roles.len() < before;
        if taken {
            put_user(self.state, &user)?;
        }
        Ok(taken)
    }

    fn role_add(&mut self, name: &str) -> Result<(), Failure> {
        if name.is_empty() {
            return Err(AuthError::RoleEmpty.into());
        }
        if records::role(self.state, name)?.is_some() {
            return Err(AuthError::RoleExists.into());
        }
        put_role(self.state, &Role { name: name.to_owned(), permissions: Vec::new() })?;
        self.commit()
    }

    fn role_delete(&mut self, name: &str) -> Result<(), Failure> {
        if self.status.enabled && name == ROOT_ROLE {
            return Err(AuthError::InvalidManagement.into());
        }
        self.role(name)?;
        self.state.delete(&layout::auth_role(name))?;
        for user in records::users(self.state)? {
            self.take_role(user, name)?;
        }
        self.commit()
    }

    /// A permission on the same range replaces the kind of the one that is there, if etcd's search finds it: it looks at
    /// the first permission with the key only, which leaves two for a key with several ends.
    fn grant_permission(&mut self, role: &str, permission: &Permission) -> Result<(), Failure> {
        if !is_range(&permission.key, &permission.range_end) {
            return Err(AuthError::InvalidManagement.into());
        }
        let mut role = self.role(role)?;
        let at = role.permissions.partition_point(|held| held.key < permission.key);
        match role.permissions.get_mut(at) {
            Some(held) if held.key == permission.key && held.range_end == permission.range_end => {
                held.kind = permission.kind;
            }
            _ => {
                let behind = role.permissions.partition_point(|held| held.key <= permission.key);
                role.permissions.insert(behind, permission.clone());
            }
        }
        put_role(self.state, &role)?;
        self.commit()
    }

    fn revoke_permission(&mut self, role: &str, key: &Bytes, range_end: &Bytes) -> Result<(), Failure> {
        let mut role = self.role(role)?;
        let before = role.permissions.len();
        role.permissions.retain(|held| held.key != key || held.range_end != range_end);
        if role.permissions.len() == before {
            return Err(AuthError::PermissionNotGranted.into());
        }
        put_role(self.state, &role)?;
        self.commit()
    }

    fn authenticate(&mut self, name: &str, token: &str) -> Result<(), Failure> {
        if !self.status.enabled {
            return Err(AuthError::NotEnabled.into());
        }
        let user = records::user(self.state, name)?;
        if user.is_none_or(|user| user.no_password) {
            return Err(AuthError::Failed.into());
        }
        self.changes.push(AuthChange::Token { user: name.to_owned(), token: token.to_owned() });
        Ok(())
    }
}

/// Whether a permission can be about it: a key, and an end behind it, or no bound.
fn is_range(key: &Bytes, range_end: &Bytes) -> bool {
    !key.is_empty() && (range_end.is_empty() || key < range_end || range_end[..] == [0])
}
