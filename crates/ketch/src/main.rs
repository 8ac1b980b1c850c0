//! `ketch`: the roof. Command line, configuration and wiring; no logic of its own.
//!
//! ```text
//! main ──"shim"──▶ kubelet::shim (before any thread exists)
//!   └──▶ cli ──▶ config (flags > environment > file > defaults)
//!          ├─ up     store ─▶ broker ─▶ apiserver ─▶ control, kubelet, network
//!          ├─ down   removes what a data directory runs
//!          ├─ server the same as a member of a replicated store; token, to join one
//!          ├─ topic, produce, consume, group  over the Kafka protocol
//!          ├─ log    reads a broker's files, hands them to Apache Kafka and takes them back
//!          └─ image, snapshot, store, status
//! ```

mod claims;
mod cli;
mod config;
mod console;
mod demo;
mod down;
mod files;
mod image;
mod kafka;
mod member;
mod members;
mod node;
mod offsets;
mod reach;
mod snapshot;
mod status;
mod table;
mod token;
mod up;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == "shim") {
        // Single-threaded from here on: the shim forks.
        let code = kubelet::shim::main(&args.collect::<Vec<_>>());
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    match run(cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ketch: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: cli::Cli) -> anyhow::Result<()> {
    match cli.command {
        cli::Command::Up(args) => up::run(config::Config::up(&args)?),
        cli::Command::Server(args) => up::run(config::Config::server(&args)?),
        cli::Command::Token(args) => token::run(&args),
        cli::Command::Store(args) => members::run(&args),
        cli::Command::Down(args) => down::run(&args),
        cli::Command::Image(args) => image::run(&args),
        cli::Command::Topic(args) => kafka::run(kafka::topic(args)),
        cli::Command::Produce(args) => kafka::run(kafka::produce(args)),
        cli::Command::Consume(args) => kafka::run(kafka::consume(args)),
        cli::Command::Group(args) => kafka::run(kafka::group(args)),
        cli::Command::Log(args) => kafka::log(&args),
        cli::Command::Snapshot(args) => snapshot::run(&args),
        cli::Command::Status(args) => status::run(&args),
        cli::Command::Completions { shell } => {
            cli::completions(shell);
            Ok(())
        }
    }
}
