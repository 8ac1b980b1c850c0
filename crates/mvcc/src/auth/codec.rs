//! Auth entries as bytes; a part of `codec`.
//!
//! ```text
//! 6  0 as: user, auth revision 8, entry | 1 enable | 2 disable | 3 user add: name, hash, no password 1
//!    4 user delete: name | 5 change password: name, hash | 6 grant role: user, role | 7 revoke role: user, role
//!    8 role add: name | 9 role delete: name | 10 grant permission: role, permission
//!    11 revoke permission: role, key, end | 12 authenticate: user, token
//! permission  kind 1: 0 read, 1 write, 2 both | key | end
//! ```

use super::{AuthOp, Permission, PermissionKind};
use crate::codec::{CodecError, Input, put_bytes};

/// The tag in place of an operation's that says who asked for the entry behind it.
pub(crate) const AS: u8 = 0;

pub(crate) fn put_op(out: &mut Vec<u8>, op: &AuthOp) {
    match op {
        AuthOp::Enable => out.push(1),
        AuthOp::Disable => out.push(2),
        AuthOp::UserAdd { name, password_hash, no_password } => {
            put_strings(out, 3, &[name.as_bytes(), password_hash]);
            out.push(u8::from(*no_password));
        }
        AuthOp::UserDelete { name } => put_strings(out, 4, &[name.as_bytes()]),
        AuthOp::UserChangePassword { name, password_hash } => {
            put_strings(out, 5, &[name.as_bytes(), password_hash]);
        }
        AuthOp::UserGrantRole { user, role } => put_strings(out, 6, &[user.as_bytes(), role.as_bytes()]),
        AuthOp::UserRevokeRole { user, role } => put_strings(out, 7, &[user.as_bytes(), role.as_bytes()]),
        AuthOp::RoleAdd { name } => put_strings(out, 8, &[name.as_bytes()]),
        AuthOp::RoleDelete { name } => put_strings(out, 9, &[name.as_bytes()]),
        AuthOp::RoleGrantPermission { role, permission } => {
            put_strings(out, 10, &[role.as_bytes()]);
            put_permission(out, permission);
        }
        AuthOp::RoleRevokePermission { role, key, range_end } => {
            put_strings(out, 11, &[role.as_bytes(), key, range_end]);
        }
        AuthOp::Authenticate { user, token } => put_strings(out, 12, &[user.as_bytes(), token.as_bytes()]),
    }
}

fn put_strings(out: &mut Vec<u8>, tag: u8, strings: &[&[u8]]) {
    out.push(tag);
    strings.iter().for_each(|string| put_bytes(out, string));
}

pub(crate) fn read_op(tag: u8, input: &mut Input) -> Result<AuthOp, CodecError> {
    Ok(match tag {
        1 => AuthOp::Enable,
        2 => AuthOp::Disable,
        3 => AuthOp::UserAdd {
            name: input.text()?,
            password_hash: input.string()?,
            no_password: input.flag()?,
        },
        4 => AuthOp::UserDelete { name: input.text()? },
        5 => AuthOp::UserChangePassword { name: input.text()?, password_hash: input.string()? },
        6 => AuthOp::UserGrantRole { user: input.text()?, role: input.text()? },
        7 => AuthOp::UserRevokeRole { user: input.text()?, role: input.text()? },
        8 => AuthOp::RoleAdd { name: input.text()? },
        9 => AuthOp::RoleDelete { name: input.text()? },
        10 => AuthOp::RoleGrantPermission { role: input.text()?, permission: read_permission(input)? },
        11 => AuthOp::RoleRevokePermission {
            role: input.text()?,
            key: input.string()?,
            range_end: input.string()?,
        },
        12 => AuthOp::Authenticate { user: input.text()?, token: input.text()? },
        _ => return Err(CodecError::new("unknown auth operation")),
    })
}

pub(crate) fn put_permission(out: &mut Vec<u8>, permission: &Permission) {
    let kind = match permission.kind {
        PermissionKind::Read => 0,
        PermissionKind::Write => 1,
        PermissionKind::ReadWrite => 2,
    };
    put_strings(out, kind, &[&permission.key, &permission.range_end]);
}

pub(crate) fn read_permission(input: &mut Input) -> Result<Permission, CodecError> {
    let kind = match input.u8()? {
        0 => PermissionKind::Read,
        1 => PermissionKind::Write,
        2 => PermissionKind::ReadWrite,
        _ => return Err(CodecError::new("unknown permission")),
    };
    Ok(Permission { kind, key: input.string()?, range_end: input.string()? })
}
