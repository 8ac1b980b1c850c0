//! Containers and sandboxes as the agent sees them: directories, mounts and shims.
//!
//! ```text
//! <dir>/FORMAT
//!       images/                        the image store
//!       pods/<uid>/                    pod.json, ns/, etc/, shm/, volumes/
//!       containers/<id>/               meta.json, shim.json, config.json, state.json, rootfs/, upper/, work/
//!       runtime/                       libcontainer's own state
//!       logs/pods/<ns>_<name>_<uid>/<container>/<restart>.log
//! ```
//!
//! What a restarted agent needs is in these files; a container lives on beside its shim meanwhile.

mod container;
mod exec;
mod sandbox;

pub use container::{ContainerMeta, Found, Launch, StartError, wait_exit};
pub use exec::{ExecOutput, ExecProcess, ExecRequest};
pub use sandbox::{PodRecord, SandboxRequest};

use crate::images::{ImageError, ImageStore};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Version of the directory's layout, in `FORMAT`.
const FORMAT: &str = "1\n";

/// How to start a shim: the program and what comes before `run`, `exec` or `sandbox`.
#[derive(Debug, Clone)]
pub struct ShimCommand {
    /// The program, `/proc/self/exe` for the agent's own.
    pub program: PathBuf,
    /// `["shim"]`.
    pub args: Vec<OsString>,
}

impl Default for ShimCommand {
    fn default() -> Self {
        Self { program: PathBuf::from("/proc/self/exe"), args: vec!["shim".into()] }
    }
}

/// The node's containers.
#[derive(Debug, Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    id: String,
    shim: ShimCommand,
    images: ImageStore,
}

impl Runtime {
    /// Opens (makes) the node's directory. `id` marks what the node makes outside of it (control groups).
    ///
    /// # Errors
    /// The directory cannot be made, or a newer version wrote it.
    pub fn open(dir: &Path, id: &str, shim: ShimCommand) -> io::Result<Self> {
        for part in ["pods", "containers", "runtime", "logs/pods"] {
            std::fs::create_dir_all(dir.join(part))?;
        }
        // Layers hold set-user-id programs, containers control sockets: nobody else looks in.
        std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        check_format(dir)?;
        let images = ImageStore::open(&dir.join("images")).map_err(|error| match error {
            ImageError::Io { source, .. } => source,
            other => io::Error::other(other.to_string()),
        })?;
        let inner = Inner { dir: dir.to_owned(), id: id.to_owned(), shim, images };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The node's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// The image store.
    #[must_use]
    pub fn images(&self) -> &ImageStore {
        &self.inner.images
    }

    /// The root of the node's control groups.
    #[must_use]
    pub fn cgroup_root(&self) -> PathBuf {
        cgroup_root(&self.inner.id)
    }

    /// A pod's directory.
    #[must_use]
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.inner.dir.join("pods").join(uid)
    }

    /// A container's directory.
    #[must_use]
    pub fn container_dir(&self, id: &str) -> PathBuf {
        self.inner.dir.join("containers").join(id)
    }

    /// The directory of a container's log files.
    #[must_use]
    pub fn log_dir(&self, pod: &pod_core::PodRef, container: &str) -> PathBuf {
        let pod_dir = format!("{}_{}_{}", pod.namespace, pod.name, pod.uid);
        self.inner.dir.join("logs/pods").join(pod_dir).join(container)
    }

    fn shim(&self) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.inner.shim.program);
        command.args(&self.inner.shim.args);
        command
    }
}

/// The root of the control groups of the node with this id.
#[must_use]
pub fn cgroup_root(id: &str) -> PathBuf {
    PathBuf::from(format!("/ketch-{id}"))
}

/// Eight hexadecimal digits that name an existing node directory outside of it.
#[must_use]
pub fn directory_id(dir: &Path) -> String {
    // The same directory by another path is the same node.
    let real = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let digest = ring::digest::digest(&ring::digest::SHA256, real.as_os_str().as_encoded_bytes());
    digest.as_ref()[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check_format(dir: &Path) -> io::Result<()> {
    let path = dir.join("FORMAT");
    match std::fs::read_to_string(&path) {
        Ok(text) if text == FORMAT => Ok(()),
        Ok(text) => {
            let text = format!("{} was written by a newer version (format {})", dir.display(), text.trim());
            Err(io::Error::new(io::ErrorKind::Unsupported, text))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => std::fs::write(&path, FORMAT),
        Err(error) => Err(error),
    }
}

/// A path that stays below the 107 bytes of a socket's address, through an open directory.
fn socket_path(dir: &std::fs::File, name: &str) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))
}

/// Detaches a mount; nothing mounted there is fine.
pub(crate) fn unmount(path: &Path) {
    let _ =
        nix::mount::umount2(path, nix::mount::MntFlags::MNT_DETACH | nix::mount::MntFlags::UMOUNT_NOFOLLOW);
}

/// Detaches every mount at or below `dir`, innermost first.
pub(crate) fn unmount_below(dir: &Path) {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found: Vec<PathBuf> = text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|path| PathBuf::from(unescape(path)))
        .filter(|path| path.starts_with(dir))
        .collect();
    found.sort_unstable();
    for path in found.iter().rev() {
        unmount(path);
    }
}

/// mountinfo writes blanks, tabs, newlines and backslashes in octal.
fn unescape(path: &str) -> String {
    path.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}
