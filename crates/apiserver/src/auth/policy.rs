//! The roles and bindings every cluster starts with (upstream's bootstrap policy, for the kinds served here).

use std::collections::BTreeMap;

use identity::{UserInfo, groups};
use serde_json::{Value, json};

use super::Rule;

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
const DISCOVERY_PATHS: &[&str] = &[
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/livez",
    "/openapi",
    "/openapi/*",
    "/readyz",
    "/version",
    "/version/",
];
const PUBLIC_PATHS: &[&str] = &["/healthz", "/livez", "/readyz", "/version", "/version/"];

/// What people may see and change in a namespace, by group.
const VIEW: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "configmaps",
            "endpoints",
            "persistentvolumeclaims",
            "persistentvolumeclaims/status",
            "pods",
            "replicationcontrollers",
            "replicationcontrollers/scale",
            "serviceaccounts",
            "services",
            "services/status",
            "bindings",
            "events",
            "limitranges",
            "namespaces/status",
            "pods/log",
            "pods/status",
            "replicationcontrollers/status",
            "resourcequotas",
            "resourcequotas/status",
            "namespaces",
        ],
    ),
    ("discovery.k8s.io", &["endpointslices"]),
    (
        "apps",
        &[
            "controllerrevisions",
            "daemonsets",
            "daemonsets/status",
            "deployments",
            "deployments/scale",
            "deployments/status",
            "replicasets",
            "replicasets/scale",
            "replicasets/status",
            "statefulsets",
            "statefulsets/scale",
            "statefulsets/status",
        ],
    ),
    ("autoscaling", &["horizontalpodautoscalers", "horizontalpodautoscalers/status"]),
    ("batch", &["cronjobs", "cronjobs/status", "jobs", "jobs/status"]),
    ("policy", &["poddisruptionbudgets", "poddisruptionbudgets/status"]),
    ("networking.k8s.io", &["ingresses", "ingresses/status", "networkpolicies"]),
];

const EDIT: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "pods",
            "pods/attach",
            "pods/exec",
            "pods/portforward",
            "pods/proxy",
            "pods/eviction",
            "configmaps",
            "events",
            "persistentvolumeclaims",
            "replicationcontrollers",
            "replicationcontrollers/scale",
            "secrets",
            "serviceaccounts",
            "serviceaccounts/token",
            "services",
            "services/proxy",
            "endpoints",
        ],
    ),
    (
        "apps",
        &[
            "daemonsets",
            "deployments",
            "deployments/rollback",
            "deployments/scale",
            "replicasets",
            "replicasets/scale",
            "statefulsets",
            "statefulsets/scale",
        ],
    ),
    ("autoscaling", &["horizontalpodautoscalers"]),
    ("batch", &["cronjobs", "jobs"]),
    ("policy", &["poddisruptionbudgets"]),
    ("networking.k8s.io", &["ingresses", "networkpolicies"]),
    ("coordination.k8s.io", &["leases"]),
];

fn tables(table: &[(&str, &[&str])], verbs: &[&str]) -> Vec<Rule> {
    table.iter().map(|(group, resources)| Rule::resources(&[group], resources, verbs)).collect()
}

fn view() -> Vec<Rule> {
    tables(VIEW, READ)
}

fn edit() -> Vec<Rule> {
    let mut rules = tables(EDIT, WRITE);
    let secret_reads =
        ["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets", "services/proxy"];
    rules.push(Rule::resources(&[""], &secret_reads, READ));
    rules.push(Rule::resources(&["coordination.k8s.io"], &["leases"], READ));
    rules.push(Rule::resources(&[""], &["serviceaccounts"], &["impersonate"]));
    rules
}

fn admin() -> Vec<Rule> {
    let rbac = ["roles", "rolebindings"];
    vec![
        Rule::resources(&["rbac.authorization.k8s.io"], &rbac, READ),
        Rule::resources(&["rbac.authorization.k8s.io"], &rbac, WRITE),
        Rule::resources(&["authorization.k8s.io"], &["localsubjectaccessreviews"], &["create"]),
    ]
}

/// What every controller does: read all, write what it keeps, delete what nobody owns.
fn controllers() -> Vec<Rule> {
    let all = ["*"];
    vec![Rule::resources(&all, &all, READ), Rule::resources(&all, &all, WRITE), Rule::paths(&all, &["get"])]
}

fn scheduler() -> Vec<Rule> {
    let leases = ["create", "get", "list", "patch", "update", "watch"];
    vec![
        Rule::resources(&["", "events.k8s.io"], &["events"], &["create", "patch", "update"]),
        Rule::resources(&["coordination.k8s.io"], &["leases"], &leases),
        Rule::resources(&[""], &["nodes", "namespaces", "services", "replicationcontrollers"], READ),
        Rule::resources(&[""], &["pods"], &["delete", "get", "list", "watch"]),
        Rule::resources(&[""], &["bindings", "pods/binding"], &["create"]),
        Rule::resources(&[""], &["pods/status"], &["patch", "update"]),
        Rule::resources(&["apps"], &["replicasets", "statefulsets"], READ),
        Rule::resources(&["policy"], &["poddisruptionbudgets"], READ),
        Rule::resources(&[""], &["persistentvolumeclaims", "persistentvolumes"], READ),
        Rule::resources(&["storage.k8s.io"], &["*"], READ),
        Rule::resources(&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
        Rule::resources(&["authorization.k8s.io"], &["subjectaccessreviews"], &["create"]),
    ]
}

fn node() -> Vec<Rule> {
    let writes = ["create", "get", "list", "patch", "update", "watch"];
    vec![
        Rule::resources(&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
        Rule::resources(
            &["authorization.k8s.io"],
            &["localsubjectaccessreviews", "subjectaccessreviews"],
            &["create"],
        ),
        Rule::resources(&[""], &["services", "namespaces", "serviceaccounts"], READ),
        Rule::resources(&[""], &["nodes"], &["create", "get", "list", "watch", "delete", "patch", "update"]),
        Rule::resources(&[""], &["nodes/status"], &["patch", "update"]),
        Rule::resources(&["", "events.k8s.io"], &["events"], &["create", "patch", "update"]),
        Rule::resources(&[""], &["pods"], &["create", "delete", "get", "list", "watch"]),
        Rule::resources(&[""], &["pods/status"], &["patch", "update"]),
        Rule::resources(&[""], &["pods/eviction"], &["create"]),
        Rule::resources(&[""], &["persistentvolumeclaims", "persistentvolumes"], READ),
        Rule::resources(&[""], &["serviceaccounts/token"], &["create"]),
        Rule::resources(
            &["coordination.k8s.io"],
            &["leases"],
            &["create", "delete", "get", "patch", "update"],
        ),
        Rule::resources(&["discovery.k8s.io"], &["endpointslices"], READ),
        Rule::resources(&["node.k8s.io"], &["runtimeclasses"], READ),
        Rule::resources(&["storage.k8s.io"], &["csinodes", "csidrivers", "volumeattachments"], &writes),
    ]
}

/// What a node agent may do by being one. Which secrets and config maps it may read, [`super::node`] says; which objects
/// it may write, admission.
pub(crate) fn node_rules(user: &UserInfo) -> Vec<Rule> {
    if super::node::of(user).is_some() { node() } else { Vec::new() }
}

struct Role {
    name: &'static str,
    rules: Vec<Rule>,
    /// `aggregate-to-<x>` labels it carries.
    feeds: &'static [&'static str],
    /// The `aggregate-to-<x>` it collects.
    collects: Option<&'static str>,
}

fn role(name: &'static str, rules: Vec<Rule>) -> Role {
    Role { name, rules, feeds: &[], collects: None }
}

fn roles() -> Vec<Role> {
    let all = ["*"];
    let reviews = ["selfsubjectaccessreviews", "selfsubjectrulesreviews"];
    let aggregated = |name, collects, parts: Vec<Vec<Rule>>| {
        let mut rules = parts.concat();
        rules.sort_unstable();
        Role { name, rules, feeds: &[], collects: Some(collects) }
    };
    let feeding = |name, rules, feeds| Role { name, rules, feeds, collects: None };
    vec![
        role("cluster-admin", vec![Rule::resources(&all, &all, &all), Rule::paths(&all, &all)]),
        Role { feeds: &["admin"], ..aggregated("edit", "edit", vec![edit(), view()]) },
        Role { feeds: &["edit"], ..aggregated("view", "view", vec![view()]) },
        aggregated("admin", "admin", vec![admin(), edit(), view()]),
        feeding("system:aggregate-to-admin", admin(), &["admin"]),
        feeding("system:aggregate-to-edit", edit(), &["edit"]),
        feeding("system:aggregate-to-view", view(), &["view"]),
        role("system:discovery", vec![Rule::paths(DISCOVERY_PATHS, &["get"])]),
        role(
            "system:basic-user",
            vec![
                Rule::resources(&["authorization.k8s.io"], &reviews, &["create"]),
                Rule::resources(&["authentication.k8s.io"], &["selfsubjectreviews"], &["create"]),
            ],
        ),
        role("system:public-info-viewer", vec![Rule::paths(PUBLIC_PATHS, &["get"])]),
        role(
            "system:service-account-issuer-discovery",
            vec![Rule::paths(
                &[
                    "/.well-known/openid-configuration",
                    "/.well-known/openid-configuration/",
                    "/openid/v1/jwks",
                    "/openid/v1/jwks/",
                ],
                &["get"],
            )],
        ),
        role("system:monitoring", vec![Rule::paths(PUBLIC_PATHS, &["get"])]),
        role(
            "system:auth-delegator",
            vec![
                Rule::resources(&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
                Rule::resources(&["authorization.k8s.io"], &["subjectaccessreviews"], &["create"]),
            ],
        ),
        role("system:node", node()),
        role("system:kube-scheduler", scheduler()),
        role("system:kube-controller-manager", controllers()),
    ]
}

/// Role, subject kind, subject name.
const BINDINGS: &[(&str, &[(&str, &str)])] = &[
    ("cluster-admin", &[("Group", groups::MASTERS)]),
    ("system:discovery", &[("Group", groups::AUTHENTICATED)]),
    ("system:basic-user", &[("Group", groups::AUTHENTICATED)]),
    ("system:public-info-viewer", &[("Group", groups::AUTHENTICATED), ("Group", groups::UNAUTHENTICATED)]),
    ("system:service-account-issuer-discovery", &[("Group", groups::SERVICE_ACCOUNTS)]),
    ("system:monitoring", &[("Group", "system:monitoring")]),
    ("system:node", &[]),
    ("system:kube-scheduler", &[("User", "system:kube-scheduler")]),
    ("system:kube-controller-manager", &[("User", "system:kube-controller-manager")]),
];

const API_VERSION: &str = "rbac.authorization.k8s.io/v1";
const API_GROUP: &str = "rbac.authorization.k8s.io";

fn aggregate_label(to: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{to}")
}

fn metadata(name: &str, feeds: &[&str]) -> Value {
    let mut labels = BTreeMap::from([("kubernetes.io/bootstrapping".to_owned(), "rbac-defaults")]);
    labels.extend(feeds.iter().map(|to| (aggregate_label(to), "true")));
    json!({
        "name": name, "labels": labels,
        "annotations": { "rbac.authorization.kubernetes.io/autoupdate": "true" },
    })
}

impl Role {
    fn object(&self) -> Value {
        let mut object = json!({
            "apiVersion": API_VERSION, "kind": "ClusterRole",
            "metadata": metadata(self.name, self.feeds), "rules": self.rules,
        });
        if let Some(to) = self.collects {
            let selector = json!({ "matchLabels": { aggregate_label(to): "true" } });
            object["aggregationRule"] = json!({ "clusterRoleSelectors": [selector] });
        }
        object
    }
}

/// The objects to create when absent, with the plural of their kind.
pub(crate) fn bootstrap_objects() -> Vec<(&'static str, Value)> {
    let roles = roles().into_iter().map(|role| ("clusterroles", role.object()));
    let bindings = BINDINGS.iter().map(|(role, subjects)| {
        let subject =
            |(kind, name): &(&str, &str)| json!({ "apiGroup": API_GROUP, "kind": kind, "name": name });
        let mut object = json!({
            "apiVersion": API_VERSION, "kind": "ClusterRoleBinding", "metadata": metadata(role, &[]),
            "roleRef": { "apiGroup": API_GROUP, "kind": "ClusterRole", "name": role },
        });
        if !subjects.is_empty() {
            object["subjects"] = subjects.iter().map(subject).collect();
        }
        ("clusterrolebindings", object)
    });
    roles.chain(bindings).collect()
}
