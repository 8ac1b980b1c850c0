use super::*;
use crate::registry::GroupVersionKind;
use proptest::prelude::*;
use serde_json::json;

fn strategic(live: Value, patch: Value, want: Value) {
    let schema = SchemaRef::builtin(&GroupVersionKind::new("", "v1", "Pod")).unwrap();
    let got = strategic_merge(&schema, &live, &patch).unwrap();
    assert_eq!(got, want, "patch {patch}");
}

fn containers(list: Value) -> Value {
    json!({"spec": {"containers": list}})
}

#[test]
fn strategic_lists_merge_by_key() {
    let live = containers(json!([{"name": "a", "image": "1", "args": ["x"]}, {"name": "b"}]));
    strategic(
        live.clone(),
        containers(json!([{"name": "a", "image": "2", "args": ["y"]}])),
        containers(json!([{"name": "a", "image": "2", "args": ["y"]}, {"name": "b"}])),
    );
    // A new item goes to the front.
    strategic(
        live.clone(),
        containers(json!([{"name": "c", "image": null}])),
        containers(json!([{"name": "c"}, {"name": "a", "image": "1", "args": ["x"]}, {"name": "b"}])),
    );
    strategic(
        live.clone(),
        containers(json!([{"name": "a", "$patch": "delete"}])),
        containers(json!([{"name": "b"}])),
    );
    strategic(
        live.clone(),
        containers(json!([{"$patch": "replace"}, {"name": "z"}])),
        containers(json!([{"name": "z"}])),
    );
    strategic(
        live.clone(),
        containers(json!([{"name": "a", "$patch": "replace", "image": "3"}])),
        containers(json!([])),
    );
    strategic(live, json!({"spec": {"containers": null}}), json!({"spec": {}}));
}

#[test]
fn strategic_order_is_set() {
    let live = containers(json!([{"name": "a"}, {"name": "b"}, {"name": "c"}]));
    let mut patch = containers(json!([{"name": "d"}]));
    patch["spec"]["$setElementOrder/containers"] = json!([{"name": "c"}, {"name": "d"}, {"name": "a"}]);
    strategic(
        live.clone(),
        patch,
        containers(json!([{"name": "b"}, {"name": "c"}, {"name": "d"}, {"name": "a"}])),
    );
    let patch =
        json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}, {"name": "c"}]}});
    strategic(live, patch, containers(json!([{"name": "b"}, {"name": "a"}, {"name": "c"}])));
}

#[test]
fn strategic_maps_and_directives() {
    strategic(
        json!({"metadata": {"labels": {"a": "1", "b": "2"}}}),
        json!({"metadata": {"labels": {"a": null, "c": "3"}}}),
        json!({"metadata": {"labels": {"b": "2", "c": "3"}}}),
    );
    strategic(
        json!({"metadata": {"labels": {"a": "1"}}}),
        json!({"metadata": {"labels": {"$patch": "replace", "c": "3"}}}),
        json!({"metadata": {"labels": {"c": "3"}}}),
    );
    strategic(
        json!({"spec": {"nodeSelector": {"a": "1"}, "x": 1}}),
        json!({"spec": {"nodeSelector": {"$patch": "delete"}}}),
        json!({"spec": {"nodeSelector": {}, "x": 1}}),
    );
    strategic(
        json!({"metadata": {"finalizers": ["a", "b"]}}),
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"],
            "$setElementOrder/finalizers": ["b", "c"]}}),
        json!({"metadata": {"finalizers": ["b", "c"]}}),
    );
    // Tolerations have no merge key: they are replaced.
    strategic(
        json!({"spec": {"tolerations": [{"key": "a"}]}}),
        json!({"spec": {"tolerations": [{"key": "b"}]}}),
        json!({"spec": {"tolerations": [{"key": "b"}]}}),
    );
    strategic(
        json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
        json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]}}),
        json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}}),
    );
}

#[test]
fn strategic_refusals() {
    let schema = SchemaRef::builtin(&GroupVersionKind::new("", "v1", "Pod")).unwrap();
    let live = containers(json!([{"name": "a"}]));
    for patch in [
        json!([]),
        json!({"$patch": "what"}),
        containers(json!([{"image": "x"}])),
        json!({"spec": {"$setElementOrder/containers": 1}}),
        json!({"spec": {"$retainKeys": [], "hostNetwork": true}}),
    ] {
        assert_eq!(strategic_merge(&schema, &live, &patch).map_err(|s| s.code()), Err(400), "{patch}");
    }
}

#[test]
fn service_ports_merge_by_port() {
    let schema = SchemaRef::builtin(&GroupVersionKind::new("", "v1", "Service")).unwrap();
    let live = json!({"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]}});
    let got = strategic_merge(&schema, &live, &json!({"spec": {"ports": [{"port": 81, "targetPort": 8}]}}))
        .unwrap();
    assert_eq!(
        got["spec"]["ports"],
        json!([{"port": 80, "name": "a"}, {"port": 81, "name": "b", "targetPort": 8}])
    );
}

#[test]
fn json_patches() {
    let live = json!({"a": {"b": [1, 2, 3]}, "c/d": 1, "e~f": 2});
    let check = |patch: Value, want: Option<Value>| {
        let got = json_patch(&live, &patch);
        assert_eq!(got.as_ref().ok(), want.as_ref(), "{patch}");
        if let Err(status) = got {
            assert_eq!((status.code(), status.reason()), (422, Reason::Invalid));
        }
    };
    let with = |change: fn(&mut Value)| {
        let mut out = live.clone();
        change(&mut out);
        Some(out)
    };
    check(json!([]), Some(live.clone()));
    check(json!([{"op": "add", "path": "/a/b/1", "value": 9}]), with(|v| v["a"]["b"] = json!([1, 9, 2, 3])));
    check(json!([{"op": "add", "path": "/a/b/-", "value": 9}]), with(|v| v["a"]["b"] = json!([1, 2, 3, 9])));
    check(json!([{"op": "add", "path": "/a/b/3", "value": 9}]), with(|v| v["a"]["b"] = json!([1, 2, 3, 9])));
    check(json!([{"op": "add", "path": "/a/b/5", "value": 9}]), None);
    check(json!([{"op": "remove", "path": "/a/b/0"}]), with(|v| v["a"]["b"] = json!([2, 3])));
    check(json!([{"op": "remove", "path": "/a/b/-1"}]), with(|v| v["a"]["b"] = json!([1, 2])));
    check(json!([{"op": "remove", "path": "/x"}]), None);
    check(json!([{"op": "replace", "path": "/c~1d", "value": 5}]), with(|v| v["c/d"] = json!(5)));
    check(json!([{"op": "replace", "path": "/e~0f", "value": null}]), with(|v| v["e~f"] = json!(null)));
    check(json!([{"op": "replace", "path": "/x", "value": 5}]), None);
    check(json!([{"op": "add", "path": "/x/y", "value": 5}]), None);
    check(json!([{"op": "test", "path": "/a/b/0", "value": 1}]), Some(live.clone()));
    check(json!([{"op": "test", "path": "/a/b/0", "value": 2}]), None);
    check(
        json!([{"op": "move", "from": "/c~1d", "path": "/g"}]),
        with(|v| {
            let taken = v.as_object_mut().unwrap().remove("c/d").unwrap();
            v["g"] = taken;
        }),
    );
    check(json!([{"op": "copy", "from": "/a/b", "path": "/g"}]), with(|v| v["g"] = json!([1, 2, 3])));
    check(json!([{"op": "move", "from": "/a", "path": "/a/b"}]), None);
    check(json!([{"op": "what", "path": "/a"}]), None);
    check(json!([{"path": "/a"}]), None);
    assert_eq!(json_patch(&live, &json!({})).unwrap_err().code(), 400);
    assert_eq!(
        explain_json_patch(&live, &json!([{"op": "remove", "path": "/x"}])).unwrap(),
        "remove operation does not apply: doc is missing path: \"/x\": missing value"
    );
}

/// Small JSON documents without nulls (which a merge patch cannot carry).
fn documents() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        (0..9).prop_map(Value::from),
        "[a-c]".prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn objects() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-d]", documents(), 0..4)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

/// The merge patch that leads from one document to another.
fn diff(from: &Value, to: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (from, to) else { return to.clone() };
    let mut out = Map::new();
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        out.insert(key.clone(), Value::Null);
    }
    for (key, value) in new.iter().filter(|(key, value)| old.get(*key) != Some(value)) {
        let both_maps = old.get(key).filter(|old| old.is_object() && value.is_object());
        out.insert(key.clone(), both_maps.map_or_else(|| value.clone(), |old| diff(old, value)));
    }
    Value::Object(out)
}

proptest! {
    #[test]
    fn a_merge_patch_of_the_difference_gives_the_target(from in objects(), to in objects()) {
        prop_assert_eq!(merge_patch(&from, &diff(&from, &to)).unwrap(), to);
    }

    #[test]
    fn without_a_schema_strategic_merge_is_merge_patch(from in objects(), to in objects()) {
        let patch = diff(&from, &to);
        prop_assert_eq!(strategic_merge(&SchemaRef::untyped(), &from, &patch).unwrap(), to);
    }

    #[test]
    fn strangers_patches_never_panic(live in objects(), path in "[/a-d0-9~-]{0,6}", op in 0usize..6, value in documents()) {
        let op = ["add", "remove", "replace", "move", "copy", "test"][op];
        let _ = json_patch(&live, &json!([{"op": op, "path": path, "from": "/a", "value": value}]));
    }
}
