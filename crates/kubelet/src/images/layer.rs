//! Unpacks one layer into a directory that overlayfs can stack.
//!
//! A member is written only below the layer's directory: `..` is refused, and so is a member whose parent is a
//! symbolic link. Device nodes are left out: the runtime makes a container's /dev, and no image needs more.

use super::ImageError;
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, lchown, symlink};
use std::path::{Component, Path, PathBuf};

/// "Whatever lies below is gone" (image-spec, layer.md).
const WHITEOUT: &[u8] = b".wh.";
/// "Nothing of this directory shows through from below".
const OPAQUE: &[u8] = b".wh..wh..opq";
const PAX_XATTR: &str = "SCHILY.xattr.";

/// Unpacks the tar stream into `root`; `lower` are the layers below, highest first.
pub fn unpack(stream: impl Read, root: &Path, lower: &[PathBuf]) -> Result<(), ImageError> {
    fs::create_dir_all(root).map_err(ImageError::io(root))?;
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).map_err(ImageError::io(root))?;
    let mut tar = tar::Archive::new(stream);
    let mut times = Vec::new();
    for member in tar.entries().map_err(ImageError::io(root))? {
        let mut member = member.map_err(|error| ImageError::BadArchive(format!("a layer: {error}")))?;
        let name = member.path().map_err(ImageError::io(root))?.into_owned();
        let Some(path) = safe_path(&name)? else {
            set_attributes(&mut member, root)?;
            continue;
        };
        let target = root.join(&path);
        make_parents(root, &path, lower)?;
        if write(&mut member, root, &path, &target)? && member.header().entry_type().is_dir() {
            times.push((target, member.header().mtime().unwrap_or(0)));
        }
    }
    // A directory's time changes with every entry made in it, so it is set last.
    for (path, seconds) in times {
        set_time(&path, seconds)?;
    }
    Ok(())
}

/// The member's path below the root; None for the root itself.
fn safe_path(name: &Path) -> Result<Option<PathBuf>, ImageError> {
    let mut path = PathBuf::new();
    for part in name.components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                let text = format!("the layer's member {} leads outside of the layer", name.display());
                return Err(ImageError::UnsafePath(text));
            }
        }
    }
    Ok((!path.as_os_str().is_empty()).then_some(path))
}

/// Makes missing parents (with the attributes they have below) and refuses to pass through a link.
fn make_parents(root: &Path, path: &Path, lower: &[PathBuf]) -> Result<(), ImageError> {
    let mut dir = root.to_owned();
    let mut relative = PathBuf::new();
    for part in path.parent().into_iter().flat_map(Path::components) {
        dir.push(part);
        relative.push(part);
        match fs::symlink_metadata(&dir) {
            Ok(found) if found.is_dir() => {}
            Ok(found) if found.is_symlink() => {
                let text = format!(
                    "the layer's member {} passes through the link {}",
                    path.display(),
                    relative.display()
                );
                return Err(ImageError::UnsafePath(text));
            }
            Ok(_) => {
                let text =
                    format!("the layer's member {} lies in {}, a file", path.display(), relative.display());
                return Err(ImageError::UnsafePath(text));
            }
            Err(_) => make_dir_like_below(&dir, &relative, lower)?,
        }
    }
    Ok(())
}

fn make_dir_like_below(dir: &Path, relative: &Path, lower: &[PathBuf]) -> Result<(), ImageError> {
    fs::create_dir(dir).map_err(ImageError::io(dir))?;
    let below = lower.iter().find_map(|layer| fs::symlink_metadata(layer.join(relative)).ok());
    let (mode, uid, gid) = below
        .filter(fs::Metadata::is_dir)
        .map_or((0o755, 0, 0), |found| (found.mode() & 0o7777, found.uid(), found.gid()));
    lchown(dir, Some(uid), Some(gid)).map_err(ImageError::io(dir))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(mode)).map_err(ImageError::io(dir))
}

/// Writes one member; false when it was a whiteout or left out.
fn write<R: Read>(
    member: &mut tar::Entry<'_, R>,
    root: &Path,
    path: &Path,
    target: &Path,
) -> Result<bool, ImageError> {
    let name = path.file_name().unwrap_or_default().as_bytes();
    if name == OPAQUE {
        let dir = target.parent().unwrap_or(root);
        set_xattr(dir, "trusted.overlay.opaque", b"y").map_err(ImageError::io(dir))?;
        return Ok(false);
    }
    if let Some(hidden) = name.strip_prefix(WHITEOUT) {
        let hidden = target.with_file_name(OsStr::from_bytes(hidden));
        return make_whiteout(&hidden).map(|()| false);
    }
    let kind = member.header().entry_type();
    if !(kind.is_dir() && fs::symlink_metadata(target).is_ok_and(|found| found.is_dir())) {
        remove_existing(target)?;
    }
    match kind {
        tar::EntryType::Directory => {
            if !target.is_dir() {
                fs::create_dir(target).map_err(ImageError::io(target))?;
            }
        }
        tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
            write_file(member, target)?;
        }
        tar::EntryType::Symlink => {
            let link = member.link_name().map_err(ImageError::io(target))?.unwrap_or_default().into_owned();
            symlink(&link, target).map_err(ImageError::io(target))?;
        }
        tar::EntryType::Link => return hard_link(member, root, target).map(|()| false),
        tar::EntryType::Fifo => make_fifo(target)?,
        _ => return Ok(false),
    }
    set_attributes(member, target)?;
    Ok(true)
}

fn write_file<R: Read>(member: &mut tar::Entry<'_, R>, target: &Path) -> Result<(), ImageError> {
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(target)
        .map_err(ImageError::io(target))?;
    std::io::copy(member, &mut file).map(drop).map_err(ImageError::io(target))
}

/// A later member of the same name replaces the earlier one.
fn remove_existing(target: &Path) -> Result<(), ImageError> {
    match fs::symlink_metadata(target) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(target).map_err(ImageError::io(target)),
        Ok(_) => fs::remove_file(target).map_err(ImageError::io(target)),
        Err(_) => Ok(()),
    }
}

fn hard_link<R: Read>(member: &tar::Entry<'_, R>, root: &Path, target: &Path) -> Result<(), ImageError> {
    let link = member.link_name().map_err(ImageError::io(target))?.unwrap_or_default().into_owned();
    let Some(source) = safe_path(&link)? else {
        return Err(ImageError::BadArchive(format!("{} is a hard link to nothing", target.display())));
    };
    make_parents(root, &source, &[])?;
    let source = root.join(source);
    fs::hard_link(&source, target).map_err(ImageError::io(source))
}

fn set_attributes<R: Read>(member: &mut tar::Entry<'_, R>, target: &Path) -> Result<(), ImageError> {
    let failed = |error| ImageError::io(target)(error);
    let header = member.header();
    // Some writers leave numbers empty: they mean 0.
    let (uid, gid) = (header.uid().unwrap_or(0) as u32, header.gid().unwrap_or(0) as u32);
    lchown(target, Some(uid), Some(gid)).map_err(failed)?;
    let (kind, mode, mtime) =
        (header.entry_type(), header.mode().unwrap_or(0o644), header.mtime().unwrap_or(0));
    if kind != tar::EntryType::Symlink {
        // After the owner: a change of owner clears the set-user-id bit.
        fs::set_permissions(target, fs::Permissions::from_mode(mode & 0o7777)).map_err(failed)?;
        set_xattrs(member, target)?;
    }
    set_time(target, mtime)
}

fn set_xattrs<R: Read>(member: &mut tar::Entry<'_, R>, target: &Path) -> Result<(), ImageError> {
    let Some(extensions) = member.pax_extensions().map_err(ImageError::io(target))? else { return Ok(()) };
    for extension in extensions.flatten() {
        let Some(name) = extension.key().ok().and_then(|key| key.strip_prefix(PAX_XATTR)) else { continue };
        // Others have a meaning for overlayfs or for the host only.
        if name == "security.capability" || name.starts_with("user.") {
            set_xattr(target, name, extension.value_bytes()).map_err(ImageError::io(target))?;
        }
    }
    Ok(())
}

fn c_path(path: &Path) -> std::io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn make_whiteout(path: &Path) -> Result<(), ImageError> {
    remove_existing(path)?;
    make_node(path, libc::S_IFCHR)
}

fn make_fifo(path: &Path) -> Result<(), ImageError> {
    make_node(path, libc::S_IFIFO | 0o600)
}

fn make_node(path: &Path, mode: libc::mode_t) -> Result<(), ImageError> {
    let name = c_path(path).map_err(ImageError::io(path))?;
    // SAFETY: `name` is a NUL-terminated string that outlives the call.
    check(unsafe { libc::mknod(name.as_ptr(), mode, libc::makedev(0, 0)) }).map_err(ImageError::io(path))
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) -> std::io::Result<()> {
    let (path, name) = (c_path(path)?, CString::new(name)?);
    // SAFETY: the strings are NUL-terminated, the value is as long as said, and all outlive the call.
    check(unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) })
}

fn set_time(path: &Path, seconds: u64) -> Result<(), ImageError> {
    let name = c_path(path).map_err(ImageError::io(path))?;
    let time = libc::timespec { tv_sec: seconds as libc::time_t, tv_nsec: 0 };
    // SAFETY: as above; the array of two times outlives the call.
    check(unsafe {
        libc::utimensat(libc::AT_FDCWD, name.as_ptr(), [time, time].as_ptr(), libc::AT_SYMLINK_NOFOLLOW)
    })
    .map_err(ImageError::io(path))
}

fn check(result: i32) -> std::io::Result<()> {
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}
