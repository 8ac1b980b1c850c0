//! Starting, watching, signalling and removing one container.

use super::{Runtime, socket_path, unmount};
use crate::cgroup;
use crate::images::Image;
use crate::shim::protocol::{
    Answer, CONFIG_FILE, CONTROL_SOCKET, Command, STATE_FILE, ShimConfig, ShimPhase, ShimState,
};
use pod_core::PodRef;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

const META_FILE: &str = "meta.json";
/// The file behind `terminationMessagePath`.
const TERMINATION_FILE: &str = "termination-log";

/// What the agent remembers of a container across its own restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerMeta {
    /// The container's id.
    pub id: String,
    /// The pod.
    pub pod: PodRef,
    /// The container's name in the pod.
    pub name: String,
    /// 0 for the first instance.
    pub attempt: u32,
    /// The image's name as resolved.
    pub image: String,
    /// The image's identity.
    pub image_id: String,
    /// The log file.
    pub log_path: PathBuf,
    /// The container's control group.
    pub cgroup: PathBuf,
    /// When it was created, ms since 1970.
    pub created_ms: i64,
}

/// A container to be made and started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// What to remember.
    pub meta: ContainerMeta,
    /// The image's layers.
    pub image: Image,
    /// The OCI configuration; its `root.path` is `rootfs`.
    pub oci: serde_json::Value,
    /// The container has a terminal.
    pub tty: bool,
    /// stdin stays open.
    pub stdin: bool,
    /// The pid namespace is shared with others.
    pub shared_pids: bool,
}

/// Why a container does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Nothing was made.
    #[error("{0}")]
    Prepare(#[from] io::Error),
    /// The runtime refused, or the program does not exist: the container counts as ended.
    #[error("{0}")]
    Run(String),
}

/// A container found on disk.
#[derive(Debug, Clone)]
pub struct Found {
    /// What was remembered.
    pub meta: ContainerMeta,
    /// What its shim reported last.
    pub state: Option<ShimState>,
}

impl Runtime {
    /// The directory of a container before it starts, with its mounts' sources. Returns the directory.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn prepare(&self, meta: &ContainerMeta) -> io::Result<PathBuf> {
        let dir = self.container_dir(&meta.id);
        for part in ["rootfs", "upper", "work"] {
            fs::create_dir_all(dir.join(part))?;
        }
        // The upper directory's mode is that of the container's root.
        set_mode(&dir.join("upper"), 0o755)?;
        File::create(dir.join(TERMINATION_FILE))?;
        // The program may run as any user and writes its last words here.
        set_mode(&dir.join(TERMINATION_FILE), 0o666)?;
        fs::write(dir.join(META_FILE), serde_json::to_vec(meta)?)?;
        Ok(dir)
    }

    /// Mounts the container's root file system.
    ///
    /// # Errors
    /// A layer is missing or the kernel refuses.
    pub fn mount_rootfs(&self, id: &str, image: &Image) -> io::Result<PathBuf> {
        let dir = self.container_dir(id);
        let rootfs = dir.join("rootfs");
        mount_overlay(&dir, &self.inner.images.layers_dir(), &image.layers)?;
        Ok(rootfs)
    }

    /// Starts a prepared container: its state once the program runs.
    ///
    /// # Errors
    /// [`StartError::Run`] with the runtime's text when the program could not be started.
    pub async fn start(&self, launch: &Launch) -> Result<ShimState, StartError> {
        let meta = &launch.meta;
        let dir = self.container_dir(&meta.id);
        let config = ShimConfig {
            id: meta.id.clone(),
            runtime_root: self.inner.dir.join("runtime"),
            log_path: meta.log_path.clone(),
            tty: launch.tty,
            stdin: launch.stdin,
            cgroup: meta.cgroup.clone(),
            shared_pids: launch.shared_pids,
        };
        fs::write(dir.join(CONFIG_FILE), serde_json::to_vec(&config).map_err(io::Error::from)?)?;
        fs::write(dir.join("config.json"), serde_json::to_vec(&launch.oci).map_err(io::Error::from)?)?;
        let errors = File::create(dir.join("shim.log"))?;
        let mut child = self
            .shim()
            .arg("run")
            .arg(&dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("the shim has no output"))?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await?;
        // Reaps the shim whenever it ends; dropping the handle leaves that to tokio.
        drop(child);
        let Ok(state) = serde_json::from_str::<ShimState>(&line) else {
            let text = fs::read_to_string(dir.join("shim.log")).unwrap_or_default();
            return Err(StartError::Run(format!("the shim ended early: {}", text.trim())));
        };
        match state.phase {
            ShimPhase::Failed => Err(StartError::Run(state.message)),
            ShimPhase::Running | ShimPhase::Exited => Ok(state),
        }
    }

    /// What is on disk about a container.
    #[must_use]
    pub fn state(&self, id: &str) -> Option<ShimState> {
        let text = fs::read(self.container_dir(id).join(STATE_FILE)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Sends a signal to the container's program; one that has ended needs none.
    ///
    /// # Errors
    /// The shim refused.
    pub async fn kill(&self, id: &str, signal: i32) -> io::Result<()> {
        let Ok(stream) = connect(&self.container_dir(id)).await else { return Ok(()) };
        let mut stream = BufReader::new(stream);
        request(&mut stream, &Command::Kill { signal }).await?;
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        match serde_json::from_str::<Answer>(&line) {
            Ok(answer) if !answer.error.is_empty() => Err(io::Error::other(answer.error)),
            // No answer: the shim ended, and so has the program.
            _ => Ok(()),
        }
    }

    /// The text the program left as its last words, at most 4 KiB (upstream's limit).
    #[must_use]
    pub fn termination_message(&self, id: &str) -> String {
        const BYTES_MAX: usize = 4096;
        let bytes = fs::read(self.container_dir(id).join(TERMINATION_FILE)).unwrap_or_default();
        String::from_utf8_lossy(&bytes[..bytes.len().min(BYTES_MAX)]).into_owned()
    }

    /// The file behind the container's termination message.
    #[must_use]
    pub fn termination_file(&self, id: &str) -> PathBuf {
        self.container_dir(id).join(TERMINATION_FILE)
    }

    /// Gives back the mount and the files of an ended container; what is known about it stays.
    pub fn release(&self, id: &str) {
        let dir = self.container_dir(id);
        unmount(&dir.join("rootfs"));
        for part in ["upper", "work"] {
            let _ = fs::remove_dir_all(dir.join(part));
        }
    }

    /// Removes an ended container; a running one is killed first. Its log files stay.
    pub fn remove(&self, id: &str) {
        let dir = self.container_dir(id);
        self.bury(id);
        unmount(&dir.join("rootfs"));
        let _ = fs::remove_dir_all(&dir);
    }

    /// Every container on disk, oldest first.
    #[must_use]
    pub fn containers(&self) -> Vec<Found> {
        let Ok(entries) = fs::read_dir(self.inner.dir.join("containers")) else { return Vec::new() };
        let mut found: Vec<Found> = entries
            .flatten()
            .filter_map(|entry| {
                let meta = read_meta(&entry.path())?;
                let state = self.state(&meta.id);
                Some(Found { meta, state })
            })
            .collect();
        found.sort_by(|a, b| (a.meta.created_ms, &a.meta.id).cmp(&(b.meta.created_ms, &b.meta.id)));
        found
    }

    /// Waits until the container has ended: its last state, or None when its shim died without a word.
    pub async fn wait(&self, id: &str) -> Option<ShimState> {
        let end = wait_exit(&self.container_dir(id)).await;
        if end.is_none() {
            let (runtime, id) = (self.clone(), id.to_owned());
            let _ = tokio::task::spawn_blocking(move || runtime.bury(&id)).await;
        }
        end
    }

    /// Ends what a shim that died left running: nobody holds its output or would tell its end.
    pub fn bury(&self, id: &str) {
        if let Some(meta) = read_meta(&self.container_dir(id)) {
            cgroup::kill_all(&meta.cgroup);
            cgroup::remove(&meta.cgroup);
        }
        let _ = fs::remove_dir_all(self.inner.dir.join("runtime").join(id));
    }
}

/// Waits for the end of the container in `dir`, through its shim's socket.
pub async fn wait_exit(dir: &Path) -> Option<ShimState> {
    if let Ok(stream) = connect(dir).await {
        let mut stream = BufReader::new(stream);
        let _ = request(&mut stream, &Command::Watch).await;
        let mut line = String::new();
        // Every line is a state; the end of the stream is the shim's end.
        while stream.read_line(&mut line).await.is_ok_and(|n| n > 0) {
            line.clear();
        }
    }
    let state: ShimState = serde_json::from_slice(&fs::read(dir.join(STATE_FILE)).ok()?).ok()?;
    (state.phase != ShimPhase::Running).then_some(state)
}

async fn connect(dir: &Path) -> io::Result<UnixStream> {
    let open = File::open(dir)?;
    UnixStream::connect(socket_path(&open, CONTROL_SOCKET)).await
}

async fn request(stream: &mut BufReader<UnixStream>, command: &Command) -> io::Result<()> {
    let mut line = serde_json::to_vec(command)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
}

fn read_meta(dir: &Path) -> Option<ContainerMeta> {
    serde_json::from_slice(&fs::read(dir.join(META_FILE)).ok()?).ok()
}

/// Stacks the layers below the container's own directory.
fn mount_overlay(dir: &Path, layers_dir: &Path, layers: &[String]) -> io::Result<()> {
    use nix::mount::{MsFlags, mount};
    if layers.is_empty() {
        let root = dir.join("upper");
        let target = dir.join("rootfs");
        return mount(Some(&root), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(io::Error::from);
    }
    let lower: Vec<String> =
        layers.iter().rev().map(|layer| escape(&layers_dir.join(layer).to_string_lossy())).collect();
    let (upper, work) = (dir.join("upper"), dir.join("work"));
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.join(":"),
        escape(&upper.to_string_lossy()),
        escape(&work.to_string_lossy())
    );
    // Device nodes of an image (or made by a container) open nothing; the runtime makes /dev on a tmpfs.
    mount(Some("overlay"), &dir.join("rootfs"), Some("overlay"), MsFlags::MS_NODEV, Some(options.as_str()))
        .map_err(|error| io::Error::other(format!("overlay: {error}")))
}

/// Overlayfs separates by colons and commas; both are escaped with a backslash.
fn escape(path: &str) -> String {
    path.replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,")
}
