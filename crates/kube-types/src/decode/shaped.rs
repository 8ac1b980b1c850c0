//! Walks a raw body beside the schema: drops and reports what the schema does not know, checks types, writes
//! scalars in canonical form.

use super::{Raw, is_collection};
use crate::quantity::Quantity;
use crate::schema::{Cursor, Shape, TypeDef};
use crate::time;
use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// Object types whose optional text fields are plain strings in Go, so that "" means absent.
const PLAIN_TEXT_TYPES: &[&str] =
    &["ObjectMeta", "PodSpec", "ServiceSpec", "Container", "EnvVar", "ContainerPort", "EventSource"];

/// One walk; `problems` fills in the body's order.
#[derive(Default)]
pub(super) struct Shaper {
    pub problems: Vec<String>,
    /// Path with indexes, for unknown fields: `spec.containers[0].x`.
    path: String,
    /// Names of struct fields only, for type errors as Go gives them: `spec.containers.ports`.
    fields: Vec<String>,
    /// The Go type of the innermost struct.
    holder: String,
}

impl Shaper {
    pub(super) fn run(&mut self, cursor: Cursor<'_>, raw: Raw) -> Result<Value, String> {
        match cursor.shape {
            Shape::Object(_) => {
                let def = cursor.type_def().expect("an object shape has a type");
                self.object(cursor, def, raw)
            }
            Shape::List(_) => self.list(cursor, raw),
            Shape::Map(_) => self.map(cursor, raw),
            Shape::Any => Ok(raw.into_value()),
            scalar => self.scalar(scalar, raw),
        }
    }

    /// `json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32`.
    fn wrong(&self, raw: &Raw, go_type: &str) -> String {
        let found = raw.go_kind();
        if self.fields.is_empty() {
            return format!("json: cannot unmarshal {found} into Go value of type {go_type}");
        }
        let (holder, path) = (&self.holder, self.fields.join("."));
        format!("json: cannot unmarshal {found} into Go struct field {holder}.{path} of type {go_type}")
    }

    fn object(&mut self, cursor: Cursor<'_>, def: &TypeDef, raw: Raw) -> Result<Value, String> {
        let Raw::Map(fields) = raw else {
            return Err(self.wrong(&raw, &go_type_name(def)));
        };
        let outer = std::mem::replace(&mut self.holder, def.short_name().to_string());
        let (mut out, mut seen) = (Map::new(), HashSet::new());
        for (key, value) in fields {
            let mark = self.enter(&key);
            if !seen.insert(key.clone()) {
                self.problems.push(format!("duplicate field \"{}\"", self.path));
            }
            match cursor.child(&key) {
                None => self.problems.push(format!("unknown field \"{}\"", self.path)),
                Some(_) if matches!(value, Raw::Null) => {
                    out.remove(&key);
                }
                Some(child) => {
                    self.fields.push(key.clone());
                    let value = self.run(child, value)?;
                    self.fields.pop();
                    let required = def.field(&key).is_some_and(|field| field.required);
                    if keeps(def, child.shape, required, &value) {
                        out.insert(key, value);
                    } else {
                        out.remove(&key);
                    }
                }
            }
            self.path.truncate(mark);
        }
        self.holder = outer;
        Ok(Value::Object(out))
    }

    fn enter(&mut self, key: &str) -> usize {
        let mark = self.path.len();
        if mark > 0 {
            self.path.push('.');
        }
        self.path.push_str(key);
        mark
    }

    fn list(&mut self, cursor: Cursor<'_>, raw: Raw) -> Result<Value, String> {
        let Raw::List(items) = raw else {
            return Err(self.wrong(&raw, &go_type(cursor)));
        };
        let item = cursor.item().expect("a list has items");
        let mut out = Vec::with_capacity(items.len());
        for (at, raw) in items.into_iter().enumerate() {
            let mark = self.path.len();
            self.path.push_str(&format!("[{at}]"));
            out.push(self.element(item, raw)?);
            self.path.truncate(mark);
        }
        Ok(Value::Array(out))
    }

    fn map(&mut self, cursor: Cursor<'_>, raw: Raw) -> Result<Value, String> {
        let Raw::Map(fields) = raw else {
            return Err(self.wrong(&raw, &go_type(cursor)));
        };
        let mut out = Map::new();
        for (key, raw) in fields {
            let item = cursor.child(&key).expect("a map has values");
            let mark = self.enter(&key);
            if out.contains_key(&key) {
                self.problems.push(format!("duplicate field \"{}\"", self.path));
            }
            let value = self.element(item, raw)?;
            self.path.truncate(mark);
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }

    /// An item of a list or map: null is Go's zero value there.
    fn element(&mut self, item: Cursor<'_>, raw: Raw) -> Result<Value, String> {
        match (item.shape, raw) {
            (Shape::Any, raw) => Ok(raw.into_value()),
            (Shape::Object(_), Raw::Null) => Ok(json!({})),
            (Shape::List(_) | Shape::Map(_), Raw::Null) => Ok(Value::Null),
            (Shape::Int32 | Shape::Int64 | Shape::Double | Shape::IntOrString, Raw::Null) => Ok(json!(0)),
            (Shape::Bool, Raw::Null) => Ok(json!(false)),
            (Shape::Quantity, Raw::Null) => Ok(json!("0")),
            (Shape::Time | Shape::MicroTime, Raw::Null) => Ok(Value::Null),
            (_, Raw::Null) => Ok(json!("")),
            (_, raw) => self.run(item, raw),
        }
    }

    fn scalar(&self, shape: &Shape, raw: Raw) -> Result<Value, String> {
        match (shape, raw) {
            (Shape::String, Raw::String(text)) => Ok(Value::String(text)),
            (Shape::Bool, Raw::Bool(flag)) => Ok(Value::Bool(flag)),
            (Shape::Double, Raw::Number(number)) => Ok(Value::Number(number)),
            (Shape::Int32 | Shape::Int64, Raw::Number(number)) => self.integer(shape, number),
            (Shape::IntOrString, Raw::String(text)) => Ok(Value::String(text)),
            (Shape::IntOrString, Raw::Number(number)) => self.integer(&Shape::Int32, number),
            (Shape::Bytes, Raw::String(text)) => bytes(text),
            (Shape::Quantity, Raw::String(text)) => quantity(text.trim()),
            (Shape::Quantity, Raw::Number(number)) => quantity(&number.to_string()),
            (Shape::Time, Raw::String(text)) => instant(&text).map(|at| json!(time::format_seconds(at))),
            (Shape::MicroTime, Raw::String(text)) => instant(&text).map(|at| json!(time::format_micros(at))),
            (shape, raw) => Err(self.wrong(&raw, scalar_name(shape))),
        }
    }

    fn integer(&self, shape: &Shape, number: serde_json::Number) -> Result<Value, String> {
        let fits = |value: i64| *shape == Shape::Int64 || i32::try_from(value).is_ok();
        match number.as_i64() {
            Some(value) if fits(value) => Ok(json!(value)),
            _ => {
                let name = scalar_name(shape);
                let text = self.wrong(&Raw::Number(number.clone()), name);
                // Go shows a number that does not fit, whole or not.
                Err(text.replacen("unmarshal number into", &format!("unmarshal number {number} into"), 1))
            }
        }
    }
}

/// Go leaves out empty lists and maps, and empty text where the field is a plain string.
fn keeps(def: &TypeDef, shape: &Shape, required: bool, value: &Value) -> bool {
    let empty = match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    if required || !empty {
        return true;
    }
    let plain_text = matches!(shape, Shape::String) && PLAIN_TEXT_TYPES.contains(&def.short_name());
    !(is_collection(shape) || plain_text)
}

fn bytes(text: String) -> Result<Value, String> {
    use base64::Engine;
    let engine = &base64::engine::general_purpose::STANDARD;
    // Go skips line breaks inside base64.
    let clean: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    match engine.decode(&clean) {
        Ok(_) => Ok(Value::String(clean)),
        Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => {
            Err(format!("illegal base64 data at input byte {at}"))
        }
        Err(_) => {
            Err(format!("illegal base64 data at input byte {}", clean.len().saturating_sub(clean.len() % 4)))
        }
    }
}

fn quantity(text: &str) -> Result<Value, String> {
    text.parse::<Quantity>().map(|quantity| json!(quantity.to_string())).map_err(|why| why.to_string())
}

fn instant(text: &str) -> Result<i64, String> {
    time::parse(text).ok_or_else(|| {
        format!("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\"")
    })
}

fn scalar_name(shape: &Shape) -> &'static str {
    match shape {
        Shape::Int32 => "int32",
        Shape::Int64 => "int64",
        Shape::Double => "float64",
        Shape::Bool => "bool",
        Shape::Bytes => "[]uint8",
        Shape::Quantity => "resource.Quantity",
        Shape::IntOrString => "intstr.IntOrString",
        Shape::Time | Shape::MicroTime => "string",
        _ => "string",
    }
}

/// The Go name of a type: package of its version and last word, `v1.PodSpec`.
fn go_type_name(def: &TypeDef) -> String {
    let mut words = def.name.rsplit('.');
    let (name, package) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    format!("{package}.{name}")
}

fn go_type(cursor: Cursor<'_>) -> String {
    match cursor.shape {
        Shape::Object(_) => cursor.type_def().map(go_type_name).unwrap_or_default(),
        Shape::List(_) => format!("[]{}", cursor.item().map(go_type).unwrap_or_default()),
        Shape::Map(_) => format!("map[string]{}", cursor.child("").map(go_type).unwrap_or_default()),
        Shape::Any => "interface {}".into(),
        scalar => scalar_name(scalar).into(),
    }
}
