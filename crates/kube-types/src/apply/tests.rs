use super::*;
use crate::defaults;
use crate::registry::{GroupVersionKind, Registry};
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::json;

fn deployment_schema() -> SchemaRef {
    SchemaRef::builtin(&GroupVersionKind::new("apps", "v1", "Deployment")).unwrap()
}

fn manager(name: &str, second: i64) -> Manager<'_> {
    Manager { name, api_version: "apps/v1", subresource: "", now_micros: second * 1_000_000 }
}

fn config(replicas: Option<i64>, image: &str) -> Value {
    let mut out = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "n", "labels": {"app": "x"}},
        "spec": {"selector": {"matchLabels": {"app": "x"}}, "template": {"metadata": {"labels": {"app": "x"}},
            "spec": {"containers": [{"name": "c", "image": image, "ports": [{"containerPort": 80}]}]}}}});
    if let Some(replicas) = replicas {
        out["spec"]["replicas"] = json!(replicas);
    }
    out
}

/// Applies and defaults, as the API server does.
fn apply(live: Option<&Value>, config: &Value, who: &str, second: i64, force: bool) -> Result<Value, Status> {
    let mut out = server_side_apply(&deployment_schema(), live, config, &manager(who, second), force)?;
    defaults::apply(Registry::builtin().find("apps", "v1", "deployments").unwrap(), &mut out);
    Ok(out)
}

/// One line per owner.
fn owners(object: &Value) -> String {
    let mut out = String::new();
    for entry in path::items(object, &["metadata", "managedFields"]) {
        let text = |key: &str| entry[key].as_str().unwrap_or("");
        out += &format!("{} {} {} {}\n", text("operation"), text("manager"), text("time"), entry["fieldsV1"]);
    }
    out
}

fn check(object: &Value, want: Expect) {
    want.assert_eq(&owners(object));
}

#[test]
fn create_is_tracked_as_kubectl_shows_it() {
    let mut new = config(Some(1), "a");
    defaults::apply(Registry::builtin().find("apps", "v1", "deployments").unwrap(), &mut new);
    track_update(&deployment_schema(), None, &mut new, &manager("kubectl-create", 1));
    check(
        &new,
        expect![[r#"
        Update kubectl-create 1970-01-01T00:00:01Z {"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:progressDeadlineSeconds":{},"f:replicas":{},"f:revisionHistoryLimit":{},"f:selector":{},"f:strategy":{"f:rollingUpdate":{".":{},"f:maxSurge":{},"f:maxUnavailable":{}},"f:type":{}},"f:template":{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:imagePullPolicy":{},"f:name":{},"f:ports":{".":{},"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{},"f:protocol":{}}},"f:resources":{},"f:terminationMessagePath":{},"f:terminationMessagePolicy":{}}},"f:dnsPolicy":{},"f:restartPolicy":{},"f:schedulerName":{},"f:securityContext":{},"f:terminationGracePeriodSeconds":{}}}}}
    "#]],
    );
}

#[test]
fn apply_owns_what_it_says() {
    let live = apply(None, &config(Some(1), "a"), "one", 1, false).unwrap();
    check(
        &live,
        expect![[r#"
        Apply one 1970-01-01T00:00:01Z {"f:metadata":{"f:labels":{"f:app":{}}},"f:spec":{"f:replicas":{},"f:selector":{},"f:template":{"f:metadata":{"f:labels":{"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}}}}}}
    "#]],
    );
    // Again, later: nothing changes, not even the time.
    let again = apply(Some(&live), &config(Some(1), "a"), "one", 2, false).unwrap();
    assert_eq!(again, live);
    assert!(is_noop(&live, &again));
}

#[test]
fn conflicts_are_told_and_forced() {
    let live = apply(None, &config(Some(1), "a"), "one", 1, false).unwrap();
    let text = |result: Result<Value, Status>| match result {
        Ok(_) => "ok".to_string(),
        Err(status) => format!("{} {} {}", status.code(), status.message(), status.to_value()["details"]),
    };
    expect![[r#"409 Apply failed with 1 conflict: conflict with "one": .spec.replicas {"causes":[{"field":".spec.replicas","message":"conflict with \"one\"","reason":"FieldManagerConflict"}]}"#]].assert_eq(&text(apply(Some(&live), &config(Some(2), "a"), "two", 2, false)));
    expect![[r#"
        409 Apply failed with 2 conflicts: conflicts with "one":
        - .spec.replicas
        - .spec.template.spec.containers[name="c"].image {"causes":[{"field":".spec.replicas","message":"conflict with \"one\"","reason":"FieldManagerConflict"},{"field":".spec.template.spec.containers[name=\"c\"].image","message":"conflict with \"one\"","reason":"FieldManagerConflict"}]}"#]].assert_eq(&text(apply(Some(&live), &config(Some(2), "b"), "two", 2, false)));
    let forced = apply(Some(&live), &config(Some(2), "a"), "two", 2, true).unwrap();
    assert_eq!(forced["spec"]["replicas"], 2);
    check(
        &forced,
        expect![[r#"
        Apply one 1970-01-01T00:00:01Z {"f:metadata":{"f:labels":{"f:app":{}}},"f:spec":{"f:selector":{},"f:template":{"f:metadata":{"f:labels":{"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}}}}}}
        Apply two 1970-01-01T00:00:02Z {"f:metadata":{"f:labels":{"f:app":{}}},"f:spec":{"f:replicas":{},"f:selector":{},"f:template":{"f:metadata":{"f:labels":{"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}}}}}}
    "#]],
    );
    // The same values are shared without a conflict.
    let shared = apply(Some(&live), &config(Some(1), "a"), "two", 2, false).unwrap();
    assert_eq!(owners(&shared).matches("f:replicas").count(), 2);
}

#[test]
fn dropped_fields_go_unless_shared() {
    let live = apply(None, &config(Some(3), "a"), "one", 1, false).unwrap();
    let dropped = apply(Some(&live), &config(None, "a"), "one", 2, false).unwrap();
    assert_eq!(dropped["spec"]["replicas"], 1, "back to the default");
    let shared = apply(Some(&live), &config(Some(3), "a"), "two", 2, false).unwrap();
    let kept = apply(Some(&shared), &config(None, "a"), "one", 3, false).unwrap();
    assert_eq!(kept["spec"]["replicas"], 3, "two still wants it");

    let mut with_two = config(None, "a");
    with_two["spec"]["template"]["spec"]["containers"] =
        json!([{"name": "c", "image": "a"}, {"name": "e", "image": "b"}]);
    let live = apply(None, &with_two, "one", 1, false).unwrap();
    let one = apply(Some(&live), &config(None, "a"), "one", 2, false).unwrap();
    assert_eq!(one["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 1);
    // Another manager's own container stays.
    let mut other = config(None, "a");
    other["spec"] = json!({"template": {"spec": {"containers": [{"name": "side", "image": "s"}]}}});
    let live = apply(Some(&one), &other, "two", 3, false).unwrap();
    let after = apply(Some(&live), &config(None, "z"), "one", 4, false).unwrap();
    let names: Vec<&str> = path::items(&after, &["spec", "template", "spec", "containers"])
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["c", "side"]);
}

#[test]
fn ordinary_writes_take_ownership_quietly() {
    let live = apply(None, &config(Some(1), "a"), "one", 1, false).unwrap();
    let mut new = live.clone();
    new["spec"]["replicas"] = json!(5);
    new["metadata"]["annotations"] = json!({"k": "v"});
    track_update(&deployment_schema(), Some(&live), &mut new, &manager("kubectl-edit", 2));
    check(
        &new,
        expect![[r#"
        Apply one 1970-01-01T00:00:01Z {"f:metadata":{"f:labels":{"f:app":{}}},"f:spec":{"f:selector":{},"f:template":{"f:metadata":{"f:labels":{"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}}}}}}
        Update kubectl-edit 1970-01-01T00:00:02Z {"f:metadata":{"f:annotations":{".":{},"f:k":{}}},"f:spec":{"f:replicas":{}}}
    "#]],
    );
    let scaled = Manager { subresource: "scale", ..manager("kubectl", 3) };
    let mut next = new.clone();
    next["spec"]["replicas"] = json!(6);
    track_update(&deployment_schema(), Some(&new), &mut next, &scaled);
    let error = apply(Some(&next), &config(Some(1), "a"), "one", 4, false).unwrap_err();
    assert_eq!(
        error.message(),
        "Apply failed with 1 conflict: conflict with \"kubectl\" with subresource \"scale\" using apps/v1: .spec.replicas"
    );
    // Status writes own status alone, and nothing when nothing changed.
    let mut status = next.clone();
    status["status"] = json!({"replicas": 1, "conditions": [{"type": "Available", "status": "True"}]});
    track_update(
        &deployment_schema(),
        Some(&next),
        &mut status,
        &Manager { subresource: "status", ..manager("controller", 5) },
    );
    assert!(owners(&status).contains(r#"Update controller 1970-01-01T00:00:05Z {"f:status":{"f:conditions":{".":{},"k:{\"type\":\"Available\"}":{".":{},"f:status":{},"f:type":{}}},"f:replicas":{}}}"#), "{}", owners(&status));
    let mut same = status.clone();
    track_update(
        &deployment_schema(),
        Some(&status),
        &mut same,
        &Manager { subresource: "status", ..manager("controller", 6) },
    );
    assert_eq!(same, status);
}

#[test]
fn kubectl_takes_over_from_client_side_apply() {
    let mut live = config(Some(1), "a");
    let annotation = config(Some(1), "a").to_string();
    live["metadata"]["annotations"] = json!({LAST_APPLIED: annotation});
    track_update(&deployment_schema(), None, &mut live, &manager("kubectl-client-side-apply", 1));
    assert!(apply(Some(&live), &config(Some(2), "b"), "kubectl", 2, false).is_ok());
    assert!(apply(Some(&live), &config(Some(2), "b"), "other", 2, false).is_err());
}

#[test]
fn what_nobody_tracked_is_before_first_apply() {
    let live = config(Some(1), "a");
    let error = apply(Some(&live), &config(Some(2), "a"), "one", 2, false).unwrap_err();
    assert_eq!(
        error.message(),
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using apps/v1: .spec.replicas"
    );
    let mut untouched = live.clone();
    untouched["spec"]["replicas"] = json!(9);
    track_update(&deployment_schema(), Some(&live), &mut untouched, &manager("m", 1));
    assert_eq!(untouched["metadata"].get("managedFields"), None);
}

#[test]
fn refusals() {
    let text = |config: Value| {
        let status = apply(None, &config, "m", 1, false).unwrap_err();
        format!("{} {}", status.code(), status.message())
    };
    let mut unknown = config(None, "a");
    unknown["spec"]["foo"] = json!(1);
    assert_eq!(
        text(unknown),
        "500 failed to create typed patch object (n/d; apps/v1, Kind=Deployment): .spec.foo: field not declared in schema"
    );
    let mut nested = config(None, "a");
    nested["spec"]["bar"] = json!(1);
    nested["spec"]["template"]["spec"]["containers"][0]["foo"] = json!(1);
    assert_eq!(
        text(nested),
        "500 failed to create typed patch object (n/d; apps/v1, Kind=Deployment): errors:\n  .spec.bar: field not declared in schema\n  .spec.template.spec.containers[name=\"c\"].foo: field not declared in schema"
    );
    let mut twice = config(None, "a");
    twice["spec"]["template"]["spec"]["containers"] = json!([{"name": "c"}, {"name": "c"}]);
    assert_eq!(
        text(twice),
        "500 failed to create typed patch object (n/d; apps/v1, Kind=Deployment): .spec.template.spec.containers: duplicate entries for key [name=\"c\"]"
    );
    let mut managed = config(None, "a");
    managed["metadata"]["managedFields"] = json!([]);
    assert_eq!(text(managed), "400 metadata.managedFields must be nil");
    let mut version = config(None, "a");
    version["apiVersion"] = json!("apps/v2");
    assert_eq!(
        text(version),
        "400 Incorrect version specified in apply patch. Specified patch version: apps/v2, expected: apps/v1"
    );
}

#[test]
fn clearing_and_capping() {
    let live = apply(None, &config(Some(1), "a"), "one", 1, false).unwrap();
    let mut cleared = live.clone();
    cleared["metadata"]["managedFields"] = json!([{}]);
    track_update(&deployment_schema(), Some(&live), &mut cleared, &manager("m", 2));
    assert_eq!(cleared["metadata"].get("managedFields"), None);

    let mut object = live;
    for turn in 0..20i64 {
        let mut next = object.clone();
        next["metadata"]["labels"][format!("l{turn}")] = json!("x");
        let name = format!("m{turn}");
        track_update(&deployment_schema(), Some(&object), &mut next, &manager(&name, 10 + turn));
        object = next;
    }
    let text = owners(&object);
    assert_eq!(text.matches("Update ").count(), UPDATE_MANAGERS_MAX);
    assert!(text.contains("ancient-changes"));
    assert_eq!(
        text.matches("f:l").count(),
        20 + text.matches("f:labels").count() + text.matches("f:limits").count()
    );
}

#[test]
fn key_defaults_identify_ports() {
    let live = apply(None, &config(None, "a"), "one", 1, false).unwrap();
    assert!(owners(&live).contains(r#"k:{\"containerPort\":80,\"protocol\":\"TCP\"}"#), "{}", owners(&live));
}

fn random_config() -> impl Strategy<Value = Value> {
    let container = ("[a-c]", "[x-z]", prop::collection::vec(1i64..4, 0..3)).prop_map(|(name, image, ports)| {
        let mut ports = ports;
        ports.sort_unstable();
        ports.dedup();
        json!({"name": name, "image": image, "ports": ports.iter().map(|p| json!({"containerPort": p})).collect::<Vec<_>>()})
    });
    (
        prop::collection::vec(container, 1..3),
        prop::option::of(0i64..3),
        prop::collection::btree_map("[a-c]", "[x-z]", 0..3),
    )
        .prop_map(|(mut containers, replicas, labels)| {
            containers.dedup_by(|a, b| a["name"] == b["name"]);
            let mut out = config(replicas, "a");
            out["spec"]["template"]["spec"]["containers"] = containers.into();
            out["metadata"]["labels"] = json!(labels);
            out
        })
        .prop_filter("names are unique", |config| {
            let names: Vec<&Value> = path::items(config, &["spec", "template", "spec", "containers"])
                .iter()
                .map(|c| &c["name"])
                .collect();
            names.len() < 2 || names[0] != names[1]
        })
}

proptest! {
    #[test]
    fn applying_twice_is_applying_once(first in random_config(), second in random_config()) {
        let live = apply(None, &first, "one", 1, false).unwrap();
        let once = apply(Some(&live), &second, "two", 2, true).unwrap();
        let twice = apply(Some(&once), &second, "two", 3, false).unwrap();
        prop_assert_eq!(&once, &twice);
    }

    #[test]
    fn one_manager_gets_exactly_its_last_configuration(first in random_config(), second in random_config()) {
        let live = apply(None, &first, "one", 1, false).unwrap();
        let got = apply(Some(&live), &second, "one", 2, false).unwrap();
        let mut want = apply(None, &second, "one", 2, false).unwrap();
        let mut got = got;
        for object in [&mut got, &mut want] {
            path::remove(object, &["metadata", "managedFields"]);
        }
        prop_assert_eq!(got, want);
    }

    #[test]
    fn fields_v1_round_trips(config in random_config()) {
        let set = walk::field_set(deployment_schema().cursor(), &config).unwrap();
        prop_assert_eq!(Set::from_fields_v1(&set.to_fields_v1()).unwrap(), set);
    }
}
