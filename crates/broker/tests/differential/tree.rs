//! A message's `Debug` text as a tree, and where two trees differ.

use serde_json::{Map, Value};

/// Reads `Name { field: value, .. }`, lists, strings, byte strings, options and bare words.
pub fn parse(text: &str) -> Value {
    let mut parser = Parser { text: text.as_bytes(), at: 0 };
    let value = parser.value();
    assert_eq!(parser.at, text.len(), "rest of {text}");
    value
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }

    fn eat(&mut self, wanted: &str) -> bool {
        let found = self.text[self.at..].starts_with(wanted.as_bytes());
        self.at += if found { wanted.len() } else { 0 };
        found
    }

    fn value(&mut self) -> Value {
        if self.eat("[") {
            return Value::Array(self.until("]", Self::value));
        }
        if self.peek() == b'"' || self.text[self.at..].starts_with(b"b\"") {
            return Value::String(self.quoted());
        }
        let word = self.word();
        if word == "Some" && self.eat("(") {
            let inner = self.value();
            assert!(self.eat(")"), "an option ends");
            return inner;
        }
        if self.eat(" { ") {
            let fields = self.until(" }", |parser| {
                let name = parser.word();
                assert!(parser.eat(": "), "a field has a value");
                (name, parser.value())
            });
            return Value::Object(Map::from_iter(fields));
        }
        match word.as_str() {
            "None" => Value::Null,
            _ => word.parse::<i64>().map_or_else(|_| Value::String(word), Value::from),
        }
    }

    fn until<T>(&mut self, end: &str, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let mut items = Vec::new();
        while !self.eat(end) {
            items.push(item(self));
            self.eat(", ");
        }
        items
    }

    fn word(&mut self) -> String {
        let start = self.at;
        while matches!(self.peek(), b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.') {
            self.at += 1;
        }
        assert!(self.at > start, "a word at {}", String::from_utf8_lossy(&self.text[self.at..]));
        String::from_utf8_lossy(&self.text[start..self.at]).into_owned()
    }

    fn quoted(&mut self) -> String {
        let start = self.at;
        self.at += if self.peek() == b'b' { 2 } else { 1 };
        while self.peek() != b'"' {
            self.at += if self.peek() == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        String::from_utf8_lossy(&self.text[start..self.at]).trim_matches('"').to_owned()
    }
}

/// The bytes of a byte string's `Debug` text, in the JSON that a [`Difference`] shows.
pub fn unescape(shown: &str) -> Vec<u8> {
    let text: String = serde_json::from_str(shown).unwrap_or_default();
    let text = text.strip_prefix("b\"").unwrap_or(&text).as_bytes();
    let (mut bytes, mut at) = (Vec::new(), 0);
    while let Some(byte) = text.get(at) {
        let escaped = (*byte == b'\\').then(|| text.get(at + 1)).flatten();
        let (value, len) = match escaped {
            None => (*byte, 1),
            Some(b'x') => {
                let digits = std::str::from_utf8(&text[at + 2..at + 4]).expect("two digits");
                (u8::from_str_radix(digits, 16).expect("hexadecimal"), 4)
            }
            Some(b'n') => (b'\n', 2),
            Some(b'r') => (b'\r', 2),
            Some(b't') => (b'\t', 2),
            Some(b'0') => (0, 2),
            Some(other) => (*other, 2),
        };
        bytes.push(value);
        at += len;
    }
    bytes
}

/// One place where two answers differ: the path without indexes, and both values.
pub struct Difference {
    pub path: String,
    pub ours: String,
    pub theirs: String,
}

/// Every difference between two trees.
pub fn differences(ours: &Value, theirs: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    walk("", ours, theirs, &mut found);
    found
}

fn walk(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<Difference>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            for (name, value) in a {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                walk(&path, value, b.get(name).unwrap_or(&Value::Null), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if named(a) && named(b) => walk_named(path, a, b, found),
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).for_each(|(a, b)| walk(path, a, b, found));
        }
        (a, b) if a == b => {}
        (a, b) => {
            found.push(Difference { path: path.to_owned(), ours: a.to_string(), theirs: b.to_string() })
        }
    }
}

/// Whether every item has a name of its own.
fn named(items: &[Value]) -> bool {
    let names: std::collections::BTreeSet<_> =
        items.iter().filter_map(|item| item["name"].as_str()).collect();
    names.len() == items.len()
}

/// Compares items of the same name; those that only one side has are one difference.
fn walk_named(path: &str, ours: &[Value], theirs: &[Value], found: &mut Vec<Difference>) {
    let with_name =
        |items: &'_ [Value], wanted: &Value| items.iter().position(|item| item["name"] == *wanted);
    let only = |these: &[Value], those: &[Value]| {
        let missing = these.iter().filter(|item| with_name(those, &item["name"]).is_none());
        missing.map(|item| item["name"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>().join(" ")
    };
    let (ours_only, theirs_only) = (only(ours, theirs), only(theirs, ours));
    if !(ours_only.is_empty() && theirs_only.is_empty()) {
        found.push(Difference { path: format!("{path}[]"), ours: ours_only, theirs: theirs_only });
    }
    for item in ours {
        if let Some(at) = with_name(theirs, &item["name"]) {
            walk(path, item, &theirs[at], found);
        }
    }
}

/// Changes every field with this name (the last part of a path) that lies anywhere in the tree.
pub fn each_field(value: &mut Value, change: &mut impl FnMut(&str, &mut Value)) {
    match value {
        Value::Object(fields) => fields.iter_mut().for_each(|(name, value)| {
            change(name, value);
            each_field(value, change);
        }),
        Value::Array(items) => items.iter_mut().for_each(|item| each_field(item, change)),
        _ => {}
    }
}

/// Sorts every list by the text of its items, for answers whose order Kafka leaves to a hash map.
pub fn sort_lists(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(sort_lists),
        Value::Array(items) => {
            items.iter_mut().for_each(sort_lists);
            items.sort_by_key(|item| (item["name"].to_string(), item.to_string()));
        }
        _ => {}
    }
}

#[test]
fn debug_text_becomes_a_tree() {
    let tree = parse(r#"A { b: [C { d: Some("x \" y"), e: None }], f: -1, g: b"\x00\"", h: true }"#);
    assert_eq!(
        tree.to_string(),
        r#"{"b":[{"d":"x \\\" y","e":null}],"f":-1,"g":"b\"\\x00\\","h":"true"}"#
            .replace("\\x00\\\"", "\\x00\\\\\\\"")
    );
}

#[test]
fn bytes_come_back_from_their_text() {
    let bytes: Vec<u8> = (0..=255).collect();
    let text = format!("{:?}", bytes::Bytes::from(bytes.clone()));
    let shown = parse(&text).to_string();
    assert_eq!(unescape(&shown), bytes);
}
