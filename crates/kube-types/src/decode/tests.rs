use super::*;
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::Value;

fn check(group: &str, kind: &'static str, body: &str, validation: FieldValidation, want: Expect) {
    let gvk = GroupVersionKind::new(group.to_string(), "v1", kind);
    let schema = SchemaRef::builtin(&gvk).unwrap();
    let media =
        if body.starts_with('{') || body.starts_with('[') { MediaType::Json } else { MediaType::Yaml };
    let got = match decode(&gvk, &schema, body.as_bytes(), media, validation) {
        Ok(decoded) if decoded.warnings.is_empty() => decoded.value.to_string(),
        Ok(decoded) => format!("{} {:?}", decoded.value, decoded.warnings),
        Err(status) => format!("{} {}", status.code(), status.message()),
    };
    want.assert_eq(&got);
}

#[test]
fn unknown_and_repeated_fields() {
    let body = r#"{"spec":{"foo":1,"replicas":1,"replicas":2,"template":{"spec":{"containers":[{"name":"a","Image":"b"}]}}}}"#;
    check(
        "apps",
        "Deployment",
        body,
        FieldValidation::Strict,
        expect![[
            r#"400 Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field "spec.foo", duplicate field "spec.replicas", unknown field "spec.template.spec.containers[0].Image""#
        ]],
    );
    check(
        "apps",
        "Deployment",
        body,
        FieldValidation::Warn,
        expect![[
            r#"{"apiVersion":"apps/v1","kind":"Deployment","spec":{"replicas":2,"template":{"spec":{"containers":[{"name":"a"}]}}}} ["unknown field \"spec.foo\"", "duplicate field \"spec.replicas\"", "unknown field \"spec.template.spec.containers[0].Image\""]"#
        ]],
    );
    check(
        "apps",
        "Deployment",
        body,
        FieldValidation::Ignore,
        expect![[
            r#"{"apiVersion":"apps/v1","kind":"Deployment","spec":{"replicas":2,"template":{"spec":{"containers":[{"name":"a"}]}}}}"#
        ]],
    );
}

#[test]
fn wrong_types() {
    let strict = FieldValidation::Strict;
    check(
        "apps",
        "Deployment",
        r#"{"spec":{"replicas":"x"}}"#,
        strict,
        expect![[
            r#"400 Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"#
        ]],
    );
    check(
        "apps",
        "Deployment",
        r#"{"spec":{"replicas":1.5}}"#,
        strict,
        expect![[
            r#"400 Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32"#
        ]],
    );
    check(
        "apps",
        "Deployment",
        r#"{"spec":{"replicas":3000000000}}"#,
        strict,
        expect![[
            r#"400 Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32"#
        ]],
    );
    check(
        "",
        "Pod",
        r#"{"metadata":{"labels":{"a":1}}}"#,
        strict,
        expect![[
            r#"400 Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string"#
        ]],
    );
    check(
        "",
        "Pod",
        r#"{"spec":{"containers":{}}}"#,
        strict,
        expect![[
            r#"400 Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container"#
        ]],
    );
    check(
        "",
        "Pod",
        r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}"#,
        strict,
        expect![[
            r#"400 Pod in version "v1" cannot be handled as a Pod: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"#
        ]],
    );
    check(
        "",
        "Secret",
        r#"{"data":{"a":"$"}}"#,
        strict,
        expect![[
            r#"400 Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 0"#
        ]],
    );
    check(
        "",
        "Pod",
        r#"{"kind":"Service"}"#,
        strict,
        expect![[
            r#"400 Service in version "v1" cannot be handled as a Pod: the kind in the data (Service) does not match the expected kind (Pod)"#
        ]],
    );
    check(
        "",
        "Pod",
        r#"{"apiVersion":"v2"}"#,
        strict,
        expect![[r#"400 the API version in the data (v2) does not match the expected API version (v1)"#]],
    );
    check(
        "",
        "Pod",
        r#"[]"#,
        strict,
        expect![[
            r#"400 couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#
        ]],
    );
    check(
        "",
        "Pod",
        r#"{"a"}"#,
        strict,
        expect![
            "400 the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: invalid character '}' after object key"
        ],
    );
}

#[test]
fn canonical_forms_and_absences() {
    let body = r#"{"metadata":{"name":"a","labels":{},"namespace":"","creationTimestamp":null},
        "spec":{"containers":[{"name":"c","env":[null,{"name":"E","value":""}],"resources":{"limits":{"cpu":0.5,"memory":"1024Mi"}},
        "securityContext":{}}],"volumes":[{"name":"v","emptyDir":{}}],"nodeSelector":null}}"#;
    check(
        "",
        "Pod",
        body,
        FieldValidation::Strict,
        expect![[
            r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"env":[{},{"name":"E"}],"name":"c","resources":{"limits":{"cpu":"500m","memory":"1Gi"}},"securityContext":{}}],"volumes":[{"emptyDir":{},"name":"v"}]}}"#
        ]],
    );
    let yaml = "metadata:\n  name: a\n  annotations: {x: 'yes', y: \"1\", 8080: z}\ndata:\n  k: |\n    line\n  n: '5'\n";
    check(
        "",
        "ConfigMap",
        yaml,
        FieldValidation::Strict,
        expect![[
            r#"{"apiVersion":"v1","data":{"k":"line\n","n":"5"},"kind":"ConfigMap","metadata":{"annotations":{"8080":"z","x":"yes","y":"1"},"name":"a"}}"#
        ]],
    );
    check(
        "coordination.k8s.io",
        "Lease",
        r#"{"spec":{"renewTime":"2026-01-02T03:04:05Z"}}"#,
        FieldValidation::Strict,
        expect![[
            r#"{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","spec":{"renewTime":"2026-01-02T03:04:05.000000Z"}}"#
        ]],
    );
}

#[test]
fn syntax_errors_read_as_gos() {
    let check = |body: &str, want: &str| assert_eq!(parse_json(body.as_bytes()).unwrap_err(), want, "{body}");
    check("", "unexpected end of JSON input");
    check("{", "unexpected end of JSON input");
    check("{\"a\":1", "unexpected end of JSON input");
    check("hope", "invalid character 'h' looking for beginning of value");
    check("{\"a\":x}", "invalid character 'x' looking for beginning of value");
    check("{a:1}", "invalid character 'a' looking for beginning of object key string");
    check("{\"a\" 1}", "invalid character '1' after object key");
    check("{\"a\":1 \"b\":2}", "invalid character '\"' after object key:value pair");
    check("[1 2]", "invalid character '2' after array element");
    check("{} x", "invalid character 'x' after top-level value");
    check("{\"a\":1,}", "invalid character '}' looking for beginning of object key string");
}

#[test]
fn apply_bodies() {
    let strict = FieldValidation::Strict;
    let text = |body: &str, validation| match decode_apply(body.as_bytes(), validation) {
        Ok(decoded) => format!("{} {:?}", decoded.value, decoded.warnings),
        Err(status) => format!("{} {}", status.code(), status.message()),
    };
    assert_eq!(text("a: 0644\nb: {c: 1}\n", strict), r#"{"a":420,"b":{"c":1}} []"#);
    assert_eq!(
        text(r#"{"a":1,"b":{"c":1,"c":2}}"#, FieldValidation::Warn),
        r#"{"a":1,"b":{"c":2}} ["key \"c\" already set in map"]"#
    );
    assert!(text("a: 1\na: 2\n", strict).starts_with("400 error strict decoding YAML: "));
    assert!(text("[]", strict).starts_with("400 error decoding YAML: "));
    assert!(text("a: [", strict).starts_with("400 error decoding YAML: "));
}

/// Any small document, with names that the schema knows among its keys.
fn documents() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,5}".prop_map(Value::from),
        "[0-9]{1,3}(m|Mi|Gi|k)?".prop_map(Value::from),
    ];
    let key = prop::sample::select(vec![
        "metadata",
        "spec",
        "status",
        "labels",
        "containers",
        "name",
        "image",
        "ports",
        "containerPort",
        "resources",
        "limits",
        "cpu",
        "selector",
        "matchLabels",
        "template",
        "replicas",
        "strategy",
        "rollingUpdate",
        "maxSurge",
        "volumes",
        "emptyDir",
        "tolerations",
        "env",
        "valueFrom",
        "livenessProbe",
        "managedFields",
        "x",
    ]);
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone().prop_map(str::to_string), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// A stranger's document walks the whole pipeline without a panic, and a second pass changes nothing.
    #[test]
    fn the_pipeline_takes_anything(document in documents(), which in 0usize..30) {
        let resources = crate::registry::Registry::builtin().resources();
        let resource = &resources[which % resources.len()];
        if let Ok((shaped, _)) = shape(&resource.schema, Raw::from_value(document.clone())) {
            let (again, problems) = shape(&resource.schema, Raw::from_value(shaped.clone())).unwrap();
            prop_assert_eq!(&again, &shaped);
            prop_assert_eq!(problems, Vec::<String>::new());
            if shaped.is_object() {
                let mut object = shaped;
                crate::defaults::apply(resource, &mut object);
                crate::strategy::prepare_for_create(resource, &mut object);
                let _ = crate::validate::create(resource, &object);
                let manager = crate::apply::Manager { name: "m", api_version: "v1", subresource: "", now_micros: 0 };
                crate::apply::track_update(&resource.schema, None, &mut object, &manager);
                let _ = crate::validate::update(resource, None, &object, &document);
                let _ = crate::patch::strategic_merge(&resource.schema, &object, &document);
                let _ = crate::apply::server_side_apply(&resource.schema, Some(&object), &document, &manager, true);
            }
        }
    }
}

#[test]
fn depth_is_bounded() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(parse_json(deep.as_bytes()).is_err());
    assert!(parse_yaml(deep.as_bytes()).is_err());
}
