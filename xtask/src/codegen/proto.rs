//! `cargo xtask codegen proto`: field numbers of Kubernetes' protobuf messages.
//!
//! Reads the Go types of the modules `k8s.io/api` and `k8s.io/apimachinery` (`KETCH_GO_MODULES` is the directory that
//! holds both, such as the Go module cache's `k8s.io`) and writes `crates/apiserver/src/protobuf/table.txt`: names, numbers
//! and kinds, no prose. The Go types and not the `.proto` files, because only they tell which fields are pointers
//! and which are inlined in JSON. `apiserver::protobuf` documents the format and parses it.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

const TABLE: &str = "crates/apiserver/src/protobuf/table.txt";
const VERSION: &str = "v0.36.6";
const META: &str = "meta/v1";
const GROUPS: &[&str] = &[
    "apps/v1",
    "authentication/v1",
    "authorization/v1",
    "autoscaling/v1",
    "autoscaling/v2",
    "batch/v1",
    "coordination/v1",
    "core/v1",
    "discovery/v1",
    "events/v1",
    "networking/v1",
    "node/v1",
    "policy/v1",
    "rbac/v1",
    "scheduling/v1",
    "storage/v1",
];

/// Types with a form of their own in JSON, and their letter.
const SPECIAL: &[(&str, &str)] = &[
    ("Time", "T"),
    ("MicroTime", "U"),
    ("Duration", "D"),
    ("Quantity", "Q"),
    ("IntOrString", "I"),
    ("RawExtension", "R"),
    ("FieldsV1", "R"),
    ("UID", "s"),
    ("NamespacedName", "s"),
];

/// What one package declares.
#[derive(Default)]
struct Package {
    /// Names under which other packages are imported.
    imports: BTreeMap<String, String>,
    /// Named types that are no structs: `PodPhase` is `string`.
    aliases: BTreeMap<String, String>,
    structs: BTreeMap<String, Vec<GoField>>,
}

struct GoField {
    go_type: String,
    json: String,
    omit_empty: bool,
    number: u32,
}

type Packages = BTreeMap<String, Package>;

/// Writes the table.
pub fn generate() -> Result<()> {
    let root = std::env::var("KETCH_GO_MODULES")
        .context("KETCH_GO_MODULES names the directory of the Go modules")?;
    let root = Path::new(&root);
    let mut packages = Packages::new();
    let meta = root.join(format!("apimachinery@{VERSION}/pkg/apis/meta/v1/types.go"));
    packages.insert(META.into(), parse(&read(&meta)?));
    for group in GROUPS {
        let file = root.join(format!("api@{VERSION}/{group}/types.go"));
        packages.insert((*group).into(), parse(&read(&file)?));
    }
    let body = write(&packages)?;
    let text = format!(
        "# k8s.io/api {VERSION} fnv1a {:016x}; written by `cargo xtask codegen proto`\n{body}",
        fnv1a(&body)
    );
    std::fs::write(TABLE, text).with_context(|| TABLE.to_owned())
}

/// Compares the table with the checksum in its first line.
pub fn check() -> Result<()> {
    let text = read(Path::new(TABLE))?;
    let (head, body) = text.split_once('\n').context("the table is empty")?;
    ensure!(
        head.contains(&format!("{:016x}", fnv1a(body))),
        "{TABLE} was changed by hand; run cargo xtask codegen proto"
    );
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

fn fnv1a(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn parse(source: &str) -> Package {
    let mut package = Package::default();
    let mut within: Option<String> = None;
    for line in source.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (&within, words.as_slice()) {
            (None, ["type", name, "struct", "{"]) => {
                package.structs.insert((*name).into(), Vec::new());
                within = Some((*name).into());
            }
            (None, ["type", name, target]) if *target != "interface" => {
                package.aliases.insert((*name).into(), (*target).into());
            }
            (None, [alias, path]) if path.starts_with("\"k8s.io/") => {
                package.imports.insert((*alias).into(), path.trim_matches('"').into());
            }
            (None, [path]) if path.starts_with("\"k8s.io/") => {
                let path = path.trim_matches('"');
                let alias = path.rsplit('/').next().unwrap_or_default();
                package.imports.insert(alias.into(), path.into());
            }
            (Some(_), ["}"]) if line.starts_with('}') => within = None,
            (Some(name), _) => {
                let fields = package.structs.get_mut(name).into_iter();
                fields.for_each(|fields| fields.extend(parse_field(line)));
            }
            _ => {}
        }
    }
    package
}

fn parse_field(line: &str) -> Option<GoField> {
    let (declared, tags) = line.split_once('`')?;
    let tag = |name: &str| tags.split_once(&format!("{name}:\""))?.1.split_once('"').map(|(value, _)| value);
    let (json, protobuf) = (tag("json")?, tag("protobuf")?);
    let (name, options) = json.split_once(',').unwrap_or((json, ""));
    Some(GoField {
        go_type: declared.split_whitespace().last()?.into(),
        json: if options.contains("inline") { ".".into() } else { name.into() },
        omit_empty: options.contains("omitempty"),
        number: protobuf.split(',').nth(1)?.parse().ok()?,
    })
}

fn write(packages: &Packages) -> Result<String> {
    let mut out = String::new();
    for (path, package) in packages {
        for (name, fields) in package.structs.iter().filter(|(_, fields)| !fields.is_empty()) {
            writeln!(out, "= {path}.{name}")?;
            for field in fields.iter().filter(|f| f.json != "-" && !f.json.is_empty()) {
                let go_type = field.go_type.trim_start_matches('*');
                let Some(kind) = kind(packages, path, go_type) else { continue };
                let pointer = go_type.len() != field.go_type.len();
                let omit = if field.omit_empty && !pointer { " o" } else { "" };
                writeln!(out, "{} {} {kind}{omit}", field.number, field.json)?;
            }
        }
    }
    Ok(out)
}

/// The letter of a Go type; None for what protobuf bodies never carry here.
fn kind(packages: &Packages, path: &str, go_type: &str) -> Option<String> {
    match go_type {
        "string" => return Some("s".into()),
        "bool" => return Some("t".into()),
        "int" | "int32" | "int64" => return Some("i".into()),
        "[]byte" => return Some("b".into()),
        _ => {}
    }
    if let Some(item) = go_type.strip_prefix("[]") {
        return kind(packages, path, item.trim_start_matches('*')).map(|k| format!("[{k}"));
    }
    if let Some((_, value)) = go_type.strip_prefix("map[").and_then(|t| t.split_once(']')) {
        return kind(packages, path, value).map(|k| format!("{{{k}"));
    }
    let package = packages.get(path)?;
    let (path, name) = match go_type.split_once('.') {
        None => (path.to_owned(), go_type),
        Some((alias, name)) => (package.imports.get(alias).map(|p| shorten(p))?, name),
    };
    if let Some((_, letter)) = SPECIAL.iter().find(|(special, _)| *special == name) {
        return Some((*letter).into());
    }
    let package = packages.get(&path)?;
    match package.aliases.get(name) {
        // A named list is a message with its items.
        Some(target) if target == "[]string" => Some("V".into()),
        Some(target) => kind(packages, &path, target),
        None => package.structs.contains_key(name).then(|| format!("#{path}.{name}")),
    }
}

/// `k8s.io/api/core/v1` is `core/v1`.
fn shorten(path: &str) -> String {
    let words: Vec<&str> = path.rsplit('/').take(2).collect();
    words.iter().rev().copied().collect::<Vec<_>>().join("/")
}
