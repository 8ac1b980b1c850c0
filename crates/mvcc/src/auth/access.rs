//! Whether a caller may do what it asks for.

use std::collections::BTreeMap;

use store_api::{AuthError, KeyRange, LeaseId, Op, Txn};

use super::{AuthOp, Caller, Intervals, PermissionKind, Status, User, records};
use crate::{Entry, Failure, Reader, StateError, read};

/// What is known about users while several checks look at one state. Void after an [`AuthOp`].
#[derive(Debug, Default)]
pub struct Gate {
    status: Option<Status>,
    grants: BTreeMap<String, Option<Grants>>,
}

#[derive(Debug)]
struct Grants {
    root: bool,
    read: Intervals,
    write: Intervals,
}

impl Gate {
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn status(&mut self, state: &impl Reader) -> Result<Status, StateError> {
        if self.status.is_none() {
            self.status = Some(records::status(state)?);
        }
        Ok(self.status.unwrap_or_default())
    }

    fn grants(&mut self, state: &impl Reader, user: &str) -> Result<Option<&Grants>, StateError> {
        if !self.grants.contains_key(user) {
            let found = records::user(state, user)?.map(|user| load(state, &user)).transpose()?;
            self.grants.insert(user.to_owned(), found);
        }
        Ok(self.grants.get(user).and_then(Option::as_ref))
    }
}

fn load(state: &impl Reader, user: &User) -> Result<Grants, StateError> {
    let (mut read, mut write) = (Vec::new(), Vec::new());
    for name in &user.roles {
        let role = records::role(state, name)?;
        for permission in role.into_iter().flat_map(|role| role.permissions) {
            if permission.kind != PermissionKind::Write {
                read.push(permission.range());
            }
            if permission.kind != PermissionKind::Read {
                write.push(permission.range());
            }
        }
    }
    Ok(Grants { root: user.is_root(), read: Intervals::union(read), write: Intervals::union(write) })
}

/// One caller in front of one state.
struct Check<'a, R> {
    state: &'a R,
    gate: &'a mut Gate,
    caller: &'a Caller,
}

/// Whether the caller may have the entry applied.
///
/// # Errors
/// `Auth` says why not; or the state's.
pub fn permit(state: &impl Reader, gate: &mut Gate, caller: &Caller, entry: &Entry) -> Result<(), Failure> {
    let mut check = Check { state, gate, caller };
    if !check.enabled()? {
        return Ok(());
    }
    match entry {
        Entry::Txn(txn) => check.txn(txn),
        Entry::LeaseGrant { .. } => check.named(),
        Entry::LeaseRevoke { id } => {
            check.named()?;
            check.lease(*id, Access::Write)
        }
        Entry::Auth(AuthOp::Authenticate { .. }) => Ok(()),
        Entry::LeaseCheckpoint { .. } => Err(AuthError::PermissionDenied.into()),
        Entry::Auth(_) | Entry::Compact { .. } | Entry::Alarm { .. } => check.admin(),
        Entry::As { .. } => Err(AuthError::PermissionDenied.into()),
    }
}

/// Whether the caller may read a range.
///
/// # Errors
/// `Auth` says why not; or the state's.
pub fn permit_range(state: &impl Reader, caller: &Caller, range: &KeyRange) -> Result<(), Failure> {
    Check { state, gate: &mut Gate::default(), caller }.keys(range, Access::Read)
}

/// Whether the caller may run a transaction.
///
/// # Errors
/// `Auth` says why not; or the state's.
pub fn permit_txn(state: &impl Reader, caller: &Caller, txn: &Txn) -> Result<(), Failure> {
    Check { state, gate: &mut Gate::default(), caller }.txn(txn)
}

/// Whether the caller has the role of the root.
///
/// # Errors
/// `Auth` says why not; or the state's.
pub fn permit_admin(state: &impl Reader, caller: &Caller) -> Result<(), Failure> {
    Check { state, gate: &mut Gate::default(), caller }.admin()
}

/// Whether the caller may renew or end a lease: it must be allowed to write all keys attached to it.
///
/// # Errors
/// `Auth` says why not; or the state's.
pub fn permit_lease_write(state: &impl Reader, caller: &Caller, id: LeaseId) -> Result<(), Failure> {
    require_user(state, caller)?;
    Check { state, gate: &mut Gate::default(), caller }.lease(id, Access::Write)
}

/// Whether the caller may see the keys of leases.
///
/// # Errors
/// `Auth` says why not; or the state's.
pub fn permit_lease_read(state: &impl Reader, caller: &Caller, ids: &[LeaseId]) -> Result<(), Failure> {
    require_user(state, caller)?;
    let gate = &mut Gate::default();
    ids.iter().try_for_each(|id| Check { state, gate, caller }.lease(*id, Access::Read))
}

/// Whether the caller may look at a user: the root, and everybody at oneself.
///
/// # Errors
/// `Auth` says why not; or the state's.
pub fn permit_lookup_user(state: &impl Reader, caller: &Caller, user: &str) -> Result<(), Failure> {
    if caller.user == user { Ok(()) } else { permit_admin(state, caller) }
}

/// Whether the caller may look at a role: the root, and who has it.
///
/// # Errors
/// `Auth` says why not; or the state's.
pub fn permit_lookup_role(state: &impl Reader, caller: &Caller, role: &str) -> Result<(), Failure> {
    let user = records::user(state, &caller.user)?;
    let held = user.is_some_and(|user| user.roles.iter().any(|held| held == role));
    if held { Ok(()) } else { permit_admin(state, caller) }
}

/// Whether the caller has a name, if names are asked for.
///
/// # Errors
/// `Auth` when not; or the state's.
pub fn require_user(state: &impl Reader, caller: &Caller) -> Result<(), Failure> {
    let nameless = records::status(state)?.enabled && caller.user.is_empty();
    if nameless { Err(AuthError::UserEmpty.into()) } else { Ok(()) }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

impl<R: Reader> Check<'_, R> {
    fn enabled(&mut self) -> Result<bool, StateError> {
        Ok(self.gate.status(self.state)?.enabled)
    }

    fn named(&mut self) -> Result<(), Failure> {
        if self.caller.user.is_empty() { Err(AuthError::UserEmpty.into()) } else { Ok(()) }
    }

    fn admin(&mut self) -> Result<(), Failure> {
        if !self.enabled()? {
            return Ok(());
        }
        if self.caller.user.is_empty() {
            return Err(AuthError::UserEmpty.into());
        }
        let grants = self.gate.grants(self.state, &self.caller.user)?;
        let grants = grants.ok_or(AuthError::UserNotFound)?;
        if grants.root { Ok(()) } else { Err(AuthError::PermissionDenied.into()) }
    }

    fn keys(&mut self, range: &KeyRange, access: Access) -> Result<(), Failure> {
        let status = self.gate.status(self.state)?;
        if !status.enabled {
            return Ok(());
        }
        if self.caller.auth_revision == 0 {
            return Err(AuthError::UserEmpty.into());
        }
        if self.caller.auth_revision < status.revision {
            return Err(AuthError::OldRevision.into());
        }
        let grants = self.gate.grants(self.state, &self.caller.user)?;
        let grants = grants.ok_or(AuthError::PermissionDenied)?;
        let allowed = if access == Access::Read { &grants.read } else { &grants.write };
        if grants.root || allowed.covers(range) { Ok(()) } else { Err(AuthError::PermissionDenied.into()) }
    }

    /// Both branches: which one is taken must tell nothing about keys the caller may not see.
    fn txn(&mut self, txn: &Txn) -> Result<(), Failure> {
        for compare in &txn.compare {
            self.keys(&compare.range, Access::Read)?;
        }
        txn.success.iter().chain(&txn.failure).try_for_each(|op| self.op(op))
    }

    fn op(&mut self, op: &Op) -> Result<(), Failure> {
        match op {
            Op::Range(request) => self.keys(&request.range, Access::Read),
            Op::Put { key, prev_kv, .. } | Op::Update { key, prev_kv, .. } => {
                let lease = match op {
                    Op::Put { lease, .. } | Op::Update { lease: Some(lease), .. } => *lease,
                    _ => LeaseId(0),
                };
                let range = KeyRange::One(key.clone());
                self.keys(&range, Access::Write)?;
                // Whoever attaches a key to a lease can have the lease's other keys deleted.
                self.lease(lease, Access::Write)?;
                if *prev_kv { self.keys(&range, Access::Read) } else { Ok(()) }
            }
            Op::DeleteRange { range, prev_kv } => {
                if *prev_kv {
                    self.keys(range, Access::Read)?;
                }
                self.keys(range, Access::Write)
            }
            Op::Txn(inner) => self.txn(inner),
        }
    }

    fn lease(&mut self, id: LeaseId, access: Access) -> Result<(), Failure> {
        if id.get() == 0 || self.admin().is_ok() {
            return Ok(());
        }
        let keys = read::lease_keys(self.state, id)?;
        keys.into_iter().try_for_each(|key| self.keys(&KeyRange::One(key), access))
    }
}
