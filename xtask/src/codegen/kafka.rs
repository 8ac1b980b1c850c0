//! `cargo xtask codegen kafka [--check]`: the Rust of `kafka-wire/src/generated` from Kafka's own definitions.
//!
//! ```text
//! pinned jars --mvn--> target/codegen/kafka/jars --jar xf--> */message/*.json --schema--> Spec --render--> *.rs
//!                          | sha256sum == INPUTS                 + Errors.java --java--> errors.tsv --> errors.rs
//! ```
//!
//! Maven reaches its repository as the machine configures it (`settings.xml`). `INPUTS` records the checksum of every
//! jar and of the generated Rust: a run fails when a jar differs, `--check` when the Rust was edited. Needs a JDK.

mod render;
mod schema;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::run::root;

use schema::{Kind, Spec};

/// The Kafka release whose definitions are used.
const VERSION: &str = "4.3.1";
/// Jars of `org.apache.kafka` that hold message definitions, and where they hold them.
const JARS: [(&str, &str); 6] = [
    ("kafka-clients", "common/message"),
    ("kafka-group-coordinator", "common/message"),
    ("kafka-transaction-coordinator", "common/message"),
    ("kafka-share-coordinator", "common/message"),
    ("kafka-storage", "message"),
    ("kafka-metadata", "common/metadata"),
];
/// Needed by the Java programs only: the client library's own dependencies, in the versions its POM names.
const LIBRARIES: [&str; 4] = [
    "org.slf4j:slf4j-api:1.7.36",
    "com.github.luben:zstd-jni:1.5.6-10",
    "at.yawk.lz4:lz4-java:1.10.2",
    "org.xerial.snappy:snappy-java:1.1.10.7",
];
/// Messages of the type `data` and of `kafka-storage` that a broker reads or writes.
const DATA: [&str; 11] = [
    "ConsumerProtocolSubscription",
    "ConsumerProtocolAssignment",
    "ControlRecordTypeSchema",
    "EndTxnMarker",
    "LeaderChangeMessage",
    "KRaftVersionRecord",
    "VotersRecord",
    "SnapshotHeaderRecord",
    "SnapshotFooterRecord",
    "DefaultPrincipalData",
    "ProducerSnapshot",
];

/// Makes the Rust anew, and the golden bytes of the real Java client beside the tests.
pub fn generate() -> Result<()> {
    let (root, out) = (root(), generated());
    let work = root.join("target/codegen/kafka");
    let jars = fetch(&work)?;
    let inputs = checksums(&jars, &out.join("INPUTS"))?;
    let specs = load(&work, &jars)?;
    let errors = java(&root, &work, &jars, "ErrorTable")?;
    let made = work.join("generated");
    if made.exists() {
        fs::remove_dir_all(&made)?;
    }
    write_all(&root, &made, &render::all(&specs, &errors)?)?;
    replace(&made, &out)?;
    fs::write(out.join("INPUTS"), format!("{inputs}{}  generated\n", digest(&out)?))?;
    golden(&root, &work, &jars)
}

/// Compares what is checked in with its recorded checksum; needs no network.
pub fn check() -> Result<()> {
    let recorded = fs::read_to_string(generated().join("INPUTS"))?;
    let now = format!("{}  generated", digest(&generated())?);
    ensure!(
        recorded.lines().any(|line| line == now),
        "crates/kafka-wire/src/generated was edited by hand; run `cargo xtask codegen kafka`"
    );
    Ok(())
}

fn generated() -> PathBuf {
    root().join("crates/kafka-wire/src/generated")
}

/// The golden bytes of the Java client, which the tests of `kafka-wire` compare with.
fn golden(root: &Path, work: &Path, jars: &[PathBuf]) -> Result<()> {
    let out = root.join("crates/kafka-wire/tests/golden");
    fs::create_dir_all(&out)?;
    for (program, file) in [("Messages", "messages.txt"), ("Batches", "batches.txt")] {
        fs::write(out.join(file), java(root, work, jars, program)?)?;
    }
    Ok(())
}

fn sh(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{command:?} failed: {}\n{}",
            output.status,
            text.lines().take(20).collect::<Vec<_>>().join("\n")
        );
    }
    Ok(output.stdout)
}

/// Copies the jars out of the Maven repository.
fn fetch(work: &Path) -> Result<Vec<PathBuf>> {
    let dir = work.join("jars");
    fs::create_dir_all(&dir)?;
    let mut artifacts: Vec<String> =
        JARS.iter().map(|(name, _)| format!("org.apache.kafka:{name}:{VERSION}")).collect();
    artifacts.extend(LIBRARIES.map(String::from));
    artifacts.iter().map(|artifact| fetch_one(&dir, artifact)).collect()
}

fn fetch_one(dir: &Path, artifact: &str) -> Result<PathBuf> {
    let parts: Vec<&str> = artifact.split(':').collect();
    let path = dir.join(format!("{}-{}.jar", parts[1], parts[2]));
    if !path.exists() {
        sh(Command::new("mvn").args([
            "-q",
            "-B",
            "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy",
            &format!("-Dartifact={artifact}"),
            &format!("-DoutputDirectory={}", dir.display()),
        ]))?;
    }
    ensure!(path.exists(), "mvn did not copy {artifact}");
    Ok(path)
}

/// The checksums of the jars, which must be those recorded before, if any were.
fn checksums(jars: &[PathBuf], recorded: &Path) -> Result<String> {
    let mut now = String::new();
    for jar in jars {
        let name = jar.file_name().context("jar name")?.to_string_lossy().into_owned();
        now.push_str(&format!("{}  {name}\n", sha256(jar)?));
    }
    if let Ok(before) = fs::read_to_string(recorded) {
        ensure!(
            before.starts_with(&now),
            "the jars differ from {}; remove it to pin anew",
            recorded.display()
        );
    }
    Ok(now)
}

fn sha256(path: &Path) -> Result<String> {
    let line = String::from_utf8(sh(Command::new("sha256sum").arg("-b").arg(path))?)?;
    Ok(line.get(..64).context("sha256sum printed no digest")?.to_owned())
}

/// One checksum over the names and contents of all generated files.
fn digest(dir: &Path) -> Result<String> {
    let mut files = BTreeMap::new();
    list(dir, "", &mut files)?;
    let all = root().join("target/codegen/generated.all");
    fs::create_dir_all(all.parent().context("parent")?)?;
    let mut joined = Vec::new();
    for (name, content) in &files {
        joined.extend_from_slice(format!("{name} {}\n", content.len()).as_bytes());
        joined.extend_from_slice(content);
    }
    fs::write(&all, joined)?;
    sha256(&all)
}

/// Unpacks the definitions and parses the wanted ones, by name.
fn load(work: &Path, jars: &[PathBuf]) -> Result<BTreeMap<String, Spec>> {
    let mut specs = BTreeMap::new();
    for (jar, (name, inside)) in jars.iter().zip(JARS) {
        let dir = work.join("json").join(name);
        fs::create_dir_all(&dir)?;
        sh(Command::new("jar").current_dir(&dir).arg("xf").arg(jar).arg(inside))?;
        for entry in fs::read_dir(dir.join(inside))? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "json") {
                let spec =
                    schema::parse(&fs::read_to_string(&path)?).with_context(|| path.display().to_string())?;
                specs.insert(spec.name.clone(), spec);
            }
        }
    }
    specs.retain(|name, spec| wanted(name, spec));
    inherit_listeners(&mut specs);
    Ok(specs)
}

fn wanted(name: &str, spec: &Spec) -> bool {
    match spec.kind {
        Kind::Request => spec.valid.is_some() && spec.listeners.iter().any(|l| l == "broker"),
        Kind::Response => spec.valid.is_some(),
        Kind::CoordinatorKey | Kind::CoordinatorValue | Kind::Header => true,
        // kafka-storage has those of `__remote_log_metadata` too, which nobody writes here.
        Kind::Metadata => !name.starts_with("Remote"),
        Kind::Data => DATA.contains(&name),
    }
}

/// Only the request names its listeners: a response is wanted when its request is.
fn inherit_listeners(specs: &mut BTreeMap<String, Spec>) {
    let served: Vec<i16> = specs.values().filter(|s| s.kind == Kind::Request).map(|s| s.key).collect();
    specs.retain(|_, spec| spec.kind != Kind::Response || served.contains(&spec.key));
}

/// Runs `tests/java/wire/<program>.java` with the pinned jars on its class path and returns what it prints.
fn java(root: &Path, work: &Path, jars: &[PathBuf], program: &str) -> Result<String> {
    let class_path: Vec<String> = jars.iter().map(|p| p.display().to_string()).collect();
    let out = sh(Command::new("java")
        .current_dir(work)
        .arg("-cp")
        .arg(class_path.join(":"))
        .arg(root.join(format!("tests/java/wire/{program}.java"))))?;
    Ok(String::from_utf8(out)?)
}

/// Writes the files and formats them as the workspace is formatted, the submodules through their roots.
fn write_all(root: &Path, dir: &Path, files: &BTreeMap<String, String>) -> Result<()> {
    for (name, text) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().context("parent")?)?;
        fs::write(path, text)?;
    }
    sh(Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(root.join("rustfmt.toml"))
        .arg(dir.join("mod.rs")))?;
    Ok(())
}

fn list(dir: &Path, prefix: &str, into: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = format!("{prefix}{}", path.file_name().context("name")?.to_string_lossy());
        if path.is_dir() {
            list(&path, &format!("{name}/"), into)?;
        } else if name != "INPUTS" {
            into.insert(name, fs::read(path)?);
        }
    }
    Ok(())
}

fn replace(made: &Path, out: &Path) -> Result<()> {
    let (mut new, mut old) = (BTreeMap::new(), BTreeMap::new());
    list(made, "", &mut new)?;
    list(out, "", &mut old)?;
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        fs::remove_file(out.join(name))?;
    }
    for (name, content) in &new {
        let path = out.join(name);
        fs::create_dir_all(path.parent().context("parent")?)?;
        fs::write(path, content)?;
    }
    println!("{} files in {}", new.len(), out.display());
    Ok(())
}
