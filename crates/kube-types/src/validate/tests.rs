use super::*;
use crate::defaults;
use crate::registry::Registry;
use expect_test::{Expect, expect};
use serde_json::json;

fn check(group: &str, plural: &str, mut object: Value, want: Expect) {
    let resource = Registry::builtin().find(group, "v1", plural).unwrap();
    defaults::apply(resource, &mut object);
    let found: Vec<String> = create(resource, &object).iter().map(FieldError::to_string).collect();
    want.assert_eq(&found.join("\n"));
}

fn check_update(group: &str, plural: &str, mut new: Value, mut old: Value, want: Expect) {
    let resource = Registry::builtin().find(group, "v1", plural).unwrap();
    defaults::apply(resource, &mut new);
    defaults::apply(resource, &mut old);
    let found: Vec<String> = update(resource, None, &new, &old).iter().map(FieldError::to_string).collect();
    want.assert_eq(&found.join("\n"));
}

fn pod(spec: Value) -> Value {
    json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec})
}

fn deployment() -> Value {
    json!({"metadata": {"name": "d", "namespace": "n"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

#[test]
fn sound_objects_pass() {
    check(
        "",
        "pods",
        pod(
            json!({"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80, "name": "http"}],
        "livenessProbe": {"httpGet": {"port": "http"}}, "env": [{"name": "A", "value": "b"}],
        "volumeMounts": [{"name": "v", "mountPath": "/v"}], "resources": {"limits": {"cpu": "1", "nvidia.com/gpu": "1"}}}],
        "volumes": [{"name": "v", "emptyDir": {}}]}),
        ),
        expect![[""]],
    );
    check("apps", "deployments", deployment(), expect![[""]]);
    check(
        "",
        "services",
        json!({"metadata": {"name": "s", "namespace": "n"}, "spec": {"ports": [{"port": 80}]}}),
        expect![[""]],
    );
    check("", "namespaces", json!({"metadata": {"name": "n"}}), expect![[""]]);
    check("", "nodes", json!({"metadata": {"name": "node.example"}}), expect![[""]]);
    check(
        "rbac.authorization.k8s.io",
        "clusterroles",
        json!({"metadata": {"name": "system:x"}, "rules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}),
        expect![[""]],
    );
}

#[test]
fn metadata_is_checked() {
    check(
        "",
        "configmaps",
        json!({"metadata": {}}),
        expect![[r#"
        metadata.name: Required value: name or generateName is required
        metadata.namespace: Required value"#]],
    );
    check(
        "",
        "configmaps",
        json!({"metadata": {"name": "A_b", "namespace": "n", "labels": {"-": "x y"}, "annotations": {"a b": ""},
        "finalizers": ["mine"], "ownerReferences": [{"controller": true, "kind": "A"}]}}),
        expect![[r#"
            metadata.name: Invalid value: "A_b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            metadata.labels: Invalid value: "-": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            metadata.labels: Invalid value: "x y": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
            metadata.annotations: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            metadata.ownerReferences[0].apiVersion: Invalid value: "": version must not be empty
            metadata.ownerReferences[0].name: Invalid value: "": must not be empty
            metadata.ownerReferences[0].uid: Invalid value: "": must not be empty
            metadata.finalizers: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified"#]],
    );
    check(
        "",
        "namespaces",
        json!({"metadata": {"name": "a.b", "namespace": "x"}}),
        expect![[r#"
        metadata.name: Invalid value: "a.b": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
        metadata.namespace: Forbidden: not allowed on this type"#]],
    );
    check_update(
        "",
        "configmaps",
        json!({"metadata": {"name": "a", "namespace": "n", "uid": "2", "finalizers": ["x/y"]}}),
        json!({"metadata": {"name": "a", "namespace": "n", "uid": "1", "deletionTimestamp": "t"}}),
        expect![[r#"
            metadata.uid: Invalid value: "2": field is immutable
            metadata.deletionTimestamp: Invalid value: null: field is immutable
            metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"x/y"}"#]],
    );
}

#[test]
fn pods_are_checked() {
    check("", "pods", pod(json!({})), expect!["spec.containers: Required value"]);
    check(
        "",
        "pods",
        pod(json!({"containers": [
        {"name": "C", "ports": [{"containerPort": 0}, {"containerPort": 99999, "name": "too_long_and_bad"}],
         "env": [{"name": "a=b"}, {"name": "x", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "spec.foo"}}}],
         "volumeMounts": [{"name": "nope", "mountPath": "/a", "subPath": "../x"}, {"name": "v"}],
         "livenessProbe": {"successThreshold": 2, "exec": {}}, "readinessProbe": {},
         "resources": {"limits": {"cpu": "1", "foo": "1"}, "requests": {"cpu": "2", "memory": "-1"}},
         "securityContext": {"privileged": true, "allowPrivilegeEscalation": false, "runAsUser": -1}},
        {"name": "d", "image": "i", "imagePullPolicy": "Sometimes"}, {"name": "d", "image": "i "}],
        "initContainers": [{"name": "i", "image": "i", "livenessProbe": {"exec": {"command": ["x"]}}}],
        "volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}, {"name": "v", "configMap": {}}],
        "restartPolicy": "Perhaps", "tolerations": [{"operator": "Equal"}, {"key": "a", "effect": "X"}], "nodeName": "A"})),
        expect![[r#"
            spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type
            spec.volumes[1].name: Duplicate value: "v"
            spec.volumes[1].configMap.name: Required value
            spec.containers[0].name: Invalid value: "C": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.containers[0].image: Required value
            spec.containers[0].ports[0].containerPort: Required value
            spec.containers[0].ports[1].name: Invalid value: "too_long_and_bad": must be no more than 15 bytes
            spec.containers[0].ports[1].name: Invalid value: "too_long_and_bad": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)
            spec.containers[0].ports[1].containerPort: Invalid value: 99999: must be between 1 and 65535, inclusive
            spec.containers[0].env[0].name: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '='
            spec.containers[0].env[1].valueFrom: Invalid value: "": may not be specified when `value` is not empty
            spec.containers[0].env[1].valueFrom.fieldRef.fieldPath: Unsupported value: "spec.foo": supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"
            spec.containers[0].volumeMounts[0].name: Not found: "nope"
            spec.containers[0].volumeMounts[0].subPath: Invalid value: "../x": must not contain '..'
            spec.containers[0].volumeMounts[1].mountPath: Required value
            spec.containers[0].livenessProbe.exec.command: Required value
            spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1
            spec.containers[0].readinessProbe: Required value: must specify a handler type
            spec.containers[0].resources.limits: Invalid value: "foo": must be a standard resource type or fully qualified
            spec.containers[0].resources.limits: Invalid value: "foo": must be a standard resource for containers
            spec.containers[0].resources.requests: Invalid value: "foo": must be a standard resource type or fully qualified
            spec.containers[0].resources.requests: Invalid value: "foo": must be a standard resource for containers
            spec.containers[0].resources.requests[memory]: Invalid value: "-1": must be greater than or equal to 0
            spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1
            spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive
            spec.containers[0].securityContext: Invalid value: {"allowPrivilegeEscalation":false,"privileged":true,"runAsUser":-1}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true
            spec.containers[1].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never"
            spec.containers[2].image: Invalid value: "i ": must not have leading or trailing whitespace
            spec.containers[2].name: Duplicate value: "d"
            spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always
            spec.restartPolicy: Unsupported value: "Perhaps": supported values: "Always", "OnFailure", "Never"
            spec.nodeName: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, which means "match all values and all keys"
            spec.tolerations[1].effect: Unsupported value: "X": supported values: "NoExecute", "NoSchedule", "PreferNoSchedule""#]],
    );
}

#[test]
fn pods_change_little() {
    let old = pod(
        json!({"containers": [{"name": "c", "image": "a"}], "tolerations": [{"key": "a", "operator": "Exists"}]}),
    );
    let with = |change: fn(&mut Value)| {
        let mut new = old.clone();
        change(&mut new["spec"]);
        new
    };
    check_update("", "pods", with(|s| s["containers"][0]["image"] = json!("b")), old.clone(), expect![""]);
    check_update(
        "",
        "pods",
        with(|s| s["tolerations"].as_array_mut().unwrap().push(json!({"key": "b", "operator": "Exists"}))),
        old.clone(),
        expect![[""]],
    );
    check_update(
        "",
        "pods",
        with(|s| s["tolerations"] = json!([])),
        old.clone(),
        expect![
            "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"
        ],
    );
    check_update(
        "",
        "pods",
        with(|s| s["nodeName"] = json!("x")),
        old.clone(),
        expect![[r#"
        spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
        + spec.nodeName: "x"
    "#]],
    );
    check_update(
        "",
        "pods",
        with(|s| s["containers"] = json!([])),
        old.clone(),
        expect!["spec.containers: Forbidden: pod updates may not add or remove containers"],
    );
}

#[test]
fn workloads_are_checked() {
    let with = |change: fn(&mut Value)| {
        let mut new = deployment();
        change(&mut new["spec"]);
        new
    };
    check(
        "apps",
        "deployments",
        json!({"metadata": {"name": "d", "namespace": "n"}}),
        expect![[r#"
            spec.selector: Required value
            spec.template.spec.containers: Required value"#]],
    );
    check(
        "apps",
        "deployments",
        with(|s| {
            s["replicas"] = json!(-1);
            s["selector"]["matchLabels"]["a"] = json!("c");
            s["template"]["spec"]["restartPolicy"] = json!("Never");
            s["strategy"] = json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}});
            s["minReadySeconds"] = json!(600);
        }),
        expect![[r#"
            spec.replicas: Invalid value: -1: must be greater than or equal to 0
            spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`
            spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"
            spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "0%": may not be 0 when `maxSurge` is 0
            spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds"#]],
    );
    check(
        "apps",
        "replicasets",
        with(|s| s["selector"] = json!({})),
        expect!["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
    );
    check_update(
        "apps",
        "deployments",
        with(|s| {
            s["selector"]["matchLabels"]["x"] = json!("y");
            s["template"]["metadata"]["labels"]["x"] = json!("y");
        }),
        deployment(),
        expect![[r#"spec.selector: Invalid value: {"matchLabels":{"a":"b","x":"y"}}: field is immutable"#]],
    );
}

#[test]
fn services_are_checked() {
    let service = |spec: Value| json!({"metadata": {"name": "s", "namespace": "n"}, "spec": spec});
    check("", "services", service(json!({})), expect!["spec.ports: Required value"]);
    check(
        "",
        "services",
        service(
            json!({"clusterIP": "x", "type": "Odd", "ports": [{"port": 0}, {"port": 80, "nodePort": 30000, "protocol": "ICMP"}]}),
        ),
        expect![[r#"
            spec.type: Unsupported value: "Odd": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"
            spec.clusterIP: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            spec.ports[0].name: Required value
            spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
            spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive
            spec.ports[1].name: Required value
            spec.ports[1].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP""#]],
    );
    check(
        "",
        "services",
        service(json!({"type": "ExternalName"})),
        expect!["spec.externalName: Required value"],
    );
    check(
        "",
        "services",
        service(json!({"ports": [{"port": 80, "name": "a", "nodePort": 30000}, {"port": 80, "name": "a"}]})),
        expect![[r#"
            spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'
            spec.ports[1].name: Duplicate value: "a"
            spec.ports[1]: Duplicate value: {"port":80,"protocol":"TCP"}"#]],
    );
    check_update(
        "",
        "services",
        service(json!({"clusterIP": "10.43.0.2", "ports": [{"port": 80}]})),
        service(json!({"clusterIP": "10.43.0.1", "ports": [{"port": 80}]})),
        expect![[r#"spec.clusterIPs[0]: Invalid value: ["10.43.0.2"]: may not change once set"#]],
    );
    check(
        "discovery.k8s.io",
        "endpointslices",
        json!({"metadata": {"name": "s", "namespace": "n"}, "addressType": "IPv4",
        "endpoints": [{"addresses": ["127.0.0.1"]}, {"addresses": []}]}),
        expect![[r#"
            endpoints[0].addresses[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
            endpoints[1].addresses: Required value: must contain at least 1 address"#]],
    );
}

#[test]
fn data_is_checked() {
    let map =
        |data: Value| json!({"metadata": {"name": "c", "namespace": "n"}, "data": data, "immutable": true});
    check(
        "",
        "configmaps",
        map(json!({"a/b": "x", "..": ""})),
        expect![[r#"
        data[..]: Invalid value: "..": must not be '..'
        data[a/b]: Invalid value: "a/b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"#]],
    );
    check(
        "",
        "configmaps",
        map(json!({"big": "x".repeat(1024 * 1024 + 1)})),
        expect!["[]: Too long: may not be more than 1048576 bytes"],
    );
    check_update(
        "",
        "configmaps",
        map(json!({"a": "2"})),
        map(json!({"a": "1"})),
        expect!["data: Forbidden: field is immutable when `immutable` is set"],
    );
    check(
        "",
        "secrets",
        json!({"metadata": {"name": "s", "namespace": "n"}, "type": "kubernetes.io/tls", "stringData": {"tls.crt": "x"}}),
        expect!["data[tls.key]: Required value"],
    );
}

#[test]
fn the_others_are_checked() {
    check(
        "rbac.authorization.k8s.io",
        "roles",
        json!({"metadata": {"name": "r", "namespace": "n"}, "rules": [{}, {"verbs": ["get"], "nonResourceURLs": ["/x"]}]}),
        expect![[r#"
            rules[0].verbs: Required value: verbs must contain at least one value
            rules[0].apiGroups: Required value: resource rules must supply at least one api group
            rules[0].resources: Required value: resource rules must supply at least one resource
            rules[1].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs"#]],
    );
    check(
        "rbac.authorization.k8s.io",
        "clusterrolebindings",
        json!({"metadata": {"name": "a%b"}, "roleRef": {"kind": "Role"}, "subjects": [{"kind": "ServiceAccount", "name": "s"}, {"kind": "X", "name": "y"}]}),
        expect![[r#"
            metadata.name: Invalid value: "a%b": may not contain '%'
            roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"
            roleRef.name: Required value
            subjects[0].namespace: Required value
            subjects[1].kind: Unsupported value: "X": supported values: "Group", "ServiceAccount", "User""#]],
    );
    check(
        "coordination.k8s.io",
        "leases",
        json!({"metadata": {"name": "l", "namespace": "n"}, "spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}}),
        expect![[r#"
            spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0
            spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0"#]],
    );
    check(
        "scheduling.k8s.io",
        "priorityclasses",
        json!({"metadata": {"name": "p"}, "value": 2000000000}),
        expect!["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
    );
    check(
        "",
        "nodes",
        json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": "a", "effect": "Never"}]}}),
        expect![[
            r#"spec.taints[0].effect: Unsupported value: "Never": supported values: "NoExecute", "NoSchedule", "PreferNoSchedule""#
        ]],
    );
    check(
        "",
        "events",
        json!({"metadata": {"name": "e", "namespace": "n"}, "involvedObject": {"namespace": "m"}}),
        expect![[r#"involvedObject.namespace: Invalid value: "m": does not match event.namespace"#]],
    );
}

#[test]
fn classes_of_service() {
    let class = |resources: Value| qos_class(&pod(json!({"containers": [{"resources": resources}]})));
    assert_eq!(class(json!({})), "BestEffort");
    assert_eq!(class(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), "Guaranteed");
    assert_eq!(
        class(
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}})
        ),
        "Guaranteed"
    );
    assert_eq!(class(json!({"requests": {"cpu": "1"}})), "Burstable");
    assert_eq!(
        class(json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}})),
        "Burstable"
    );
}

/// A pod that uses most of what a pod can say, as manifests in the wild do.
const EVERYTHING: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: everything
  namespace: team
  labels: {app.kubernetes.io/name: x}
  annotations: {example.com/Note: "any text: goes"}
spec:
  initContainers:
  - {name: init, image: "busybox:1.36", command: [sh, -c, "true"]}
  - {name: sidecar, image: proxy, restartPolicy: Always, startupProbe: {tcpSocket: {port: 1}}}
  containers:
  - name: main
    image: registry.example/team/app@sha256:0123456789012345678901234567890123456789012345678901234567890123
    args: ["--x=$(POD)"]
    workingDir: /srv
    stdin: true
    tty: true
    ports: [{name: http, containerPort: 8080}, {containerPort: 53, protocol: UDP, hostPort: 5353}]
    env:
    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: LABEL, valueFrom: {fieldRef: {fieldPath: "metadata.labels['app.kubernetes.io/name']"}}}
    - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}
    - {name: KEY, valueFrom: {secretKeyRef: {name: s, key: k, optional: true}}}
    envFrom: [{prefix: P_, configMapRef: {name: c}}, {secretRef: {name: s}}]
    resources: {requests: {cpu: 0.1, memory: 64Mi}, limits: {cpu: "1", memory: 128Mi, ephemeral-storage: 1Gi}}
    livenessProbe: {httpGet: {path: /live, port: http, httpHeaders: [{name: A, value: b}]}, initialDelaySeconds: 3}
    readinessProbe: {exec: {command: [cat, /ready]}, successThreshold: 2}
    startupProbe: {grpc: {port: 8080}}
    lifecycle: {preStop: {exec: {command: [sleep, "1"]}}, postStart: {sleep: {seconds: 1}}}
    securityContext:
      capabilities: {add: [NET_ADMIN], drop: [ALL]}
      runAsNonRoot: true
      runAsUser: 1000
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      seccompProfile: {type: RuntimeDefault}
    volumeMounts:
    - {name: config, mountPath: /etc/app, readOnly: true}
    - {name: config, mountPath: /etc/one, subPath: one/two}
    - {name: scratch, mountPath: /tmp}
    terminationMessagePolicy: FallbackToLogsOnError
  volumes:
  - {name: config, configMap: {name: c, items: [{key: a, path: one/two, mode: 0644}], optional: true}}
  - {name: scratch, emptyDir: {medium: Memory, sizeLimit: 16Mi}}
  - {name: host, hostPath: {path: /var/log, type: DirectoryOrCreate}}
  - {name: info, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
  - name: all
    projected:
      sources:
      - {secret: {name: s}}
      - {configMap: {name: c}}
      - {serviceAccountToken: {path: token, audience: a}}
      - {downwardAPI: {items: [{path: ns, fieldRef: {fieldPath: metadata.namespace}}]}}
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/os, operator: In, values: [linux]}]}]
      preferredDuringSchedulingIgnoredDuringExecution:
      - {weight: 1, preference: {matchExpressions: [{key: disk, operator: Exists}]}}
    podAntiAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
      - {labelSelector: {matchLabels: {a: b}}, topologyKey: kubernetes.io/hostname}
  topologySpreadConstraints:
  - {maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {a: b}}}
  tolerations:
  - {operator: Exists}
  - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 300}
  - {key: dedicated, value: batch, effect: NoSchedule}
  nodeSelector: {kubernetes.io/arch: amd64}
  dnsPolicy: None
  dnsConfig: {nameservers: [10.43.0.10], searches: [x.y], options: [{name: ndots, value: "5"}]}
  hostAliases: [{ip: 10.1.2.3, hostnames: [a.b]}]
  imagePullSecrets: [{name: pull}]
  priorityClassName: high
  runtimeClassName: plain
  securityContext: {fsGroup: 2000, runAsGroup: 3000, supplementalGroups: [4000], sysctls: [{name: net.x, value: "1"}]}
  shareProcessNamespace: true
  terminationGracePeriodSeconds: 0
  restartPolicy: OnFailure
  readinessGates: [{conditionType: example.com/gate}]
  hostname: h
  subdomain: s
  automountServiceAccountToken: false
"#;

#[test]
fn a_pod_may_say_everything() {
    use crate::decode::{FieldValidation, MediaType, decode};
    let pods = Registry::builtin().find("", "v1", "pods").unwrap();
    let decoded =
        decode(&pods.gvk, &pods.schema, EVERYTHING.as_bytes(), MediaType::Yaml, FieldValidation::Strict);
    let mut pod = decoded.unwrap().value;
    defaults::apply(pods, &mut pod);
    assert_eq!(create(pods, &pod), []);
    assert_eq!(update(pods, None, &pod, &pod), []);
    assert_eq!(pod["spec"]["volumes"][0]["configMap"]["items"][0]["mode"], 420);
}

#[test]
fn placement_is_checked() {
    check(
        "",
        "pods",
        pod(json!({"containers": [{"name": "c", "image": "i"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "a", "operator": "In"}, {"key": "b", "operator": "Near"}]}]}},
            "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 0, "podAffinityTerm": {}}]}},
        "topologySpreadConstraints": [{"maxSkew": 0}], "hostAliases": [{"ip": "x"}]})),
        expect![[r#"
            spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'
            spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[1].operator: Invalid value: "Near": not a valid selector operator
            spec.affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100
            spec.affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.topologyKey: Required value: can not be empty
            spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero
            spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty
            spec.topologySpreadConstraints[0].whenUnsatisfiable: Required value
            spec.hostAliases[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#]],
    );
}
