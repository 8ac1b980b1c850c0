//! The built-in kinds, one entry each.
//!
//! Names, verbs and subresources are those of the 1.36 API; storage prefixes are upstream's, exceptions
//! included; field labels are those each kind's conversion functions allow.

use super::{FieldLabel, FieldPath, GroupVersionKind, Resource, Subresource, Verb};
use crate::schema::SchemaRef;
use crate::strategy::{self, Strategy};
use std::borrow::Cow;

const ALL: &[Verb] = &[
    Verb::Create,
    Verb::Delete,
    Verb::DeleteCollection,
    Verb::Get,
    Verb::List,
    Verb::Patch,
    Verb::Update,
    Verb::Watch,
];
/// Namespaces cannot be deleted as a collection.
const NO_COLLECTION: &[Verb] =
    &[Verb::Create, Verb::Delete, Verb::Get, Verb::List, Verb::Patch, Verb::Update, Verb::Watch];
const CREATE: &[Verb] = &[Verb::Create];
const GET: &[Verb] = &[Verb::Get];
const UPDATE: &[Verb] = &[Verb::Update];
const STATUS: &[Verb] = &[Verb::Get, Verb::Patch, Verb::Update];
const CONNECT: &[Verb] = &[Verb::Create, Verb::Get];

/// A subresource: name, verbs, and its kind where it is not the parent's.
type Sub = (&'static str, &'static [Verb], Option<(&'static str, &'static str, &'static str)>);

const SUB_STATUS: Sub = ("status", STATUS, None);
const SUB_SCALE: Sub = ("scale", STATUS, Some(("autoscaling", "v1", "Scale")));

struct Entry {
    group: &'static str,
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    short: &'static [&'static str],
    all: bool,
    namespaced: bool,
    verbs: &'static [Verb],
    subs: &'static [Sub],
    strategy: &'static Strategy,
    prefix: &'static str,
    labels: &'static [FieldLabel],
    own_labels: bool,
}

const fn kept(
    group: &'static str,
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    prefix: &'static str,
    strategy: &'static Strategy,
) -> Entry {
    Entry {
        group,
        plural,
        singular,
        kind,
        short: &[],
        all: false,
        namespaced: true,
        verbs: ALL,
        subs: &[],
        strategy,
        prefix,
        labels: &[],
        own_labels: false,
    }
}

/// A kind that is answered and never stored.
const fn review(
    group: &'static str,
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    namespaced: bool,
) -> Entry {
    let entry = kept(group, plural, singular, kind, "", &strategy::VIRTUAL);
    Entry { verbs: CREATE, namespaced, ..entry }
}

const fn at(label: &'static str, path: &'static [&'static str]) -> FieldLabel {
    FieldLabel { label, paths: FieldPath::At(path) }
}

const POD_LABELS: &[FieldLabel] = &[
    at("spec.nodeName", &["spec", "nodeName"]),
    at("spec.host", &["spec", "nodeName"]),
    at("spec.restartPolicy", &["spec", "restartPolicy"]),
    at("spec.schedulerName", &["spec", "schedulerName"]),
    at("spec.serviceAccountName", &["spec", "serviceAccountName"]),
    FieldLabel { label: "spec.hostNetwork", paths: FieldPath::Bool(&["spec", "hostNetwork"]) },
    at("status.phase", &["status", "phase"]),
    at("status.podIP", &["status", "podIP"]),
    at("status.podIPs", &["status", "podIP"]),
    at("status.nominatedNodeName", &["status", "nominatedNodeName"]),
];

const EVENT_LABELS: &[FieldLabel] = &[
    at("involvedObject.kind", &["involvedObject", "kind"]),
    at("involvedObject.namespace", &["involvedObject", "namespace"]),
    at("involvedObject.name", &["involvedObject", "name"]),
    at("involvedObject.uid", &["involvedObject", "uid"]),
    at("involvedObject.apiVersion", &["involvedObject", "apiVersion"]),
    at("involvedObject.resourceVersion", &["involvedObject", "resourceVersion"]),
    at("involvedObject.fieldPath", &["involvedObject", "fieldPath"]),
    at("reason", &["reason"]),
    at("reportingComponent", &["reportingComponent"]),
    FieldLabel {
        label: "source",
        paths: FieldPath::FirstOf(&[&["source", "component"], &["reportingComponent"]]),
    },
    at("type", &["type"]),
];

/// The labels of `events.k8s.io`, with the paths of the stored (core) form.
const NEW_EVENT_LABELS: &[FieldLabel] = &[
    at("regarding.kind", &["involvedObject", "kind"]),
    at("regarding.namespace", &["involvedObject", "namespace"]),
    at("regarding.name", &["involvedObject", "name"]),
    at("regarding.uid", &["involvedObject", "uid"]),
    at("regarding.apiVersion", &["involvedObject", "apiVersion"]),
    at("regarding.resourceVersion", &["involvedObject", "resourceVersion"]),
    at("regarding.fieldPath", &["involvedObject", "fieldPath"]),
    at("reason", &["reason"]),
    at("reportingController", &["reportingComponent"]),
    at("type", &["type"]),
];

const NODE_LABELS: &[FieldLabel] =
    &[FieldLabel { label: "spec.unschedulable", paths: FieldPath::Bool(&["spec", "unschedulable"]) }];
const NAMESPACE_LABELS: &[FieldLabel] = &[at("status.phase", &["status", "phase"])];
const SECRET_LABELS: &[FieldLabel] = &[at("type", &["type"])];
const SERVICE_LABELS: &[FieldLabel] =
    &[at("spec.clusterIP", &["spec", "clusterIP"]), at("spec.type", &["spec", "type"])];
const REPLICA_SET_LABELS: &[FieldLabel] =
    &[FieldLabel { label: "status.replicas", paths: FieldPath::Int(&["status", "replicas"]) }];

const POD_SUBS: &[Sub] = &[
    ("binding", CREATE, Some(("", "v1", "Binding"))),
    ("eviction", CREATE, Some(("policy", "v1", "Eviction"))),
    ("exec", CONNECT, Some(("", "v1", "PodExecOptions"))),
    ("log", GET, None),
    SUB_STATUS,
];

const RBAC: &str = "rbac.authorization.k8s.io";
const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

const CORE: &[Entry] = &[
    Entry {
        short: &["cm"],
        ..kept("", "configmaps", "configmap", "ConfigMap", "configmaps", &strategy::PLAIN)
    },
    Entry {
        short: &["ep"],
        ..kept("", "endpoints", "endpoints", "Endpoints", "services/endpoints", &strategy::ENDPOINTS)
    },
    Entry {
        short: &["ev"],
        labels: EVENT_LABELS,
        own_labels: true,
        ..kept("", "events", "event", "Event", "events", &strategy::UPSERT)
    },
    Entry {
        short: &["ns"],
        namespaced: false,
        verbs: NO_COLLECTION,
        subs: &[("finalize", UPDATE, None), SUB_STATUS],
        labels: NAMESPACE_LABELS,
        own_labels: true,
        ..kept("", "namespaces", "namespace", "Namespace", "namespaces", &strategy::NAMESPACE)
    },
    Entry {
        short: &["no"],
        namespaced: false,
        subs: &[SUB_STATUS],
        labels: NODE_LABELS,
        own_labels: true,
        ..kept("", "nodes", "node", "Node", "minions", &strategy::NODE)
    },
    Entry {
        short: &["po"],
        all: true,
        subs: POD_SUBS,
        labels: POD_LABELS,
        own_labels: true,
        ..kept("", "pods", "pod", "Pod", "pods", &strategy::POD)
    },
    Entry {
        labels: SECRET_LABELS,
        own_labels: true,
        ..kept("", "secrets", "secret", "Secret", "secrets", &strategy::PLAIN)
    },
    Entry {
        short: &["sa"],
        subs: &[("token", CREATE, Some((AUTHENTICATION, "v1", "TokenRequest")))],
        ..kept("", "serviceaccounts", "serviceaccount", "ServiceAccount", "serviceaccounts", &strategy::PLAIN)
    },
    Entry {
        short: &["svc"],
        all: true,
        subs: &[SUB_STATUS],
        labels: SERVICE_LABELS,
        own_labels: true,
        ..kept("", "services", "service", "Service", "services/specs", &strategy::SERVICE)
    },
];

const GROUPS: &[Entry] = &[
    Entry {
        short: &["deploy"],
        all: true,
        subs: &[SUB_SCALE, SUB_STATUS],
        ..kept("apps", "deployments", "deployment", "Deployment", "deployments", &strategy::WORKLOAD)
    },
    Entry {
        short: &["rs"],
        all: true,
        subs: &[SUB_SCALE, SUB_STATUS],
        labels: REPLICA_SET_LABELS,
        own_labels: true,
        ..kept("apps", "replicasets", "replicaset", "ReplicaSet", "replicasets", &strategy::WORKLOAD)
    },
    review(AUTHENTICATION, "selfsubjectreviews", "selfsubjectreview", "SelfSubjectReview", false),
    review(AUTHENTICATION, "tokenreviews", "tokenreview", "TokenReview", false),
    review(
        AUTHORIZATION,
        "localsubjectaccessreviews",
        "localsubjectaccessreview",
        "LocalSubjectAccessReview",
        true,
    ),
    review(
        AUTHORIZATION,
        "selfsubjectaccessreviews",
        "selfsubjectaccessreview",
        "SelfSubjectAccessReview",
        false,
    ),
    review(
        AUTHORIZATION,
        "selfsubjectrulesreviews",
        "selfsubjectrulesreview",
        "SelfSubjectRulesReview",
        false,
    ),
    review(AUTHORIZATION, "subjectaccessreviews", "subjectaccessreview", "SubjectAccessReview", false),
    kept("coordination.k8s.io", "leases", "lease", "Lease", "leases", &strategy::LEASE),
    kept(
        "discovery.k8s.io",
        "endpointslices",
        "endpointslice",
        "EndpointSlice",
        "endpointslices",
        &strategy::SLICE,
    ),
    Entry {
        short: &["ev"],
        labels: NEW_EVENT_LABELS,
        own_labels: true,
        ..kept("events.k8s.io", "events", "event", "Event", "events", &strategy::UPSERT)
    },
    Entry {
        namespaced: false,
        ..kept(
            RBAC,
            "clusterrolebindings",
            "clusterrolebinding",
            "ClusterRoleBinding",
            "clusterrolebindings",
            &strategy::RBAC,
        )
    },
    Entry {
        namespaced: false,
        ..kept(RBAC, "clusterroles", "clusterrole", "ClusterRole", "clusterroles", &strategy::RBAC)
    },
    kept(RBAC, "rolebindings", "rolebinding", "RoleBinding", "rolebindings", &strategy::RBAC),
    kept(RBAC, "roles", "role", "Role", "roles", &strategy::RBAC),
    Entry {
        short: &["pc"],
        namespaced: false,
        ..kept(
            "scheduling.k8s.io",
            "priorityclasses",
            "priorityclass",
            "PriorityClass",
            "priorityclasses",
            &strategy::PRIORITY_CLASS,
        )
    },
];

/// Every built-in resource, by group and then by name.
pub(super) fn resources() -> impl Iterator<Item = Resource> {
    CORE.iter().chain(GROUPS).map(build)
}

fn build(entry: &Entry) -> Resource {
    let gvk = GroupVersionKind::new(entry.group, "v1", entry.kind);
    let schema = builtin(&gvk);
    let shared_events = entry.group == "events.k8s.io";
    let storage_gvk = if shared_events { GroupVersionKind::new("", "v1", "Event") } else { gvk.clone() };
    let storage_prefix = match entry.prefix {
        "" => Cow::Borrowed(""),
        prefix => Cow::Owned(format!("/registry/{prefix}/")),
    };
    Resource {
        plural: entry.plural.into(),
        singular: entry.singular.into(),
        list_kind: format!("{}List", entry.kind).into(),
        short_names: entry.short.iter().map(|&name| name.into()).collect(),
        categories: entry.all.then_some("all".into()).into_iter().collect(),
        namespaced: entry.namespaced,
        verbs: entry.verbs.to_vec(),
        subresources: entry.subs.iter().map(|sub| subresource(sub, &gvk)).collect(),
        schema,
        strategy: entry.strategy,
        storage_prefix,
        storage_gvk,
        field_labels: entry.labels.to_vec(),
        own_field_labels: entry.own_labels,
        gvk,
    }
}

fn subresource(sub: &Sub, parent: &GroupVersionKind) -> Subresource {
    let (name, verbs, kind) = *sub;
    let gvk = kind.map_or_else(|| parent.clone(), |(g, v, k)| GroupVersionKind::new(g, v, k));
    // Connect options travel in the query and have no schema of their own.
    let schema = SchemaRef::builtin(&gvk).unwrap_or_else(SchemaRef::untyped);
    Subresource { name: name.into(), gvk, verbs: verbs.to_vec(), schema }
}

fn builtin(gvk: &GroupVersionKind) -> SchemaRef {
    // The table of types holds every kind of the release; a test builds all resources.
    SchemaRef::builtin(gvk).expect("a built-in kind has a schema")
}
