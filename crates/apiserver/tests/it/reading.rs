//! Lists, watches, negotiation, discovery.

use expect_test::expect;
use serde_json::Value;

use crate::world::{Call, World, admin, next_event, read};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn make(world: &World, name: &str, label: &str) {
    let body = format!(r#"{{"metadata":{{"name":"{name}","labels":{{"l":"{label}"}}}}}}"#);
    assert_eq!(world.ask("POST", CONFIG_MAPS, &body).await.0, 201);
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn lists_go_on_where_they_stopped() {
    let world = World::new().await;
    for name in ["a", "b", "c", "d", "e"] {
        make(&world, name, if name < "c" { "x" } else { "y" }).await;
    }
    let (_, first) = world.ask("GET", &format!("{CONFIG_MAPS}?limit=2"), "").await;
    assert_eq!((names(&first), &first["metadata"]["remainingItemCount"]), (vec!["a", "b"], &Value::from(3)));
    make(&world, "bb", "x").await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let (_, second) = world.ask("GET", &format!("{CONFIG_MAPS}?limit=2&continue={token}"), "").await;
    assert_eq!(names(&second), ["c", "d"], "a list is of one moment");
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let token = second["metadata"]["continue"].as_str().unwrap();
    let (_, third) = world.ask("GET", &format!("{CONFIG_MAPS}?limit=2&continue={token}"), "").await;
    assert_eq!((names(&third), third["metadata"].get("continue")), (vec!["e"], None));
    let (_, selected) = world.ask("GET", &format!("{CONFIG_MAPS}?labelSelector=l%3Dx"), "").await;
    assert_eq!(names(&selected), ["a", "b", "bb"]);
    let (_, selected) = world
        .ask("GET", &format!("{CONFIG_MAPS}?fieldSelector=metadata.name!%3Da&labelSelector=l%3Dx"), "")
        .await;
    assert_eq!(names(&selected), ["b", "bb"]);
    let rv = first["metadata"]["resourceVersion"].as_str().unwrap();
    let exact = format!("{CONFIG_MAPS}?resourceVersion={rv}&resourceVersionMatch=Exact");
    assert_eq!(names(&world.ask("GET", &exact, "").await.1).len(), 5);
}

#[tokio::test]
async fn list_options_are_checked() {
    let world = World::new().await;
    let check = async |query: &str, expect: (u16, &str)| {
        let (code, answer) = world.ask("GET", &format!("{CONFIG_MAPS}?{query}"), "").await;
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(code == expect.0 && message.contains(expect.1), "{query}: {code} {message}");
    };
    check("resourceVersionMatch=Exact", (422, "forbidden unless resourceVersion is provided")).await;
    check("resourceVersion=0&resourceVersionMatch=Exact", (422, "\"exact\" is forbidden")).await;
    check("sendInitialEvents=true", (422, "forbidden for list")).await;
    check("watch=1&resourceVersionMatch=NotOlderThan", (422, "unless sendInitialEvents")).await;
    check("watch=1&sendInitialEvents=true", (422, "NotOlderThan")).await;
    check("continue=bm9uc2Vuc2U&resourceVersion=5", (400, "not allowed when using continue")).await;
    check("continue=bm9uc2Vuc2U", (400, "continue key is not valid")).await;
    check("resourceVersion=x", (422, "invalid syntax")).await;
    check("labelSelector=a%20b", (400, "unable to parse")).await;
    check("fieldSelector=spec.x%3Dy", (400, "not a known field selector")).await;
    check("resourceVersion=999999", (504, "Too large resource version")).await;
}

#[tokio::test]
async fn watches_follow_the_selection() {
    let world = World::new().await;
    make(&world, "a", "x").await;
    make(&world, "other", "y").await;
    let path = format!(
        "{CONFIG_MAPS}?watch=1&labelSelector=l%3Dx&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let response =
        world.send(Call { user: admin(), method: "GET", path: &path, headers: &[], body: "" }).await;
    let (mut body, mut rest) = (response.into_body(), Vec::new());
    world.patch(&format!("{CONFIG_MAPS}/other"), "merge", r#"{"metadata":{"labels":{"l":"x"}}}"#).await;
    world.patch(&format!("{CONFIG_MAPS}/a"), "merge", r#"{"data":{"k":"v"}}"#).await;
    world.patch(&format!("{CONFIG_MAPS}/a"), "merge", r#"{"metadata":{"labels":{"l":"y"}}}"#).await;
    world.ask("DELETE", &format!("{CONFIG_MAPS}/other"), "").await;
    let mut seen = String::new();
    for _ in 0..6 {
        let event = next_event(&mut body, &mut rest).await.unwrap();
        let (object, metadata) = (&event["object"], &event["object"]["metadata"]);
        let line = format!(
            "{} {} l={} data={} rv={} {}\n",
            event["type"],
            metadata["name"],
            metadata["labels"]["l"],
            object["data"],
            metadata["resourceVersion"],
            metadata["annotations"]
        );
        seen.push_str(&line);
    }
    expect![[r#"
        "ADDED" "a" l="x" data=null rv="6" null
        "BOOKMARK" null l=null data=null rv="7" {"k8s.io/initial-events-end":"true"}
        "ADDED" "other" l="x" data=null rv="8" null
        "MODIFIED" "a" l="x" data={"k":"v"} rv="9" null
        "DELETED" "a" l="x" data={"k":"v"} rv="10" null
        "DELETED" "other" l="x" data=null rv="11" null
    "#]]
    .assert_eq(&seen);
}

#[tokio::test]
async fn a_watch_from_a_version_sees_what_came_after() {
    let world = World::new().await;
    make(&world, "a", "x").await;
    let (_, list) = world.ask("GET", CONFIG_MAPS, "").await;
    let rv = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    make(&world, "b", "x").await;
    let path = format!("{CONFIG_MAPS}?watch=true&resourceVersion={rv}");
    let response =
        world.send(Call { user: admin(), method: "GET", path: &path, headers: &[], body: "" }).await;
    let event = next_event(&mut response.into_body(), &mut Vec::new()).await.unwrap();
    assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&"ADDED".into(), &"b".into()));
    let path = format!("{CONFIG_MAPS}?watch=true&resourceVersion=1");
    let response =
        world.send(Call { user: admin(), method: "GET", path: &path, headers: &[], body: "" }).await;
    let event = next_event(&mut response.into_body(), &mut Vec::new()).await.unwrap();
    assert_eq!((&event["type"], &event["object"]["code"]), (&"ERROR".into(), &410.into()));
}

#[tokio::test]
async fn answers_take_the_shape_asked_for() {
    let world = World::new().await;
    make(&world, "a", "x").await;
    let check = async |path: &str, accept: &str| {
        let headers = [("accept", accept)];
        let response =
            world.send(Call { user: admin(), method: "GET", path, headers: &headers, body: "" }).await;
        let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
        let (code, value) = read(response).await;
        (code, content_type, value)
    };
    let one = format!("{CONFIG_MAPS}/a");
    let (_, _, table) =
        check(CONFIG_MAPS, "application/json;as=Table;v=v1;g=meta.k8s.io,application/json").await;
    assert_eq!(
        (&table["kind"], &table["rows"][0]["object"]["kind"]),
        (&"Table".into(), &"PartialObjectMetadata".into())
    );
    assert_eq!(table["rows"][0]["cells"], serde_json::json!(["a", 0, "0s"]));
    let (_, _, partial) = check(&one, "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io").await;
    assert_eq!((&partial["kind"], partial.get("data")), (&"PartialObjectMetadata".into(), None));
    let (_, content_type, yaml) = check(&one, "application/yaml").await;
    assert!(content_type == "application/yaml" && yaml.as_str().unwrap().contains("kind: ConfigMap"));
    assert_eq!(check(&one, "image/png").await.0, 406);
    let (code, _, _) = check("/apis/nonsense/v1", "").await;
    assert_eq!(code, 404);
}

#[tokio::test]
async fn discovery_says_what_is_served() {
    let world = World::new().await;
    let (_, legacy) = world.ask("GET", "/apis/apps/v1", "").await;
    let shown: Vec<String> = legacy["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| format!("{} {} {}", r["name"], r["shortNames"], r["verbs"]))
        .collect();
    expect![[r#"
        "deployments" ["deploy"] ["create","delete","deletecollection","get","list","patch","update","watch"]
        "deployments/scale" null ["get","patch","update"]
        "deployments/status" null ["get","patch","update"]
        "replicasets" ["rs"] ["create","delete","deletecollection","get","list","patch","update","watch"]
        "replicasets/scale" null ["get","patch","update"]
        "replicasets/status" null ["get","patch","update"]"#]]
    .assert_eq(&shown.join("\n"));
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let headers = [("accept", accept)];
    let call = || Call { user: admin(), method: "GET", path: "/apis", headers: &headers, body: "" };
    let response = world.send(call()).await;
    assert!(response.headers()["content-type"].to_str().unwrap().contains("as=APIGroupDiscoveryList"));
    let tag = response.headers()["etag"].to_str().unwrap().to_owned();
    let headers = [("accept", accept), ("if-none-match", tag.as_str())];
    let again =
        world.send(Call { user: admin(), method: "GET", path: "/apis", headers: &headers, body: "" }).await;
    assert_eq!(again.status(), 304);
}
