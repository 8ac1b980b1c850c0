//! Users, roles and alarms: the buckets `auth`, `authUsers`, `authRoles` and `alarm`.
//!
//! ```text
//! auth        authEnabled: 1 or 0 | authRevision: 8, big-endian
//! authUsers   name -> authpb.User       authRoles   name -> authpb.Role
//! alarm       etcdserverpb.AlarmMember -> (empty)
//! ```

use std::io::{Seek, Write};
use std::ops::ControlFlow;

use bolt::{Reader, Source, Value, Writer};
use bytes::Bytes;
use etcd_wire::{authpb, etcdserverpb};
use mvcc::alarm::{self, Alarm, AlarmKind};
use mvcc::auth::{self, Permission, PermissionKind, Role, Status, User};
use mvcc::{State, StateError};
use prost::Message;

use super::SnapshotError;

const AUTH: &[u8] = b"auth";
const USERS: &[u8] = b"authUsers";
const ROLES: &[u8] = b"authRoles";
const ALARM: &[u8] = b"alarm";
const ENABLED: &[u8] = b"authEnabled";
const REVISION: &[u8] = b"authRevision";

/// What a snapshot has beside keys and leases.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Side {
    auth: Status,
    users: Vec<User>,
    roles: Vec<Role>,
    alarms: Vec<Alarm>,
}

impl Side {
    pub(super) fn of(state: &impl mvcc::Reader) -> Result<Self, StateError> {
        Ok(Self {
            auth: auth::status(state)?,
            users: auth::users(state)?,
            roles: auth::roles(state)?,
            alarms: alarm::alarms(state)?,
        })
    }

    pub(super) fn put(&self, state: &mut impl State) -> Result<(), StateError> {
        alarm::restore(state, &self.alarms)?;
        if self.auth == Status::default() && self.users.is_empty() && self.roles.is_empty() {
            return Ok(());
        }
        auth::restore(state, self.auth, &self.users, &self.roles)
    }

    pub(super) fn write<W: Write + Seek>(&self, writer: &mut Writer<W>) -> Result<(), SnapshotError> {
        let mut bucket = writer.bucket(AUTH)?;
        bucket.put(ENABLED, &[u8::from(self.auth.enabled)])?;
        bucket.put(REVISION, &self.auth.revision.to_be_bytes())?;
        bucket.finish()?;
        // Both lists are in the order of their names.
        let mut bucket = writer.bucket(USERS)?;
        for user in &self.users {
            bucket.put(user.name.as_bytes(), &wire_user(user).encode_to_vec())?;
        }
        bucket.finish()?;
        let mut bucket = writer.bucket(ROLES)?;
        for role in &self.roles {
            bucket.put(role.name.as_bytes(), &wire_role(role).encode_to_vec())?;
        }
        bucket.finish()?;
        let mut alarms: Vec<_> = self.alarms.iter().map(|alarm| wire_alarm(*alarm).encode_to_vec()).collect();
        alarms.sort();
        let mut bucket = writer.bucket(ALARM)?;
        alarms.iter().try_for_each(|alarm| bucket.put(alarm, &[]))?;
        Ok(bucket.finish()?)
    }

    pub(super) fn read<S: Source>(reader: &Reader<S>) -> Result<Self, SnapshotError> {
        let mut side = Self::default();
        each(reader, AUTH, |key, value| {
            match key {
                ENABLED => side.auth.enabled = value == [1],
                REVISION => {
                    let revision = value.try_into().map(u64::from_be_bytes);
                    side.auth.revision = revision.map_err(|_| wrong("its auth revision is none"))?;
                }
                _ => {}
            }
            Ok(())
        })?;
        each(reader, USERS, |_, value| {
            side.users.push(user(authpb::User::decode(value).map_err(|e| wrong(format!("a user: {e}")))?)?);
            Ok(())
        })?;
        each(reader, ROLES, |_, value| {
            side.roles.push(role(authpb::Role::decode(value).map_err(|e| wrong(format!("a role: {e}")))?)?);
            Ok(())
        })?;
        each(reader, ALARM, |key, _| {
            let record =
                etcdserverpb::AlarmMember::decode(key).map_err(|e| wrong(format!("an alarm: {e}")))?;
            // NONE is not raised by anybody, and a kind of a later release means nothing to us.
            let kind = u8::try_from(record.alarm).ok().and_then(AlarmKind::of);
            side.alarms.extend(kind.map(|kind| Alarm { member: record.member_id, kind }));
            Ok(())
        })?;
        Ok(side)
    }
}

/// Visits a bucket, which may be absent.
fn each<S: Source>(
    reader: &Reader<S>,
    name: &[u8],
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), SnapshotError>,
) -> Result<(), SnapshotError> {
    let Some(bucket) = reader.bucket(&reader.root(), name)? else { return Ok(()) };
    reader.each(&bucket, &mut |key, value| {
        let Value::Bytes(value) = value else { return Err(wrong("a bucket in a bucket")) };
        visit(key, value)?;
        Ok(ControlFlow::Continue(()))
    })
}

fn wrong(what: impl std::fmt::Display) -> SnapshotError {
    SnapshotError::File(bolt::Error::Corrupt(what.to_string()))
}

fn text(bytes: &Bytes) -> Result<String, SnapshotError> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| wrong("a name that is no text"))
}

fn wire_user(user: &User) -> authpb::User {
    authpb::User {
        name: user.name.clone().into(),
        password: user.password_hash.clone(),
        roles: user.roles.clone(),
        options: Some(authpb::UserAddOptions { no_password: user.no_password }),
    }
}

fn user(wire: authpb::User) -> Result<User, SnapshotError> {
    let mut roles = wire.roles;
    roles.sort();
    Ok(User {
        name: text(&wire.name)?,
        password_hash: wire.password,
        no_password: wire.options.is_some_and(|options| options.no_password),
        roles,
    })
}

fn wire_role(role: &Role) -> authpb::Role {
    let permission = |permission: &Permission| {
        let kind = match permission.kind {
            PermissionKind::Read => authpb::permission::Type::Read,
            PermissionKind::Write => authpb::permission::Type::Write,
            PermissionKind::ReadWrite => authpb::permission::Type::Readwrite,
        };
        authpb::Permission {
            perm_type: kind.into(),
            key: permission.key.clone(),
            range_end: permission.range_end.clone(),
        }
    };
    let key_permission = role.permissions.iter().map(permission).collect();
    authpb::Role { name: role.name.clone().into(), key_permission }
}

fn role(wire: authpb::Role) -> Result<Role, SnapshotError> {
    let permission = |permission: authpb::Permission| {
        let kind = match permission.perm_type() {
            authpb::permission::Type::Read => PermissionKind::Read,
            authpb::permission::Type::Write => PermissionKind::Write,
            authpb::permission::Type::Readwrite => PermissionKind::ReadWrite,
        };
        Permission { kind, key: permission.key, range_end: permission.range_end }
    };
    let mut permissions: Vec<_> = wire.key_permission.into_iter().map(permission).collect();
    permissions.sort_by(|a, b| (&a.key, &a.range_end).cmp(&(&b.key, &b.range_end)));
    Ok(Role { name: text(&wire.name)?, permissions })
}

fn wire_alarm(alarm: Alarm) -> etcdserverpb::AlarmMember {
    etcdserverpb::AlarmMember { member_id: alarm.member, alarm: alarm.kind.number().into() }
}
