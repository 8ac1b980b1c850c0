//! Keeps the architecture: edges between crates, purity of the brains, forbidden dependencies, sizes of files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::run::root;

/// Lines after which a source file wants a reason or a split.
const FILE_LINES_MAX: usize = 1_000;

/// Files that may be longer, each with its reason.
const LONG_FILES: &[(&str, &str)] = &[];

/// Crates that must never enter the lock file: slow C builds, or a second TLS stack.
const FORBIDDEN_CRATES: &[&str] = &["aws-lc-sys", "aws-lc-rs", "openssl-sys"];

#[derive(Deserialize)]
struct Layers {
    floors: BTreeMap<String, u32>,
    edges: BTreeMap<String, Vec<String>>,
    dev: BTreeMap<String, Vec<String>>,
    brains: Brains,
}

#[derive(Deserialize)]
struct Brains {
    pure: Vec<String>,
    forbidden: Vec<String>,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    dependencies: BTreeMap<String, toml::Value>,
    #[serde(default, rename = "dev-dependencies")]
    dev_dependencies: BTreeMap<String, toml::Value>,
    #[serde(default, rename = "build-dependencies")]
    build_dependencies: BTreeMap<String, toml::Value>,
}

/// Checks the tree and fails with every problem found.
pub fn run() -> Result<()> {
    let layers: Layers = toml::from_str(&fs::read_to_string(root().join("layers.toml"))?)?;
    let manifests = manifests()?;
    let mut problems = Vec::new();
    problems.extend(floors_rise(&layers));
    for (name, manifest) in &manifests {
        problems.extend(edges_of(name, manifest, &layers, &manifests));
        problems.extend(purity_of(name, manifest, &layers.brains));
    }
    problems.extend(forbidden_crates()?);
    problems.extend(long_files(&root().join("crates"))?);
    if !problems.is_empty() {
        bail!("tidy:\n  {}", problems.join("\n  "));
    }
    eprintln!("tidy: {} crates, edges and sizes as they should be", manifests.len());
    Ok(())
}

fn manifests() -> Result<BTreeMap<String, Manifest>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root().join("crates"))? {
        let dir = entry?.path();
        let file = dir.join("Cargo.toml");
        if !file.is_file() {
            continue;
        }
        let name =
            dir.file_name().and_then(|n| n.to_str()).context("crate folders have plain names")?.to_owned();
        let manifest =
            toml::from_str(&fs::read_to_string(&file)?).with_context(|| file.display().to_string())?;
        found.insert(name, manifest);
    }
    Ok(found)
}

/// An edge in the table itself must go down.
fn floors_rise(layers: &Layers) -> Vec<String> {
    let mut problems = Vec::new();
    for (from, targets) in &layers.edges {
        for to in targets.iter().filter(|t| *t != "*") {
            if layers.floors.get(to) >= layers.floors.get(from) {
                problems.push(format!("layers.toml: {from} -> {to} does not go down a floor"));
            }
        }
    }
    problems
}

fn edges_of(
    name: &str,
    manifest: &Manifest,
    layers: &Layers,
    all: &BTreeMap<String, Manifest>,
) -> Vec<String> {
    let empty = Vec::new();
    let allowed = layers.edges.get(name).or_else(|| layers.dev.get(name)).unwrap_or(&empty);
    let any = allowed.iter().any(|a| a == "*");
    let ours = |deps: &BTreeMap<String, toml::Value>| -> BTreeSet<String> {
        deps.keys().filter(|d| all.contains_key(*d)).cloned().collect()
    };
    let mut problems = Vec::new();
    if !layers.edges.contains_key(name) && !layers.dev.contains_key(name) {
        problems.push(format!("{name} has no line in layers.toml"));
    }
    for dep in ours(&manifest.dependencies).into_iter().chain(ours(&manifest.build_dependencies)) {
        if !any && !allowed.contains(&dep) {
            problems.push(format!("{name} -> {dep} is not an edge of layers.toml"));
        }
    }
    for dep in ours(&manifest.dev_dependencies) {
        let below = layers.floors.get(&dep) < layers.floors.get(name);
        if !any && !allowed.contains(&dep) && !layers.dev.contains_key(&dep) && !below {
            problems.push(format!("{name} -> {dep} (tests) goes up or across a floor"));
        }
    }
    problems
}

fn purity_of(name: &str, manifest: &Manifest, brains: &Brains) -> Vec<String> {
    if !brains.pure.iter().any(|p| p == name) {
        return Vec::new();
    }
    let impure = manifest.dependencies.keys().filter(|d| brains.forbidden.contains(d));
    impure.map(|d| format!("{name} is a brain: '{d}' can do I/O")).collect()
}

fn forbidden_crates() -> Result<Vec<String>> {
    let lock = fs::read_to_string(root().join("Cargo.lock"))?;
    let present = |name: &&&str| lock.contains(&format!("name = \"{name}\"\n"));
    Ok(FORBIDDEN_CRATES.iter().filter(present).map(|name| format!("Cargo.lock holds {name}")).collect())
}

fn long_files(dir: &Path) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if path.is_dir() {
            if !matches!(name, "generated" | "target" | "tests" | "golden") {
                problems.extend(long_files(&path)?);
            }
        } else if name.ends_with(".rs") && name != "tests.rs" {
            problems.extend(long_file(&path)?);
        }
    }
    Ok(problems)
}

fn long_file(path: &Path) -> Result<Option<String>> {
    let shown = path.strip_prefix(root()).unwrap_or(path).display().to_string();
    if LONG_FILES.iter().any(|(file, _reason)| *file == shown) {
        return Ok(None);
    }
    let text = fs::read_to_string(path)?;
    // Tests at the end of a file do not count: they move to tests.rs by taste, not by law.
    let lines = text.lines().take_while(|line| *line != "mod tests {").count();
    Ok((lines > FILE_LINES_MAX)
        .then(|| format!("{shown}: {lines} lines; split it, or name it in tidy.rs with a reason")))
}
