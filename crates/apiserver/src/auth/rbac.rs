//! Roles and bindings: compiled from the watch cache whenever they change, asked on every request.

use std::collections::BTreeMap;
use std::sync::Arc;

use identity::{UserInfo, groups};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;

use super::{Attributes, Rule, policy};
use crate::cache::{Cache, Caches};

const PREFIXES: [&str; 4] = [
    "/registry/clusterroles/",
    "/registry/clusterrolebindings/",
    "/registry/roles/",
    "/registry/rolebindings/",
];

/// Who a binding names.
#[derive(Debug, Deserialize)]
struct Subject {
    kind: String,
    name: String,
    #[serde(default)]
    namespace: String,
}

#[derive(Debug, Deserialize)]
struct RoleRef {
    kind: String,
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Binding {
    #[serde(default)]
    subjects: Option<Vec<Subject>>,
    role_ref: RoleRef,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Role {
    #[serde(default)]
    rules: Option<Vec<Rule>>,
    #[serde(default)]
    aggregation_rule: Option<Value>,
    #[serde(skip)]
    labels: BTreeMap<String, String>,
}

/// Everything needed to decide.
#[derive(Default)]
struct Compiled {
    /// By namespace and name; cluster roles have an empty namespace.
    roles: BTreeMap<(String, String), Vec<Rule>>,
    /// By namespace; cluster role bindings have an empty namespace.
    bindings: BTreeMap<String, Vec<Binding>>,
}

/// The authorizer.
pub(crate) struct Rbac {
    caches: [Arc<Cache>; 4],
    /// The revisions it was compiled from, and the result.
    compiled: Mutex<([u64; 4], Arc<Compiled>)>,
}

impl Rbac {
    pub(crate) fn new(caches: &Caches) -> Self {
        Self { caches: PREFIXES.map(|prefix| caches.of(prefix, Vec::new())), compiled: Mutex::default() }
    }

    /// Whether the user may. A refusal is given only on roles that are as new as `revision`.
    pub(crate) async fn allows(&self, user: &UserInfo, wanted: &Attributes<'_>, revision: i64) -> bool {
        if self.allows_now(user, wanted) {
            return true;
        }
        self.catch_up(revision).await && self.allows_now(user, wanted)
    }

    /// Waits until the roles are as new as `revision`.
    pub(crate) async fn ready(&self, revision: i64) {
        self.catch_up(revision).await;
    }

    /// True when something had to be waited for.
    async fn catch_up(&self, revision: i64) -> bool {
        let mut moved = false;
        for cache in &self.caches {
            moved |= cache.tick().revision < revision;
            cache.fresh(revision).await;
        }
        moved
    }

    fn allows_now(&self, user: &UserInfo, wanted: &Attributes<'_>) -> bool {
        if user.in_group(groups::MASTERS) {
            return true;
        }
        if policy::node_rules(user).iter().any(|rule| rule.allows(wanted)) {
            return true;
        }
        let compiled = self.compiled();
        compiled.rules(user, wanted.namespace).any(|rule| rule.allows(wanted))
    }

    /// Every rule that applies to the user in a namespace (empty: in the cluster).
    pub(crate) async fn rules(&self, user: &UserInfo, namespace: &str, revision: i64) -> Vec<Rule> {
        self.catch_up(revision).await;
        let mut rules: Vec<Rule> = policy::node_rules(user);
        if user.in_group(groups::MASTERS) {
            rules.push(Rule::resources(&["*"], &["*"], &["*"]));
            rules.push(Rule::paths(&["*"], &["*"]));
        }
        let compiled = self.compiled();
        rules.extend(compiled.rules(user, namespace).cloned());
        rules
    }

    /// The rules of a role; None when there is no such role. An empty namespace names a cluster role.
    pub(crate) async fn role(&self, namespace: &str, name: &str, revision: i64) -> Option<Vec<Rule>> {
        self.catch_up(revision).await;
        self.compiled().roles.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    fn compiled(&self) -> Arc<Compiled> {
        let mut compiled = self.compiled.lock();
        let now = [0, 1, 2, 3].map(|i: usize| {
            let tick = self.caches[i].tick();
            // Epochs and changes both mean new objects.
            tick.next + (tick.epoch << 48)
        });
        if compiled.0 != now {
            *compiled = (now, Arc::new(self.compile()));
        }
        compiled.1.clone()
    }

    fn compile(&self) -> Compiled {
        let [cluster_roles, cluster_bindings, roles, bindings] = &self.caches;
        let cluster = read_roles(cluster_roles);
        let mut compiled = Compiled::default();
        for (key, role) in &cluster {
            compiled.roles.insert(key.clone(), effective(role, &cluster));
        }
        for (key, role) in read_roles(roles) {
            compiled.roles.insert(key, role.rules.unwrap_or_default());
        }
        for cache in [cluster_bindings, bindings] {
            for item in cache.list("", None).items {
                if let Ok(binding) = serde_json::from_slice(item.encoded.raw()) {
                    compiled.bindings.entry(item.namespace.to_string()).or_default().push(binding);
                }
            }
        }
        compiled
    }
}

type Roles = BTreeMap<(String, String), Role>;

fn read_roles(cache: &Cache) -> Roles {
    let items = cache.list("", None).items;
    let read = items.iter().filter_map(|item| {
        let mut role: Role = serde_json::from_slice(item.encoded.raw()).ok()?;
        role.labels = item.labels.clone();
        Some(((item.namespace.to_string(), item.name.to_string()), role))
    });
    read.collect()
}

/// A role's own rules and those of the roles it aggregates.
fn effective(role: &Role, all: &Roles) -> Vec<Rule> {
    let mut rules = role.rules.clone().unwrap_or_default();
    let Some(aggregation) = &role.aggregation_rule else { return rules };
    for selector in kube_types::path::items(aggregation, &["clusterRoleSelectors"]) {
        let Ok(selector) = kube_types::selector::LabelSelector::from_object(Some(selector)) else {
            continue;
        };
        let chosen =
            |other: &&Role| selector.matches_with(|label| other.labels.get(label).map(String::as_str));
        for other in all.values().filter(chosen) {
            rules.extend(other.rules.iter().flatten().cloned());
        }
    }
    rules.sort_unstable();
    rules.dedup();
    rules
}

impl Compiled {
    fn rules<'a>(&'a self, user: &'a UserInfo, namespace: &'a str) -> impl Iterator<Item = &'a Rule> {
        let spaces = if namespace.is_empty() { vec![""] } else { vec!["", namespace] };
        let bindings = spaces.into_iter().flat_map(|space| {
            self.bindings.get(space).into_iter().flatten().map(move |binding| (space, binding))
        });
        bindings.filter(|(space, binding)| binding.names(user, space)).flat_map(|(space, binding)| {
            let role_space = if binding.role_ref.kind == "ClusterRole" { "" } else { space };
            let key = (role_space.to_owned(), binding.role_ref.name.clone());
            self.roles.get(&key).into_iter().flatten()
        })
    }
}

impl Binding {
    fn names(&self, user: &UserInfo, namespace: &str) -> bool {
        self.subjects.iter().flatten().any(|subject| match subject.kind.as_str() {
            "User" => subject.name == user.name,
            "Group" => user.in_group(&subject.name),
            "ServiceAccount" => {
                let space = if subject.namespace.is_empty() { namespace } else { &subject.namespace };
                let account =
                    user.name.strip_prefix("system:serviceaccount:").and_then(|u| u.split_once(':'));
                account == Some((space, &subject.name))
            }
            _ => false,
        })
    }
}
