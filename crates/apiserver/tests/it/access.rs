//! Tokens, roles, impersonation, reviews.

use identity::UserInfo;
use serde_json::json;

use crate::world::{Call, World, admin, read};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

async fn as_user(world: &World, user: &UserInfo, method: &str, path: &str, body: &str) -> (u16, String) {
    let call = Call { user: user.clone(), method, path, headers: &[], body };
    let (code, value) = read(world.send(call).await).await;
    (code, value["message"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_binding_opens_a_door_at_once() {
    let world = World::new().await;
    let bob = UserInfo::new("bob", &[]);
    let pods = "/api/v1/namespaces/default/pods";
    let (code, text) = as_user(&world, &bob, "GET", pods, "").await;
    assert_eq!(code, 403);
    assert_eq!(
        text,
        r#"pods is forbidden: User "bob" cannot list resource "pods" in API group "" in the namespace "default""#
    );
    let role = json!({ "metadata": { "name": "r" }, "rules": [{ "apiGroups": [""], "resources": ["pods"], "verbs": ["list"] }] });
    let (code, _) = world.ask("POST", &format!("{RBAC}/namespaces/default/roles"), &role.to_string()).await;
    assert_eq!(code, 201);
    let binding = json!({
        "metadata": { "name": "b" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r" },
        "subjects": [{ "kind": "User", "name": "bob", "apiGroup": "rbac.authorization.k8s.io" }],
    });
    let (code, _) =
        world.ask("POST", &format!("{RBAC}/namespaces/default/rolebindings"), &binding.to_string()).await;
    assert_eq!(code, 201);
    assert_eq!(as_user(&world, &bob, "GET", pods, "").await.0, 200);
    assert_eq!(as_user(&world, &bob, "GET", "/api/v1/namespaces/kube-system/pods", "").await.0, 403);
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_hold() {
    let world = World::new().await;
    let editor = UserInfo::new("ed", &[]);
    let binding = json!({
        "metadata": { "name": "ed" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin" },
        "subjects": [{ "kind": "User", "name": "ed", "apiGroup": "rbac.authorization.k8s.io" }],
    });
    world.ask("POST", &format!("{RBAC}/namespaces/default/rolebindings"), &binding.to_string()).await;
    let roles = format!("{RBAC}/namespaces/default/roles");
    let role = |name: &str, resource: &str| {
        json!({ "metadata": { "name": name }, "rules": [{ "apiGroups": [""], "resources": [resource], "verbs": ["get"] }] })
            .to_string()
    };
    assert_eq!(as_user(&world, &editor, "POST", &roles, &role("r", "pods")).await.0, 201);
    let (code, text) = as_user(&world, &editor, "POST", &roles, &role("s", "nodes")).await;
    assert!(
        code == 403 && text.contains("attempting to grant RBAC permissions not currently held"),
        "{code} {text}"
    );
}

#[tokio::test]
async fn impersonation_needs_the_right_to() {
    let world = World::new().await;
    let headers = [("impersonate-user", "carol"), ("impersonate-group", "system:masters")];
    let whoami = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let call = |user| Call { user, method: "POST", path: whoami, headers: &headers, body: "{}" };
    let (code, review) = read(world.send(call(admin())).await).await;
    assert_eq!((code, &review["status"]["userInfo"]["username"]), (201, &"carol".into()));
    let (code, status) = read(world.send(call(UserInfo::new("bob", &[]))).await).await;
    assert_eq!(code, 403);
    assert_eq!(
        status["message"],
        r#"users "carol" is forbidden: User "bob" cannot impersonate resource "users" in API group "" at the cluster scope"#
    );
}

#[tokio::test]
async fn tokens_are_bound_and_checked() {
    let world = World::new().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    world.ask("POST", accounts, r#"{"metadata":{"name":"builder"}}"#).await;
    let (code, made) =
        world.ask("POST", &format!("{accounts}/builder/token"), r#"{"spec":{"audiences":[]}}"#).await;
    assert_eq!(code, 201, "{made}");
    let token = made["status"]["token"].as_str().unwrap();
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let body = json!({ "spec": { "token": token } }).to_string();
    let (_, review) = world.ask("POST", reviews, &body).await;
    assert_eq!(review["status"]["user"]["username"], "system:serviceaccount:default:builder");
    let (code, short) =
        world.ask("POST", &format!("{accounts}/builder/token"), r#"{"spec":{"expirationSeconds":5}}"#).await;
    assert_eq!(code, 422, "{short}");
    world.ask("DELETE", &format!("{accounts}/builder"), "").await;
    let (_, review) = world.ask("POST", reviews, &body).await;
    assert_eq!(review["status"]["authenticated"], json!(null), "the account is gone");
}

#[tokio::test]
async fn a_node_writes_only_what_is_its_own() {
    let world = World::new().await;
    let node = UserInfo::node("n1");
    let nodes = "/api/v1/nodes";
    assert_eq!(as_user(&world, &node, "POST", nodes, r#"{"metadata":{"name":"n1"}}"#).await.0, 201);
    assert_eq!(as_user(&world, &node, "POST", nodes, r#"{"metadata":{"name":"n2"}}"#).await.0, 403);
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    assert_eq!(as_user(&world, &node, "POST", leases, r#"{"metadata":{"name":"n1"}}"#).await.0, 201);
    assert_eq!(as_user(&world, &node, "POST", leases, r#"{"metadata":{"name":"n2"}}"#).await.0, 403);
}

#[tokio::test]
async fn a_node_reads_what_its_pods_name() {
    let world = World::new().await;
    let space = "/api/v1/namespaces/default";
    world.ask("POST", &format!("{space}/serviceaccounts"), r#"{"metadata":{"name":"default"}}"#).await;
    for name in ["named", "other"] {
        let body = json!({ "metadata": { "name": name } }).to_string();
        assert_eq!(world.ask("POST", &format!("{space}/secrets"), &body).await.0, 201);
    }
    let pod = json!({
        "metadata": { "name": "p" },
        "spec": {
            "nodeName": "n1", "containers": [{ "name": "c", "image": "i" }],
            "volumes": [{ "name": "v", "secret": { "secretName": "named" } }],
        },
    });
    assert_eq!(world.ask("POST", &format!("{space}/pods"), &pod.to_string()).await.0, 201);
    let check = async |node: &str, path: &str, expect: u16| {
        let (code, text) =
            as_user(&world, &UserInfo::node(node), "GET", &format!("{space}/{path}"), "").await;
        assert_eq!(code, expect, "{node} {path}: {text}");
    };
    check("n1", "secrets/named", 200).await;
    check("n1", "secrets?fieldSelector=metadata.name%3Dnamed", 200).await;
    check("n1", "secrets/other", 403).await;
    check("n1", "secrets", 403).await;
    check("n2", "secrets/named", 403).await;
    // The volume with the pod's token names it.
    check("n1", "configmaps/kube-root-ca.crt", 404).await;
    check("n2", "configmaps/kube-root-ca.crt", 403).await;
}
