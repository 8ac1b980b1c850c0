//! `cargo xtask codegen kube`: the table of facts about Kubernetes types.
//!
//! Reads an OpenAPI v2 document of Kubernetes (`KETCH_OPENAPI_V2`) and writes `crates/kube-types/src/schema/table.txt`: names,
//! types and merge facts, no prose. `kube_types::schema` documents the format and parses it.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};
use std::fmt::Write as _;
use std::path::Path;

/// Where the table goes, from the root of the workspace.
const TABLE: &str = "crates/kube-types/src/schema/table.txt";

/// The release whose document is read; the document itself does not say.
const RELEASE: &str = "1.36";

/// Named definitions that are scalars or free-form on the wire, and their letter in the table.
const SCALARS: &[(&str, &str)] = &[
    ("io.k8s.apimachinery.pkg.api.resource.Quantity", "quantity"),
    ("io.k8s.apimachinery.pkg.util.intstr.IntOrString", "intstr"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.Time", "time"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime", "microtime"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", "any"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.Patch", "any"),
    ("io.k8s.apimachinery.pkg.runtime.RawExtension", "any"),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON", "any"),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray", "any"),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool", "any"),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray", "any"),
];

/// Defaults that take part in list keys; the v2 document leaves all defaults out.
const KEY_DEFAULTS: &[(&str, &str, &str)] = &[
    ("io.k8s.api.core.v1.ContainerPort", "protocol", "TCP"),
    ("io.k8s.api.core.v1.ServicePort", "protocol", "TCP"),
    ("io.k8s.api.core.v1.ResourceClaim", "request", ""),
];

/// A definition with more kinds than this is an options type shared by all groups; its kinds are left out.
const KINDS_MAX: usize = 4;

/// The variable that names the OpenAPI v2 document: `api/openapi-spec/swagger.json` of `k8s.io/kubernetes`.
const DOCUMENT: &str = "KETCH_OPENAPI_V2";

/// Reads the document and writes the table.
pub fn generate() -> Result<()> {
    let document = std::env::var(DOCUMENT)
        .with_context(|| format!("{DOCUMENT} must name the OpenAPI v2 document of Kubernetes"))?;
    let text = std::fs::read_to_string(&document).with_context(|| format!("reading {document}"))?;
    let root: Value = serde_json::from_str(&text)?;
    let definitions = root["definitions"].as_object().context("no definitions in the document")?;
    let body = table(definitions)?;
    let head = format!(
        "# Kubernetes {RELEASE} fnv1a {:016x}; written by `cargo xtask codegen kube`\n",
        fnv1a(&body)
    );
    std::fs::write(Path::new(TABLE), head + &body)?;
    Ok(())
}

/// The table is as it was generated: its body matches the checksum in its first line.
pub fn check() -> Result<()> {
    let text = std::fs::read_to_string(TABLE).with_context(|| format!("reading {TABLE}"))?;
    let (head, body) = text.split_once('\n').context("the table is empty")?;
    ensure!(head.contains(&format!("fnv1a {:016x};", fnv1a(body))), "{TABLE} was edited by hand");
    Ok(())
}

/// FNV-1a of 64 bits: enough to notice an edit.
fn fnv1a(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn table(definitions: &Map<String, Value>) -> Result<String> {
    let mut out = String::new();
    for (name, definition) in definitions {
        if SCALARS.iter().any(|(scalar, _)| scalar == name) {
            continue;
        }
        write_type(&mut out, name, definition).with_context(|| format!("in {name}"))?;
    }
    Ok(out)
}

fn write_type(out: &mut String, name: &str, definition: &Value) -> Result<()> {
    write!(out, "= {name}")?;
    if definition["x-kubernetes-map-type"] == "atomic" {
        out.push_str(" atomic");
    }
    let kinds = definition["x-kubernetes-group-version-kind"].as_array().map_or(&[][..], Vec::as_slice);
    for kind in kinds.iter().filter(|_| kinds.len() <= KINDS_MAX) {
        let [group, version, kind] = ["group", "version", "kind"].map(|key| kind[key].as_str().unwrap_or(""));
        write!(out, " kind={group}/{version}/{kind}")?;
    }
    out.push('\n');
    let required = definition["required"].as_array().map_or(&[][..], Vec::as_slice);
    for (field, property) in definition["properties"].as_object().into_iter().flatten() {
        write!(out, "{field} {}", shape(property)?)?;
        if required.iter().any(|one| one == field) {
            out.push_str(" required");
        }
        write_facts(out, property);
        for (_, _, default) in KEY_DEFAULTS.iter().filter(|(ty, key, _)| ty == &name && key == field) {
            write!(out, " default={default}")?;
        }
        out.push('\n');
    }
    Ok(())
}

fn write_facts(out: &mut String, property: &Value) {
    let mut fact = |name: &str, value: &str| {
        let _ = write!(out, " {name}={value}");
    };
    if let Some(list) = property["x-kubernetes-list-type"].as_str() {
        fact("list", list);
    }
    if let Some(keys) = property["x-kubernetes-list-map-keys"].as_array() {
        let keys: Vec<&str> = keys.iter().filter_map(Value::as_str).collect();
        fact("keys", &keys.join(","));
    }
    if let Some(strategy) = property["x-kubernetes-patch-strategy"].as_str() {
        fact("patch", strategy);
    }
    if let Some(key) = property["x-kubernetes-patch-merge-key"].as_str() {
        fact("merge", key);
    }
    if property["x-kubernetes-map-type"] == "atomic" {
        fact("map", "atomic");
    }
}

fn shape(property: &Value) -> Result<String> {
    if let Some(reference) = property["$ref"].as_str() {
        let name = reference.strip_prefix("#/definitions/").context("foreign reference")?;
        let scalar = SCALARS.iter().find(|(scalar, _)| *scalar == name);
        return Ok(scalar.map_or_else(|| format!("#{name}"), |(_, letter)| (*letter).to_string()));
    }
    let format = property["format"].as_str();
    Ok(match (property["type"].as_str(), format) {
        (Some("string"), None) => "string".into(),
        (Some("string"), Some("byte")) => "bytes".into(),
        (Some("integer"), Some("int32")) => "int32".into(),
        (Some("integer"), _) => "int64".into(),
        (Some("number"), _) => "double".into(),
        (Some("boolean"), _) => "bool".into(),
        (Some("array"), _) => format!("[{}", shape(&property["items"])?),
        (Some("object"), _) if property.get("additionalProperties").is_some() => {
            format!("{{{}", shape(&property["additionalProperties"])?)
        }
        (Some("object"), _) => "any".into(),
        other => bail!("unknown type {other:?}"),
    })
}
