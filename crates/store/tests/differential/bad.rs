//! Fixed steps: what a stranger sends, the limits from both sides, the cluster's and maintenance's refusals, users.

use etcd_wire::authpb;
use etcd_wire::etcdserverpb::{self as pb, request_op};
use prost::Message;
use prost::bytes::Bytes;

use crate::wire::Call;

const KV: &str = "/etcdserverpb.KV/";

fn put_op(key: impl Into<Bytes>) -> pb::RequestOp {
    let put = pb::PutRequest { key: key.into(), value: "v".into(), ..Default::default() };
    pb::RequestOp { request: Some(request_op::Request::RequestPut(put)) }
}

fn delete_op(key: &'static str, end: &'static str) -> pb::RequestOp {
    let delete = pb::DeleteRangeRequest { key: key.into(), range_end: end.into(), prev_kv: false };
    pb::RequestOp { request: Some(request_op::Request::RequestDeleteRange(delete)) }
}

fn nested(success: Vec<pb::RequestOp>, failure: Vec<pb::RequestOp>) -> pb::RequestOp {
    let txn = pb::TxnRequest { compare: vec![], success, failure };
    pb::RequestOp { request: Some(request_op::Request::RequestTxn(txn)) }
}

fn txn(success: Vec<pb::RequestOp>, failure: Vec<pb::RequestOp>) -> Call {
    Call::new("/etcdserverpb.KV/Txn", &pb::TxnRequest { compare: vec![], success, failure })
}

fn put_of(bytes: usize) -> Call {
    let put = pb::PutRequest { key: "large".into(), value: vec![b'x'; bytes].into(), ..Default::default() };
    Call::new("/etcdserverpb.KV/Put", &put)
}

fn many(count: usize) -> Vec<pb::RequestOp> {
    (0..count).map(|n| put_op(format!("many/{n:03}"))).collect()
}

/// Limits of transactions and requests; duplicate keys in every arrangement.
pub fn limits() -> Vec<Call> {
    let mut deep = put_op("deep");
    for _ in 0..20 {
        deep = nested(vec![deep], vec![]);
    }
    vec![
        txn(many(128), vec![]),
        txn(many(129), vec![]),
        txn(vec![], many(129)),
        txn(many(100), many(100)),
        txn(vec![nested(many(129), vec![])], vec![]),
        txn(vec![put_op("d"), put_op("d")], vec![]),
        txn(vec![], vec![put_op("d"), put_op("d")]),
        txn(vec![put_op("d")], vec![put_op("d")]),
        txn(vec![put_op("d"), delete_op("d", "")], vec![]),
        txn(vec![delete_op("a", "z"), put_op("d")], vec![]),
        txn(vec![delete_op("a", "z"), delete_op("b", "c")], vec![]),
        txn(vec![put_op("d"), nested(vec![put_op("d")], vec![])], vec![]),
        txn(vec![nested(vec![put_op("d")], vec![put_op("d")])], vec![]),
        txn(vec![nested(vec![put_op("d")], vec![]), nested(vec![put_op("d")], vec![])], vec![]),
        txn(vec![nested(vec![put_op("d")], vec![]), nested(vec![], vec![put_op("d")])], vec![]),
        txn(vec![deep], vec![]),
        txn(vec![pb::RequestOp { request: None }], vec![]),
        txn(vec![], vec![]),
        put_of(1_500_000),
        put_of(1_572_864),
        put_of(1_573_864),
        put_of(2_000_000),
        put_of(3_000_000),
    ]
}

/// Bytes that are no message, and methods that are not there.
pub fn garbage() -> Vec<Call> {
    let raw = |path: &str, request: &'static [u8]| Call { path: path.to_owned(), request: request.into() };
    vec![
        raw("/etcdserverpb.KV/Nothing", b""),
        raw("/etcdserverpb.Nothing/Range", b""),
        raw("/etcdserverpb.KV/Range", b""),
        raw("/etcdserverpb.KV/Put", b""),
        raw("/etcdserverpb.KV/DeleteRange", b""),
        raw("/etcdserverpb.KV/Txn", b""),
        raw("/etcdserverpb.KV/Compact", b""),
        // An unknown field is skipped.
        raw("/etcdserverpb.KV/Range", b"\x0a\x01a\xf8\x07\x01"),
    ]
}

/// Whether a garbage request is refused at all: the words of the decoder are another library's.
pub fn undecodable() -> Vec<Call> {
    let raw = |method: &str, request: &'static [u8]| Call {
        path: format!("{KV}{method}"),
        request: request.into(),
    };
    vec![raw("Range", b"\x0a\xff"), raw("Put", b"\xff\xff\xff\xff\xff"), raw("Txn", b"\x0a\x7fabc")]
}

/// Leases at their edges. Each short one is revoked at once.
pub fn leases() -> Vec<Call> {
    let grant = |id, ttl| Call::new("/etcdserverpb.Lease/LeaseGrant", &pb::LeaseGrantRequest { id, ttl });
    let revoke = |id| Call::new("/etcdserverpb.Lease/LeaseRevoke", &pb::LeaseRevokeRequest { id });
    let live =
        |id| Call::new("/etcdserverpb.Lease/LeaseTimeToLive", &pb::LeaseTimeToLiveRequest { id, keys: true });
    let put = |lease| {
        let put = pb::PutRequest { key: "leased".into(), lease, ..Default::default() };
        Call::new("/etcdserverpb.KV/Put", &put)
    };
    vec![
        grant(70, 0),
        revoke(70),
        grant(70, -5),
        revoke(70),
        grant(70, 1),
        revoke(70),
        grant(-70, 600),
        live(-70),
        revoke(-70),
        grant(71, 9_000_000_000),
        grant(71, 600),
        put(71),
        put(-3),
        live(71),
        revoke(71),
        revoke(71),
        live(71),
        grant(72, 9_000_000_001),
        revoke(0),
        live(0),
    ]
}

/// Streams of keep-alives, one message each.
pub fn keep_alives() -> Vec<Call> {
    let alive = |id| Call::new("/etcdserverpb.Lease/LeaseKeepAlive", &pb::LeaseKeepAliveRequest { id });
    vec![alive(12345), alive(0)]
}

/// The cluster's and maintenance's refusals on a single member. (An alarm's action beyond the known ones ends etcd 3.6.)
pub fn cluster() -> Vec<Call> {
    let cluster = |method: &str| format!("/etcdserverpb.Cluster/{method}");
    let maintenance = |method: &str| format!("/etcdserverpb.Maintenance/{method}");
    let add = |url: &str, is_learner| pb::MemberAddRequest { peer_ur_ls: vec![url.into()], is_learner };
    let alarm = |action, alarm| pb::AlarmRequest { action, member_id: 0, alarm };
    let downgrade = |action, version: &str| pb::DowngradeRequest { action, version: version.into() };
    let update = pb::MemberUpdateRequest { id: 12345, peer_ur_ls: vec!["http://127.0.0.1:1".into()] };
    vec![
        Call::new(&cluster("MemberList"), &pb::MemberListRequest { linearizable: false }),
        Call::new(&cluster("MemberRemove"), &pb::MemberRemoveRequest { id: 12345 }),
        Call::new(&cluster("MemberPromote"), &pb::MemberPromoteRequest { id: 12345 }),
        Call::new(&cluster("MemberUpdate"), &update),
        Call::new(&cluster("MemberAdd"), &add("not a url", false)),
        Call::new(&cluster("MemberAdd"), &add("http://127.0.0.1", false)),
        Call::new(&cluster("MemberAdd"), &pb::MemberAddRequest::default()),
        Call::new(&maintenance("MoveLeader"), &pb::MoveLeaderRequest { target_id: 12345 }),
        Call::new(&maintenance("Alarm"), &alarm(0, 0)),
        Call::new(&maintenance("Alarm"), &alarm(1, 1)),
        put_of(10),
        txn(vec![put_op("while/alarmed")], vec![]),
        Call::new("/etcdserverpb.Lease/LeaseGrant", &pb::LeaseGrantRequest { id: 77, ttl: 600 }),
        Call::new(
            "/etcdserverpb.KV/DeleteRange",
            &pb::DeleteRangeRequest { key: "large".into(), ..Default::default() },
        ),
        Call::new(&maintenance("Status"), &pb::StatusRequest {}),
        Call::new(&maintenance("Alarm"), &alarm(0, 0)),
        Call::new(&maintenance("Alarm"), &alarm(2, 1)),
        Call::new(&maintenance("Alarm"), &alarm(2, 1)),
        put_of(10),
        Call::new(&maintenance("Defragment"), &pb::DefragmentRequest {}),
        Call::new(&maintenance("Downgrade"), &downgrade(0, "3.5.0")),
        Call::new(&maintenance("Downgrade"), &downgrade(0, "3.4.0")),
        Call::new(&maintenance("Downgrade"), &downgrade(0, "nonsense")),
        Call::new(&maintenance("Downgrade"), &downgrade(2, "")),
        Call::new(&maintenance("HashKV"), &pb::HashKvRequest { revision: 1_000_000 }),
    ]
}

fn auth<M: Message>(method: &str, message: &M) -> Call {
    Call::new(&format!("/etcdserverpb.Auth/{method}"), message)
}

fn user_add(name: &str, password: &str, no_password: bool) -> Call {
    let options = no_password.then_some(authpb::UserAddOptions { no_password });
    let request = pb::AuthUserAddRequest {
        name: name.into(),
        password: password.into(),
        options,
        hashed_password: String::new(),
    };
    auth("UserAdd", &request)
}

fn grant(role: &str, kind: i32, key: &'static str, end: &'static str) -> Call {
    let perm = authpb::Permission { perm_type: kind, key: key.into(), range_end: end.into() };
    auth("RoleGrantPermission", &pb::AuthRoleGrantPermissionRequest { name: role.into(), perm: Some(perm) })
}

fn grant_role(user: &str, role: &str) -> Call {
    auth("UserGrantRole", &pb::AuthUserGrantRoleRequest { user: user.into(), role: role.into() })
}

pub fn authenticate(name: &str, password: &str) -> Call {
    auth("Authenticate", &pb::AuthenticateRequest { name: name.into(), password: password.into() })
}

/// Users and roles made while authentication is off, with every refusal, up to its start.
pub fn users() -> Vec<Call> {
    let role_add = |name: &str| auth("RoleAdd", &pb::AuthRoleAddRequest { name: name.into() });
    let enable = || auth("AuthEnable", &pb::AuthEnableRequest {});
    let role_get = |role: &str| auth("RoleGet", &pb::AuthRoleGetRequest { role: role.into() });
    let user_get = |name: &str| auth("UserGet", &pb::AuthUserGetRequest { name: name.into() });
    let revoke = |key: &'static str, end: &'static str| {
        let request = pb::AuthRoleRevokePermissionRequest {
            role: "reader".into(),
            key: key.into(),
            range_end: end.into(),
        };
        auth("RoleRevokePermission", &request)
    };
    vec![
        auth("AuthStatus", &pb::AuthStatusRequest {}),
        authenticate("root", "x"),
        enable(),
        user_add("", "x", false),
        user_add("root", "secret", false),
        user_add("root", "again", false),
        enable(),
        role_add(""),
        role_add("root"),
        role_add("root"),
        role_add("reader"),
        role_add("writer"),
        grant_role("root", "root"),
        grant_role("nobody", "root"),
        grant_role("root", "nothing"),
        user_add("ann", "pa", false),
        user_add("bob", "pb", false),
        user_add("cert", "", true),
        grant("reader", 0, "a/", "a0"),
        grant("reader", 0, "b/00", ""),
        grant("reader", 0, "z", "b"),
        grant("nothing", 0, "a", ""),
        grant("writer", 1, "a/", "a0"),
        grant("writer", 2, "c/", "\0"),
        auth(
            "RoleGrantPermission",
            &pb::AuthRoleGrantPermissionRequest { name: "writer".into(), perm: None },
        ),
        grant_role("ann", "reader"),
        grant_role("bob", "writer"),
        grant_role("bob", "writer"),
        role_get("reader"),
        role_get("writer"),
        role_get("root"),
        role_get("nothing"),
        user_get("bob"),
        user_get("nobody"),
        revoke("a/", "a0"),
        revoke("a/", "a0"),
        grant("reader", 0, "a/", "a0"),
        auth("UserList", &pb::AuthUserListRequest {}),
        auth("RoleList", &pb::AuthRoleListRequest {}),
        auth("UserDelete", &pb::AuthUserDeleteRequest { name: "nobody".into() }),
        auth("RoleDelete", &pb::AuthRoleDeleteRequest { role: "nothing".into() }),
        auth("UserRevokeRole", &pb::AuthUserRevokeRoleRequest { name: "ann".into(), role: "writer".into() }),
        auth(
            "UserChangePassword",
            &pb::AuthUserChangePasswordRequest {
                name: "nobody".into(),
                password: "x".into(),
                hashed_password: String::new(),
            },
        ),
        auth("AuthDisable", &pb::AuthDisableRequest {}),
        enable(),
        enable(),
        auth("AuthStatus", &pb::AuthStatusRequest {}),
        authenticate("root", "wrong"),
        authenticate("nobody", "x"),
        authenticate("cert", ""),
    ]
}

/// What each user tries while authentication is on.
pub fn tries() -> Vec<Call> {
    let range = |key: &'static str, end: &'static str| {
        let range = pb::RangeRequest { key: key.into(), range_end: end.into(), ..Default::default() };
        Call::new("/etcdserverpb.KV/Range", &range)
    };
    let put = |key: &'static str, prev_kv| {
        let put = pb::PutRequest { key: key.into(), value: "by".into(), prev_kv, ..Default::default() };
        Call::new("/etcdserverpb.KV/Put", &put)
    };
    let delete = |key: &'static str, end: &'static str, prev_kv| {
        let delete = pb::DeleteRangeRequest { key: key.into(), range_end: end.into(), prev_kv };
        Call::new("/etcdserverpb.KV/DeleteRange", &delete)
    };
    let compare = pb::Compare { key: "b/00".into(), target: 0, ..Default::default() };
    let compared = pb::TxnRequest { compare: vec![compare], success: vec![put_op("a/00")], failure: vec![] };
    vec![
        range("a/00", ""),
        range("a/", "a0"),
        range("a/", "b"),
        range("b/00", ""),
        range("b/00", "b/01"),
        range("c/zz", ""),
        range("\0", "\0"),
        put("a/00", false),
        put("a/00", true),
        put("b/00", false),
        put("c/00", true),
        delete("a/00", "", false),
        delete("a/00", "", true),
        delete("a/", "b", false),
        txn(vec![put_op("a/00")], vec![put_op("b/00")]),
        txn(vec![put_op("a/00"), nested(vec![put_op("b/01")], vec![])], vec![]),
        Call::new("/etcdserverpb.KV/Txn", &compared),
        Call::new("/etcdserverpb.KV/Compact", &pb::CompactionRequest { revision: 1, physical: false }),
        Call::new("/etcdserverpb.Lease/LeaseGrant", &pb::LeaseGrantRequest { id: 90, ttl: 600 }),
        Call::new("/etcdserverpb.Lease/LeaseLeases", &pb::LeaseLeasesRequest {}),
        Call::new("/etcdserverpb.Lease/LeaseTimeToLive", &pb::LeaseTimeToLiveRequest { id: 90, keys: true }),
        Call::new("/etcdserverpb.Lease/LeaseRevoke", &pb::LeaseRevokeRequest { id: 90 }),
        Call::new("/etcdserverpb.Maintenance/Status", &pb::StatusRequest {}),
        Call::new("/etcdserverpb.Maintenance/Alarm", &pb::AlarmRequest::default()),
        Call::new("/etcdserverpb.Maintenance/Defragment", &pb::DefragmentRequest {}),
        Call::new("/etcdserverpb.Cluster/MemberList", &pb::MemberListRequest { linearizable: true }),
        auth("AuthStatus", &pb::AuthStatusRequest {}),
        auth("UserGet", &pb::AuthUserGetRequest { name: "ann".into() }),
        auth("UserList", &pb::AuthUserListRequest {}),
        auth("RoleGet", &pb::AuthRoleGetRequest { role: "reader".into() }),
        auth("RoleList", &pb::AuthRoleListRequest {}),
        user_add("eve", "x", false),
        auth("UserDelete", &pb::AuthUserDeleteRequest { name: "root".into() }),
        auth("RoleDelete", &pb::AuthRoleDeleteRequest { role: "root".into() }),
        auth("UserRevokeRole", &pb::AuthUserRevokeRoleRequest { name: "root".into(), role: "root".into() }),
    ]
}

/// The end of authentication; root's to do.
pub fn disable() -> Vec<Call> {
    vec![
        auth("AuthDisable", &pb::AuthDisableRequest {}),
        auth("AuthStatus", &pb::AuthStatusRequest {}),
        auth("UserDelete", &pb::AuthUserDeleteRequest { name: "ann".into() }),
        auth("RoleDelete", &pb::AuthRoleDeleteRequest { role: "writer".into() }),
        auth("UserGet", &pb::AuthUserGetRequest { name: "bob".into() }),
    ]
}
