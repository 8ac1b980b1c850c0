use super::*;
use expect_test::expect;

fn document(group: &str) -> Value {
    v3_document(Registry::builtin(), group, "v1").unwrap()
}

#[test]
fn patches_say_what_they_understand() {
    let apps = document("apps");
    let patch = &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    expect![[r##"
        {
          "operationId": "patchAppsV1NamespacedDeployment",
          "parameters": [
            {
              "in": "query",
              "name": "dryRun",
              "schema": {
                "type": "string",
                "uniqueItems": true
              }
            },
            {
              "in": "query",
              "name": "fieldManager",
              "schema": {
                "type": "string",
                "uniqueItems": true
              }
            },
            {
              "in": "query",
              "name": "fieldValidation",
              "schema": {
                "type": "string",
                "uniqueItems": true
              }
            },
            {
              "in": "query",
              "name": "force",
              "schema": {
                "type": "boolean",
                "uniqueItems": true
              }
            }
          ],
          "requestBody": {
            "content": {
              "application/apply-patch+yaml": {
                "schema": {
                  "$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.Patch"
                }
              },
              "application/json-patch+json": {
                "schema": {
                  "$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.Patch"
                }
              },
              "application/merge-patch+json": {
                "schema": {
                  "$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.Patch"
                }
              },
              "application/strategic-merge-patch+json": {
                "schema": {
                  "$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.Patch"
                }
              }
            },
            "required": true
          },
          "responses": {
            "200": {
              "content": {
                "application/json": {
                  "schema": {
                    "$ref": "#/components/schemas/io.k8s.api.apps.v1.Deployment"
                  }
                },
                "application/yaml": {
                  "schema": {
                    "$ref": "#/components/schemas/io.k8s.api.apps.v1.Deployment"
                  }
                }
              },
              "description": "OK"
            },
            "401": {
              "description": "Unauthorized"
            }
          },
          "x-kubernetes-action": "patch",
          "x-kubernetes-group-version-kind": {
            "group": "apps",
            "kind": "Deployment",
            "version": "v1"
          }
        }"##]]
    .assert_eq(&serde_json::to_string_pretty(patch).unwrap());
}

#[test]
fn lists_carry_their_merge_facts() {
    let core = document("");
    let pod = &core["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"];
    expect![[r##"{"items":{"allOf":[{"$ref":"#/components/schemas/io.k8s.api.core.v1.Container"}]},"type":"array","x-kubernetes-list-map-keys":["name"],"x-kubernetes-list-type":"map","x-kubernetes-patch-merge-key":"name","x-kubernetes-patch-strategy":"merge"}"##]].assert_eq(&pod["properties"]["containers"].to_string());
    assert_eq!(pod["required"], json!(["containers"]));
}

#[test]
fn every_reference_leads_somewhere_and_ids_are_unique() {
    let registry = Registry::builtin();
    for (group, version) in registry.group_versions() {
        let document = v3_document(registry, &group, &version).unwrap();
        let text = document.to_string();
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
        }
        let mut ids: Vec<&str> =
            text.split("\"operationId\":\"").skip(1).filter_map(|part| part.split('"').next()).collect();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all, "{group}");
    }
}

#[test]
fn the_index_names_every_group_and_version() {
    let index = v3_index(Registry::builtin());
    let paths: Vec<&String> = index["paths"].as_object().unwrap().keys().collect();
    expect![[r#"["api/v1", "apis/apps/v1", "apis/authentication.k8s.io/v1", "apis/authorization.k8s.io/v1", "apis/coordination.k8s.io/v1", "apis/discovery.k8s.io/v1", "apis/events.k8s.io/v1", "apis/rbac.authorization.k8s.io/v1", "apis/scheduling.k8s.io/v1"]"#]].assert_eq(&format!("{paths:?}"));
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    assert!(url.starts_with("/openapi/v3/apis/apps/v1?hash="));
}
