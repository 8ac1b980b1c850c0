//! A definition as Kafka's `MessageSpec` reads it (`generator/.../MessageSpec.java`, `FieldSpec.java`).

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

/// Versions from first to last, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Versions {
    pub from: i16,
    pub to: i16,
}

impl Versions {
    /// `3+`, `1-4`, `2`; `none` is nothing.
    fn parse(text: &str) -> Result<Option<Self>> {
        let number = |t: &str| t.parse::<i16>().with_context(|| format!("version {t:?}"));
        if text == "none" {
            return Ok(None);
        }
        let (from, to) = match (text.strip_suffix('+'), text.split_once('-')) {
            (Some(from), _) => (number(from)?, i16::MAX),
            (None, Some((from, to))) => (number(from)?, number(to)?),
            (None, None) => (number(text)?, number(text)?),
        };
        Ok(Some(Self { from, to }))
    }

    /// The versions in both.
    pub fn and(self, other: Self) -> Option<Self> {
        let both = Self { from: self.from.max(other.from), to: self.to.min(other.to) };
        (both.from <= both.to).then_some(both)
    }
}

/// What a definition is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Request,
    Response,
    Header,
    Data,
    Metadata,
    CoordinatorKey,
    CoordinatorValue,
}

/// The type of a field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Type {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Uint32,
    Int64,
    Float64,
    Uuid,
    String,
    Bytes,
    Records,
    Struct(String),
    Array(Box<Type>),
}

impl Type {
    fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "bool" => Self::Bool,
            "int8" => Self::Int8,
            "int16" => Self::Int16,
            "uint16" => Self::Uint16,
            "int32" => Self::Int32,
            "uint32" => Self::Uint32,
            "int64" => Self::Int64,
            "float64" => Self::Float64,
            "uuid" => Self::Uuid,
            "string" => Self::String,
            "bytes" => Self::Bytes,
            "records" => Self::Records,
            other => match other.strip_prefix("[]") {
                Some(element) => Self::Array(Box::new(Self::parse(element)?)),
                None if other.starts_with(char::is_uppercase) => Self::Struct(other.into()),
                None => bail!("unknown type {other:?}"),
            },
        })
    }
}

/// A field of a message or of a struct in it.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub ty: Type,
    pub versions: Versions,
    pub nullable: Option<Versions>,
    /// Where it travels as a tagged field, and its tag.
    pub tagged: Option<(Versions, u32)>,
    /// As written; empty where the type's zero is meant.
    pub default: String,
    /// Never in the compact form (the client id of the request header).
    pub never_flexible: bool,
}

/// A whole definition.
#[derive(Clone, Debug)]
pub struct Spec {
    pub name: String,
    pub kind: Kind,
    /// API key, or record type of an internal topic; -1 where there is none.
    pub key: i16,
    pub valid: Option<Versions>,
    pub flexible: Option<Versions>,
    pub listeners: Vec<String>,
    pub unstable: bool,
    pub fields: Vec<Field>,
    /// The structs inside, by name, those of `commonStructs` included.
    pub structs: BTreeMap<String, Vec<Field>>,
}

/// Reads a definition: JSON with whole lines of `//` comments.
pub fn parse(text: &str) -> Result<Spec> {
    let bare: String =
        text.lines().filter(|l| !l.trim_start().starts_with("//")).flat_map(|l| [l, "\n"]).collect();
    let json: Value = serde_json::from_str(&bare)?;
    let mut structs = BTreeMap::new();
    for common in json["commonStructs"].as_array().into_iter().flatten() {
        let fields = fields(&common["fields"], &mut structs)?;
        structs.insert(string(common, "name")?, fields);
    }
    Ok(Spec {
        name: string(&json, "name")?,
        kind: kind(&string(&json, "type")?)?,
        key: json["apiKey"].as_i64().unwrap_or(-1) as i16,
        valid: Versions::parse(&string(&json, "validVersions")?)?,
        flexible: versions(&json, "flexibleVersions")?,
        listeners: json["listeners"].as_array().into_iter().flatten().filter_map(text_of).collect(),
        unstable: json["latestVersionUnstable"].as_bool().unwrap_or(false),
        fields: fields(&json["fields"], &mut structs)?,
        structs,
    })
}

fn kind(text: &str) -> Result<Kind> {
    Ok(match text {
        "request" => Kind::Request,
        "response" => Kind::Response,
        "header" => Kind::Header,
        "data" => Kind::Data,
        "metadata" => Kind::Metadata,
        "coordinator-key" => Kind::CoordinatorKey,
        "coordinator-value" => Kind::CoordinatorValue,
        other => bail!("unknown kind {other:?}"),
    })
}

fn text_of(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn string(json: &Value, name: &str) -> Result<String> {
    text_of(&json[name]).ok_or_else(|| anyhow!("no {name} in {json}"))
}

fn versions(json: &Value, name: &str) -> Result<Option<Versions>> {
    json[name].as_str().map_or(Ok(None), Versions::parse)
}

fn fields(json: &Value, structs: &mut BTreeMap<String, Vec<Field>>) -> Result<Vec<Field>> {
    json.as_array().into_iter().flatten().map(|one| field(one, structs)).collect()
}

fn field(json: &Value, structs: &mut BTreeMap<String, Vec<Field>>) -> Result<Field> {
    let ty = Type::parse(&string(json, "type")?)?;
    if let Some(inner) = json.get("fields") {
        let inner = fields(inner, structs)?;
        structs.insert(struct_name(&ty).context("fields of no struct")?.to_owned(), inner);
    }
    let tag = json["tag"].as_u64().map(|t| t as u32);
    let tagged = versions(json, "taggedVersions")?;
    Ok(Field {
        name: string(json, "name")?,
        ty,
        // A field that is only ever tagged may leave its versions out.
        versions: versions(json, "versions")?.or(tagged).context("no versions")?,
        nullable: versions(json, "nullableVersions")?,
        tagged: tagged.zip(tag),
        default: match &json["default"] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        },
        never_flexible: json["flexibleVersions"].as_str() == Some("none"),
    })
}

/// The struct that a type holds, if any.
pub fn struct_name(ty: &Type) -> Option<&str> {
    match ty {
        Type::Struct(name) => Some(name),
        Type::Array(element) => struct_name(element),
        _ => None,
    }
}
