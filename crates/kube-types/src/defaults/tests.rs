use super::*;
use crate::registry::Registry;
use expect_test::{Expect, expect};

fn check(group: &str, plural: &str, mut object: Value, want: Expect) {
    let resource = Registry::builtin().find(group, "v1", plural).unwrap();
    apply(resource, &mut object);
    want.assert_eq(&serde_json::to_string_pretty(&object).unwrap());
    let once = object.clone();
    apply(resource, &mut object);
    assert_eq!(object, once, "defaulting twice changes nothing");
}

#[test]
fn pods() {
    let pod = json!({"metadata": {"name": "p"}, "spec": {
        "hostNetwork": true,
        "serviceAccount": "sa",
        "containers": [{"name": "c", "image": "registry:5000/a/b", "ports": [{"containerPort": 80}],
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}},
            "livenessProbe": {"httpGet": {"port": 80}},
            "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}],
        "initContainers": [{"name": "i", "image": "a:1"}, {"name": "j", "image": "a@sha256:00"}],
        "volumes": [{"name": "v"}, {"name": "s", "secret": {"secretName": "x"}}, {"name": "h", "hostPath": {"path": "/"}},
            {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]
    }});
    check(
        "",
        "pods",
        pod,
        expect![[r#"
        {
          "metadata": {
            "name": "p"
          },
          "spec": {
            "containers": [
              {
                "env": [
                  {
                    "name": "N",
                    "valueFrom": {
                      "fieldRef": {
                        "apiVersion": "v1",
                        "fieldPath": "metadata.name"
                      }
                    }
                  }
                ],
                "image": "registry:5000/a/b",
                "imagePullPolicy": "Always",
                "livenessProbe": {
                  "failureThreshold": 3,
                  "httpGet": {
                    "path": "/",
                    "port": 80,
                    "scheme": "HTTP"
                  },
                  "periodSeconds": 10,
                  "successThreshold": 1,
                  "timeoutSeconds": 1
                },
                "name": "c",
                "ports": [
                  {
                    "containerPort": 80,
                    "hostPort": 80,
                    "protocol": "TCP"
                  }
                ],
                "resources": {
                  "limits": {
                    "cpu": "1",
                    "memory": "1Gi"
                  },
                  "requests": {
                    "cpu": "500m",
                    "memory": "1Gi"
                  }
                },
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File"
              }
            ],
            "dnsPolicy": "ClusterFirst",
            "enableServiceLinks": true,
            "hostNetwork": true,
            "initContainers": [
              {
                "image": "a:1",
                "imagePullPolicy": "IfNotPresent",
                "name": "i",
                "resources": {},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File"
              },
              {
                "image": "a@sha256:00",
                "imagePullPolicy": "IfNotPresent",
                "name": "j",
                "resources": {},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File"
              }
            ],
            "restartPolicy": "Always",
            "schedulerName": "default-scheduler",
            "securityContext": {},
            "serviceAccount": "sa",
            "serviceAccountName": "sa",
            "terminationGracePeriodSeconds": 30,
            "volumes": [
              {
                "emptyDir": {},
                "name": "v"
              },
              {
                "name": "s",
                "secret": {
                  "defaultMode": 420,
                  "secretName": "x"
                }
              },
              {
                "hostPath": {
                  "path": "/",
                  "type": ""
                },
                "name": "h"
              },
              {
                "name": "p",
                "projected": {
                  "defaultMode": 420,
                  "sources": [
                    {
                      "serviceAccountToken": {
                        "expirationSeconds": 3600,
                        "path": "t"
                      }
                    }
                  ]
                }
              }
            ]
          }
        }"#]],
    );
}

#[test]
fn deployments() {
    let deployment = json!({"spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "c", "image": "a",
        "resources": {"limits": {"cpu": "1"}}}]}}}});
    check(
        "apps",
        "deployments",
        deployment,
        expect![[r#"
        {
          "spec": {
            "progressDeadlineSeconds": 600,
            "replicas": 1,
            "revisionHistoryLimit": 10,
            "selector": {},
            "strategy": {
              "rollingUpdate": {
                "maxSurge": "25%",
                "maxUnavailable": "25%"
              },
              "type": "RollingUpdate"
            },
            "template": {
              "spec": {
                "containers": [
                  {
                    "image": "a",
                    "imagePullPolicy": "Always",
                    "name": "c",
                    "resources": {
                      "limits": {
                        "cpu": "1"
                      }
                    },
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File"
                  }
                ],
                "dnsPolicy": "ClusterFirst",
                "restartPolicy": "Always",
                "schedulerName": "default-scheduler",
                "securityContext": {},
                "terminationGracePeriodSeconds": 30
              }
            }
          }
        }"#]],
    );
    check(
        "apps",
        "deployments",
        json!({"spec": {"replicas": 0, "strategy": {"type": "Recreate"}, "template": {}}}),
        expect![[r#"
            {
              "spec": {
                "progressDeadlineSeconds": 600,
                "replicas": 0,
                "revisionHistoryLimit": 10,
                "strategy": {
                  "type": "Recreate"
                },
                "template": {
                  "spec": {
                    "dnsPolicy": "ClusterFirst",
                    "restartPolicy": "Always",
                    "schedulerName": "default-scheduler",
                    "securityContext": {},
                    "terminationGracePeriodSeconds": 30
                  }
                }
              }
            }"#]],
    );
}

#[test]
fn services() {
    check(
        "",
        "services",
        json!({"spec": {"ports": [{"port": 80}, {"port": 1, "targetPort": "web", "protocol": "UDP"}]}}),
        expect![[r#"
            {
              "spec": {
                "internalTrafficPolicy": "Cluster",
                "ports": [
                  {
                    "port": 80,
                    "protocol": "TCP",
                    "targetPort": 80
                  },
                  {
                    "port": 1,
                    "protocol": "UDP",
                    "targetPort": "web"
                  }
                ],
                "sessionAffinity": "None",
                "type": "ClusterIP"
              }
            }"#]],
    );
    check(
        "",
        "services",
        json!({"spec": {"type": "LoadBalancer", "sessionAffinity": "ClientIP"}}),
        expect![[r#"
            {
              "spec": {
                "allocateLoadBalancerNodePorts": true,
                "externalTrafficPolicy": "Cluster",
                "internalTrafficPolicy": "Cluster",
                "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {
                  "clientIP": {
                    "timeoutSeconds": 10800
                  }
                },
                "type": "LoadBalancer"
              }
            }"#]],
    );
    check(
        "",
        "services",
        json!({"spec": {"type": "ExternalName", "externalName": "a.b"}}),
        expect![[r#"
        {
          "spec": {
            "externalName": "a.b",
            "sessionAffinity": "None",
            "type": "ExternalName"
          }
        }"#]],
    );
    check(
        "discovery.k8s.io",
        "endpointslices",
        json!({"ports": [{"port": 80}]}),
        expect![[r#"
        {
          "ports": [
            {
              "name": "",
              "port": 80,
              "protocol": "TCP"
            }
          ]
        }"#]],
    );
}

#[test]
fn the_others() {
    check(
        "",
        "namespaces",
        json!({"metadata": {"name": "n"}}),
        expect![[r#"
        {
          "metadata": {
            "labels": {
              "kubernetes.io/metadata.name": "n"
            },
            "name": "n"
          },
          "status": {
            "phase": "Active"
          }
        }"#]],
    );
    check(
        "",
        "secrets",
        json!({"data": {}}),
        expect![[r#"
        {
          "data": {},
          "type": "Opaque"
        }"#]],
    );
    check(
        "rbac.authorization.k8s.io",
        "rolebindings",
        json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s"}]}),
        expect![[r#"
            {
              "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Role",
                "name": "r"
              },
              "subjects": [
                {
                  "apiGroup": "rbac.authorization.k8s.io",
                  "kind": "User",
                  "name": "u"
                },
                {
                  "kind": "ServiceAccount",
                  "name": "s"
                }
              ]
            }"#]],
    );
}
