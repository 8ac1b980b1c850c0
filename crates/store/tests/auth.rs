//! Users, roles and tokens through gRPC clients; answers and refusals as etcd 3.6 gives them.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod door;

use door::{Served, get, prefix, put, refusal};
use etcd_wire::authpb::{self, permission};
use etcd_wire::etcdserverpb as pb;
use etcd_wire::etcdserverpb::auth_client::AuthClient;
use tonic::Request;
use tonic::transport::Channel;

type Auth = AuthClient<Channel>;

/// bcrypt's least: a test hashes often.
const COST: u32 = 4;

async fn served(token: &str) -> Served {
    let token = token.to_owned();
    Served::with_store(move |options| {
        options.auth.bcrypt_cost = COST;
        options.auth.token = token;
    })
    .await
}

fn user(name: &str, password: &str) -> pb::AuthUserAddRequest {
    pb::AuthUserAddRequest { name: name.into(), password: password.into(), ..Default::default() }
}

fn grant(user: &str, role: &str) -> pb::AuthUserGrantRoleRequest {
    pb::AuthUserGrantRoleRequest { user: user.into(), role: role.into() }
}

fn permission(
    role: &str,
    kind: permission::Type,
    key: &str,
    end: &str,
) -> pb::AuthRoleGrantPermissionRequest {
    let perm = authpb::Permission {
        perm_type: kind.into(),
        key: key.as_bytes().to_vec().into(),
        range_end: end.as_bytes().to_vec().into(),
    };
    pb::AuthRoleGrantPermissionRequest { name: role.into(), perm: Some(perm) }
}

/// A root, and alice, who reads and writes `a` to `b`; authentication on.
async fn set_up(auth: &mut Auth) {
    auth.user_add(user("root", "secret")).await.unwrap();
    auth.user_grant_role(grant("root", "root")).await.unwrap();
    auth.user_add(user("alice", "wonder")).await.unwrap();
    auth.role_add(pb::AuthRoleAddRequest { name: "r".into() }).await.unwrap();
    auth.role_grant_permission(permission("r", permission::Type::Readwrite, "a", "b")).await.unwrap();
    auth.user_grant_role(grant("alice", "r")).await.unwrap();
    auth.auth_enable(pb::AuthEnableRequest {}).await.unwrap();
}

async fn login(auth: &mut Auth, name: &str, password: &str) -> Result<String, tonic::Status> {
    let request = pb::AuthenticateRequest { name: name.into(), password: password.into() };
    Ok(auth.authenticate(request).await?.into_inner().token)
}

fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("token", token.parse().unwrap());
    request
}

#[tokio::test]
async fn callers_may_what_their_roles_say() {
    let served = served("simple").await;
    let mut auth = AuthClient::new(served.channel().await);
    let mut kv = served.kv().await;
    assert_eq!(
        refusal(auth.auth_enable(pb::AuthEnableRequest {}).await),
        "FailedPrecondition: etcdserver: root user does not exist"
    );
    assert_eq!(
        refusal(login(&mut auth, "root", "secret").await),
        "FailedPrecondition: etcdserver: authentication is not enabled"
    );
    set_up(&mut auth).await;
    let nameless = "InvalidArgument: etcdserver: user name is empty";
    assert_eq!(refusal(kv.put(put("a1", "v")).await), nameless);
    assert_eq!(refusal(kv.range(get("a1")).await), nameless);
    let wrong = "InvalidArgument: etcdserver: authentication failed, invalid user ID or password";
    assert_eq!(refusal(login(&mut auth, "root", "guess").await), wrong);
    assert_eq!(refusal(login(&mut auth, "nobody", "secret").await), wrong);
    let alice = login(&mut auth, "alice", "wonder").await.unwrap();
    let root = login(&mut auth, "root", "secret").await.unwrap();
    kv.put(with(&alice, put("a1", "v"))).await.unwrap();
    assert_eq!(kv.range(with(&alice, prefix("a"))).await.unwrap().get_ref().count, 1);
    let denied = "PermissionDenied: etcdserver: permission denied";
    assert_eq!(refusal(kv.put(with(&alice, put("x", "v"))).await), denied);
    assert_eq!(refusal(kv.range(with(&alice, prefix("b"))).await), denied);
    let compact = pb::CompactionRequest { revision: 1, physical: false };
    assert_eq!(refusal(kv.compact(with(&alice, compact)).await), denied);
    kv.put(with(&root, put("x", "v"))).await.unwrap();
    for token in ["nonsense", "nonsense.0", ""] {
        let refused = refusal(kv.range(with(token, get("a1"))).await);
        assert_eq!(refused, "Unauthenticated: etcdserver: invalid auth token", "{token:?}");
    }
    let list = auth.user_list(with(&root, pb::AuthUserListRequest {})).await.unwrap().into_inner();
    assert_eq!(list.users, ["alice", "root"]);
    assert_eq!(refusal(auth.user_list(with(&alice, pb::AuthUserListRequest {})).await), denied);
    let own = pb::AuthUserGetRequest { name: "alice".into() };
    assert_eq!(auth.user_get(with(&alice, own)).await.unwrap().get_ref().roles, ["r"]);
    let role = pb::AuthRoleGetRequest { role: "r".into() };
    assert_eq!(auth.role_get(with(&alice, role)).await.unwrap().get_ref().perm.len(), 1);
    let status = auth.auth_status(with(&root, pb::AuthStatusRequest {})).await.unwrap().into_inner();
    assert!(status.enabled && status.auth_revision == 7, "{status:?}");
    served.stop().await;
}

#[tokio::test]
async fn a_changed_password_voids_tokens_and_a_certificate_is_no_password() {
    let served = served("simple").await;
    let mut auth = AuthClient::new(served.channel().await);
    let mut kv = served.kv().await;
    set_up(&mut auth).await;
    let root = login(&mut auth, "root", "secret").await.unwrap();
    let alice = login(&mut auth, "alice", "wonder").await.unwrap();
    let change = pb::AuthUserChangePasswordRequest {
        name: "alice".into(),
        password: "glass".into(),
        ..Default::default()
    };
    auth.user_change_password(with(&root, change)).await.unwrap();
    let invalid = "Unauthenticated: etcdserver: invalid auth token";
    assert_eq!(refusal(kv.put(with(&alice, put("a1", "v"))).await), invalid);
    assert!(login(&mut auth, "alice", "wonder").await.is_err());
    let alice = login(&mut auth, "alice", "glass").await.unwrap();
    kv.put(with(&alice, put("a1", "v"))).await.unwrap();
    let long = user("bob", &"x".repeat(73));
    assert_eq!(
        refusal(auth.user_add(with(&root, long)).await),
        "Unknown: bcrypt: password length exceeds 72 bytes"
    );
    let options = Some(authpb::UserAddOptions { no_password: true });
    auth.user_add(with(&root, pb::AuthUserAddRequest { options, ..user("cert", "") })).await.unwrap();
    assert_eq!(
        refusal(login(&mut auth, "cert", "").await),
        "Unknown: auth: authentication failed, password was given for no password user"
    );
    auth.auth_disable(with(&root, pb::AuthDisableRequest {})).await.unwrap();
    kv.put(put("x", "v")).await.unwrap();
    served.stop().await;
}

#[tokio::test]
async fn signed_tokens_are_as_good_as_the_revision_they_name() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    std::fs::write(&key, "a secret of some length").unwrap();
    let served = served(&format!("jwt,sign-method=HS256,priv-key={},ttl=1m", key.display())).await;
    let mut auth = AuthClient::new(served.channel().await);
    let mut kv = served.kv().await;
    set_up(&mut auth).await;
    let alice = login(&mut auth, "alice", "wonder").await.unwrap();
    assert_eq!(alice.split('.').count(), 3);
    kv.put(with(&alice, put("a1", "v"))).await.unwrap();
    let mut bearer = Request::new(get("a1"));
    bearer.metadata_mut().insert("authorization", format!("Bearer {alice}").parse().unwrap());
    assert_eq!(kv.range(bearer).await.unwrap().get_ref().count, 1);
    let root = login(&mut auth, "root", "secret").await.unwrap();
    auth.role_add(with(&root, pb::AuthRoleAddRequest { name: "s".into() })).await.unwrap();
    let old = "InvalidArgument: etcdserver: revision of auth store is old";
    assert_eq!(refusal(kv.put(with(&alice, put("a1", "v"))).await), old);
    assert_eq!(refusal(kv.range(with(&alice, get("a1"))).await), old);
    served.stop().await;
}
