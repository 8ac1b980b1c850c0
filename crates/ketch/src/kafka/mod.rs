//! `ketch topic`, `produce`, `consume`, `group`: tools for people over the public Kafka protocol, for machines without
//! Kafka's own; `ketch log` reads a broker's files. Errors go to standard error with exit code 1.

mod client;
mod consume;
mod exchange;
mod format;
mod group;
mod inspect;
mod output;
mod produce;
mod topic;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use crate::cli::DataDir;
use crate::files::Endpoints;
use client::Client;

/// Which broker.
#[derive(Debug, Clone, Args)]
pub struct Broker {
    /// Address of a broker, host:port [default: the one of the data directory]
    #[arg(long, env = "KETCH_BOOTSTRAP_SERVER", value_name = "HOST:PORT", global = true)]
    pub bootstrap_server: Option<String>,
    #[command(flatten)]
    pub data_dir: DataDir,
}

impl Broker {
    async fn connect(&self) -> Result<Client> {
        if let Some(address) = &self.bootstrap_server {
            return Client::connect(address).await;
        }
        let dir = self.data_dir.resolve()?;
        let running = Endpoints::read(&dir).and_then(|endpoints| endpoints.kafka);
        let address = running.with_context(|| {
            format!(
                "no broker runs in {}: start it with 'ketch up', or name one with --bootstrap-server",
                dir.display()
            )
        })?;
        Client::connect(&address).await
    }
}

#[derive(Debug, Args)]
pub struct TopicArgs {
    #[command(flatten)]
    pub broker: Broker,
    #[command(subcommand)]
    pub command: TopicCommand,
}

#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// Make a topic
    Create {
        name: String,
        /// Number of partitions [default: the broker's num.partitions]
        #[arg(long, short, default_value_t = -1, hide_default_value = true, allow_negative_numbers = true)]
        partitions: i32,
        /// A configuration, key=value; may be repeated
        #[arg(long, short, value_name = "KEY=VALUE")]
        config: Vec<String>,
        /// Succeed when the topic exists already
        #[arg(long)]
        if_not_exists: bool,
    },
    /// Name all topics, one a line
    List {
        /// The broker's own topics too
        #[arg(long)]
        internal: bool,
        #[arg(long)]
        json: bool,
    },
    /// Show partitions, offsets and configurations
    Describe {
        names: Vec<String>,
        #[arg(long)]
        json: bool,
    },
    /// Change configurations or raise the number of partitions
    Alter {
        name: String,
        #[arg(long, short)]
        partitions: Option<i32>,
        /// Set a configuration, key=value; may be repeated
        #[arg(long, short, value_name = "KEY=VALUE")]
        config: Vec<String>,
        /// Take a configuration back to its default; may be repeated
        #[arg(long, value_name = "KEY")]
        unset: Vec<String>,
    },
    /// Delete topics with all their records
    Delete {
        #[arg(required = true)]
        names: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub struct ProduceArgs {
    #[command(flatten)]
    pub broker: Broker,
    pub topic: String,
    /// File with a record a line [default: standard input]
    #[arg(long, short, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Each line is key, this separator, value
    #[arg(long, short = 'k', value_name = "SEPARATOR", conflicts_with = "json")]
    pub key_separator: Option<String>,
    /// Each line is JSON: {"key", "value", "headers": {}, "partition", "timestamp"}, all optional
    #[arg(long)]
    pub json: bool,
    /// A header of every record, name=value; may be repeated
    #[arg(long, short = 'H', value_name = "NAME=VALUE")]
    pub header: Vec<String>,
    /// All records go to this partition [default: by key, else in turn]
    #[arg(long, short)]
    pub partition: Option<i32>,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(long, short = 'z', default_value = "none")]
    pub compression: String,
    /// What is waited for: 1 the leader's log, all its durability too
    #[arg(long, default_value = "all", value_parser = ["1", "all"])]
    pub acks: String,
    /// No progress and no summary
    #[arg(long, short)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub struct ConsumeArgs {
    #[command(flatten)]
    pub broker: Broker,
    pub topic: String,
    /// Where to begin: beginning, end, an offset, -N for the last N of each partition, or @TIME (milliseconds since
    /// 1970, or RFC 3339)
    #[arg(long, short = 'o', default_value = "end", allow_hyphen_values = true)]
    pub offset: String,
    /// Only this partition; may be repeated
    #[arg(long, short)]
    pub partition: Vec<i32>,
    /// Stop after so many records
    #[arg(long, short = 'n')]
    pub max: Option<u64>,
    /// Stop at the end that each partition has at the start
    #[arg(long, short)]
    pub exit: bool,
    /// Stop when nothing came for so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// %t topic, %p partition, %o offset, %T timestamp, %k key, %s value, %h headers, \n and \t [default: '%s\n']
    #[arg(long, short, conflicts_with = "json")]
    pub format: Option<String>,
    /// A JSON object a line
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct GroupArgs {
    #[command(flatten)]
    pub broker: Broker,
    #[command(subcommand)]
    pub command: GroupCommand,
}

#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// Name all groups with their state
    List,
    /// Show a group's members, offsets and lag
    Describe { name: String },
    /// Delete groups that have no members
    Delete {
        #[arg(required = true)]
        names: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub struct LogArgs {
    #[command(subcommand)]
    pub command: LogCommand,
}

#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Print what partitions hold and check it; exits with 1 when something is damaged
    Inspect(InspectArgs),
    /// Write the metadata of Apache Kafka (KRaft) beside the partitions, so that its broker starts on the directory
    ///
    /// Nothing may run on the directory, and what ran last must have stopped cleanly. Apache Kafka 4.3 then serves the same
    /// topics, ids, records, configurations and group offsets. `ketch up` takes back what it did.
    ExportMetadata(ExportArgs),
    /// Take over the directory of an Apache Kafka broker (KRaft), which stands at `kafka` in the data directory
    ///
    /// Topics, their ids and configurations and the ids of producers go into the store; the partitions are used as they
    /// are. `ketch up` does the same by itself; this command shows what it finds, and takes what `up` refuses.
    ImportMetadata(ImportArgs),
}

#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    pub data_dir: crate::cli::DataDir,
    #[command(flatten)]
    pub log_dirs: LogDirs,
}

/// Where a broker's partitions are.
#[derive(Debug, Args)]
pub struct LogDirs {
    /// The broker's directories, with commas between them [default: kafka in the data directory]; the first has, or gets,
    /// the metadata
    #[arg(long, value_name = "DIRS", value_delimiter = ',', env = "KETCH_KAFKA_LOG_DIRS")]
    pub kafka_log_dirs: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    #[command(flatten)]
    pub data_dir: crate::cli::DataDir,
    #[command(flatten)]
    pub log_dirs: LogDirs,
    /// Take over a cluster that is guarded by ACLs, SCRAM users or delegation tokens, without them
    #[arg(long)]
    pub leave_out_security: bool,
}

#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A directory of a partition or of all, or one of their files, written by Ketch or Apache Kafka; only read
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Print the records too, and check that they can be read
    #[arg(long)]
    pub records: bool,
    /// Print the entries of the indexes too
    #[arg(long)]
    pub entries: bool,
    /// Allow gaps between offsets, as compaction leaves them [default: where the cleaner's checkpoint names the partition]
    #[arg(long)]
    pub compacted: bool,
    /// How to print it; json is an object a line
    #[arg(long, short = 'O', value_name = "FORM", default_value = "text")]
    pub output: InspectOutput,
}

/// Forms of `ketch log inspect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum InspectOutput {
    Text,
    Json,
}

/// One command of a tool; each is short-lived, so one thread does.
pub fn run<F: Future<Output = Result<()>>>(command: F) -> Result<()> {
    quietly(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command))
}

/// Nothing is wrong when the reader of standard output has seen enough.
fn quietly(done: Result<()>) -> Result<()> {
    match done {
        Err(error) if error.is::<output::ReaderGone>() => Ok(()),
        done => done,
    }
}

/// `ketch topic`.
pub async fn topic(args: TopicArgs) -> Result<()> {
    let mut client = args.broker.connect().await?;
    topic::run(&mut client, args.command).await
}

/// `ketch produce`.
pub async fn produce(args: ProduceArgs) -> Result<()> {
    let client = args.broker.connect().await?;
    produce::run(client, args).await
}

/// `ketch consume`.
pub async fn consume(args: ConsumeArgs) -> Result<()> {
    let client = args.broker.connect().await?;
    consume::run(client, args).await
}

/// `ketch group`.
pub async fn group(args: GroupArgs) -> Result<()> {
    let mut client = args.broker.connect().await?;
    group::run(&mut client, args.command).await
}

/// `ketch log`.
pub fn log(args: &LogArgs) -> Result<()> {
    match &args.command {
        LogCommand::Inspect(args) => quietly(inspect::run(args)),
        LogCommand::ExportMetadata(args) => run(exchange::export(args)),
        LogCommand::ImportMetadata(args) => run(exchange::import(args)),
    }
}

/// Splits `name=value`.
fn pair(text: &str) -> Result<(&str, &str)> {
    text.split_once('=').with_context(|| format!("'{text}' is not NAME=VALUE"))
}
