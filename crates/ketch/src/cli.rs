//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

/// Containers and event streams from one binary.
#[derive(Debug, Parser)]
#[command(name = "ketch", version, propagate_version = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  ketch up                                         start everything; Ctrl-C stops it, containers keep running
  ketch up --demo                                  the same, with the orders application on top
  ketch image import busybox.tar                   make an image available to pods
  kubectl --kubeconfig /var/lib/ketch/kubeconfig get nodes
  ketch topic create orders --partitions 3         make a topic
  seq 10 | ketch produce orders                    send ten records
  ketch consume orders -o beginning --exit         print them
  kcat -b 127.0.0.1:9092 -L
  ketch down                                       stop the containers and remove all traces but the data";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the orchestrator and the broker in the foreground
    Up(Box<UpArgs>),
    /// Run a server of a cluster in the foreground: the first, or one that joins
    Server(Box<ServerArgs>),
    /// Make, list and delete the tokens that let servers join
    Token(crate::token::TokenArgs),
    /// List and change the members of the store, say how each fares
    Store(crate::members::StoreArgs),
    /// Stop what a data directory runs and remove its mounts, namespaces, cgroups, links, routes and rules
    Down(DownArgs),
    /// Import and list images
    Image(ImageArgs),
    /// Make, list, describe, alter and delete topics
    Topic(crate::kafka::TopicArgs),
    /// Send records to a topic
    Produce(crate::kafka::ProduceArgs),
    /// Print the records of a topic
    Consume(crate::kafka::ConsumeArgs),
    /// List, describe and delete consumer groups
    Group(crate::kafka::GroupArgs),
    /// Look into the files of a broker
    Log(crate::kafka::LogArgs),
    /// Save the store to a file, restore it, look into it; in etcd's form
    Snapshot(crate::snapshot::SnapshotArgs),
    /// Say what runs in a data directory
    Status(DataDir),
    /// Print a completion script
    Completions { shell: clap_complete::Shell },
}

/// Which installation.
#[derive(Debug, Clone, Args)]
pub struct DataDir {
    /// Where everything is kept [default: /var/lib/ketch as root, else the user's data directory]
    #[arg(long, env = "KETCH_DATA_DIR", value_name = "DIR", global = true)]
    pub data_dir: Option<PathBuf>,
}

/// When a produce with acks=all is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// After fdatasync, shared by all partitions in a flush
    Fsync,
    /// When the page cache has it, as Kafka does by default
    PageCache,
}

/// Splits `KEY=VALUE`; the value may hold more of `=`.
fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("a setting looks like KEY=VALUE".to_owned()),
    }
}

/// What the retention of history counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CompactionMode {
    /// Time
    Periodic,
    /// Revisions
    Revision,
}

impl Durability {
    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::PageCache => "page-cache",
        }
    }
}

/// Flags of `ketch up`.
#[derive(Debug, Clone, Args)]
pub struct UpArgs {
    #[command(flatten)]
    pub parts: PartArgs,
    #[command(flatten)]
    pub external: ExternalArgs,
    /// Import the example application, apply its manifests and print what it does each second
    #[arg(long)]
    pub demo: bool,
}

/// What runs and how. Everything is also settable by the file and by the environment; flags win.
#[derive(Debug, Clone, Args)]
pub struct PartArgs {
    #[command(flatten)]
    pub data_dir: DataDir,
    /// TOML file with the same settings; an unknown key is an error
    #[arg(long, env = "KETCH_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Addresses to listen on [default: 127.0.0.1]; the pod gateway is always added while the node part runs
    #[arg(long, env = "KETCH_LISTEN", value_delimiter = ',', value_name = "IP")]
    pub listen: Option<Vec<IpAddr>>,
    /// Port of the Kubernetes API (HTTPS) [default: 6443]; 0 picks a free one
    #[arg(long, env = "KETCH_API_PORT", value_name = "PORT")]
    pub api_port: Option<u16>,
    /// Port of the store's etcd API (mutual TLS) [default: 2379]; 0 picks a free one
    #[arg(long, env = "KETCH_ETCD_PORT", value_name = "PORT")]
    pub etcd_port: Option<u16>,
    /// Port of the Kafka protocol [default: 9092]; 0 picks a free one
    #[arg(long, env = "KETCH_KAFKA_PORT", value_name = "PORT")]
    pub kafka_port: Option<u16>,
    /// Port of the node agent [default: 10250]; 0 picks a free one
    #[arg(long, env = "KETCH_KUBELET_PORT", value_name = "PORT")]
    pub kubelet_port: Option<u16>,
    /// Port of metrics (HTTP, `/metrics`) [default: 8123]; 0 picks a free one
    #[arg(long, env = "KETCH_CONSOLE_PORT", value_name = "PORT")]
    pub console_port: Option<u16>,
    /// Leave the node part out: no containers, no pod network, no DNS
    #[arg(long, env = "KETCH_NO_NODE")]
    pub no_node: bool,
    /// Leave the broker out
    #[arg(long, env = "KETCH_NO_BROKER")]
    pub no_broker: bool,
    /// Leave the etcd API out: the store is reached from within only
    #[arg(long, env = "KETCH_NO_ETCD_PORT")]
    pub no_etcd_port: bool,
    /// Do not let pods reach the broker
    #[arg(long, env = "KETCH_NO_POD_KAFKA")]
    pub no_pod_kafka: bool,
    /// Do not let pods reach addresses outside the cluster
    #[arg(long, env = "KETCH_NO_POD_EGRESS")]
    pub no_pod_egress: bool,
    /// When acks=all is answered [default: fsync]
    #[arg(long, env = "KETCH_KAFKA_DURABILITY", value_name = "WHEN")]
    pub kafka_durability: Option<Durability>,
    /// One of Kafka's own broker settings, such as log.retention.hours=24; may be given many times
    ///
    /// The file has a table for them: [kafka.properties], with names and values in quotes. `listeners` stands in place of
    /// --listen and --kafka-port: its first listener is the one Ketch's own commands use, and pods reach the broker only at
    /// a listener on the pod gateway's address.
    #[arg(long, value_name = "KEY=VALUE", value_parser = property)]
    pub kafka_property: Vec<(String, String)>,
    /// Directories of the broker's partitions, by commas, on disks of their own [default: <data-dir>/kafka]
    #[arg(long, env = "KETCH_KAFKA_LOG_DIRS", value_name = "DIRS", value_delimiter = ',')]
    pub kafka_log_dirs: Option<Vec<PathBuf>>,
    /// Name of this node [default: the host's name in lower case]
    #[arg(long, env = "KETCH_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
    /// Address of this node [default: the pod gateway]
    #[arg(long, env = "KETCH_NODE_IP", value_name = "IP")]
    pub node_ip: Option<IpAddr>,
    /// Addresses of pods [default: 10.42.0.0/16]
    #[arg(long, env = "KETCH_POD_CIDR", value_name = "CIDR")]
    pub pod_cidr: Option<String>,
    /// Addresses of Services [default: 10.43.0.0/16]
    #[arg(long, env = "KETCH_SERVICE_CIDR", value_name = "CIDR")]
    pub service_cidr: Option<String>,
    /// DNS domain of the cluster [default: cluster.local]
    #[arg(long, env = "KETCH_CLUSTER_DOMAIN", value_name = "DOMAIN")]
    pub cluster_domain: Option<String>,
    /// Memory for the store's cache, in MiB [default: 16]
    #[arg(long, env = "KETCH_STORE_CACHE", value_name = "MIB")]
    pub store_cache: Option<usize>,
    /// Bytes of the store at which writes that add to it are refused [default: 2147483648]; 0 for no bound
    #[arg(long, env = "KETCH_QUOTA_BACKEND_BYTES", value_name = "BYTES")]
    pub quota_backend_bytes: Option<u64>,
    #[command(flatten)]
    pub auth: AuthArgs,
    /// Origins whose pages may read the etcd port's JSON, separated by commas; * for all [default: none]
    #[arg(long, env = "KETCH_CORS", value_name = "ORIGINS", value_delimiter = ',')]
    pub cors: Option<Vec<String>>,
    /// Save a snapshot of the store this often, such as 6h, while there is something new
    #[arg(long, env = "KETCH_SNAPSHOT_EVERY", value_name = "TIME", value_parser = crate::config::duration)]
    pub snapshot_every: Option<std::time::Duration>,
    /// How many of those to keep [default: 5]
    #[arg(long, env = "KETCH_SNAPSHOT_KEEP", value_name = "N")]
    pub snapshot_keep: Option<usize>,
    /// Where: a directory, or s3://bucket/prefix with AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID... in the environment
    /// [default: snapshots in the data directory]
    #[arg(long, env = "KETCH_SNAPSHOT_DIR", value_name = "PLACE")]
    pub snapshot_dir: Option<String>,
    /// Whether history is kept by time or by revisions
    #[arg(
        long,
        env = "KETCH_AUTO_COMPACTION_MODE",
        value_name = "MODE",
        requires = "auto_compaction_retention"
    )]
    pub auto_compaction_mode: Option<CompactionMode>,
    /// How much history to keep: a time such as 30m or 12h (a number alone is hours), or revisions; 0 keeps all
    /// [default: 5m]
    #[arg(long, env = "KETCH_AUTO_COMPACTION_RETENTION", value_name = "HOW_MUCH")]
    pub auto_compaction_retention: Option<String>,
    /// What to log to standard error: error, warn, info, debug, or filters such as 'warn,broker=debug' [default: warn]
    #[arg(long, env = "KETCH_LOG", value_name = "FILTER")]
    pub log: Option<String>,
}

/// An etcd that somebody else runs.
#[derive(Debug, Clone, Default, Args)]
pub struct ExternalArgs {
    /// Run on this etcd instead of a store of our own: URLs, comma separated
    #[arg(long, env = "KETCH_STORE_ENDPOINTS", value_delimiter = ',', value_name = "URL")]
    pub store_endpoints: Option<Vec<String>>,
    /// Authority that signed that etcd's certificates
    #[arg(long, env = "KETCH_STORE_CACERT", value_name = "FILE")]
    pub store_cacert: Option<PathBuf>,
    /// Certificate to show to that etcd
    #[arg(long, env = "KETCH_STORE_CERT", value_name = "FILE", requires = "store_key")]
    pub store_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, env = "KETCH_STORE_KEY", value_name = "FILE", requires = "store_cert")]
    pub store_key: Option<PathBuf>,
}

/// How users of the etcd API show who they are; of no effect before `etcdctl auth enable`.
#[derive(Debug, Clone, Default, Args)]
pub struct AuthArgs {
    /// Tokens of the etcd API: simple, or jwt,sign-method=RS256,priv-key=FILE,pub-key=FILE,ttl=10m [default: simple]
    #[arg(long, env = "KETCH_AUTH_TOKEN", value_name = "SPEC")]
    pub auth_token: Option<String>,
    /// Seconds a simple token lives without being used [default: 300]
    #[arg(long, env = "KETCH_AUTH_TOKEN_TTL", value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(1..))]
    pub auth_token_ttl: Option<u32>,
    /// How hard passwords are hashed, 4 to 31; one more doubles the work [default: 10]
    #[arg(long, env = "KETCH_BCRYPT_COST", value_name = "COST",
        value_parser = clap::value_parser!(u32).range(4..=31))]
    pub bcrypt_cost: Option<u32>,
}

/// Flags of `ketch server`: those of the parts, and a place among the members of the store.
#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    #[command(flatten)]
    pub parts: PartArgs,
    /// Run the store alone: its etcd port and its peer port
    #[arg(long, env = "KETCH_STORE_ONLY")]
    pub store_only: bool,
    /// Address others are told to use [default: the first of --listen]
    #[arg(long, env = "KETCH_ADVERTISE", value_name = "IP")]
    pub advertise: Option<IpAddr>,
    /// Port for other members (mutual TLS) [default: 2380]; 0 picks a free one, which is kept from then on
    #[arg(long, env = "KETCH_PEER_PORT", value_name = "PORT")]
    pub peer_port: Option<u16>,
    /// Peer URL of a member to join by, such as https://10.0.0.1:2380; does nothing once joined
    #[arg(long, env = "KETCH_JOIN", value_name = "URL")]
    pub join: Option<String>,
    /// What `ketch token create` printed
    #[arg(long, env = "KETCH_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Name of this member of the store [default: --node-name]
    #[arg(long, env = "KETCH_MEMBER_NAME", value_name = "NAME")]
    pub name: Option<String>,
}

#[derive(Debug, Args)]
pub struct DownArgs {
    #[command(flatten)]
    pub data_dir: DataDir,
    /// Remove the data too
    #[arg(long)]
    pub purge: bool,
}

#[derive(Debug, Args)]
pub struct ImageArgs {
    #[command(flatten)]
    pub data_dir: DataDir,
    #[command(subcommand)]
    pub command: ImageCommand,
}

#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Import OCI or docker archives (tar, also compressed)
    Import {
        #[arg(required = true, value_name = "ARCHIVE")]
        archives: Vec<PathBuf>,
    },
    /// List images
    Ls,
}

/// Prints a completion script to standard output.
pub fn completions(shell: clap_complete::Shell) {
    clap_complete::generate(shell, &mut Cli::command(), "ketch", &mut std::io::stdout());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
