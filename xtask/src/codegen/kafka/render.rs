//! Definitions to Rust: per message a module with its structs, each with `decode` and `encode`, and three tables.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result};

use super::schema::{Field, Kind, Spec, Type, Versions};

/// First line of every file.
const MARK: &str = "// Made by `cargo xtask codegen kafka`; not to be edited.\n\n";

/// All files, by path below `generated/`.
pub fn all(specs: &BTreeMap<String, Spec>, errors: &str) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let (messages, others): (Vec<&Spec>, Vec<&Spec>) =
        specs.values().partition(|s| matches!(s.kind, Kind::Request | Kind::Response | Kind::Header));
    let (metadata, records): (Vec<&Spec>, Vec<&Spec>) =
        others.into_iter().partition(|s| s.kind == Kind::Metadata);
    let groups = [("messages", &messages), ("records", &records), ("metadata", &metadata)];
    for (dir, group) in groups {
        for spec in group {
            files.insert(format!("{dir}/{}.rs", snake(&spec.name)), message(spec)?);
        }
        files.insert(format!("{dir}/mod.rs"), index(dir, group));
    }
    files.insert("api.rs".into(), api_keys(specs));
    files.insert("error.rs".into(), error_codes(errors)?);
    files.insert("table.rs".into(), table(&messages, &records, &metadata));
    files.insert("mod.rs".into(), root());
    Ok(files)
}

fn root() -> String {
    format!(
        "{MARK}#![allow(clippy::field_reassign_with_default, clippy::single_match)]\n\
         pub mod api;\npub mod error;\npub mod messages;\npub mod metadata;\npub mod records;\npub mod table;\n"
    )
}

fn index(dir: &str, group: &[&Spec]) -> String {
    let what = match dir {
        "messages" => "Requests, responses and headers.",
        "metadata" => "Records of `__cluster_metadata`.",
        _ => "Keys and values of internal topics, control records, and the data that clients embed.",
    };
    let mut out = format!("{MARK}//! {what}\n\n");
    for spec in group {
        let _ = writeln!(out, "pub mod {};", snake(&spec.name));
    }
    out.push('\n');
    for spec in group {
        let _ = writeln!(out, "pub use {}::{};", snake(&spec.name), spec.name);
    }
    out
}

/// A struct of a message while it is rendered.
struct Shape<'a> {
    spec: &'a Spec,
    valid: Versions,
    name: &'a str,
    fields: Vec<&'a Field>,
}

fn message(spec: &Spec) -> Result<String> {
    let valid = spec.valid.with_context(|| format!("{} has no versions", spec.name))?;
    let mut out =
        format!("{MARK}//! `{}`, versions {}.\n\nuse crate::codec::*;\n\n", spec.name, shown(valid));
    shape(spec, valid, &spec.name, &spec.fields).render(&mut out);
    let flexible = spec.flexible.map_or("i16::MAX".into(), |v| v.from.to_string());
    let _ = write!(
        out,
        "\nimpl Message for {name} {{\n const NAME: &'static str = \"{name}\";\n const KEY: i16 = {key};\n \
         const VERSIONS: (i16, i16) = ({from}, {to});\n const FLEXIBLE_FROM: i16 = {flexible};\n}}\n",
        name = spec.name,
        key = spec.key,
        from = valid.from,
        to = valid.to,
    );
    for (name, fields) in &spec.structs {
        out.push('\n');
        shape(spec, valid, name, fields).render(&mut out);
    }
    Ok(out)
}

fn shape<'a>(spec: &'a Spec, valid: Versions, name: &'a str, fields: &'a [Field]) -> Shape<'a> {
    let fields = fields.iter().filter(|f| f.versions.and(valid).is_some()).collect();
    Shape { spec, valid, name, fields }
}

fn shown(v: Versions) -> String {
    match (v.from, v.to) {
        (a, b) if a == b => format!("{a}"),
        (a, i16::MAX) => format!("{a}+"),
        (a, b) => format!("{a}-{b}"),
    }
}

impl Shape<'_> {
    fn render(&self, out: &mut String) {
        self.declaration(out);
        self.defaults(out);
        let (decode, encode) = (self.decode(), self.encode());
        let version = |body: &str| if uses_version(body) { "version" } else { "_version" };
        let _ = write!(
            out,
            "\nimpl Wire for {name} {{\n const MIN_SIZE: usize = {min};\n\n\
             fn decode(r: &mut Reader, {vd}: i16) -> Result<Self, DecodeError> {{\n{decode}}}\n\n\
             fn encode(&self, w: &mut Encoder, {ve}: i16) {{\n{encode}}}\n}}\n",
            name = self.name,
            min = self.min_size(),
            vd = version(&decode),
            ve = version(&encode),
        );
    }

    fn declaration(&self, out: &mut String) {
        let derived = if self.needs_default_impl() { "" } else { ", Default" };
        let _ = write!(out, "#[derive(Clone, Debug, PartialEq{derived})]\npub struct {} {{\n", self.name);
        for field in &self.fields {
            if let Some(note) = self.note(field) {
                let _ = writeln!(out, "/// {note}");
            }
            let _ = writeln!(out, "pub {}: {},", rust_name(field), rust_type(field));
        }
        out.push_str("}\n");
    }

    /// What the type does not say: versions, tag, default.
    fn note(&self, field: &Field) -> Option<String> {
        let mut notes = Vec::new();
        if self.condition(field.versions).is_some() {
            notes.push(format!("versions {}", shown(field.versions)));
        }
        if let Some((_, tag)) = field.tagged {
            notes.push(format!("tag {tag}"));
        }
        if let Some(nullable) =
            field.nullable.filter(|n| self.condition(*n).is_some() && *n != field.versions)
        {
            notes.push(format!("nullable {}", shown(nullable)));
        }
        if !field.default.is_empty() && field.default != "null" {
            notes.push(format!("default {}", field.default));
        }
        (!notes.is_empty()).then(|| notes.join(", "))
    }

    fn needs_default_impl(&self) -> bool {
        self.fields.iter().any(|f| default_of(f) != zero_of(f))
    }

    fn defaults(&self, out: &mut String) {
        if !self.needs_default_impl() {
            return;
        }
        let _ = write!(out, "\nimpl Default for {} {{\nfn default() -> Self {{\nSelf {{\n", self.name);
        for field in &self.fields {
            let _ = writeln!(out, "{}: {},", rust_name(field), default_of(field));
        }
        out.push_str("}\n}\n}\n");
    }

    /// The Rust condition for a version to be within, None where it always is.
    fn condition(&self, versions: Versions) -> Option<String> {
        let (low, high) = (versions.from > self.valid.from, versions.to < self.valid.to);
        match (low, high) {
            (false, false) => None,
            (true, false) => Some(format!("version >= {}", versions.from)),
            (false, true) => Some(format!("version <= {}", versions.to)),
            (true, true) if versions.from == versions.to => Some(format!("version == {}", versions.from)),
            (true, true) => Some(format!("({}..={}).contains(&version)", versions.from, versions.to)),
        }
    }

    /// The Rust expression that says whether the compact forms are used.
    fn flex(&self, field: Option<&Field>) -> &'static str {
        if field.is_some_and(|f| f.never_flexible) {
            return "false";
        }
        match self.spec.flexible.and_then(|f| f.and(self.valid)) {
            None => "false",
            Some(f) if f.from <= self.valid.from => "true",
            Some(_) => "flex",
        }
    }

    fn flex_line(&self, body: &str) -> String {
        let used = body.contains("flex");
        let from = self.spec.flexible.map_or(i16::MAX, |f| f.from);
        if used { format!("let flex = version >= {from};\n") } else { String::new() }
    }

    fn split(&self) -> (Vec<&Field>, Vec<&Field>) {
        let (mut tagged, plain): (Vec<&Field>, Vec<&Field>) =
            self.fields.iter().partition(|f| f.tagged.is_some());
        tagged.sort_by_key(|f| f.tagged.map(|(_, tag)| tag));
        (plain, tagged)
    }

    /// A line per field; neighbours with the same condition share its block.
    fn lines(&self, fields: &[&Field], line: impl Fn(&Field) -> String) -> String {
        let mut out = String::new();
        for group in fields.chunk_by(|a, b| self.condition(a.versions) == self.condition(b.versions)) {
            let block: String = group.iter().map(|field| line(field)).collect();
            out += &match self.condition(group[0].versions) {
                Some(when) => format!("if {when} {{ {block} }}\n"),
                None => block,
            };
        }
        out
    }

    fn decode(&self) -> String {
        let (plain, tagged) = self.split();
        let mut body =
            self.lines(&plain, |field| format!("m.{} = {};\n", rust_name(field), self.read(field)));
        body += &self.decode_tags(&tagged);
        let m = if self.fields.is_empty() { "let m" } else { "let mut m" };
        format!("{}{m} = Self::default();\n{body}Ok(m)\n", self.flex_line(&body))
    }

    fn decode_tags(&self, tagged: &[&Field]) -> String {
        let mut arms = String::new();
        for field in tagged {
            let Some((versions, tag)) = field.tagged else { continue };
            let when = self.condition(versions).map_or(String::new(), |c| format!(" if {c}"));
            let _ = writeln!(arms, "{tag}{when} => m.{} = {},", rust_name(field), self.read(field));
        }
        let call = match arms.is_empty() {
            true => "r.skip_tags()?;\n".to_owned(),
            false => format!("r.tags(|tag, r| {{ match tag {{ {arms} _ => {{}} }} Ok(()) }})?;\n"),
        };
        self.when_flexible(call)
    }

    fn when_flexible(&self, call: String) -> String {
        match self.flex(None) {
            "false" => String::new(),
            "true" => call,
            flex => format!("if {flex} {{ {call} }}\n"),
        }
    }

    fn encode(&self) -> String {
        let (plain, tagged) = self.split();
        let mut body = self.lines(&plain, |field| format!("{};\n", self.write(field)));
        let mut tags = String::new();
        for field in &tagged {
            let Some((versions, tag)) = field.tagged else { continue };
            let when = self.condition(versions).map_or(String::new(), |c| format!("{c} && "));
            let differs = differs_from_default(field);
            let _ = writeln!(tags, "if {when}{differs} {{ t.field({tag}, |w| {}); }}", self.write(field));
        }
        body += &self.when_flexible(match tags.is_empty() {
            true => "w.no_tags();\n".to_owned(),
            false => format!("w.tags(|t| {{ {tags} }});\n"),
        });
        let unused = if body.is_empty() { "let _ = w;\n" } else { "" };
        format!("{}{unused}{body}", self.flex_line(&body))
    }

    fn read(&self, field: &Field) -> String {
        let flex = self.flex(Some(field));
        let plain = format!("{}?", self.read_value(&field.ty, flex));
        let Some(nullable) = field.nullable.filter(|_| field.ty != Type::Records) else { return plain };
        let maybe = match &field.ty {
            Type::String => format!("r.nullable_string({flex})?"),
            Type::Bytes => format!("r.nullable_bytes({flex})?"),
            Type::Array(element) => {
                let (min, one) = (self.min_of(element), self.read_value(element, flex));
                format!("r.nullable_array({flex}, {min}, |r| {one})?")
            }
            other => format!("r.nullable_struct(|r| {})?", self.read_value(other, flex)),
        };
        match self.within_field(nullable, field) {
            None => maybe,
            Some(when) => format!("if {when} {{ {maybe} }} else {{ Some({plain}) }}"),
        }
    }

    /// The condition for a field that is present to be nullable, None where it always is.
    fn within_field(&self, nullable: Versions, field: &Field) -> Option<String> {
        let present = field.versions.and(self.valid).unwrap_or(self.valid);
        (nullable.from > present.from || nullable.to < present.to)
            .then(|| self.condition(nullable).unwrap_or_else(|| format!("version >= {}", nullable.from)))
    }

    /// A read that gives `Result<T>`.
    fn read_value(&self, ty: &Type, flex: &str) -> String {
        match ty {
            Type::String => format!("r.string({flex})"),
            Type::Bytes => format!("r.bytes({flex})"),
            Type::Records => format!("r.nullable_bytes({flex})"),
            Type::Struct(name) => format!("{name}::decode(r, version)"),
            Type::Array(element) => {
                format!("r.array({flex}, {}, |r| {})", self.min_of(element), self.read_value(element, flex))
            }
            number => format!("r.{}()", primitive(number)),
        }
    }

    fn write(&self, field: &Field) -> String {
        let (flex, name) = (self.flex(Some(field)), rust_name(field));
        let Some(nullable) = field.nullable.filter(|_| field.ty != Type::Records) else {
            return self.write_value(&field.ty, flex, &format!("self.{name}"));
        };
        let (maybe, empty) = match &field.ty {
            Type::String => (
                format!("w.nullable_string({flex}, self.{name}.as_deref())"),
                format!("w.string({flex}, self.{name}.as_deref().unwrap_or_default())"),
            ),
            Type::Bytes => (
                format!("w.nullable_bytes({flex}, self.{name}.as_deref())"),
                format!("w.bytes({flex}, self.{name}.as_deref().unwrap_or_default())"),
            ),
            Type::Array(element) => {
                let one = self.write_value(element, flex, "*x");
                (
                    format!("w.nullable_array({flex}, self.{name}.as_deref(), |w, x| {one})"),
                    format!("w.array({flex}, self.{name}.as_deref().unwrap_or_default(), |w, x| {one})"),
                )
            }
            _ => (
                format!("w.nullable_struct(self.{name}.as_ref(), |w, x| x.encode(w, version))"),
                format!("self.{name}.clone().unwrap_or_default().encode(w, version)"),
            ),
        };
        match self.within_field(nullable, field) {
            None => maybe,
            Some(when) => format!("if {when} {{ {maybe}; }} else {{ {empty}; }}"),
        }
    }

    fn write_value(&self, ty: &Type, flex: &str, place: &str) -> String {
        let reference = place.strip_prefix('*').map_or_else(|| format!("&{place}"), str::to_owned);
        let target = place.trim_start_matches('*');
        match ty {
            Type::String => format!("w.string({flex}, {reference})"),
            Type::Bytes => format!("w.bytes({flex}, {reference})"),
            Type::Records => format!("w.records({flex}, {target}.as_ref())"),
            Type::Struct(_) => format!("{target}.encode(w, version)"),
            Type::Array(element) => {
                format!("w.array({flex}, {reference}, |w, x| {})", self.write_value(element, flex, "*x"))
            }
            number => format!("w.{}({place})", primitive(number)),
        }
    }

    fn min_of(&self, ty: &Type) -> String {
        match ty {
            Type::Struct(name) => format!("{name}::MIN_SIZE"),
            other => self.least(other, true, self.valid.from).to_string(),
        }
    }

    /// The least size in any version, at least 1 so that a count can always be bounded.
    fn min_size(&self) -> usize {
        let versions = self.valid.from..=self.valid.to.min(self.valid.from + 64);
        versions.map(|v| self.size_at(&self.fields, v)).min().unwrap_or(1).max(1)
    }

    fn size_at(&self, fields: &[&Field], version: i16) -> usize {
        let flex = self.spec.flexible.is_some_and(|f| f.from <= version);
        let within = |v: Versions| v.from <= version && version <= v.to;
        let one = |f: &&&Field| match f.nullable.is_some_and(within) && matches!(f.ty, Type::Struct(_)) {
            true => 1,
            false => self.least(&f.ty, flex, version),
        };
        let plain = fields.iter().filter(|f| within(f.versions) && f.tagged.is_none());
        plain.map(|f| one(&f)).sum::<usize>() + usize::from(flex)
    }

    fn least(&self, ty: &Type, flex: bool, version: i16) -> usize {
        match ty {
            Type::Bool | Type::Int8 => 1,
            Type::Int16 | Type::Uint16 => 2,
            Type::Int32 | Type::Uint32 => 4,
            Type::Int64 | Type::Float64 => 8,
            Type::Uuid => 16,
            Type::String => 2 - usize::from(flex),
            Type::Bytes | Type::Records | Type::Array(_) => 4 - 3 * usize::from(flex),
            Type::Struct(name) => {
                let fields: Vec<&Field> = self.spec.structs[name].iter().collect();
                self.size_at(&fields, version)
            }
        }
    }
}

/// Whether the parameter is used, not merely a field of that name.
fn uses_version(body: &str) -> bool {
    ["version >=", "version <=", "version ==", "&version)", ", version)"]
        .iter()
        .any(|use_| body.match_indices(use_).any(|(at, _)| at == 0 || !body[..at].ends_with(['.', '_'])))
}

fn primitive(ty: &Type) -> &'static str {
    match ty {
        Type::Bool => "bool",
        Type::Int8 => "i8",
        Type::Int16 => "i16",
        Type::Uint16 => "u16",
        Type::Int32 => "i32",
        Type::Uint32 => "u32",
        Type::Int64 => "i64",
        Type::Float64 => "f64",
        _ => "uuid",
    }
}

fn rust_type(field: &Field) -> String {
    fn plain(ty: &Type) -> String {
        match ty {
            Type::String => "String".into(),
            Type::Bytes => "Bytes".into(),
            Type::Records => "Option<Bytes>".into(),
            Type::Uuid => "Uuid".into(),
            Type::Struct(name) => name.clone(),
            Type::Array(element) => format!("Vec<{}>", plain(element)),
            number => primitive(number).into(),
        }
    }
    match (field.nullable, &field.ty) {
        (None, ty) | (Some(_), ty @ Type::Records) => plain(ty),
        (Some(_), ty) => format!("Option<{}>", plain(ty)),
    }
}

/// The default as Rust, as `FieldSpec.fieldDefault` has it.
fn default_of(field: &Field) -> String {
    let optional = field.nullable.is_some();
    let some = |value: &str| if optional { format!("Some({value})") } else { value.to_owned() };
    match &field.ty {
        Type::Records => "None".into(),
        _ if field.default == "null" => "None".into(),
        Type::String if field.default.is_empty() => some("String::new()"),
        Type::String => some(&format!("String::from({:?})", field.default)),
        Type::Bytes => some("Bytes::new()"),
        Type::Array(_) => some("Vec::new()"),
        Type::Struct(name) => some(&format!("{name}::default()")),
        Type::Uuid => "Uuid::nil()".into(),
        Type::Bool if field.default.is_empty() => "false".into(),
        Type::Float64 if field.default.is_empty() => "0.0".into(),
        _ if field.default.is_empty() => "0".into(),
        _ => field.default.clone(),
    }
}

/// What a derived `Default` would give.
fn zero_of(field: &Field) -> String {
    match (&field.ty, field.nullable) {
        (Type::Records, _) => "None".into(),
        (_, Some(_)) => "None".into(),
        _ => default_of(&Field { default: String::new(), ..field.clone() }),
    }
}

fn differs_from_default(field: &Field) -> String {
    let (name, default) = (rust_name(field), default_of(field));
    match (&field.ty, default.as_str()) {
        (_, "None") => format!("self.{name}.is_some()"),
        (Type::Bool, "false") => format!("self.{name}"),
        (Type::Bool, "true") => format!("!self.{name}"),
        (Type::String | Type::Bytes | Type::Array(_), _) if field.nullable.is_none() => {
            format!("!self.{name}.is_empty()")
        }
        (Type::String | Type::Bytes | Type::Array(_), _) => {
            format!("self.{name}.as_ref().is_none_or(|x| !x.is_empty())")
        }
        (_, default) => format!("self.{name} != {default}"),
    }
}

fn rust_name(field: &Field) -> String {
    let name = snake(&field.name);
    match name.as_str() {
        "type" | "match" | "ref" | "where" => format!("{name}_"),
        _ => name,
    }
}

/// `TopicId` to `topic_id`, `ISRNodes` to `isr_nodes`.
pub fn snake(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (i, c) in chars.iter().enumerate() {
        let after_small = i > 0 && !chars[i - 1].is_uppercase();
        let before_small = chars.get(i + 1).is_some_and(|n| n.is_lowercase());
        if c.is_uppercase() && i > 0 && (after_small || before_small) {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}

fn api_keys(specs: &BTreeMap<String, Spec>) -> String {
    let mut requests: Vec<&Spec> = specs.values().filter(|s| s.kind == Kind::Request).collect();
    requests.sort_by_key(|s| s.key);
    let mut out = format!("{MARK}//! The API keys of a broker's listener.\n\nuse crate::api::Versions;\n\n");
    out += "/// An API key that brokers serve.\n#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]\n\
            #[repr(i16)]\npub enum ApiKey {\n";
    let name = |s: &Spec| s.name.trim_end_matches("Request").to_owned();
    for spec in &requests {
        let _ = writeln!(out, "{} = {},", name(spec), spec.key);
    }
    out += "}\n\n/// Every key with its name and versions, in the order of the keys.\n";
    out += "pub(crate) static KEYS: &[(ApiKey, &str, Versions)] = &[\n";
    for spec in &requests {
        let Some(valid) = spec.valid else { continue };
        let _ = writeln!(
            out,
            "(ApiKey::{n}, \"{n}\", Versions {{ min: {}, max: {}, stable_max: {}, flexible_from: {} }}),",
            valid.from,
            valid.to,
            valid.to - i16::from(spec.unstable),
            spec.flexible.map_or("i16::MAX".into(), |f| f.from.to_string()),
            n = name(spec),
        );
    }
    out + "];\n"
}

fn error_codes(table: &str) -> Result<String> {
    let mut out = format!("{MARK}//! Kafka's error codes.\n\n");
    out += "/// An error code of the protocol.\n\
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]\n#[repr(i16)]\n\
            pub enum ErrorCode {\n";
    let mut rows = String::new();
    for line in table.lines() {
        let parts: Vec<&str> = line.splitn(4, '\t').collect();
        let [code, name, retriable, message] = parts[..] else { anyhow::bail!("error row {line:?}") };
        let variant = camel(name);
        let default = if variant == "None" { "#[default]\n" } else { "" };
        let _ = writeln!(out, "/// `{name}`\n{default}{variant} = {code},");
        let _ = writeln!(rows, "(ErrorCode::{variant}, \"{name}\", {retriable}, {message:?}),");
    }
    out += "}\n\n/// Every code with its name, whether a client may retry, and the message clients print.\n";
    out += "pub(crate) static CODES: &[(ErrorCode, &str, bool, &str)] = &[\n";
    Ok(out + &rows + "];\n")
}

fn camel(screaming: &str) -> String {
    let word = |w: &str| w[..1].to_owned() + &w[1..].to_lowercase();
    screaming.split('_').map(word).collect()
}

fn table(messages: &[&Spec], records: &[&Spec], metadata: &[&Spec]) -> String {
    let mut out = format!("{MARK}//! Every message, for tests, tools and fuzzers.\n\n");
    out += "use super::{messages as m, metadata as c, records as r};\nuse crate::codec::MessageInfo;\n\n";
    out += "/// Every message with what is needed to decode and encode it by name.\n";
    out += "pub static MESSAGES: &[MessageInfo] = &[\n";
    for (module, group) in [("m", messages), ("r", records), ("c", metadata)] {
        for spec in group {
            let _ = writeln!(out, "MessageInfo::of::<{module}::{}>(),", spec.name);
        }
    }
    out + "];\n"
}
