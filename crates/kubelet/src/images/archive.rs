//! Reads an image archive into a staging directory and finds the images in it.

use super::{ImageError, digest, reference};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Component, Path, PathBuf};

/// Manifests, indexes and configurations are small; more than this is not read into memory.
const JSON_BYTES_MAX: u64 = 8 << 20;
/// Indexes may point at indexes, but not for ever.
const INDEX_DEPTH_MAX: usize = 4;
/// Members of an archive; an image has a few dozen.
const MEMBERS_MAX: usize = 10_000;

/// An image found in an archive: where its parts are.
#[derive(Debug)]
pub struct Found {
    /// `sha256:<hex>` of the configuration file.
    pub config_digest: String,
    /// The configuration's text.
    pub config: Vec<u8>,
    /// `sha256:<hex>` of the manifest, if there is one.
    pub manifest: Option<String>,
    /// Layer files, lowest first, compressed or not.
    pub layers: Vec<PathBuf>,
    /// Normalized names.
    pub names: Vec<String>,
}

#[derive(Deserialize)]
struct DockerManifest {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags", default, deserialize_with = "digest::null_is_default")]
    repo_tags: Vec<String>,
    #[serde(rename = "Layers", default, deserialize_with = "digest::null_is_default")]
    layers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// A reader of the archive's uncompressed bytes, whatever the compression (told by its first bytes).
pub fn decompress(path: &Path) -> Result<Box<dyn Read>, ImageError> {
    let mut file = File::open(path).map_err(ImageError::io(path))?;
    let mut magic = [0u8; 4];
    let n = file.read(&mut magic).map_err(ImageError::io(path))?;
    let file = File::open(path).map_err(ImageError::io(path))?;
    Ok(match &magic[..n] {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(file))),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::new(file).map_err(ImageError::io(path))?),
        _ => Box::new(BufReader::new(file)),
    })
}

/// Unpacks the archive's regular files into `staging`.
pub fn stage(archive: &Path, staging: &Path) -> Result<(), ImageError> {
    let mut tar = tar::Archive::new(decompress(archive)?);
    let mut links = Vec::new();
    let members = tar.entries().map_err(ImageError::io(archive))?;
    for (count, member) in members.enumerate() {
        if count >= MEMBERS_MAX {
            return Err(ImageError::TooLarge(format!("the archive has more than {MEMBERS_MAX} members")));
        }
        let mut member = member.map_err(|error| ImageError::BadArchive(error.to_string()))?;
        let name = member.path().map_err(ImageError::io(archive))?.into_owned();
        let target = staging.join(safe_name(&name)?);
        match member.header().entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                make_parent(&target)?;
                let mut file = File::create(&target).map_err(ImageError::io(&target))?;
                std::io::copy(&mut member, &mut file)
                    .map_err(|error| ImageError::BadArchive(format!("{}: {error}", name.display())))?;
            }
            tar::EntryType::Symlink | tar::EntryType::Link => {
                let link =
                    member.link_name().map_err(ImageError::io(archive))?.unwrap_or_default().into_owned();
                links.push((name, target, link, member.header().entry_type()));
            }
            _ => {}
        }
    }
    links.into_iter().try_for_each(|(name, target, link, kind)| {
        // Old `docker save` names a layer twice by `../<id>/layer.tar`; only other members can be meant.
        let base = if kind == tar::EntryType::Symlink {
            name.parent().unwrap_or(Path::new(""))
        } else {
            Path::new("")
        };
        let source = staging.join(resolve(base, &link)?);
        make_parent(&target)?;
        fs::hard_link(&source, &target).map_err(ImageError::io(source))
    })
}

fn make_parent(target: &Path) -> Result<(), ImageError> {
    let parent = target.parent().unwrap_or(target);
    fs::create_dir_all(parent).map_err(ImageError::io(parent))
}

fn safe_name(name: &Path) -> Result<PathBuf, ImageError> {
    resolve(Path::new(""), name)
        .map_err(|_| ImageError::UnsafePath(format!("the archive's member {} leads outside", name.display())))
}

/// `link` as seen from `base`, both inside the archive; an error when it leaves the archive.
fn resolve(base: &Path, link: &Path) -> Result<PathBuf, ImageError> {
    let outside =
        || ImageError::UnsafePath(format!("the archive's link to {} leads outside", link.display()));
    let mut path = PathBuf::new();
    for part in base.components().chain(link.components()) {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir if path.pop() => {}
            _ => return Err(outside()),
        }
    }
    Ok(path)
}

/// Finds the images in a staged archive.
pub fn find(staging: &Path) -> Result<Vec<Found>, ImageError> {
    let docker = staging.join("manifest.json");
    if docker.is_file() {
        return find_docker(staging, &docker);
    }
    let index = staging.join("index.json");
    if index.is_file() {
        return find_oci(staging, &index);
    }
    Err(ImageError::BadArchive(
        "it has neither index.json (OCI layout) nor manifest.json (docker save)".to_owned(),
    ))
}

fn find_docker(staging: &Path, manifest: &Path) -> Result<Vec<Found>, ImageError> {
    let manifests: Vec<DockerManifest> = read_json(manifest)?;
    manifests.into_iter().map(|manifest| docker_image(staging, manifest)).collect()
}

fn docker_image(staging: &Path, manifest: DockerManifest) -> Result<Found, ImageError> {
    let config_path = staging.join(safe_name(Path::new(&manifest.config))?);
    let config = read_small(&config_path)?;
    let config_digest = digest::of(&config);
    // Docker names the configuration by its digest, `<hex>.json` or `blobs/sha256/<hex>`.
    let stem = config_path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    digest::compare(&manifest.config, &format!("sha256:{stem}"), &config_digest)?;
    let mut layers = Vec::new();
    for layer in &manifest.layers {
        let path = staging.join(safe_name(Path::new(layer))?);
        if let Some(hex) = layer.strip_prefix("blobs/sha256/") {
            digest::verify_file(&path, &format!("sha256:{hex}"), layer)?;
        }
        layers.push(path);
    }
    let names = manifest.repo_tags.iter().map(|tag| reference::normalize(tag)).collect::<Result<_, _>>()?;
    Ok(Found { config_digest, config, manifest: None, layers, names })
}

fn find_oci(staging: &Path, index: &Path) -> Result<Vec<Found>, ImageError> {
    let index: Index = read_json(index)?;
    let mut found = Vec::new();
    for descriptor in &index.manifests {
        let Some(manifest) = pick(staging, descriptor, 0)? else { continue };
        found.push(oci_image(staging, &manifest, oci_names(descriptor)?)?);
    }
    if found.is_empty() {
        let wanted = architecture();
        return Err(ImageError::BadArchive(format!("it holds no image for linux/{wanted}")));
    }
    Ok(found)
}

/// Follows nested indexes to the manifest for this machine: its digest.
fn pick(staging: &Path, descriptor: &Descriptor, depth: usize) -> Result<Option<String>, ImageError> {
    if !fits(descriptor.platform.as_ref()) || depth > INDEX_DEPTH_MAX {
        return Ok(None);
    }
    let is_index =
        descriptor.media_type.contains("image.index") || descriptor.media_type.contains("manifest.list");
    if !is_index {
        return Ok(Some(descriptor.digest.clone()));
    }
    let index: Index = parse(&blob(staging, descriptor)?, &descriptor.digest)?;
    for inner in &index.manifests {
        if let Some(found) = pick(staging, inner, depth + 1)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn fits(platform: Option<&Platform>) -> bool {
    platform.is_none_or(|platform| {
        (platform.os.is_empty() || platform.os == "linux")
            && (platform.architecture.is_empty() || platform.architecture == architecture())
    })
}

/// This machine's architecture in Go's words.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn oci_names(descriptor: &Descriptor) -> Result<Vec<String>, ImageError> {
    let named = descriptor
        .annotations
        .get("io.containerd.image.name")
        .or_else(|| descriptor.annotations.get("org.opencontainers.image.ref.name"));
    named.map(|name| reference::normalize(name)).into_iter().collect()
}

fn oci_image(staging: &Path, manifest_digest: &str, names: Vec<String>) -> Result<Found, ImageError> {
    let manifest_path = blob_path(staging, manifest_digest)?;
    let text = read_small(&manifest_path)?;
    digest::compare("the manifest", manifest_digest, &digest::of(&text))?;
    let manifest: Manifest = parse(&text, manifest_digest)?;
    let config = blob(staging, &manifest.config)?;
    let mut layers = Vec::new();
    for layer in &manifest.layers {
        let path = blob_path(staging, &layer.digest)?;
        let bytes = digest::verify_file(&path, &layer.digest, "a layer")?;
        check_size(layer, bytes)?;
        layers.push(path);
    }
    Ok(Found {
        config_digest: manifest.config.digest,
        config,
        manifest: Some(manifest_digest.to_owned()),
        layers,
        names,
    })
}

fn check_size(descriptor: &Descriptor, bytes: u64) -> Result<(), ImageError> {
    if descriptor.size == bytes {
        return Ok(());
    }
    let text = format!("{} has {bytes} bytes where {} were announced", descriptor.digest, descriptor.size);
    Err(ImageError::BadArchive(text))
}

fn blob_path(staging: &Path, digest: &str) -> Result<PathBuf, ImageError> {
    let path = staging.join("blobs/sha256").join(digest::hex_of(digest)?);
    if path.is_file() {
        Ok(path)
    } else {
        Err(ImageError::BadArchive(format!("the blob {digest} is missing")))
    }
}

/// A small blob, verified.
fn blob(staging: &Path, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
    let text = read_small(&blob_path(staging, &descriptor.digest)?)?;
    digest::compare("a blob", &descriptor.digest, &digest::of(&text))?;
    check_size(descriptor, text.len() as u64)?;
    Ok(text)
}

fn read_small(path: &Path) -> Result<Vec<u8>, ImageError> {
    let bytes = fs::metadata(path)
        .map_err(|_| {
            ImageError::BadArchive(format!("{} is missing", path.file_name().unwrap_or_default().display()))
        })?
        .len();
    if bytes > JSON_BYTES_MAX {
        return Err(ImageError::TooLarge(format!(
            "{bytes} bytes of metadata, at most {JSON_BYTES_MAX} are read"
        )));
    }
    fs::read(path).map_err(ImageError::io(path))
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, ImageError> {
    parse(&read_small(path)?, &path.file_name().unwrap_or_default().to_string_lossy())
}

fn parse<T: for<'de> Deserialize<'de>>(text: &[u8], what: &str) -> Result<T, ImageError> {
    serde_json::from_slice(text).map_err(|error| ImageError::BadArchive(format!("{what}: {error}")))
}
