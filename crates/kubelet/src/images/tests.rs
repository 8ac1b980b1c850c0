//! Imports of good, damaged and hostile archives, each built here.

use super::*;
use std::io::Write;
use std::os::unix::fs::FileTypeExt;

struct Member<'a> {
    name: &'a str,
    kind: tar::EntryType,
    link: &'a str,
    data: &'a [u8],
}

fn file<'a>(name: &'a str, data: &'a [u8]) -> Member<'a> {
    Member { name, kind: tar::EntryType::Regular, link: "", data }
}

fn link<'a>(name: &'a str, kind: tar::EntryType, link: &'a str) -> Member<'a> {
    Member { name, kind, link, data: b"" }
}

/// A tar with names as given, hostile ones included.
fn tarball(members: &[Member<'_>]) -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    for member in members {
        let mut header = tar::Header::new_ustar();
        let name = member.name.as_bytes();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        let target = member.link.as_bytes();
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
        header.set_entry_type(member.kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(member.data.len() as u64);
        header.set_cksum();
        out.append(&header, member.data).unwrap();
    }
    out.into_inner().unwrap()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(data).unwrap();
    out.finish().unwrap()
}

/// An OCI layout with the layers given as (blob, diff id).
fn oci(layers: &[(Vec<u8>, String)], name: &str) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|(_, diff_id)| diff_id.clone()).collect();
    let config = serde_json::json!({"os": "linux", "config": {"Cmd": ["/bin/sh"], "Env": null},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}})
    .to_string()
    .into_bytes();
    let descriptor = |bytes: &[u8]| serde_json::json!({"digest": digest::of(bytes), "size": bytes.len()});
    let layer_list: Vec<_> = layers.iter().map(|(blob, _)| descriptor(blob)).collect();
    let manifest =
        serde_json::json!({"schemaVersion": 2, "config": descriptor(&config), "layers": layer_list})
            .to_string()
            .into_bytes();
    let mut entry = descriptor(&manifest);
    entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": name});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]}).to_string().into_bytes();
    let blobs: Vec<(String, &[u8])> = [config.as_slice(), manifest.as_slice()]
        .into_iter()
        .chain(layers.iter().map(|(blob, _)| blob.as_slice()))
        .map(|blob| (format!("blobs/sha256/{}", digest::of(blob).trim_start_matches("sha256:")), blob))
        .collect();
    let mut members = vec![file("index.json", &index)];
    members.extend(blobs.iter().map(|(name, blob)| file(name, blob)));
    tarball(&members)
}

fn plain_layer(members: &[Member<'_>]) -> (Vec<u8>, String) {
    let tar = tarball(members);
    let diff_id = digest::of(&tar);
    (tar, diff_id)
}

fn import_bytes(dir: &Path, archive: &[u8]) -> Result<Vec<Image>, ImageError> {
    let path = dir.join("archive.tar");
    fs::write(&path, archive).unwrap();
    import(&dir.join("images"), &path)
}

#[test]
fn layers_and_names_come_out_as_they_went_in() {
    let dir = tempfile::tempdir().unwrap();
    let lower = tarball(&[
        file("bin/sh", b"#!"),
        file("gone", b"x"),
        link("l", tar::EntryType::Symlink, "/etc/passwd"),
    ]);
    let upper = plain_layer(&[
        file(".wh.gone", b""),
        file("d/.wh..wh..opq", b""),
        link("d/sh", tar::EntryType::Fifo, ""),
    ]);
    let archive = gzip(&oci(&[(gzip(&lower), digest::of(&lower)), upper], "app:v1"));
    let images = import_bytes(dir.path(), &archive).unwrap();
    assert_eq!(images[0].names, ["docker.io/library/app:v1"]);
    assert_eq!(images[0].config.cmd, ["/bin/sh"]);
    let store = ImageStore::open(&dir.path().join("images")).unwrap();
    assert_eq!(store.get("app:v1").unwrap(), images[0]);
    assert!(matches!(store.get("app:v2"), Err(ImageError::NotFound(_))));
    let layers = store.layers_dir();
    assert_eq!(fs::read(layers.join(&images[0].layers[0]).join("bin/sh")).unwrap(), b"#!");
    let whiteout = fs::symlink_metadata(layers.join(&images[0].layers[1]).join("gone")).unwrap();
    assert!(whiteout.file_type().is_char_device());
    // A second import is the same image; removing its only name removes the layers.
    import_bytes(dir.path(), &archive).unwrap();
    assert_eq!(store.list().unwrap().len(), 1);
    store.remove("app:v1").unwrap();
    assert_eq!(store.list().unwrap(), []);
    assert_eq!(fs::read_dir(layers).unwrap().count(), 0);
}

#[test]
fn hostile_and_damaged_archives_are_refused() {
    let check = |layer: (Vec<u8>, String), expect: &str| {
        let dir = tempfile::tempdir().unwrap();
        let error = import_bytes(dir.path(), &oci(&[layer], "bad")).expect_err(expect).to_string();
        assert!(error.contains(expect), "{error}");
        assert_eq!(list(&dir.path().join("images")).unwrap(), [], "nothing was imported");
        assert!(!dir.path().join("escaped").exists());
    };
    check(plain_layer(&[file("../escaped", b"x")]), "leads outside of the layer");
    check(plain_layer(&[file("a/../../escaped", b"x")]), "leads outside of the layer");
    check(
        plain_layer(&[link("up", tar::EntryType::Symlink, "../.."), file("up/escaped", b"x")]),
        "passes through the link up",
    );
    check(plain_layer(&[link("hard", tar::EntryType::Link, "../../escaped")]), "leads outside of the layer");
    let (blob, _) = plain_layer(&[file("a", b"x")]);
    check((blob, format!("sha256:{}", "0".repeat(64))), "was announced");
}

#[test]
fn a_blob_with_another_digest_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = oci(&[plain_layer(&[file("a", b"hello")])], "app");
    let at = archive.windows(5).position(|bytes| bytes == b"hello").unwrap();
    archive[at] = b'j';
    let error = import_bytes(dir.path(), &archive).expect_err("damaged").to_string();
    assert!(error.contains("damaged or forged"), "{error}");
    assert!(import_bytes(dir.path(), b"no tar at all").is_err());
    assert!(import_bytes(dir.path(), &tarball(&[file("x", b"")])).is_err());
}

#[test]
fn docker_archives_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let (layer, diff_id) = plain_layer(&[file("hello", b"world")]);
    let config =
        serde_json::json!({"rootfs": {"diff_ids": [diff_id]}, "config": {"User": "1000:1000"}}).to_string();
    let name = format!("{}.json", digest::of(config.as_bytes()).trim_start_matches("sha256:"));
    let manifest = |name: &str| {
        serde_json::json!([{"Config": name, "RepoTags": ["one:1", "two:2"], "Layers": ["a/layer.tar"]}])
            .to_string()
    };
    let good = manifest(&name);
    let archive = tarball(&[
        file("manifest.json", good.as_bytes()),
        file(&name, config.as_bytes()),
        file("b/layer.tar", &layer),
        link("a/layer.tar", tar::EntryType::Symlink, "../b/layer.tar"),
    ]);
    let images = import_bytes(dir.path(), &archive).unwrap();
    assert_eq!(images[0].config.user, "1000:1000");
    assert_eq!(images[0].names, ["docker.io/library/one:1", "docker.io/library/two:2"]);
    let forged = manifest("0000.json");
    let archive = tarball(&[file("manifest.json", forged.as_bytes()), file("0000.json", config.as_bytes())]);
    assert!(import_bytes(dir.path(), &archive).is_err());
}
