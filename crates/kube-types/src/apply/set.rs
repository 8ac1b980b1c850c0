//! Sets of field paths, and their wire form `FieldsV1`.
//!
//! A path is a list of elements: a field's name, a list item by its keys, by its value, or by its place.
//! A set is a tree; a node may be a member itself, have members below it, or both.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt;

/// One step of a path. Keys and values are kept as canonical JSON text, which orders and prints them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// `f:name`.
    Field(String),
    /// `k:{"name":"a"}`.
    Key(String),
    /// `v:"a"`.
    Value(String),
    /// `i:0`.
    Index(usize),
}

impl Element {
    /// The item of a list map with these keys, sorted by name.
    pub fn key<'a>(keys: impl IntoIterator<Item = (&'a str, Value)>) -> Element {
        let sorted: BTreeMap<&str, Value> = keys.into_iter().collect();
        let parts: Vec<String> =
            sorted.iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
        Element::Key(format!("{{{}}}", parts.join(",")))
    }

    /// The item of a list set.
    pub fn value(value: &Value) -> Element {
        Element::Value(value.to_string())
    }

    fn to_wire(&self) -> String {
        match self {
            Element::Field(name) => format!("f:{name}"),
            Element::Key(keys) => format!("k:{keys}"),
            Element::Value(value) => format!("v:{value}"),
            Element::Index(at) => format!("i:{at}"),
        }
    }

    fn from_wire(text: &str) -> Option<Element> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "f" => Some(Element::Field(rest.to_string())),
            "k" => {
                let keys: Map<String, Value> = serde_json::from_str(rest).ok()?;
                Some(Element::key(keys.iter().map(|(name, value)| (name.as_str(), value.clone()))))
            }
            "v" => serde_json::from_str::<Value>(rest).ok().map(|value| Element::value(&value)),
            "i" => rest.parse().ok().map(Element::Index),
            _ => None,
        }
    }
}

impl fmt::Display for Element {
    /// As conflicts show it: `.spec`, `[name="a"]`, `[="x"]`, `[0]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Element::Field(name) => write!(f, ".{name}"),
            Element::Key(keys) => {
                let keys: BTreeMap<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let parts: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "[{}]", parts.join(","))
            }
            Element::Value(value) => write!(f, "[={value}]"),
            Element::Index(at) => write!(f, "[{at}]"),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    member: bool,
    below: Set,
}

/// A set of paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    nodes: BTreeMap<Element, Node>,
}

impl Set {
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds a path. The empty path is the object itself and never a member.
    pub fn insert(&mut self, path: &[Element]) {
        let Some((first, rest)) = path.split_first() else { return };
        let node = self.nodes.entry(first.clone()).or_default();
        if rest.is_empty() { node.member = true } else { node.below.insert(rest) }
    }

    /// True when the path of this one element is a member.
    pub fn has(&self, element: &Element) -> bool {
        self.nodes.get(element).is_some_and(|node| node.member)
    }

    /// The paths below an element.
    pub fn below(&self, element: &Element) -> Option<&Set> {
        self.nodes.get(element).map(|node| &node.below).filter(|set| !set.is_empty())
    }

    pub fn union(&self, other: &Set) -> Set {
        let mut out = self.clone();
        for (element, node) in &other.nodes {
            let mine = out.nodes.entry(element.clone()).or_default();
            mine.member |= node.member;
            mine.below = mine.below.union(&node.below);
        }
        out
    }

    /// The members of `self` that are no members of `other`.
    pub fn difference(&self, other: &Set) -> Set {
        self.combine(other, |mine, theirs| mine && !theirs, true)
    }

    /// The members of both.
    pub fn intersection(&self, other: &Set) -> Set {
        self.combine(other, |mine, theirs| mine && theirs, false)
    }

    fn combine(&self, other: &Set, member: fn(bool, bool) -> bool, keep_alone: bool) -> Set {
        let mut out = Set::default();
        for (element, node) in &self.nodes {
            let combined = match other.nodes.get(element) {
                Some(theirs) => Node {
                    member: member(node.member, theirs.member),
                    below: node.below.combine(&theirs.below, member, keep_alone),
                },
                None if keep_alone => node.clone(),
                None => continue,
            };
            if combined.member || !combined.below.is_empty() {
                out.nodes.insert(element.clone(), combined);
            }
        }
        out
    }

    /// As `difference`, and also without everything below the members of `other`.
    pub fn recursive_difference(&self, other: &Set) -> Set {
        let mut out = Set::default();
        for (element, node) in &self.nodes {
            let kept = match other.nodes.get(element) {
                Some(theirs) if theirs.member => continue,
                Some(theirs) => {
                    Node { member: node.member, below: node.below.recursive_difference(&theirs.below) }
                }
                None => node.clone(),
            };
            if kept.member || !kept.below.is_empty() {
                out.nodes.insert(element.clone(), kept);
            }
        }
        out
    }

    /// Every element that has something below it, with it and the set below; for walks beside a schema.
    pub(super) fn map_nodes(&self, mut change: impl FnMut(&Element, bool, &Set) -> (bool, Set)) -> Set {
        let mut out = Set::default();
        for (element, node) in &self.nodes {
            let (member, below) = change(element, node.member, &node.below);
            out.nodes.insert(element.clone(), Node { member, below });
        }
        out
    }

    /// All member paths, in order.
    pub fn paths(&self) -> Vec<Vec<Element>> {
        let mut out = Vec::new();
        self.collect(&mut Vec::new(), &mut out);
        out
    }

    fn collect(&self, at: &mut Vec<Element>, out: &mut Vec<Vec<Element>>) {
        for (element, node) in &self.nodes {
            at.push(element.clone());
            if node.member {
                out.push(at.clone());
            }
            node.below.collect(at, out);
            at.pop();
        }
    }

    /// The `fieldsV1` value.
    pub fn to_fields_v1(&self) -> Value {
        let mut out = Map::new();
        for (element, node) in &self.nodes {
            let mut value = node.below.to_fields_v1();
            if node.member
                && !node.below.is_empty()
                && let Some(map) = value.as_object_mut()
            {
                map.insert(".".into(), json!({}));
            }
            out.insert(element.to_wire(), value);
        }
        Value::Object(out)
    }

    /// Reads a `fieldsV1` value; `None` when it is none.
    pub fn from_fields_v1(value: &Value) -> Option<Set> {
        let mut out = Set::default();
        for (key, below) in value.as_object()? {
            if key == "." {
                continue;
            }
            let fields = below.as_object()?;
            let member = fields.is_empty() || fields.contains_key(".");
            out.nodes.insert(Element::from_wire(key)?, Node { member, below: Set::from_fields_v1(below)? });
        }
        Some(out)
    }
}

/// `.spec.containers[name="a"].image`.
pub fn show(path: &[Element]) -> String {
    path.iter().map(Element::to_string).collect()
}
