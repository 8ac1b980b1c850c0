//! `shim sandbox FILE`: makes a pod's namespaces and holds them by bind mounts, so that they outlive this helper.

use super::protocol::{SandboxConfig, SandboxReport};
use super::sys;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{ForkResult, fork};
use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;

/// Makes the namespaces described by `file` and prints a report.
pub fn main(file: &Path) -> i32 {
    let report = fs::read(file)
        .and_then(|text| Ok(serde_json::from_slice::<SandboxConfig>(&text)?))
        .and_then(|config| make(&config))
        .unwrap_or_else(|error| SandboxReport { error: error.to_string(), pause_pid: None });
    let text = serde_json::to_string(&report).unwrap_or_default();
    let _ = writeln!(io::stdout(), "{text}");
    i32::from(!report.error.is_empty())
}

fn make(config: &SandboxConfig) -> io::Result<SandboxReport> {
    let _ = nix::unistd::setsid();
    fs::create_dir_all(&config.dir)?;
    let mut flags = CloneFlags::empty();
    flags.set(CloneFlags::CLONE_NEWNET, config.net);
    flags.set(CloneFlags::CLONE_NEWUTS, config.net);
    flags.set(CloneFlags::CLONE_NEWIPC, config.ipc);
    unshare(flags)?;
    if config.net {
        nix::unistd::sethostname(&config.hostname)?;
        loopback_up()?;
        hold(&config.dir, "net", "/proc/self/ns/net")?;
        hold(&config.dir, "uts", "/proc/self/ns/uts")?;
    }
    if config.ipc {
        hold(&config.dir, "ipc", "/proc/self/ns/ipc")?;
    }
    for (name, value) in &config.sysctls {
        set_sysctl(name, value)?;
    }
    let pause_pid = if config.pid { Some(start_pause(&config.dir)?) } else { None };
    Ok(SandboxReport { error: String::new(), pause_pid })
}

/// Bind-mounts a namespace over a file.
fn hold(dir: &Path, name: &str, namespace: &str) -> io::Result<()> {
    let target = dir.join(name);
    fs::File::create(&target)?;
    mount(Some(namespace), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(io::Error::from)
}

/// A new network namespace's loopback is down.
fn loopback_up() -> io::Result<()> {
    // SAFETY: the request structure is zeroed, filled and outlives both calls; the socket is closed at the end.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
        let result = libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request);
        let error = io::Error::last_os_error();
        libc::close(socket);
        if result < 0 { Err(error) } else { Ok(()) }
    }
}

fn set_sysctl(name: &str, value: &str) -> io::Result<()> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    fs::write(&path, value).map_err(|error| io::Error::new(error.kind(), format!("sysctl {name}: {error}")))
}

/// Forks the pause process as the first of a new pid namespace and holds that namespace.
fn start_pause(dir: &Path) -> io::Result<i32> {
    unshare(CloneFlags::CLONE_NEWPID)?;
    // SAFETY: this process has one thread.
    match unsafe { fork() }? {
        ForkResult::Child => pause(),
        ForkResult::Parent { child } => {
            let pid = child.as_raw();
            hold(dir, "pid", &format!("/proc/{pid}/ns/pid"))?;
            Ok(pid)
        }
    }
}

/// Reaps what is orphaned in the namespace until it is killed from outside.
fn pause() -> ! {
    let _ = nix::unistd::setsid();
    for standard in 0..3 {
        sys::to_dev_null(standard);
    }
    let Ok(children) = sys::child_signals() else { std::process::exit(1) };
    loop {
        let mut fds = [PollFd::new(children.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::NONE);
        let mut drained = [0u8; 1024];
        let _ = sys::read_now(children.as_fd(), &mut drained);
        while sys::reap().is_some() {}
    }
}
