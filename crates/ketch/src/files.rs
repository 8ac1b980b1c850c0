//! The data directory: its lock, its endpoints, its format.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// Version of the directory's layout.
const FORMAT: u32 = 1;

/// Where one learns how to reach what runs: `<data-dir>/endpoints.json`. Parts that are off are absent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Endpoints {
    /// URL of the Kubernetes API.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub api: String,
    /// URL of the store's etcd API.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub etcd: Option<String>,
    /// URL for other members of the store.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub peer: Option<String>,
    /// `host:port` of the broker.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kafka: Option<String>,
    /// URL of the node agent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kubelet: Option<String>,
    /// URL of the metrics.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub console: Option<String>,
    /// When the broker answers acks=all: `fsync` or `page-cache`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kafka_durability: Option<String>,
    pub pid: u32,
}

impl Endpoints {
    fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("endpoints.json")
    }

    /// Writes the file so that a reader sees the old or the new one.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn write(&self, data_dir: &Path) -> Result<()> {
        let path = Self::path(data_dir);
        let tmp = path.with_extension("tmp");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&tmp)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(&tmp, &path).with_context(|| format!("cannot write {}", path.display()))
    }

    /// What was written last, if anything.
    #[must_use]
    pub fn read(data_dir: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(Self::path(data_dir)).ok()?).ok()
    }

    /// Nothing listens any more.
    pub fn remove(data_dir: &Path) {
        // Absent already is as good.
        let _ = fs::remove_file(Self::path(data_dir));
    }
}

/// Proof that this process alone uses the directory; released when dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Makes the directory if need be and locks it.
    ///
    /// # Errors
    /// When another process holds it (by its process id), or the directory is of a newer format.
    pub fn take(data_dir: &Path) -> Result<Self> {
        match Self::try_take(data_dir)? {
            Ok(lock) => Ok(lock),
            Err(pid) => bail!(
                "{} is in use by process {pid}; stop it first, or name another place with --data-dir",
                data_dir.display()
            ),
        }
    }

    /// As [`Lock::take`], but a holder is an answer: its process id as it wrote it.
    ///
    /// # Errors
    /// When the directory cannot be used at all.
    pub fn try_take(data_dir: &Path) -> Result<Result<Self, String>> {
        fs::create_dir_all(data_dir).with_context(|| format!("cannot make {}", data_dir.display()))?;
        fs::set_permissions(data_dir, fs::Permissions::from_mode(0o711))?;
        check_format(data_dir)?;
        let path = data_dir.join("lock");
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                file.read_to_string(&mut pid)?;
                return Ok(Err(pid.trim().to_owned()));
            }
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the data directory"),
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Ok(Self { _file: file }))
    }
}

fn check_format(data_dir: &Path) -> Result<()> {
    let path = data_dir.join("FORMAT");
    let Ok(text) = fs::read_to_string(&path) else {
        return fs::write(&path, format!("{FORMAT}\n"))
            .with_context(|| format!("cannot write {}", path.display()));
    };
    let found: u32 = text.trim().parse().with_context(|| format!("{} holds no number", path.display()))?;
    if found > FORMAT {
        bail!(
            "{} has format {found}, and this ketch knows up to {FORMAT}: use a newer ketch",
            data_dir.display()
        );
    }
    Ok(())
}

/// Eight hexadecimal digits that tell this directory's links, tables and cgroups from another's (FNV-1a of the path).
#[must_use]
pub fn directory_id(data_dir: &Path) -> String {
    let real = data_dir.canonicalize().unwrap_or_else(|_| data_dir.to_owned());
    let fold = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    format!("{:08x}", real.as_os_str().as_encoded_bytes().iter().fold(0x811c_9dc5, fold))
}

/// The URL of an HTTPS address.
#[must_use]
pub fn https(address: SocketAddr) -> String {
    format!("https://{address}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_is_refused_by_process_id() {
        let dir = tempfile::tempdir().unwrap();
        let held = Lock::take(dir.path()).unwrap();
        let error = Lock::take(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(held);
        Lock::take(dir.path()).unwrap();
    }

    #[test]
    fn a_newer_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("FORMAT"), "2\n").unwrap();
        let error = Lock::take(dir.path()).unwrap_err().to_string();
        assert!(error.contains("format 2"), "{error}");
    }

    #[test]
    fn endpoints_are_private_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let endpoints = Endpoints {
            api: "https://127.0.0.1:1".into(),
            etcd: None,
            peer: None,
            kafka: None,
            kubelet: None,
            console: None,
            kafka_durability: None,
            pid: 7,
        };
        endpoints.write(dir.path()).unwrap();
        let mode = fs::metadata(Endpoints::path(dir.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            fs::read_to_string(Endpoints::path(dir.path())).unwrap(),
            r#"{"api":"https://127.0.0.1:1","pid":7}"#
        );
        assert_eq!(Endpoints::read(dir.path()).unwrap().pid, 7);
    }
}
