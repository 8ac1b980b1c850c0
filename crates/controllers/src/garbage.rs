//! Garbage collection: what lost its owners goes, what waits for its dependents waits, what is orphaned is let go.
//!
//! ```text
//! metadata of every kind ──observe/remove──▶ Graph ──"look at these uids"──▶ plan(uid)
//!                                                                             │ Ask: is that owner there? (live GET)
//!                                                                             └ Do: patches and deletes
//! ```

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::action::{Action, Kind, Propagation, Target};

/// Holds an owner back until its blocking dependents are gone.
pub const FOREGROUND: &str = "foregroundDeletion";
/// Holds an owner back until its dependents have forgotten it.
pub const ORPHAN: &str = "orphan";

/// What the collector knows of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub target: Target,
    pub owners: Vec<OwnerReference>,
    pub finalizers: Vec<String>,
    pub deleting: bool,
}

impl Node {
    /// From an object's metadata.
    #[must_use]
    pub fn new(kind: Kind, meta: &ObjectMeta) -> Self {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Self {
            target: Target {
                kind,
                namespace: text(&meta.namespace),
                name: text(&meta.name),
                uid: text(&meta.uid),
            },
            owners: meta.owner_references.clone().unwrap_or_default(),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
        }
    }

    fn waits_for(&self, finalizer: &str) -> bool {
        self.deleting && self.finalizers.iter().any(|one| one == finalizer)
    }
}

/// An owner nobody here has seen: the executor asks the API server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    pub api_version: String,
    pub kind: String,
    /// The dependent's namespace; ignored when the owner's kind is cluster-scoped.
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// What to do about one object.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Find out whether these owners are there, then ask again.
    Ask(Vec<Question>),
    /// Do this; nothing when it is empty.
    Do(Vec<Action>),
}

/// Who owns whom.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: BTreeMap<String, Node>,
    dependents: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    /// Takes in an object's present state. Returns the uids to look at.
    pub fn observe(&mut self, node: Node) -> Vec<String> {
        let uid = node.target.uid.clone();
        let before = self.nodes.get(&uid);
        if before == Some(&node) {
            return Vec::new();
        }
        let old_owners = before.map(|old| old.owners.clone()).unwrap_or_default();
        for owner in old_owners.iter().filter(|old| !node.owners.iter().any(|new| new.uid == old.uid)) {
            self.unlink(&owner.uid, &uid);
        }
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
        }
        let mut look: Vec<String> = vec![uid.clone()];
        if node.waits_for(FOREGROUND) {
            look.extend(self.dependents.get(&uid).into_iter().flatten().cloned());
        }
        // An owner may have waited for this very change.
        look.extend(old_owners.into_iter().map(|owner| owner.uid).filter(|owner| self.waits(owner)));
        self.nodes.insert(uid, node);
        look
    }

    /// Takes in that an object is gone. Returns the uids to look at.
    pub fn remove(&mut self, uid: &str) -> Vec<String> {
        let Some(node) = self.nodes.remove(uid) else { return Vec::new() };
        for owner in &node.owners {
            self.unlink(&owner.uid, uid);
        }
        let mut look: Vec<String> = self.dependents.get(uid).into_iter().flatten().cloned().collect();
        look.extend(node.owners.into_iter().map(|owner| owner.uid).filter(|owner| self.waits(owner)));
        look
    }

    /// The uids of all objects of a kind that are known, to find those a fresh list no longer holds.
    pub fn of_kind<'a>(&'a self, kind: &'a Kind) -> impl Iterator<Item = &'a str> {
        self.nodes.values().filter(move |node| node.target.kind == *kind).map(|node| node.target.uid.as_str())
    }

    fn unlink(&mut self, owner: &str, uid: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(uid);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }

    fn waits(&self, uid: &str) -> bool {
        self.nodes.get(uid).is_some_and(|node| node.waits_for(FOREGROUND))
    }

    fn dependents(&self, uid: &str) -> impl Iterator<Item = &Node> {
        self.dependents.get(uid).into_iter().flatten().filter_map(|uid| self.nodes.get(uid))
    }

    /// What to do about one object. `answers` says of owners asked for earlier whether they are there.
    #[must_use]
    pub fn plan(&self, uid: &str, answers: &BTreeMap<String, bool>) -> Verdict {
        let Some(node) = self.nodes.get(uid) else { return Verdict::Do(Vec::new()) };
        if node.waits_for(ORPHAN) {
            return Verdict::Do(self.orphan(node));
        }
        if node.waits_for(FOREGROUND) {
            return Verdict::Do(self.foreground(node));
        }
        if node.deleting || node.owners.is_empty() {
            return Verdict::Do(Vec::new());
        }
        let unknown: Vec<Question> = node
            .owners
            .iter()
            .filter(|owner| self.presence(node, owner, answers).is_none())
            .map(|owner| question(node, owner))
            .collect();
        if unknown.is_empty() { Verdict::Do(self.judge(node, answers)) } else { Verdict::Ask(unknown) }
    }

    /// Whether an owner is there: None when only the API server knows. One in another namespace is not.
    fn presence(
        &self,
        node: &Node,
        owner: &OwnerReference,
        answers: &BTreeMap<String, bool>,
    ) -> Option<bool> {
        match self.nodes.get(&owner.uid) {
            Some(found) => {
                let theirs = &found.target;
                let reachable = theirs.namespace.is_empty() || theirs.namespace == node.target.namespace;
                let same = theirs.kind.kind == owner.kind && theirs.name == owner.name;
                Some(reachable && same)
            }
            None => answers.get(&owner.uid).copied(),
        }
    }

    fn judge(&self, node: &Node, answers: &BTreeMap<String, bool>) -> Vec<Action> {
        let there = |owner: &&OwnerReference| self.presence(node, owner, answers) == Some(true);
        let (there, gone): (Vec<_>, Vec<_>) = node.owners.iter().partition(there);
        let (waiting, solid): (Vec<_>, Vec<_>) = there.into_iter().partition(|owner| self.waits(&owner.uid));
        if !solid.is_empty() {
            if gone.is_empty() && waiting.is_empty() {
                return Vec::new();
            }
            let lost: Vec<&str> = gone.iter().chain(&waiting).map(|owner| owner.uid.as_str()).collect();
            return vec![disown(node, &lost)];
        }
        let has_dependents = self.dependents(&node.target.uid).next().is_some();
        let propagation =
            if !waiting.is_empty() && has_dependents { Propagation::Foreground } else { inherited(node) };
        vec![Action::Delete { target: node.target.clone(), propagation: Some(propagation), owner: None }]
    }

    fn orphan(&self, node: &Node) -> Vec<Action> {
        let uid = node.target.uid.as_str();
        let mut actions: Vec<Action> = self.dependents(uid).map(|one| disown(one, &[uid])).collect();
        actions.push(without_finalizer(node, ORPHAN));
        actions
    }

    fn foreground(&self, node: &Node) -> Vec<Action> {
        let uid = &node.target.uid;
        let blocks = |one: &Node| {
            one.owners.iter().any(|owner| owner.uid == *uid && owner.block_owner_deletion == Some(true))
        };
        if self.dependents(uid).any(blocks) { Vec::new() } else { vec![without_finalizer(node, FOREGROUND)] }
    }
}

fn question(node: &Node, owner: &OwnerReference) -> Question {
    Question {
        api_version: owner.api_version.clone(),
        kind: owner.kind.clone(),
        namespace: node.target.namespace.clone(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
    }
}

/// A finalizer already there says how its owner wanted it to go.
fn inherited(node: &Node) -> Propagation {
    let has = |finalizer: &str| node.finalizers.iter().any(|one| one == finalizer);
    if has(ORPHAN) {
        Propagation::Orphan
    } else if has(FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    }
}

fn disown(node: &Node, lost: &[&str]) -> Action {
    let left: Vec<_> = node.owners.iter().filter(|owner| !lost.contains(&owner.uid.as_str())).collect();
    let body = serde_json::json!({"metadata": {"uid": node.target.uid, "ownerReferences": left}});
    Action::Patch { target: node.target.clone(), subresource: "", body }
}

fn without_finalizer(node: &Node, finalizer: &str) -> Action {
    let left: Vec<_> = node.finalizers.iter().filter(|one| *one != finalizer).collect();
    let body = serde_json::json!({"metadata": {"uid": node.target.uid, "finalizers": left}});
    Action::Patch { target: node.target.clone(), subresource: "", body }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::describe;

    /// `name(owner,owner!) [finalizer]`: an owner with `!` blocks; `~` in front means deleting.
    fn node(text: &str) -> Node {
        let deleting = text.starts_with('~');
        let text = text.trim_start_matches('~');
        let (head, finalizer) = text.split_once(' ').unwrap_or((text, ""));
        let (name, owners) = head.split_once('(').unwrap_or((head, ")"));
        let owners = owners.trim_end_matches(')').split(',').filter(|owner| !owner.is_empty());
        let kind = Kind { api_version: "v1".into(), kind: "Thing".into(), plural: "things".into() };
        Node {
            target: Target { kind, namespace: "n".into(), name: name.into(), uid: name.into() },
            owners: owners
                .map(|owner| OwnerReference {
                    api_version: "v1".into(),
                    kind: "Thing".into(),
                    name: owner.trim_end_matches('!').into(),
                    uid: owner.trim_end_matches('!').into(),
                    controller: None,
                    block_owner_deletion: Some(owner.ends_with('!')),
                })
                .collect(),
            finalizers: Some(finalizer).filter(|f| !f.is_empty()).map(str::to_owned).into_iter().collect(),
            deleting,
        }
    }

    fn check(nodes: &[&str], uid: &str, expect: &str) {
        let mut graph = Graph::default();
        for text in nodes {
            graph.observe(node(text));
        }
        let answers = BTreeMap::from([("gone".to_owned(), false), ("far".to_owned(), true)]);
        let got = match graph.plan(uid, &answers) {
            Verdict::Ask(questions) => format!("ask {}\n", questions[0].name),
            Verdict::Do(actions) => describe(&actions),
        };
        assert_eq!(got, expect, "{nodes:?}");
    }

    #[test]
    fn verdicts() {
        check(&["a"], "a", "");
        check(&["a", "b(a)"], "b", "");
        check(&["b(far)"], "b", "");
        check(&["b(who)"], "b", "ask who\n");
        check(&["b(gone)"], "b", "delete Thing b Background\n");
        check(&["b(gone) orphan"], "b", "delete Thing b Orphan\n");
        check(&["~b(gone)"], "b", "");
        check(
            &["a", "b(a,gone)"],
            "b",
            "patch Thing b {\"metadata\":{\"ownerReferences\":[{\"apiVersion\":\"v1\",\"blockOwnerDeletion\":false,\"kind\":\"Thing\",\"name\":\"a\",\"uid\":\"a\"}],\"uid\":\"b\"}}\n",
        );
        // Foreground: the dependent goes, with its own dependents first; the owner waits for those that block.
        check(&["~a foregroundDeletion", "b(a!)"], "b", "delete Thing b Background\n");
        check(&["~a foregroundDeletion", "b(a!)", "c(b)"], "b", "delete Thing b Foreground\n");
        check(&["~a foregroundDeletion", "b(a!)"], "a", "");
        let freed = "patch Thing a {\"metadata\":{\"finalizers\":[],\"uid\":\"a\"}}\n";
        check(&["~a foregroundDeletion", "b(a)"], "a", freed);
        let disowned = "patch Thing b {\"metadata\":{\"ownerReferences\":[],\"uid\":\"b\"}}\n";
        check(&["~a orphan", "b(a)"], "a", &format!("{disowned}{freed}"));
    }

    #[test]
    fn what_a_change_makes_worth_a_look() {
        let mut graph = Graph::default();
        assert_eq!(graph.observe(node("a")), ["a"]);
        assert_eq!(graph.observe(node("b(a!)")), ["b"]);
        assert!(graph.observe(node("b(a!)")).is_empty());
        assert_eq!(graph.observe(node("~a foregroundDeletion")), ["a", "b"]);
        assert_eq!(graph.remove("b"), ["a"]);
        assert_eq!(graph.observe(node("c(a)")), ["c"]);
        assert_eq!(graph.remove("a"), ["c"]);
    }
}
