//! The creator: libcontainer's part, run in a forked child.

use super::protocol::ShimConfig;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Standard streams for the new process.
pub struct Stdio {
    /// Reading end of stdin.
    pub stdin: OwnedFd,
    /// Writing end of stdout.
    pub stdout: OwnedFd,
    /// Writing end of stderr.
    pub stderr: OwnedFd,
}

/// Creates and starts the container in the bundle `dir`: the init's pid, or why not.
pub fn create(dir: &Path, config: &ShimConfig, stdio: Option<Stdio>) -> Result<i32, String> {
    let mut builder = ContainerBuilder::new(config.id.clone(), SyscallType::default())
        .with_root_path(&config.runtime_root)
        .map_err(|error| explain(&error))?
        .with_executor(KetchExecutor);
    builder = match stdio {
        Some(stdio) => builder.with_stdin(stdio.stdin).with_stdout(stdio.stdout).with_stderr(stdio.stderr),
        None => builder.with_console_socket(Some(dir.join(super::run::CONSOLE_SOCKET))),
    };
    let mut container = builder
        .as_init(dir)
        .with_systemd(false)
        .with_detach(true)
        .build()
        .map_err(|error| explain(&error))?;
    container.start().map_err(|error| explain(&error))?;
    container.pid().map(|pid| pid.as_raw()).ok_or_else(|| "the container has no process".to_owned())
}

/// Joins a running container with one more process: its pid on the host.
pub fn join(
    config: &ShimConfig,
    process: &Path,
    stdio: Option<Stdio>,
    console: &Path,
) -> Result<i32, String> {
    let mut builder = ContainerBuilder::new(config.id.clone(), SyscallType::default())
        .with_root_path(&config.runtime_root)
        .map_err(|error| explain(&error))?
        .with_executor(KetchExecutor);
    builder = match stdio {
        Some(stdio) => builder.with_stdin(stdio.stdin).with_stdout(stdio.stdout).with_stderr(stdio.stderr),
        None => builder.with_console_socket(Some(console)),
    };
    let pid = builder
        .as_tenant()
        .with_detach(true)
        .with_process(Some(process))
        .build()
        .map_err(|error| explain(&error))?;
    Ok(pid.as_raw())
}

/// The whole chain of causes on one line, each once.
fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Starts the program as runc does: same search, same texts, environment in the order of the configuration.
///
/// libcontainer's own executor refuses programs that only their owner may run and shuffles the environment.
#[derive(Clone)]
struct KetchExecutor;

impl Executor for KetchExecutor {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let process = spec.process().as_ref().ok_or(ExecutorError::InvalidArg)?;
        let args =
            process.args().as_ref().filter(|args| !args.is_empty()).ok_or(ExecutorError::InvalidArg)?;
        let env = process.env().clone().unwrap_or_default();
        let program = find_program(&args[0], &env).map_err(ExecutorError::Other)?;
        let to_c = |text: &String| CString::new(text.as_bytes()).map_err(|_| ExecutorError::InvalidArg);
        let program =
            CString::new(program.as_os_str().as_encoded_bytes()).map_err(|_| ExecutorError::InvalidArg)?;
        let args = args.iter().map(to_c).collect::<Result<Vec<_>, _>>()?;
        let env = env.iter().map(to_c).collect::<Result<Vec<_>, _>>()?;
        // Rust ignores SIGPIPE; a program must not inherit that.
        super::sys::reset_signals();
        match nix::unistd::execve(&program, &args, &env) {
            Ok(never) => match never {},
            Err(error) => Err(ExecutorError::Other(format!("exec {}: {error}", program.to_string_lossy()))),
        }
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let bad = |text: String| ExecutorValidationError::ArgValidationError(text);
        let process = spec.process().as_ref().ok_or_else(|| bad("no process given".to_owned()))?;
        let args = process.args().clone().unwrap_or_default();
        let program = args.first().ok_or_else(|| bad("no command specified".to_owned()))?;
        find_program(program, &process.env().clone().unwrap_or_default()).map(drop).map_err(bad)
    }

    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }
}

/// Finds what execvp(3) would find.
fn find_program(name: &str, env: &[String]) -> Result<PathBuf, String> {
    if name.contains('/') {
        return check_program(Path::new(name)).map_err(|why| format!("exec: {name:?}: {why}"));
    }
    let path = env.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or("");
    let mut denied = None;
    for dir in path.split(':').filter(|dir| !dir.is_empty()) {
        match check_program(&Path::new(dir).join(name)) {
            Ok(found) => return Ok(found),
            Err(why) if why.contains("permission") => denied = Some(why),
            Err(_) => {}
        }
    }
    let why = denied.unwrap_or_else(|| "executable file not found in $PATH".to_owned());
    Err(format!("exec: {name:?}: {why}"))
}

fn check_program(path: &Path) -> Result<PathBuf, String> {
    let metadata =
        std::fs::metadata(path).map_err(|_| format!("stat {}: no such file or directory", path.display()))?;
    if metadata.is_dir() {
        return Err("is a directory".to_owned());
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err("permission denied".to_owned());
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::find_program;

    #[test]
    fn programs_are_found_as_execvp_does() {
        let env = vec!["PATH=/nonexistent:/bin:/usr/bin".to_owned()];
        assert!(find_program("sh", &env).is_ok());
        assert!(find_program("/bin/sh", &[]).is_ok());
        let missing = find_program("nosuch", &env).expect_err("not there");
        assert_eq!(missing, "exec: \"nosuch\": executable file not found in $PATH");
        let absolute = find_program("/nosuch", &env).expect_err("not there");
        assert_eq!(absolute, "exec: \"/nosuch\": stat /nosuch: no such file or directory");
    }
}
