//! `cargo xtask codegen etcd`: messages and services of etcd's v3 API.
//!
//! Reads the interface definitions in the pinned Go modules of etcd, drops comments and options (they name Go tools), and
//! writes `crates/etcd-wire/src/generated`. The generator itself is behind the feature `etcd-codegen`, so that a test run
//! does not build a protobuf compiler: `cargo run -p xtask --features etcd-codegen -- codegen etcd`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::run::root;
use crate::tools::digest;

const OUT: &str = "crates/etcd-wire/src/generated";
/// Digests of what was written, beside it.
const SUMS: &str = "SHA256SUMS";

/// What is there is what was generated.
pub fn check() -> Result<()> {
    let out = root().join(OUT);
    let sums = fs::read_to_string(out.join(SUMS)).context("reading the checksums of etcd-wire")?;
    for line in sums.lines() {
        let (sum, name) = line.split_once("  ").context("a line of checksums")?;
        ensure!(digest(&fs::read(out.join(name))?) == sum, "{OUT}/{name} was edited by hand");
    }
    Ok(())
}

#[cfg(not(feature = "etcd-codegen"))]
pub fn generate() -> Result<()> {
    let _ = (strip, routes, write_sums, module_dir);
    bail!("run it with its compiler: cargo run -p xtask --features etcd-codegen -- codegen etcd")
}

#[cfg(feature = "etcd-codegen")]
pub fn generate() -> Result<()> {
    use prost::Message as _;
    let api = module_dir("go.etcd.io/etcd/api/v3@v3.6.16")?;
    let server = module_dir("go.etcd.io/etcd/server/v3@v3.6.16")?;
    let sources = [
        ("etcd/api/mvccpb/kv.proto", api.join("mvccpb/kv.proto")),
        ("etcd/api/authpb/auth.proto", api.join("authpb/auth.proto")),
        ("etcd/api/etcdserverpb/rpc.proto", api.join("etcdserverpb/rpc.proto")),
        ("v3lock.proto", server.join("etcdserver/api/v3lock/v3lockpb/v3lock.proto")),
        ("v3election.proto", server.join("etcdserver/api/v3election/v3electionpb/v3election.proto")),
    ];
    let include = root().join("target/etcd-protos");
    let mut table = String::from("pub const ROUTES: &[(&str, &str, &str)] = &[\n");
    for (name, source) in &sources {
        let text = fs::read_to_string(source).with_context(|| source.display().to_string())?;
        let path = include.join(name);
        fs::create_dir_all(path.parent().context("a file has a parent")?)?;
        fs::write(&path, strip(&text)?)?;
        routes(&text, &mut table)?;
    }
    table.push_str("];\n");
    let names: Vec<&str> = sources.iter().map(|(name, _)| *name).collect();
    let descriptors = protox::compile(&names, [&include])?;
    let out = root().join(OUT);
    fs::create_dir_all(&out)?;
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    fs::write(out.join("routes.rs"), table)?;
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".")
        .out_dir(&out)
        .compile_fds(descriptors)?;
    write_sums(&out)
}

/// Where the Go tool keeps a module, fetched when absent.
fn module_dir(module: &str) -> Result<PathBuf> {
    let printed =
        crate::run::output(std::process::Command::new("go").args(["mod", "download", "-json", module]))?;
    let parsed: serde_json::Value = serde_json::from_str(&printed)?;
    Ok(PathBuf::from(parsed["Dir"].as_str().context("go names the module's directory")?))
}

fn write_sums(out: &Path) -> Result<()> {
    let mut names: Vec<String> = fs::read_dir(out)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name != SUMS)
        .collect();
    names.sort();
    let mut sums = String::new();
    for name in names {
        writeln!(sums, "{}  {name}", digest(&fs::read(out.join(&name))?))?;
    }
    Ok(fs::write(out.join(SUMS), sums)?)
}

/// The definitions without comments, options, and imports of what only options name.
fn strip(text: &str) -> Result<String> {
    let mut out = String::new();
    let bare: String =
        text.lines().map(|l| l.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let mut rest = bare.as_str();
    while let Some(first) = rest.chars().next() {
        if rest.starts_with("option (") || rest.starts_with("option go_package") {
            rest = after_statement(rest)?;
        } else if first == '[' {
            rest = &rest[rest.find(']').context("a list of options ends")? + 1..];
        } else if rest.starts_with("import ") {
            let (line, tail) = rest.split_once('\n').context("an import ends")?;
            if line.contains("mvccpb") || line.contains("authpb") || line.contains("etcdserverpb") {
                writeln!(out, "{line}")?;
            }
            rest = tail;
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    Ok(out)
}

/// What follows a statement that ends with `;` outside all braces.
fn after_statement(text: &str) -> Result<&str> {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return Ok(&text[at + 1..]),
            _ => {}
        }
    }
    bail!("a statement does not end")
}

/// Adds the gateway's paths of every method.
fn routes(text: &str, table: &mut String) -> Result<()> {
    let (mut package, mut service, mut method) = ("", "", "");
    for line in text.lines().map(str::trim) {
        let mut words = line.split([' ', '(', ';', '{']).filter(|word| !word.is_empty());
        match words.next() {
            Some("package") => package = words.next().unwrap_or_default(),
            Some("service") => service = words.next().unwrap_or_default(),
            Some("rpc") => method = words.next().unwrap_or_default(),
            Some("post:") => {
                let path = line.split('"').nth(1).context("a path in quotes")?;
                writeln!(table, "    (\"{path}\", \"{package}.{service}\", \"{method}\"),")?;
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_go_and_definitions_stay() {
        let text = "import \"gogoproto/gogo.proto\";\noption (a) = {\n b: {c: 1}\n};\nmessage M {\n option (x) = \"3\";\n bytes k = 1 [(y)=\"3\"]; // word\n}\n";
        assert_eq!(
            strip(text).unwrap().split_whitespace().collect::<Vec<_>>().join(" "),
            "message M { bytes k = 1 ; }"
        );
    }

    #[test]
    fn routes_are_found() {
        let mut table = String::new();
        routes("package p;\nservice S {\n rpc Do(A) returns (B) {\n option (google.api.http) = {\n post: \"/v3/do\"\n", &mut table).unwrap();
        assert_eq!(table.trim(), "(\"/v3/do\", \"p.S\", \"Do\"),");
    }
}
