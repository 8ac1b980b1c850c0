//! Files of a volume, replaced all at once.
//!
//! ```text
//! <volume>/..2026_01_02_03.04.05.123456789/dir/key    the files
//!         /..data -> ..2026_...                       swapped by rename
//!         /dir    -> ..data/dir                       what programs open
//! ```
//! The layout is upstream's (`atomic_writer.go`), because programs watch `..data`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Component, Path};

/// A file: its content and mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadFile {
    /// The bytes.
    pub data: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}

/// The files of a volume by relative path.
pub type Payload = BTreeMap<String, PayloadFile>;

/// Makes the volume hold exactly `payload`; true when something changed.
pub fn write(dir: &Path, payload: &Payload, fs_group: Option<u32>, stamp: &str) -> io::Result<bool> {
    fs::create_dir_all(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    if let Some(path) = payload.keys().find(|path| !is_safe(path)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("invalid path {path:?}: it must be relative and below the volume"),
        ));
    }
    let current = fs::read_link(dir.join("..data")).ok();
    if current.as_ref().is_some_and(|name| holds(&dir.join(name), payload)) {
        return Ok(false);
    }
    let name = format!("..{stamp}");
    let fresh = dir.join(&name);
    fs::create_dir(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    for (path, file) in payload {
        write_file(&fresh, path, file, fs_group)?;
    }
    let swap = dir.join("..data_tmp");
    let _ = fs::remove_file(&swap);
    symlink(&name, &swap)?;
    fs::rename(&swap, dir.join("..data"))?;
    link_names(dir, payload)?;
    if let Some(old) = current {
        let _ = fs::remove_dir_all(dir.join(old));
    }
    Ok(true)
}

fn is_safe(path: &str) -> bool {
    let path = Path::new(path);
    !path.as_os_str().is_empty()
        && path.components().all(
            |part| matches!(part, Component::Normal(name) if !name.as_encoded_bytes().starts_with(b"..")),
        )
}

fn holds(dir: &Path, payload: &Payload) -> bool {
    let same = |path: &String, file: &PayloadFile| {
        let full = dir.join(path);
        fs::read(&full).is_ok_and(|data| data == file.data)
    };
    payload.iter().all(|(path, file)| same(path, file)) && count_files(dir) == payload.len()
}

fn count_files(dir: &Path) -> usize {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(
            |entry| {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) { count_files(&entry.path()) } else { 1 }
            },
        )
        .sum()
}

fn write_file(dir: &Path, path: &str, file: &PayloadFile, fs_group: Option<u32>) -> io::Result<()> {
    let full = dir.join(path);
    if let Some(parent) = full.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(&full, &file.data)?;
    // With an fsGroup, its members may read what the owner may read.
    let mode = if fs_group.is_some() { file.mode | 0o440 } else { file.mode };
    if fs_group.is_some() {
        chown(&full, None, fs_group)?;
    }
    fs::set_permissions(&full, fs::Permissions::from_mode(mode))
}

/// The names programs see: the first part of each path.
fn link_names(dir: &Path, payload: &Payload) -> io::Result<()> {
    let wanted: BTreeSet<&str> = payload.keys().filter_map(|path| path.split('/').next()).collect();
    for entry in fs::read_dir(dir)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !wanted.contains(name.as_str()) {
            fs::remove_file(entry.path())?;
        }
    }
    for name in wanted {
        let link = dir.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(format!("..data/{name}"), link)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_swapped_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let payload = |pairs: &[(&str, &str)]| -> Payload {
            pairs
                .iter()
                .map(|(path, text)| {
                    ((*path).to_owned(), PayloadFile { data: text.as_bytes().into(), mode: 0o644 })
                })
                .collect()
        };
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).ok();
        assert!(write(dir.path(), &payload(&[("a", "1"), ("d/b", "2")]), None, "one").unwrap());
        assert_eq!((read("a").as_deref(), read("d/b").as_deref()), (Some("1"), Some("2")));
        assert_eq!(fs::read_link(dir.path().join("a")).unwrap(), Path::new("..data/a"));
        assert!(!write(dir.path(), &payload(&[("a", "1"), ("d/b", "2")]), None, "two").unwrap());
        assert!(write(dir.path(), &payload(&[("a", "3")]), None, "three").unwrap());
        assert_eq!((read("a").as_deref(), read("d/b")), (Some("3"), None));
        assert!(!dir.path().join("..one").exists());
        assert!(write(dir.path(), &payload(&[("../x", "")]), None, "four").is_err());
    }
}
