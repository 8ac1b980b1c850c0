//! Container images: imported from archives, verified, and kept as one directory per layer.
//!
//! ```text
//! archive (OCI layout or `docker save`; plain, gzip or zstd)
//!    │ stage: unpack members into tmp/, names checked
//!    │ read:  index or manifest -> config, layers; every blob's digest compared
//!    │ layer: uncompressed digest compared with the config's diff id, unpacked with whiteouts for overlayfs
//!    ▼
//! <dir>/index.json      what images there are and their names; replaced atomically under <dir>/lock
//! <dir>/layers/<chain>  one directory per chain of layers
//! ```
//!
//! The store is only files: `ketch image import` and the agent may use it at the same time from two processes.

mod archive;
mod digest;
mod layer;
mod reference;
mod store;

pub use reference::normalize;
pub use store::{ImageStore, import, list};

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Why an image could not be imported, found or removed. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file concerned.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The archive is not an image, or lacks a part of it.
    #[error("not an image archive: {0}")]
    BadArchive(String),
    /// Content does not have the digest under which it is named.
    #[error("{what} has the digest {actual}, but {expected} was announced: the archive is damaged or forged")]
    DigestMismatch {
        /// The blob or layer.
        what: String,
        /// The digest that was announced.
        expected: String,
        /// The digest that was computed.
        actual: String,
    },
    /// A member of a layer would be written outside of the layer.
    #[error("refused: {0}")]
    UnsafePath(String),
    /// Something is larger than this store accepts.
    #[error("refused: {0}")]
    TooLarge(String),
    /// The name of an image is not well formed.
    #[error("couldn't parse image name \"{name}\": invalid reference format")]
    BadReference {
        /// As it was given.
        name: String,
    },
    /// No such image.
    #[error("no image {0} on this machine: load it with 'ketch image import FILE'")]
    NotFound(String),
}

impl ImageError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// `sha256:<hex>` of the configuration: the image's identity.
    pub id: String,
    /// `sha256:<hex>` of the manifest, when the archive had one.
    pub manifest: Option<String>,
    /// Normalized names, sorted.
    pub names: Vec<String>,
    /// Directory names of the layers under `layers/`, lowest first.
    pub layers: Vec<String>,
    /// Bytes of the uncompressed layers.
    pub size_bytes: u64,
    /// How to run it.
    pub config: ImageConfig,
}

impl Image {
    /// `name@sha256:...` for each repository the image is known under.
    #[must_use]
    pub fn repo_digests(&self) -> Vec<String> {
        let Some(digest) = &self.manifest else { return Vec::new() };
        let mut found: Vec<String> =
            self.names.iter().map(|name| format!("{}@{digest}", reference::repository(name))).collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// The part of an image's configuration that a container starts from (OCI image-spec, `config`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// What `command` replaces.
    #[serde(rename = "Entrypoint", deserialize_with = "digest::null_is_default")]
    pub entrypoint: Vec<String>,
    /// What `args` replaces.
    #[serde(rename = "Cmd", deserialize_with = "digest::null_is_default")]
    pub cmd: Vec<String>,
    /// `NAME=value`.
    #[serde(rename = "Env", deserialize_with = "digest::null_is_default")]
    pub env: Vec<String>,
    /// The working directory; empty means `/`.
    #[serde(rename = "WorkingDir", deserialize_with = "digest::null_is_default")]
    pub working_dir: String,
    /// `user`, `uid`, `user:group` or `uid:gid`; empty means root.
    #[serde(rename = "User", deserialize_with = "digest::null_is_default")]
    pub user: String,
    /// The signal that asks the program to stop; empty means SIGTERM.
    #[serde(rename = "StopSignal", deserialize_with = "digest::null_is_default")]
    pub stop_signal: String,
}
