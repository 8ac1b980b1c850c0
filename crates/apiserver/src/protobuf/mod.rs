//! Request bodies in protobuf: typed Go clients send built-in kinds so.
//!
//! ```text
//! 6b 38 73 00 | runtime.Unknown { 1: TypeMeta { 1: apiVersion, 2: kind }, 2: raw, 3: contentEncoding, 4: contentType }
//!                                                                          └▶ message of the kind ─ table ─▶ Value
//! ```
//!
//! `table.txt` (written by `cargo xtask codegen proto`) has one `= package.Message` line for each message and one line
//! `number json-name kind [o]` for each field. Kinds: `s` text, `t` boolean, `i` integer, `b` bytes, `T` time, `U` time in
//! microseconds, `D` duration, `Q` quantity, `I` int-or-string, `R` raw JSON, `V` named list of texts, `#message`; `[`
//! before it repeats, `{` maps from text. `o`: Go leaves the zero value out of JSON. `.` as the name: inlined in JSON.

use std::collections::HashMap;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube_types::registry::GroupVersionKind;
use kube_types::time;
use serde_json::{Map, Value, json};

/// The content type.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

const TABLE: &str = include_str!("table.txt");
const MAGIC: &[u8] = b"k8s\0";
/// Messages within messages; the deepest built-in kind stays far below.
const DEPTH_MAX: usize = 64;

struct Field {
    number: u32,
    name: &'static str,
    kind: &'static str,
    omit_zero: bool,
}

type Table = HashMap<&'static str, Vec<Field>>;

fn table() -> &'static Table {
    static PARSED: OnceLock<Table> = OnceLock::new();
    PARSED.get_or_init(|| {
        let mut table = Table::new();
        let mut message = "";
        for line in TABLE.lines().filter(|l| !l.starts_with('#')) {
            let words: Vec<&'static str> = line.split(' ').collect();
            match words.as_slice() {
                ["=", name] => message = name,
                [number, name, kind, rest @ ..] => {
                    let number = number.parse().unwrap_or_default();
                    let field = Field { number, name, kind, omit_zero: rest == ["o"] };
                    table.entry(message).or_default().push(field);
                }
                _ => {}
            }
        }
        table
    })
}

/// Decodes a body that must hold this kind. The error is a text for a 400.
pub(crate) fn decode(body: &[u8], expected: &GroupVersionKind) -> Result<Value, String> {
    let unknown = body.strip_prefix(MAGIC).ok_or("provided data does not appear to be a protobuf message")?;
    let (mut raw, mut type_meta) = (&[][..], &[][..]);
    for field in Fields(unknown) {
        match field? {
            (1, Wire::Bytes(bytes)) => type_meta = bytes,
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let (mut version, mut kind) = (String::new(), String::new());
    for field in Fields(type_meta) {
        match field? {
            (1, Wire::Bytes(bytes)) => version = text(bytes)?,
            (2, Wire::Bytes(bytes)) => kind = text(bytes)?,
            _ => {}
        }
    }
    // Options of meta.k8s.io are sent under the version of the objects they are for.
    let message = match &*expected.kind {
        "DeleteOptions" => "meta/v1.DeleteOptions".to_owned(),
        _ => message_name(expected),
    };
    if !table().contains_key(message.as_str()) {
        return Err(format!("{} has no protobuf form here", expected.kind));
    }
    let mut value = Value::Object(message_value(raw, &message, 0)?);
    value["apiVersion"] = json!(version);
    value["kind"] = json!(kind);
    Ok(value)
}

/// `apps/v1.Deployment`: the last word of the Go package is the first of the group.
fn message_name(kind: &GroupVersionKind) -> String {
    let group = match &*kind.group {
        "" => "core",
        group => group.split('.').next().unwrap_or_default(),
    };
    format!("{group}/{}.{}", kind.version, kind.kind)
}

/// One field on the wire.
enum Wire<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Other,
}

/// The fields of a message in their order.
struct Fields<'a>(&'a [u8]);

const CUT: &str = "unexpected EOF";

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(CUT)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("integer overflow".into())
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], String> {
        let len = usize::try_from(len).map_err(|_| CUT)?;
        let (taken, rest) = self.0.split_at_checked(len).ok_or(CUT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u32, Wire<'a>), String> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| "illegal tag")?;
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => self.take(8).map(|_| Wire::Other)?,
            2 => {
                let len = self.varint()?;
                Wire::Bytes(self.take(len)?)
            }
            5 => self.take(4).map(|_| Wire::Other)?,
            other => return Err(format!("illegal wireType {other}")),
        };
        Ok((number, wire))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Wire<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            // What is behind a broken field cannot be found.
            self.0 = &[];
        }
        Some(field)
    }
}

fn text(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|e| e.to_string())
}

fn message_value(bytes: &[u8], message: &str, depth: usize) -> Result<Map<String, Value>, String> {
    if depth > DEPTH_MAX {
        return Err("messages are nested too deeply".into());
    }
    let fields = table().get(message).map_or(&[][..], Vec::as_slice);
    let mut out = Map::new();
    for sent in Fields(bytes) {
        let (number, wire) = sent?;
        let Some(field) = fields.iter().find(|f| f.number == number) else { continue };
        if field.name == "." {
            let inlined = field.kind.trim_start_matches('#');
            if let Wire::Bytes(bytes) = wire {
                out.extend(message_value(bytes, inlined, depth + 1)?);
            }
            continue;
        }
        put(&mut out, field, wire, depth)?;
    }
    Ok(out)
}

fn put(out: &mut Map<String, Value>, field: &Field, wire: Wire<'_>, depth: usize) -> Result<(), String> {
    if let Some(item) = field.kind.strip_prefix('[') {
        let list = out.entry(field.name).or_insert_with(|| json!([]));
        let value = value(item, wire, depth)?;
        list.as_array_mut().into_iter().for_each(|list| list.push(value.clone()));
        return Ok(());
    }
    if let Some(item) = field.kind.strip_prefix('{') {
        let Wire::Bytes(entry) = wire else { return Ok(()) };
        let (key, value) = map_entry(entry, item, depth)?;
        let map = out.entry(field.name).or_insert_with(|| json!({}));
        map.as_object_mut().into_iter().for_each(|map| drop(map.insert(key.clone(), value.clone())));
        return Ok(());
    }
    let value = value(field.kind, wire, depth)?;
    let zero = matches!(&value, Value::Null | Value::Bool(false)) || value == json!(0) || value == json!("");
    if !(field.omit_zero && zero) {
        out.insert(field.name.into(), value);
    }
    Ok(())
}

fn map_entry(entry: &[u8], item: &str, depth: usize) -> Result<(String, Value), String> {
    // A key or value that is the zero value may be left out.
    let (mut key, mut found) = (String::new(), None);
    for field in Fields(entry) {
        match field? {
            (1, Wire::Bytes(bytes)) => key = text(bytes)?,
            (2, wire) => found = Some(value(item, wire, depth)?),
            _ => {}
        }
    }
    let empty = || value(item, Wire::Bytes(&[]), depth);
    Ok((key, found.map_or_else(empty, Ok)?))
}

fn value(kind: &str, wire: Wire<'_>, depth: usize) -> Result<Value, String> {
    let wrong = || format!("wrong wireType for a field of kind {kind}");
    Ok(match (kind, wire) {
        ("s", Wire::Bytes(bytes)) => json!(text(bytes)?),
        ("b", Wire::Bytes(bytes)) => json!(STANDARD.encode(bytes)),
        ("t", Wire::Varint(n)) => json!(n != 0),
        ("i", Wire::Varint(n)) => json!(n.cast_signed()),
        ("T", Wire::Bytes(bytes)) => timestamp(bytes, time::format_seconds)?,
        ("U", Wire::Bytes(bytes)) => timestamp(bytes, time::format_micros)?,
        ("D", Wire::Bytes(bytes)) => json!(format!("{}ns", integers(bytes)?[1])),
        ("Q", Wire::Bytes(bytes)) => json!(first_text(bytes)?),
        ("I", Wire::Bytes(bytes)) => int_or_string(bytes)?,
        ("R", Wire::Bytes(bytes)) => raw_json(bytes)?,
        ("V", Wire::Bytes(bytes)) => json!(texts(bytes)?),
        (kind, Wire::Bytes(bytes)) if kind.starts_with('#') => {
            Value::Object(message_value(bytes, &kind[1..], depth + 1)?)
        }
        _ => return Err(wrong()),
    })
}

/// The integers of fields 1 and 2, at their numbers.
fn integers(bytes: &[u8]) -> Result<[i64; 3], String> {
    let mut out = [0; 3];
    for field in Fields(bytes) {
        if let (number @ 1..=2, Wire::Varint(n)) = field? {
            out[number as usize] = n.cast_signed();
        }
    }
    Ok(out)
}

/// Seconds and nanoseconds; the zero time is an empty message, null in JSON.
fn timestamp(bytes: &[u8], format: fn(i64) -> String) -> Result<Value, String> {
    /// Seconds of the year 1, which Go's zero time is when it is spelled out.
    const ZERO_S: i64 = -62_135_596_800;
    let [_, seconds, nanos] = integers(bytes)?;
    if bytes.is_empty() || seconds == ZERO_S {
        return Ok(Value::Null);
    }
    let micros = seconds.checked_mul(1_000_000).and_then(|s| s.checked_add(nanos / 1000));
    micros.map(|m| json!(format(m))).ok_or_else(|| "time out of range".to_owned())
}

fn texts(bytes: &[u8]) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    for field in Fields(bytes) {
        if let (1, Wire::Bytes(item)) = field? {
            out.push(text(item)?);
        }
    }
    Ok(out)
}

fn first_text(bytes: &[u8]) -> Result<String, String> {
    Ok(texts(bytes)?.into_iter().next_back().unwrap_or_default())
}

fn int_or_string(bytes: &[u8]) -> Result<Value, String> {
    let [_, kind, number] = integers(bytes)?;
    if kind == 0 {
        return Ok(json!(number));
    }
    let mut string = String::new();
    for field in Fields(bytes) {
        if let (3, Wire::Bytes(bytes)) = field? {
            string = text(bytes)?;
        }
    }
    Ok(json!(string))
}

fn raw_json(bytes: &[u8]) -> Result<Value, String> {
    for field in Fields(bytes) {
        if let (1, Wire::Bytes(raw)) = field? {
            return serde_json::from_slice(raw).map_err(|e| e.to_string());
        }
    }
    Ok(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field with bytes in it.
    fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(content.len()).unwrap()];
        out.extend_from_slice(content);
        out
    }

    fn body(version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let meta = [bytes(1, version.as_bytes()), bytes(2, kind.as_bytes())].concat();
        [MAGIC, &bytes(1, &meta), &bytes(2, raw)].concat()
    }

    #[test]
    fn a_config_map_is_read() {
        let metadata = [bytes(1, b"a"), bytes(3, b""), bytes(8, b"")].concat();
        let entry = [bytes(1, b"k"), bytes(2, b"v")].concat();
        let raw = [bytes(1, &metadata), bytes(2, &entry)].concat();
        let kind = GroupVersionKind::new("", "v1", "ConfigMap");
        let expect = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" }, "data": { "k": "v" } });
        assert_eq!(decode(&body("v1", "ConfigMap", &raw), &kind), Ok(expect));
    }

    #[test]
    fn inlined_and_special_fields_are_read() {
        // A port of a service: targetPort "http", nodePort 0.
        let port = [
            bytes(1, b"web"),
            vec![3 << 3, 80],
            bytes(4, &[8, 1, 16, 0, 26, 4, b'h', b't', b't', b'p']),
            vec![5 << 3, 0],
        ]
        .concat();
        let spec = bytes(1, &port);
        let kind = GroupVersionKind::new("", "v1", "Service");
        let value = decode(&body("v1", "Service", &bytes(2, &spec)), &kind).unwrap();
        assert_eq!(value["spec"], json!({ "ports": [{ "name": "web", "port": 80, "targetPort": "http" }] }));
        // A volume's source stands beside its name; quantities and maps of them.
        let volume = [bytes(1, b"tmp"), bytes(2, &bytes(2, b""))].concat();
        let raw = bytes(2, &bytes(1, &volume));
        let value = decode(&body("v1", "Pod", &raw), &GroupVersionKind::new("", "v1", "Pod")).unwrap();
        assert_eq!(value["spec"]["volumes"], json!([{ "name": "tmp", "emptyDir": {} }]));
    }

    #[test]
    fn garbage_is_refused() {
        let kind = GroupVersionKind::new("", "v1", "Pod");
        let whole = body("v1", "Pod", &bytes(1, &bytes(1, b"name")));
        for cut in 0..whole.len() {
            // Never a panic; what is cut within a field is an error.
            let _ = decode(&whole[..cut], &kind);
        }
        for broken in [
            &b""[..],
            b"k8s",
            b"k8s\0\xff",
            b"k8s\0\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"k8s\0\x12\x7f",
        ] {
            assert!(decode(broken, &kind).is_err(), "{broken:?}");
        }
    }
}
