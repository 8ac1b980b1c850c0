//! A parsed body that still has its repeated fields and their order.

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// A value as it stood in the body.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    List(Vec<Raw>),
    /// In the body's order, repeats included.
    Map(Vec<(String, Raw)>),
}

impl Raw {
    /// Go's word for it in `json: cannot unmarshal ... into`.
    pub(super) fn go_kind(&self) -> String {
        match self {
            Raw::Null => "null".into(),
            Raw::Bool(_) => "bool".into(),
            Raw::Number(number) if number.is_f64() => format!("number {number}"),
            Raw::Number(_) => "number".into(),
            Raw::String(_) => "string".into(),
            Raw::List(_) => "array".into(),
            Raw::Map(_) => "object".into(),
        }
    }

    /// The plain value; the last of repeated fields wins.
    pub fn into_value(self) -> Value {
        match self {
            Raw::Null => Value::Null,
            Raw::Bool(flag) => Value::Bool(flag),
            Raw::Number(number) => Value::Number(number),
            Raw::String(text) => Value::String(text),
            Raw::List(items) => items.into_iter().map(Raw::into_value).collect(),
            Raw::Map(fields) => Value::Object(
                fields.into_iter().map(|(key, value)| (key, value.into_value())).collect::<Map<_, _>>(),
            ),
        }
    }

    pub fn from_value(value: Value) -> Raw {
        match value {
            Value::Null => Raw::Null,
            Value::Bool(flag) => Raw::Bool(flag),
            Value::Number(number) => Raw::Number(number),
            Value::String(text) => Raw::String(text),
            Value::Array(items) => Raw::List(items.into_iter().map(Raw::from_value).collect()),
            Value::Object(map) => {
                Raw::Map(map.into_iter().map(|(key, value)| (key, Raw::from_value(value))).collect())
            }
        }
    }
}

/// Parses JSON. Nesting past 128 levels is an error (the parser's own limit).
pub fn parse_json(body: &[u8]) -> Result<Raw, String> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err("unexpected end of JSON input".into());
    }
    serde_json::from_slice(body).map_err(|why| go_text(body, &why))
}

/// A syntax error in the words of Go's parser; others as they are.
fn go_text(body: &[u8], why: &serde_json::Error) -> String {
    if why.is_eof() {
        return "unexpected end of JSON input".into();
    }
    let text = why.to_string();
    let line = body.split(|byte| *byte == b'\n').nth(why.line().saturating_sub(1)).unwrap_or(&[]);
    let found = line.get(why.column().saturating_sub(1)).map_or('?', |byte| char::from(*byte));
    let place = [
        ("expected value", "looking for beginning of value"),
        ("key must be a string", "looking for beginning of object key string"),
        ("expected `:`", "after object key"),
        ("expected `,` or `}`", "after object key:value pair"),
        ("expected `,` or `]`", "after array element"),
        ("trailing comma", "looking for beginning of object key string"),
        ("trailing characters", "after top-level value"),
    ];
    match place.iter().find(|(start, _)| text.starts_with(start)) {
        Some((_, place)) => format!("invalid character '{found}' {place}"),
        None => text,
    }
}

/// The repeated keys anywhere in a body, as `yaml.UnmarshalStrict` reports them.
pub fn repeated_keys(raw: &Raw) -> Vec<String> {
    let mut found = Vec::new();
    gather_repeats(raw, &mut found);
    found
}

fn gather_repeats(raw: &Raw, found: &mut Vec<String>) {
    match raw {
        Raw::List(items) => items.iter().for_each(|item| gather_repeats(item, found)),
        Raw::Map(fields) => {
            let mut seen = std::collections::HashSet::new();
            for (key, value) in fields {
                if !seen.insert(key) {
                    found.push(format!("key \"{key}\" already set in map"));
                }
                gather_repeats(value, found);
            }
        }
        _ => {}
    }
}

/// Parses one YAML document; aliases and sizes are bounded by the parser's budget.
pub fn parse_yaml(body: &[u8]) -> Result<Raw, String> {
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::PassThrough,
        with_snippet: false,
        // File modes are written `0644`, which YAML 1.1 reads as octal.
        legacy_octal_numbers: true,
    };
    serde_saphyr::from_slice_with_options(body, options)
        .map_err(|why| format!("error converting YAML to JSON: {why}"))
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Raw, E> {
        Ok(Raw::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Raw, E> {
        Ok(Raw::Number(number.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Raw, E> {
        Number::from_f64(number).map(Raw::Number).ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::String(text.to_string()))
    }

    fn visit_string<E>(self, text: String) -> Result<Raw, E> {
        Ok(Raw::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut fields = Vec::new();
        while let Some(Key(key)) = access.next_key()? {
            fields.push((key, access.next_value()?));
        }
        Ok(Raw::Map(fields))
    }
}

/// A map's key: always text, also where YAML wrote it without quotes (`y: 1`, `8080: x`).
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        String::deserialize(deserializer).map(Key)
    }
}
