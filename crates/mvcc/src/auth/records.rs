//! Users and roles in the state.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::codec::{put_permission, read_permission};
use super::{Role, Status, User};
use crate::codec::{CodecError, Input, put_bytes, put_len};
use crate::read::try_scan;
use crate::{Reader, State, StateError, layout};

/// Whether authentication is on, and the auth revision.
///
/// # Errors
/// When the state fails.
pub fn status(state: &impl Reader) -> Result<Status, StateError> {
    let Some(record) = state.get(layout::AUTH_STATUS)? else { return Ok(Status::default()) };
    let mut input = Input::new(record);
    let read = |input: &mut Input| -> Result<Status, CodecError> {
        Ok(Status { enabled: input.flag()?, revision: input.i64()?.unsigned_abs() })
    };
    read(&mut input).map_err(|error| corrupt("status", error))
}

/// A user by name.
///
/// # Errors
/// When the state fails.
pub fn user(state: &impl Reader, name: &str) -> Result<Option<User>, StateError> {
    state.get(&layout::auth_user(name))?.map(|record| parse_user(name, record)).transpose()
}

/// All users in order of their names.
///
/// # Errors
/// When the state fails.
pub fn users(state: &impl Reader) -> Result<Vec<User>, StateError> {
    all(state, &layout::auth_user(""), parse_user)
}

/// A role by name.
///
/// # Errors
/// When the state fails.
pub fn role(state: &impl Reader, name: &str) -> Result<Option<Role>, StateError> {
    state.get(&layout::auth_role(name))?.map(|record| parse_role(name, record)).transpose()
}

/// All roles in order of their names.
///
/// # Errors
/// When the state fails.
pub fn roles(state: &impl Reader) -> Result<Vec<Role>, StateError> {
    all(state, &layout::auth_role(""), parse_role)
}

/// Puts users and roles into a new state, as a snapshot has them.
///
/// # Errors
/// When the state fails.
pub fn restore(
    state: &mut impl State,
    status: Status,
    users: &[User],
    roles: &[Role],
) -> Result<(), StateError> {
    users.iter().try_for_each(|user| put_user(state, user))?;
    roles.iter().try_for_each(|role| put_role(state, role))?;
    put_status(state, status)
}

fn all<T>(
    state: &impl Reader,
    prefix: &[u8],
    parse: impl Fn(&str, Bytes) -> Result<T, StateError>,
) -> Result<Vec<T>, StateError> {
    let end = store_api::prefix_end(prefix);
    let mut found = Vec::new();
    try_scan(state, (prefix, &end), false, |key, record| {
        let name = std::str::from_utf8(&key[prefix.len()..]);
        let name = name.map_err(|_| StateError::Corrupt("a name that is no text".to_owned()))?;
        found.push(parse(name, Bytes::copy_from_slice(record))?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

pub(super) fn put_status(state: &mut impl State, status: Status) -> Result<(), StateError> {
    let revision = status.revision.to_be_bytes();
    state.put(layout::AUTH_STATUS, &[&[u8::from(status.enabled)], &revision])
}

pub(super) fn put_user(state: &mut impl State, user: &User) -> Result<(), StateError> {
    let mut record = vec![u8::from(user.no_password)];
    put_bytes(&mut record, &user.password_hash);
    put_len(&mut record, user.roles.len());
    user.roles.iter().for_each(|role| put_bytes(&mut record, role.as_bytes()));
    state.put(&layout::auth_user(&user.name), &[&record])
}

pub(super) fn put_role(state: &mut impl State, role: &Role) -> Result<(), StateError> {
    let mut record = Vec::new();
    put_len(&mut record, role.permissions.len());
    role.permissions.iter().for_each(|permission| put_permission(&mut record, permission));
    state.put(&layout::auth_role(&role.name), &[&record])
}

fn parse_user(name: &str, record: Bytes) -> Result<User, StateError> {
    let mut input = Input::new(record);
    let read = |input: &mut Input| -> Result<User, CodecError> {
        Ok(User {
            name: name.to_owned(),
            no_password: input.flag()?,
            password_hash: input.string()?,
            roles: input.list(Input::text)?,
        })
    };
    read(&mut input).map_err(|error| corrupt("user", error))
}

fn parse_role(name: &str, record: Bytes) -> Result<Role, StateError> {
    let permissions = Input::new(record).list(read_permission).map_err(|error| corrupt("role", error))?;
    Ok(Role { name: name.to_owned(), permissions })
}

fn corrupt(what: &str, error: CodecError) -> StateError {
    StateError::Corrupt(format!("not the record of a {what}: {error}"))
}
