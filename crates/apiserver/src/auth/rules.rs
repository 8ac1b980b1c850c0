//! Policy rules: what they allow and which rules they cover (`rbac.authorization.k8s.io/v1` PolicyRule).

use serde::{Deserialize, Serialize};

use super::Attributes;

/// One rule of a role.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Rule {
    pub(crate) verbs: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub(crate) api_groups: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub(crate) resources: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub(crate) resource_names: Vec<String>,
    #[serde(
        rename = "nonResourceURLs",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "nullable"
    )]
    pub(crate) non_resource_urls: Vec<String>,
}

fn nullable<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Option::<Vec<String>>::deserialize(deserializer).map(Option::unwrap_or_default)
}

const ALL: &str = "*";

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|one| one == ALL || one == wanted)
}

impl Rule {
    /// A rule for resources.
    pub(crate) fn resources(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Self {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        Self {
            api_groups: owned(groups),
            resources: owned(resources),
            verbs: owned(verbs),
            ..Self::default()
        }
    }

    /// A rule for paths.
    pub(crate) fn paths(paths: &[&str], verbs: &[&str]) -> Self {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        Self { non_resource_urls: owned(paths), verbs: owned(verbs), ..Self::default() }
    }

    /// Whether the rule allows it.
    pub(crate) fn allows(&self, wanted: &Attributes<'_>) -> bool {
        if !has(&self.verbs, wanted.verb) {
            return false;
        }
        if !wanted.path.is_empty() {
            return self.non_resource_urls.iter().any(|url| url_matches(url, wanted.path));
        }
        has(&self.api_groups, wanted.group)
            && self.resources.iter().any(|r| resource_matches(r, wanted.resource, wanted.subresource))
            && (self.resource_names.is_empty() || self.resource_names.iter().any(|n| n == wanted.name))
    }

    /// The parts of this rule that none of `held` covers; empty when its owner may hand it out.
    pub(crate) fn uncovered(&self, held: &[Rule]) -> Vec<Rule> {
        self.parts().into_iter().filter(|part| !held.iter().any(|rule| rule.covers(part))).collect()
    }

    /// One rule per verb, group, resource and name.
    fn parts(&self) -> Vec<Rule> {
        let mut parts = Vec::new();
        for verb in &self.verbs {
            for url in &self.non_resource_urls {
                parts.push(Rule::paths(&[url], &[verb]));
            }
            for (group, resource) in pairs(&self.api_groups, &self.resources) {
                let part = Rule::resources(&[group], &[resource], &[verb]);
                if self.resource_names.is_empty() {
                    parts.push(part);
                    continue;
                }
                let named = |name: &String| Rule { resource_names: vec![name.clone()], ..part.clone() };
                parts.extend(self.resource_names.iter().map(named));
            }
        }
        parts
    }

    /// Whether every request that `part` (of one verb, group, resource, name) allows is allowed by this rule.
    fn covers(&self, part: &Rule) -> bool {
        let within = |mine: &[String], theirs: &[String]| theirs.iter().all(|t| has(mine, t));
        let resource = |r: &String| {
            let (resource, sub) = r.split_once('/').unwrap_or((r, ""));
            self.resources.iter().any(|mine| mine == r || resource_matches(mine, resource, sub))
        };
        within(&self.verbs, &part.verbs)
            && within(&self.api_groups, &part.api_groups)
            && part.resources.iter().all(resource)
            && part.non_resource_urls.iter().all(|u| self.non_resource_urls.iter().any(|m| url_matches(m, u)))
            && (self.resource_names.is_empty()
                || (!part.resource_names.is_empty()
                    && part.resource_names.iter().all(|n| self.resource_names.contains(n))))
    }
}

impl std::fmt::Display for Rule {
    /// As upstream prints compact rules.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lists = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ];
        let shown =
            lists.iter().filter(|(_, list)| !list.is_empty()).map(|(name, list)| format!("{name}:{list:?}"));
        write!(f, "{{{}}}", shown.collect::<Vec<_>>().join(", "))
    }
}

fn pairs<'a>(a: &'a [String], b: &'a [String]) -> impl Iterator<Item = (&'a str, &'a str)> {
    a.iter().flat_map(move |x| b.iter().map(move |y| (x.as_str(), y.as_str())))
}

fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == ALL {
        return true;
    }
    match rule.split_once('/') {
        None => subresource.is_empty() && rule == resource,
        Some((r, sub)) => (r == ALL || r == resource) && sub == subresource && !subresource.is_empty(),
    }
}

fn url_matches(rule: &str, path: &str) -> bool {
    match rule.strip_suffix(ALL) {
        Some(prefix) => path.starts_with(prefix),
        None => rule == path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(verbs: &[&str]) -> Rule {
        Rule::resources(&[""], &["pods", "pods/log", "*/scale"], verbs)
    }

    #[test]
    fn rules_allow_what_they_say() {
        let check = |rule: &Rule, verb, group, resource, subresource, name, expect| {
            let wanted = Attributes { verb, group, resource, subresource, name, ..Attributes::default() };
            assert_eq!(rule.allows(&wanted), expect, "{wanted}");
        };
        let rule = pods(&["get", "list"]);
        check(&rule, "get", "", "pods", "", "a", true);
        check(&rule, "get", "", "pods", "log", "a", true);
        check(&rule, "get", "", "pods", "exec", "a", false);
        check(&rule, "get", "", "things", "scale", "a", true);
        check(&rule, "create", "", "pods", "", "", false);
        check(&rule, "get", "apps", "pods", "", "a", false);
        let named = Rule { resource_names: vec!["a".into()], ..rule };
        check(&named, "get", "", "pods", "", "a", true);
        check(&named, "get", "", "pods", "", "b", false);
        check(&named, "list", "", "pods", "", "", false);
        let urls = Rule::paths(&["/healthz", "/api/*"], &["get"]);
        assert!(urls.allows(&Attributes::path("get", "/api/v1")));
        assert!(!urls.allows(&Attributes::path("get", "/healthz/x")));
    }

    #[test]
    fn only_what_is_held_can_be_given() {
        let held = [pods(&["get"]), pods(&["list"])];
        assert!(pods(&["get", "list"]).uncovered(&held).is_empty());
        assert_eq!(pods(&["delete"]).uncovered(&held).len(), 3);
        let everything = Rule::resources(&["*"], &["*"], &["*"]);
        assert!(pods(&["get"]).uncovered(std::slice::from_ref(&everything)).is_empty());
        assert_eq!(everything.uncovered(&held).len(), 1);
    }
}
