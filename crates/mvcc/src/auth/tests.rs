//! Scripts: one line an entry, `name: command arguments` asked for by a user, `command arguments` by the process.

use std::fmt::Write as _;

use bytes::Bytes;
use expect_test::{Expect, expect};
use store_api::{Compare, KeyRange, LeaseId, Op, Txn};

use super::{AuthOp, Caller, Permission, PermissionKind, status};
use crate::{Entry, MemState, apply};

fn text(word: &str) -> Bytes {
    // `-` stands for nothing, `0` for one zero byte.
    match word {
        "-" => Bytes::new(),
        "0" => Bytes::from_static(&[0]),
        word => Bytes::copy_from_slice(word.as_bytes()),
    }
}

fn range(key: &str, end: &str) -> KeyRange {
    Permission { kind: PermissionKind::Read, key: text(key), range_end: text(end) }.range()
}

fn parse(line: &str) -> Entry {
    let words: Vec<&str> = line.split_whitespace().collect();
    let name = |at: usize| words[at].to_owned();
    let txn = |op| Entry::Txn(Txn { success: vec![op], ..Txn::default() });
    let kind = |word: &str| match word {
        "read" => PermissionKind::Read,
        "write" => PermissionKind::Write,
        _ => PermissionKind::ReadWrite,
    };
    let put = |lease: i64, prev_kv| Op::Put {
        key: text(words[1]),
        value: text("v"),
        lease: LeaseId(lease),
        prev_kv,
    };
    match words[0] {
        "enable" => Entry::Auth(AuthOp::Enable),
        "disable" => Entry::Auth(AuthOp::Disable),
        "user-add" => {
            Entry::Auth(AuthOp::UserAdd { name: name(1), password_hash: text("h"), no_password: false })
        }
        "user-delete" => Entry::Auth(AuthOp::UserDelete { name: name(1) }),
        "passwd" => Entry::Auth(AuthOp::UserChangePassword { name: name(1), password_hash: text("h2") }),
        "grant-role" => Entry::Auth(AuthOp::UserGrantRole { user: name(1), role: name(2) }),
        "revoke-role" => Entry::Auth(AuthOp::UserRevokeRole { user: name(1), role: name(2) }),
        "role-add" => Entry::Auth(AuthOp::RoleAdd { name: name(1) }),
        "role-delete" => Entry::Auth(AuthOp::RoleDelete { name: name(1) }),
        "grant" => Entry::Auth(AuthOp::RoleGrantPermission {
            role: name(1),
            permission: Permission { kind: kind(words[2]), key: text(words[3]), range_end: text(words[4]) },
        }),
        "revoke" => Entry::Auth(AuthOp::RoleRevokePermission {
            role: name(1),
            key: text(words[2]),
            range_end: text(words[3]),
        }),
        "login" => Entry::Auth(AuthOp::Authenticate { user: name(1), token: "t".to_owned() }),
        "put" => txn(put(0, false)),
        "put-prev" => txn(put(0, true)),
        "attach" => txn(put(words[2].parse().unwrap(), false)),
        "range" => txn(Op::Range(store_api::RangeRequest::of(range(words[1], words[2])))),
        "delete" => txn(Op::DeleteRange { range: range(words[1], words[2]), prev_kv: false }),
        "nested" => {
            let inner = Txn { failure: vec![Op::put(text(words[1]), "v")], ..Txn::default() };
            txn(Op::Txn(inner))
        }
        "if-absent" => Entry::Txn(Txn { compare: vec![Compare::absent(text(words[1]))], ..Txn::default() }),
        "lease" => Entry::LeaseGrant { id: LeaseId(words[1].parse().unwrap()), ttl_s: 60 },
        "end" => Entry::LeaseRevoke { id: LeaseId(words[1].parse().unwrap()) },
        "compact" => Entry::Compact { revision: store_api::Revision(1) },
        other => panic!("no command {other}"),
    }
}

/// Callers are as fresh as the state, unless the name ends in a star: then they proved it at revision 1.
fn check(script: &str, expect: Expect) {
    let mut state = MemState::default();
    let mut out = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let now = status(&state).unwrap().revision;
        let entry = match line.split_once(": ") {
            None => parse(line),
            Some((user, line)) => {
                let auth_revision = if user == "nobody" {
                    0
                } else if user.ends_with('*') {
                    1
                } else {
                    now
                };
                let user = if user == "nobody" { "" } else { user.trim_end_matches('*') };
                let caller = Caller { user: user.to_owned(), auth_revision };
                Entry::As { caller, entry: Box::new(parse(line)) }
            }
        };
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        let entry = Entry::decode(bytes.into()).unwrap();
        let before = state.clone();
        let applied = apply(&mut state, &[entry]).unwrap();
        let auth = status(&state).unwrap().revision;
        match &applied.replies[0] {
            Ok(_) => writeln!(out, "{line} => ok, auth revision {auth}").unwrap(),
            Err(error) => {
                assert_eq!(state, before, "{line} was refused and changed the state");
                writeln!(out, "{line} => {error}").unwrap();
            }
        }
    }
    expect.assert_eq(&out);
}

#[test]
fn authentication_needs_a_root() {
    check(
        "enable
         login alice
         user-add root
         enable
         grant-role root root
         enable
         enable
         role-delete root
         user-delete root
         revoke-role root root
         login root
         login alice
         disable
         disable
         revoke-role root root
         user-delete root",
        expect![[r#"
            enable => etcdserver: root user does not exist
            login alice => etcdserver: authentication is not enabled
            user-add root => ok, auth revision 2
            enable => etcdserver: root user does not have root role
            grant-role root root => ok, auth revision 3
            enable => ok, auth revision 3
            enable => ok, auth revision 3
            role-delete root => etcdserver: invalid auth management
            user-delete root => etcdserver: invalid auth management
            revoke-role root root => etcdserver: invalid auth management
            login root => ok, auth revision 3
            login alice => etcdserver: authentication failed, invalid user ID or password
            disable => ok, auth revision 4
            disable => ok, auth revision 4
            revoke-role root root => ok, auth revision 5
            user-delete root => ok, auth revision 6
        "#]],
    );
}

#[test]
fn users_and_roles_are_managed() {
    check(
        "user-add alice
         user-add alice
         passwd bob
         passwd alice
         grant-role alice reader
         role-add reader
         role-add reader
         grant-role alice reader
         grant-role alice reader
         grant reader read a b
         grant reader both a b
         grant reader read b a
         grant reader read - b
         grant reader read z 0
         grant writer read a -
         revoke reader a -
         revoke reader a b
         revoke-role bob reader
         revoke-role alice other
         role-delete reader
         revoke-role alice reader
         role-delete reader
         user-delete bob
         user-delete alice",
        expect![[r#"
            user-add alice => ok, auth revision 2
            user-add alice => etcdserver: user name already exists
            passwd bob => etcdserver: user name not found
            passwd alice => ok, auth revision 3
            grant-role alice reader => etcdserver: role name not found
            role-add reader => ok, auth revision 4
            role-add reader => etcdserver: role name already exists
            grant-role alice reader => ok, auth revision 5
            grant-role alice reader => ok, auth revision 5
            grant reader read a b => ok, auth revision 6
            grant reader both a b => ok, auth revision 7
            grant reader read b a => etcdserver: invalid auth management
            grant reader read - b => etcdserver: invalid auth management
            grant reader read z 0 => ok, auth revision 8
            grant writer read a - => etcdserver: role name not found
            revoke reader a - => etcdserver: permission is not granted to the role
            revoke reader a b => ok, auth revision 9
            revoke-role bob reader => etcdserver: user name not found
            revoke-role alice other => etcdserver: role is not granted to the user
            role-delete reader => ok, auth revision 10
            revoke-role alice reader => etcdserver: role is not granted to the user
            role-delete reader => etcdserver: role name not found
            user-delete bob => etcdserver: user name not found
            user-delete alice => ok, auth revision 11
        "#]],
    );
}

const SETUP: &str = "user-add root
    grant-role root root
    user-add alice
    role-add r
    grant r both a b
    grant r write b c
    grant r read m -
    grant-role alice r
    enable
    ";

#[test]
fn a_caller_may_what_its_roles_say() {
    let script = "nobody: put a1
         alice: put a1
         alice*: put a1
         alice: put b1
         alice: put c
         alice: put-prev a1
         alice: put-prev b1
         alice: range a b
         alice: range a c
         alice: range m -
         alice: range m 0
         alice: delete a c
         alice: delete a d
         alice: nested a1
         alice: nested x
         alice: if-absent m
         alice: if-absent b
         alice: user-add eve
         alice: compact
         mallory: put a1
         mallory: user-add eve
         nobody: user-add eve
         root: put x
         root: range a 0
         put anything";
    check(
        &format!("{SETUP}{script}"),
        expect![[r#"
            user-add root => ok, auth revision 2
            grant-role root root => ok, auth revision 3
            user-add alice => ok, auth revision 4
            role-add r => ok, auth revision 5
            grant r both a b => ok, auth revision 6
            grant r write b c => ok, auth revision 7
            grant r read m - => ok, auth revision 8
            grant-role alice r => ok, auth revision 9
            enable => ok, auth revision 9
            nobody: put a1 => etcdserver: user name is empty
            alice: put a1 => ok, auth revision 9
            alice*: put a1 => etcdserver: revision of auth store is old
            alice: put b1 => ok, auth revision 9
            alice: put c => etcdserver: permission denied
            alice: put-prev a1 => ok, auth revision 9
            alice: put-prev b1 => etcdserver: permission denied
            alice: range a b => ok, auth revision 9
            alice: range a c => etcdserver: permission denied
            alice: range m - => ok, auth revision 9
            alice: range m 0 => etcdserver: permission denied
            alice: delete a c => ok, auth revision 9
            alice: delete a d => etcdserver: permission denied
            alice: nested a1 => ok, auth revision 9
            alice: nested x => etcdserver: permission denied
            alice: if-absent m => ok, auth revision 9
            alice: if-absent b => etcdserver: permission denied
            alice: user-add eve => etcdserver: permission denied
            alice: compact => etcdserver: permission denied
            mallory: put a1 => etcdserver: permission denied
            mallory: user-add eve => etcdserver: user name not found
            nobody: user-add eve => etcdserver: user name is empty
            root: put x => ok, auth revision 9
            root: range a 0 => ok, auth revision 9
            put anything => ok, auth revision 9
        "#]],
    );
}

#[test]
fn a_lease_with_a_foreign_key_is_out_of_reach() {
    let script = "nobody: lease 1
         alice: lease 1
         alice: attach a1 1
         alice: end 1
         alice: lease 2
         root: attach x 2
         alice: attach a1 2
         alice: end 2
         nobody: end 2
         root: end 2";
    let mut state = String::new();
    write!(state, "{SETUP}{script}").unwrap();
    check(
        &state,
        expect![[r#"
            user-add root => ok, auth revision 2
            grant-role root root => ok, auth revision 3
            user-add alice => ok, auth revision 4
            role-add r => ok, auth revision 5
            grant r both a b => ok, auth revision 6
            grant r write b c => ok, auth revision 7
            grant r read m - => ok, auth revision 8
            grant-role alice r => ok, auth revision 9
            enable => ok, auth revision 9
            nobody: lease 1 => etcdserver: user name is empty
            alice: lease 1 => ok, auth revision 9
            alice: attach a1 1 => ok, auth revision 9
            alice: end 1 => ok, auth revision 9
            alice: lease 2 => ok, auth revision 9
            root: attach x 2 => ok, auth revision 9
            alice: attach a1 2 => etcdserver: permission denied
            alice: end 2 => etcdserver: permission denied
            nobody: end 2 => etcdserver: user name is empty
            root: end 2 => ok, auth revision 9
        "#]],
    );
}
