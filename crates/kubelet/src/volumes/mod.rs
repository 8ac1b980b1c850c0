//! Volumes: made before the containers start, kept up to date while they run.
//!
//! ```text
//! setup(pod) ─▶ <pod dir>/volumes/<name>     emptyDir, configMap, secret, downwardAPI, projected
//!            ─▶ a path of the host           hostPath
//! refresh(pod) when an object changed or a token ages; files are swapped at once (`payload`)
//! ```

mod payload;
mod sources;

pub(crate) use sources::named;
pub use sources::{Objects, Token};

use crate::oci::BindMount;
use crate::rooted;
use crate::runtime::Runtime;
use k8s_openapi::api::core::v1::{Container, Pod, Volume};
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use payload::Payload;
use pod_core::env::expand;
use pod_core::fields::NodeFacts;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Why a volume is not there: the volume and the text of the event.
#[derive(Debug, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume \"{volume}\" : {text}")]
pub struct VolumeError {
    /// The volume's name.
    pub volume: String,
    /// Why.
    pub text: String,
}

/// Where each volume of a pod lies on the host.
pub type Places = BTreeMap<String, PathBuf>;

/// The pod's group for shared volumes.
fn fs_group(pod: &Pod) -> Option<u32> {
    let security = pod.spec.as_ref()?.security_context.as_ref()?;
    security.fs_group.and_then(|gid| u32::try_from(gid).ok())
}

fn volumes(pod: &Pod) -> &[Volume] {
    pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default()
}

fn place(runtime: &Runtime, pod: &Pod, volume: &Volume) -> PathBuf {
    if let Some(host) = &volume.host_path {
        return PathBuf::from(&host.path);
    }
    runtime.pod_dir(pod.metadata.uid.as_deref().unwrap_or("")).join("volumes").join(&volume.name)
}

/// Makes (or completes) all volumes of a pod.
///
/// # Errors
/// The first volume that cannot be made.
pub async fn setup(
    runtime: &Runtime,
    pod: &Pod,
    objects: &Objects,
    facts: &NodeFacts,
) -> Result<Places, VolumeError> {
    let mut places = Places::new();
    for volume in volumes(pod) {
        let failed = |text: String| VolumeError { volume: volume.name.clone(), text };
        let dir = place(runtime, pod, volume);
        if volume.host_path.is_some() {
            check_host_path(volume, &dir).map_err(failed)?;
        } else if volume.empty_dir.is_some() {
            make_empty_dir(volume, &dir, fs_group(pod)).map_err(|error| failed(error.to_string()))?;
        } else {
            write_payload(volume, &dir, pod, objects, facts).await.map_err(failed)?;
        }
        places.insert(volume.name.clone(), dir);
    }
    Ok(places)
}

/// Writes anew what has changed. Volumes whose sources are gone keep their last content, as upstream does.
pub async fn refresh(runtime: &Runtime, pod: &Pod, objects: &Objects, facts: &NodeFacts) {
    for volume in
        volumes(pod).iter().filter(|volume| volume.host_path.is_none() && volume.empty_dir.is_none())
    {
        let dir = place(runtime, pod, volume);
        if let Err(text) = write_payload(volume, &dir, pod, objects, facts).await {
            tracing::debug!(volume = volume.name, text, "volume not refreshed");
        }
    }
}

async fn write_payload(
    volume: &Volume,
    dir: &Path,
    pod: &Pod,
    objects: &Objects,
    facts: &NodeFacts,
) -> Result<(), String> {
    let payload: Payload = sources::payload(volume, pod, objects, facts).await?;
    let in_memory = volume.secret.is_some() || volume.projected.is_some();
    let io_text = |error: io::Error| error.to_string();
    fs::create_dir_all(dir).map_err(io_text)?;
    if in_memory && !is_tmpfs(dir) {
        // Secrets and tokens never reach the disk.
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("tmpfs"), dir, Some("tmpfs"), flags, Some("mode=0755"))
            .map_err(|error| error.to_string())?;
    }
    let now = k8s_openapi::jiff::Timestamp::now();
    let stamp = now.strftime("%Y_%m_%d_%H_%M_%S.%9f").to_string().replace(['+', ':'], "_");
    payload::write(dir, &payload, fs_group(pod), &stamp).map(drop).map_err(io_text)
}

fn is_tmpfs(dir: &Path) -> bool {
    nix::sys::statfs::statfs(dir).is_ok_and(|found| found.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC)
}

fn make_empty_dir(volume: &Volume, dir: &Path, group: Option<u32>) -> io::Result<()> {
    let new = !dir.exists();
    fs::create_dir_all(dir)?;
    let source = volume.empty_dir.clone().unwrap_or_default();
    if source.medium.as_deref() == Some("Memory") && !is_tmpfs(dir) {
        let bytes = source.size_limit.as_ref().and_then(pod_core::resources::milli).map(|milli| milli / 1000);
        let options = bytes.map_or_else(|| "mode=0777".to_owned(), |bytes| format!("mode=0777,size={bytes}"));
        mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))?;
    }
    if new {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o777))?;
        if let Some(gid) = group {
            chown(dir, None, Some(gid))?;
            // New files inherit the group.
            fs::set_permissions(dir, fs::Permissions::from_mode(0o2777))?;
        }
    }
    Ok(())
}

fn check_host_path(volume: &Volume, path: &Path) -> Result<(), String> {
    let kind = volume.host_path.as_ref().and_then(|host| host.type_.as_deref()).unwrap_or("");
    let found = fs::metadata(path).ok();
    let is = |test: fn(&fs::Metadata) -> bool| found.as_ref().is_some_and(test);
    let failed = |what: &str| Err(format!("hostPath type check failed: {} is not {what}", path.display()));
    match kind {
        "DirectoryOrCreate" if found.is_none() => make_dir(path),
        "FileOrCreate" if found.is_none() => {
            fs::File::create(path).map(drop).map_err(|error| format!("{}: {error}", path.display()))
        }
        "Directory" | "DirectoryOrCreate" if !is(fs::Metadata::is_dir) => failed("a directory"),
        "File" | "FileOrCreate" if !is(fs::Metadata::is_file) => failed("a file"),
        "Socket" if !is(|found| found.file_type().is_socket()) => failed("a socket file"),
        "CharDevice" if !is(|found| found.file_type().is_char_device()) => failed("a character device"),
        "BlockDevice" if !is(|found| found.file_type().is_block_device()) => failed("a block device"),
        // Without a type nothing is checked; the container runtime makes a missing directory.
        "" if found.is_none() => make_dir(path),
        _ => Ok(()),
    }
}

fn make_dir(path: &Path) -> Result<(), String> {
    fs::create_dir_all(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The mounts of a container: its volume mounts resolved to paths of the host.
///
/// # Errors
/// The text of a CreateContainerConfigError.
pub fn container_mounts(
    container: &Container,
    places: &Places,
    env: &[(String, String)],
) -> Result<Vec<BindMount>, String> {
    let mut out = Vec::new();
    for wanted in container.volume_mounts.iter().flatten() {
        let Some(base) = places.get(&wanted.name) else {
            return Err(format!("volume {:?} of volumeMounts is not defined", wanted.name));
        };
        let lookup = |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let sub = match (&wanted.sub_path_expr, &wanted.sub_path) {
            (Some(expression), _) if !expression.is_empty() => expand(expression, lookup),
            (_, Some(path)) => path.clone(),
            _ => String::new(),
        };
        let source = if sub.is_empty() { base.clone() } else { sub_path(base, &sub)? };
        let target = if wanted.mount_path.starts_with('/') {
            wanted.mount_path.clone()
        } else {
            format!("/{}", wanted.mount_path)
        };
        out.push(BindMount {
            source,
            target,
            read_only: wanted.read_only == Some(true),
            propagation: wanted.mount_propagation.clone(),
        });
    }
    Ok(out)
}

/// A path inside a volume, which may hold links made by a hostile container: they never lead out.
fn sub_path(base: &Path, sub: &str) -> Result<PathBuf, String> {
    if Path::new(sub).is_absolute() || sub.split('/').any(|part| part == "..") {
        return Err(format!(
            "failed to prepare subPath for volumeMount: subPath {sub:?} must be relative and without .."
        ));
    }
    if rooted::open(base, sub, OFlag::O_PATH).is_err() {
        let mut path = String::new();
        for part in sub.split('/').filter(|part| !part.is_empty()) {
            let parent = rooted::resolve(base, if path.is_empty() { "." } else { &path })
                .map_err(|e| e.to_string())?;
            let _ = fs::create_dir(parent.join(part));
            path = if path.is_empty() { part.to_owned() } else { format!("{path}/{part}") };
        }
    }
    rooted::resolve(base, sub)
        .map_err(|error| format!("failed to create subPath directory for volumeMount {sub:?}: {error}"))
}
