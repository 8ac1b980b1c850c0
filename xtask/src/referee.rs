//! Foreign referees: heavier programs that others wrote, each built by its own ecosystem's client from a small module of
//! ours under `tests/`, pinned, kept in the cache.
//!
//! `cargo xtask referee` lists them; `cargo xtask referee NAME [ARGS]` builds one and runs it.

use std::process::Command;

use anyhow::{Result, bail};

use crate::run::run as run_command;
use crate::tools;

/// One foreign program.
struct Referee {
    name: &'static str,
    /// What it tells.
    about: &'static str,
    /// Builds it and returns the command without arguments.
    command: fn() -> Result<Command>,
}

const REFEREES: &[Referee] = &[
    Referee {
        name: "kubectl",
        about: "the unmodified kubectl",
        command: || Ok(Command::new(tools::kubectl()?)),
    },
    Referee { name: "etcd", about: "the unmodified etcd 3.6", command: || etcd("etcd") },
    Referee { name: "etcdctl", about: "the unmodified etcdctl 3.6", command: || etcd("etcdctl") },
    Referee { name: "etcdutl", about: "the unmodified etcdutl 3.6", command: || etcd("etcdutl") },
    Referee {
        name: "etcd-client",
        about: "locks, elections, STM, watches and mirrors on etcd's Go library",
        command: || etcd("etcd-client"),
    },
    Referee {
        name: "etcd-client-rust",
        about: "the crate etcd-client: give it http://HOST:PORT",
        command: || Ok(Command::new(tools::etcd()?.rust_client)),
    },
    Referee {
        name: "kafka",
        about: "a class of Kafka's jars, such as org.apache.kafka.tools.TopicCommand",
        command: kafka_class,
    },
];

/// Lists the referees, or builds and runs one with the arguments that follow its name.
pub fn run(args: &[String]) -> Result<()> {
    let Some(name) = args.first() else {
        for referee in REFEREES {
            println!("{:<16} {}", referee.name, referee.about);
        }
        return Ok(());
    };
    let Some(referee) = REFEREES.iter().find(|referee| referee.name == name) else {
        let known: Vec<&str> = REFEREES.iter().map(|referee| referee.name).collect();
        bail!("no referee is called '{name}'; there are: {}", known.join(", "));
    };
    run_command((referee.command)()?.args(&args[1..]))
}

fn etcd(name: &str) -> Result<Command> {
    Ok(Command::new(tools::etcd_programs()?.join(name)))
}

fn kafka_class() -> Result<Command> {
    let mut command = Command::new("java");
    command.args(["-XX:TieredStopAtLevel=1", "-Xmx256m", "-cp"]).arg(tools::kafka_classpath()?);
    Ok(command)
}
