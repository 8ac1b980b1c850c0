//! The image store's files.

use super::archive::{self, Found};
use super::digest::{self, Digesting};
use super::{Image, ImageConfig, ImageError, layer, normalize};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Characters of a chain id that name a layer's directory: few, because overlayfs takes all of them in one page.
const CHAIN_CHARS: usize = 24;

/// The images of a machine.
#[derive(Debug, Clone)]
pub struct ImageStore {
    dir: PathBuf,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Index {
    images: Vec<Image>,
}

#[derive(Deserialize)]
struct ConfigFile {
    #[serde(default)]
    config: Option<ImageConfig>,
    rootfs: RootFs,
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default, deserialize_with = "digest::null_is_default")]
    diff_ids: Vec<String>,
}

/// Imports every image of an archive into the store at `dir`: what was imported.
///
/// # Errors
/// See [`ImageError`]; nothing is changed then.
pub fn import(dir: &Path, archive: &Path) -> Result<Vec<Image>, ImageError> {
    ImageStore::open(dir)?.import(archive)
}

/// The images in the store at `dir`, by name.
///
/// # Errors
/// When the index cannot be read.
pub fn list(dir: &Path) -> Result<Vec<Image>, ImageError> {
    ImageStore::open(dir)?.list()
}

impl ImageStore {
    /// The store in `dir`, made when absent.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(dir: &Path) -> Result<Self, ImageError> {
        let layers = dir.join("layers");
        fs::create_dir_all(&layers).map_err(ImageError::io(layers))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Where the layers are.
    #[must_use]
    pub fn layers_dir(&self) -> PathBuf {
        self.dir.join("layers")
    }

    /// See [`import`].
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn import(&self, path: &Path) -> Result<Vec<Image>, ImageError> {
        let _lock = self.lock()?;
        let staging = self.dir.join(format!("tmp-{}", std::process::id()));
        let _ = fs::remove_dir_all(&staging);
        fs::create_dir_all(&staging).map_err(ImageError::io(&staging))?;
        let result = self.import_staged(path, &staging);
        let _ = fs::remove_dir_all(&staging);
        result
    }

    fn import_staged(&self, path: &Path, staging: &Path) -> Result<Vec<Image>, ImageError> {
        archive::stage(path, staging)?;
        let found = archive::find(staging)?;
        let imported =
            found.into_iter().map(|found| self.unpack(found, staging)).collect::<Result<Vec<_>, _>>()?;
        let mut index = self.read_index()?;
        for image in &imported {
            merge(&mut index, image.clone());
        }
        self.write_index(&index)?;
        Ok(imported)
    }

    fn unpack(&self, found: Found, staging: &Path) -> Result<Image, ImageError> {
        let file: ConfigFile = serde_json::from_slice(&found.config)
            .map_err(|error| ImageError::BadArchive(format!("the configuration: {error}")))?;
        check_platform(&file)?;
        if file.rootfs.diff_ids.len() != found.layers.len() {
            let text = format!("{} layers, but {} diff ids", found.layers.len(), file.rootfs.diff_ids.len());
            return Err(ImageError::BadArchive(text));
        }
        let (mut layers, mut size_bytes, mut chain) = (Vec::new(), 0, String::new());
        for (path, diff_id) in found.layers.iter().zip(&file.rootfs.diff_ids) {
            digest::hex_of(diff_id)?;
            chain = if chain.is_empty() {
                diff_id.clone()
            } else {
                digest::of(format!("{chain} {diff_id}").as_bytes())
            };
            let name = digest::hex_of(&chain)?[..CHAIN_CHARS].to_owned();
            size_bytes += self.unpack_layer(path, diff_id, &name, &layers, staging)?;
            layers.push(name);
        }
        let config = file.config.unwrap_or_default();
        let mut names = found.names;
        names.sort_unstable();
        Ok(Image { id: found.config_digest, manifest: found.manifest, names, layers, size_bytes, config })
    }

    /// Unpacks a layer unless it is there already: its uncompressed bytes.
    fn unpack_layer(
        &self,
        path: &Path,
        diff_id: &str,
        name: &str,
        below: &[String],
        staging: &Path,
    ) -> Result<u64, ImageError> {
        let stream = archive::decompress(path)?;
        let target = self.layers_dir().join(name);
        if target.is_dir() {
            // Present, but this archive's copy must still be what it says.
            let (actual, bytes) = Digesting::new(stream).finish().map_err(ImageError::io(path))?;
            digest::compare("a layer, uncompressed,", diff_id, &actual)?;
            return Ok(bytes);
        }
        let unpacked = staging.join("layer");
        let _ = fs::remove_dir_all(&unpacked);
        let lower: Vec<PathBuf> = below.iter().rev().map(|name| self.layers_dir().join(name)).collect();
        let mut stream = Digesting::new(stream);
        layer::unpack(&mut stream, &unpacked, &lower)?;
        let (actual, bytes) = stream.finish().map_err(ImageError::io(path))?;
        digest::compare("a layer, uncompressed,", diff_id, &actual)?;
        fs::rename(&unpacked, &target).map_err(ImageError::io(target))?;
        Ok(bytes)
    }

    /// All images, sorted by name.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn list(&self) -> Result<Vec<Image>, ImageError> {
        let mut images = self.read_index()?.images;
        images.sort_by(|a, b| (&a.names, &a.id).cmp(&(&b.names, &b.id)));
        Ok(images)
    }

    /// Finds an image by name, `name@digest` or id.
    ///
    /// # Errors
    /// [`ImageError::NotFound`], or a malformed name.
    pub fn get(&self, name: &str) -> Result<Image, ImageError> {
        let images = self.read_index()?.images;
        let by_id = |image: &Image| image.id == name || image.id.strip_prefix("sha256:") == Some(name);
        if let Some(image) = images.iter().find(|image| by_id(image)) {
            return Ok(image.clone());
        }
        let full = normalize(name)?;
        let matches = |image: &Image| image.names.contains(&full) || image.repo_digests().contains(&full);
        images.into_iter().find(matches).ok_or_else(|| ImageError::NotFound(name.to_owned()))
    }

    /// Removes a name; with the last one the image goes, and the layers no other image uses.
    ///
    /// # Errors
    /// [`ImageError::NotFound`].
    pub fn remove(&self, name: &str) -> Result<(), ImageError> {
        let _lock = self.lock()?;
        let id = self.get(name)?.id;
        let full = normalize(name).unwrap_or_default();
        let mut index = self.read_index()?;
        for image in index.images.iter_mut().filter(|image| image.id == id) {
            image.names.retain(|known| *known != full && name != id);
        }
        index.images.retain(|image| image.id != id || !image.names.is_empty());
        self.write_index(&index)?;
        self.collect(&index)
    }

    /// Removes layers that no image names. A container that still runs on one keeps it through its mount.
    fn collect(&self, index: &Index) -> Result<(), ImageError> {
        let dir = self.layers_dir();
        for entry in fs::read_dir(&dir).map_err(ImageError::io(&dir))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !index.images.iter().any(|image| image.layers.contains(&name)) {
                fs::remove_dir_all(entry.path()).map_err(ImageError::io(entry.path()))?;
            }
        }
        Ok(())
    }

    fn read_index(&self) -> Result<Index, ImageError> {
        let path = self.dir.join("index.json");
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| ImageError::io(&path)(error.into())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Index::default()),
            Err(error) => Err(ImageError::io(&path)(error)),
        }
    }

    fn write_index(&self, index: &Index) -> Result<(), ImageError> {
        let path = self.dir.join("index.json");
        let text = serde_json::to_vec_pretty(index).map_err(|error| ImageError::io(&path)(error.into()))?;
        let disk = base::disk::RealDisk;
        base::disk::Disk::write_atomically(&disk, &path, &text).map_err(ImageError::io(&path))
    }

    fn lock(&self) -> Result<File, ImageError> {
        let path = self.dir.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(ImageError::io(&path))?;
        file.lock().map_err(ImageError::io(&path))?;
        Ok(file)
    }
}

/// A name belongs to one image: the latest import takes it.
fn merge(index: &mut Index, image: Image) {
    for other in &mut index.images {
        other.names.retain(|name| !image.names.contains(name));
    }
    if let Some(same) = index.images.iter_mut().find(|other| other.id == image.id) {
        let mut names = std::mem::take(&mut same.names);
        names.extend(image.names.iter().cloned());
        names.sort_unstable();
        *same = Image { names, manifest: image.manifest.clone().or_else(|| same.manifest.clone()), ..image };
    } else {
        index.images.push(image);
    }
    index.images.retain(|image| !image.names.is_empty() || image.manifest.is_some());
}

fn check_platform(file: &ConfigFile) -> Result<(), ImageError> {
    let wanted = archive::architecture();
    let fits = (file.os.is_empty() || file.os == "linux")
        && (file.architecture.is_empty() || file.architecture == wanted);
    if fits {
        return Ok(());
    }
    Err(ImageError::BadArchive(format!(
        "it is for {}/{}, this machine is linux/{wanted}",
        file.os, file.architecture
    )))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
