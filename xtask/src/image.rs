//! Packs static programs as OCI image archives (image-spec 1.1), byte for byte the same for the same input.
//!
//! ```text
//! oci-layout, index.json ──▶ manifest ──▶ config (diff ids)
//!                                   └───▶ layer.tar (one, uncompressed)
//! ```

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::run::{cargo, root, run};
use crate::tools::digest;

/// The only target: this machine's, linked against a static C library.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Annotation by which an archive says what its image is called.
const REF_NAME: &str = "io.containerd.image.name";
const SHORT_REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A file of the image's single layer.
pub struct LayerFile {
    /// Path without a leading slash.
    pub path: String,
    pub mode: u32,
    pub content: Content,
}

/// What a file is.
pub enum Content {
    Directory,
    File(Vec<u8>),
    Symlink(String),
}

/// `cargo xtask image [OUT]`: builds examples/orders and packs it.
pub fn run_command(args: &[String]) -> Result<()> {
    let out = args.first().map_or_else(|| root().join("target/orders.tar"), PathBuf::from);
    orders(&out)?;
    println!("{}", out.display());
    Ok(())
}

/// Builds the example application static and writes its archive.
pub fn orders(out: &Path) -> Result<()> {
    let source = root().join("examples/orders");
    let target_dir = root().join("target/orders");
    run(cargo()
        .current_dir(&source)
        .env("CARGO_TARGET_DIR", &target_dir)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .args(["build", "--release", "--locked", "--target", TARGET]))?;
    let program = fs::read(target_dir.join(TARGET).join("release/orders"))?;
    let files = vec![
        LayerFile { path: "etc".into(), mode: 0o755, content: Content::Directory },
        file("etc/passwd", 0o644, "root:x:0:0:root:/:/orders\norders:x:1000:1000:orders:/:/orders\n"),
        file("etc/group", 0o644, "root:x:0:\norders:x:1000:\n"),
        LayerFile { path: "orders".into(), mode: 0o755, content: Content::File(program) },
        LayerFile { path: "tmp".into(), mode: 0o1777, content: Content::Directory },
    ];
    let config =
        json!({"Entrypoint": ["/orders"], "User": "1000:1000", "WorkingDir": "/", "Env": ["PATH=/"]});
    write_archive(out, "ketch.local/orders:latest", config, &files)
}

/// Packs Debian's static busybox with a link for each of its commands: the image of the tests.
pub fn busybox(out: &Path) -> Result<()> {
    let program =
        fs::read("/bin/busybox").or_else(|_| fs::read("/usr/bin/busybox")).context("no static busybox")?;
    let commands = crate::run::output(std::process::Command::new("busybox").arg("--list"))?;
    let mut files = vec![
        LayerFile { path: "bin".into(), mode: 0o755, content: Content::Directory },
        LayerFile { path: "bin/busybox".into(), mode: 0o755, content: Content::File(program) },
    ];
    files.extend(commands.lines().filter(|c| *c != "busybox").map(|command| LayerFile {
        path: format!("bin/{command}"),
        mode: 0o777,
        content: Content::Symlink("busybox".into()),
    }));
    for (dir, mode) in
        [("etc", 0o755), ("home", 0o755), ("root", 0o700), ("tmp", 0o1777), ("usr", 0o755), ("var", 0o755)]
    {
        files.push(LayerFile { path: dir.into(), mode, content: Content::Directory });
    }
    files.push(file(
        "etc/passwd",
        0o644,
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n",
    ));
    files.push(file("etc/group", 0o644, "root:x:0:\nnogroup:x:65534:\n"));
    let config = json!({"Cmd": ["sh"], "Env": ["PATH=/bin:/sbin:/usr/bin:/usr/sbin:/usr/local/bin"]});
    write_archive(out, "docker.io/library/busybox:latest", config, &files)
}

fn file(path: &str, mode: u32, content: &str) -> LayerFile {
    LayerFile { path: path.into(), mode, content: Content::File(content.as_bytes().to_vec()) }
}

/// Writes one image with one layer.
pub fn write_archive(out: &Path, name: &str, config: Value, files: &[LayerFile]) -> Result<()> {
    let layer = layer_tar(files)?;
    let image_config = serde_json::to_vec(&json!({
        "created": "1970-01-01T00:00:00Z", "architecture": "amd64", "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "cargo xtask image"}],
    }))?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &image_config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    }))?;
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    entry["annotations"] = json!({REF_NAME: name, SHORT_REF_NAME: tag});
    entry["platform"] = json!({"architecture": "amd64", "os": "linux"});
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]});

    if let Some(dir) = out.parent() {
        fs::create_dir_all(dir)?;
    }
    let mut archive = tar::Builder::new(std::io::BufWriter::new(fs::File::create(out)?));
    append(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    append(&mut archive, "index.json", &serde_json::to_vec(&index)?)?;
    for blob in [&manifest, &image_config, &layer] {
        append(&mut archive, &format!("blobs/sha256/{}", digest(blob)), blob)?;
    }
    archive.into_inner()?.flush()?;
    Ok(())
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": format!("sha256:{}", digest(blob)), "size": blob.len()})
}

fn layer_tar(files: &[LayerFile]) -> Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    for file in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(file.mode);
        match &file.content {
            Content::Directory => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_size(0);
                layer.append_data(&mut header, format!("{}/", file.path), &[][..])?;
            }
            Content::File(content) => {
                header.set_size(content.len() as u64);
                layer.append_data(&mut header, &file.path, &content[..])?;
            }
            Content::Symlink(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                layer.append_link(&mut header, &file.path, target)?;
            }
        }
    }
    Ok(layer.into_inner()?)
}

fn append(archive: &mut tar::Builder<impl Write>, name: &str, content: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    Ok(archive.append_data(&mut header, name, content)?)
}
