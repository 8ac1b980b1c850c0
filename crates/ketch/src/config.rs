//! Settings: flags win over the environment, that over the file, that over the defaults.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::cli::{AuthArgs, CompactionMode, DataDir, Durability, ExternalArgs, PartArgs, ServerArgs, UpArgs};

/// Name of the directory under a user's data home.
const USER_DIR: &str = "ketch";
const ROOT_DIR: &str = "/var/lib/ketch";

/// Everything `up` and `server` need to know.
#[derive(Debug, Clone)]
pub struct Config {
    pub data_dir: PathBuf,
    /// A place among the members of a replicated store; None for a store of one.
    pub peering: Option<Peering>,
    /// The API server with controllers and scheduler.
    pub control_plane: bool,
    pub listen: Vec<IpAddr>,
    pub api_port: u16,
    /// None leaves the etcd API out.
    pub etcd_port: Option<u16>,
    pub kafka_port: u16,
    pub kubelet_port: u16,
    pub console_port: u16,
    pub node: bool,
    pub broker: bool,
    pub pod_kafka: bool,
    pub pod_egress: bool,
    pub kafka_durability: Durability,
    /// Kafka's own settings of a broker; the broker checks names and values.
    pub kafka_properties: BTreeMap<String, String>,
    /// Empty: the data directory's.
    pub kafka_log_dirs: Vec<PathBuf>,
    pub node_name: String,
    pub node_ip: Option<IpAddr>,
    pub pod_cidr: Cidr,
    pub service_cidr: Cidr,
    pub cluster_domain: String,
    pub store_cache_bytes: usize,
    /// None for no bound.
    pub store_quota_bytes: Option<u64>,
    /// Passwords and tokens of the etcd API.
    pub auth: store::auth::Options,
    /// Origins whose pages may read the etcd port's JSON.
    pub cors: Vec<String>,
    /// Snapshots by themselves.
    pub snapshots: Option<store::snapshot::Schedule>,
    /// What the store itself keeps of history; None leaves that to whoever compacts.
    pub retention: Option<store::Retention>,
    /// An etcd to run on; None for a store of our own.
    pub external: Option<External>,
    pub log: String,
    pub demo: bool,
}

/// What a member of a replicated store is started with.
#[derive(Debug, Clone)]
pub struct Peering {
    /// For people, in lists of members.
    pub name: String,
    /// The address others are told to use.
    pub advertise: IpAddr,
    /// 0: any free one the first time, the same from then on.
    pub port: u16,
    /// Peer URL of a member to join by.
    pub join: Option<String>,
    pub token: Option<String>,
}

/// An IPv4 range such as 10.42.0.0/16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    pub base: Ipv4Addr,
    pub prefix: u8,
}

impl Cidr {
    /// The address `n` after the base.
    #[must_use]
    pub fn nth(self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.base) + n)
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl std::str::FromStr for Cidr {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || format!("'{text}' is not an IPv4 range such as 10.42.0.0/16");
        let (base, prefix) = text.split_once('/').with_context(wrong)?;
        let (base, prefix): (Ipv4Addr, u8) =
            (base.parse().with_context(wrong)?, prefix.parse().with_context(wrong)?);
        // A node gets a /24 of the pods' range, and Services want .10 for DNS.
        if !(8..=24).contains(&prefix) {
            bail!("{text}: the prefix length must lie between 8 and 24");
        }
        if u32::from(base) & (u32::MAX >> prefix) != 0 {
            bail!("{text}: the address has bits set beyond the prefix");
        }
        Ok(Self { base, prefix })
    }
}

/// The TOML file: the flags' names, grouped by part.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct File {
    data_dir: Option<PathBuf>,
    listen: Option<Vec<IpAddr>>,
    log: Option<String>,
    api: ApiFile,
    etcd: EtcdFile,
    kafka: KafkaFile,
    kubelet: KubeletFile,
    console: ConsoleFile,
    network: NetworkFile,
    store: StoreFile,
    server: ServerFile,
}
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct ServerFile {
    store_only: Option<bool>,
    advertise: Option<IpAddr>,
    peer_port: Option<u16>,
    join: Option<String>,
    token: Option<String>,
    name: Option<String>,
}
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct ApiFile {
    port: Option<u16>,
}
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct EtcdFile {
    enabled: Option<bool>,
    port: Option<u16>,
    auth_token: Option<String>,
    auth_token_ttl: Option<u32>,
    bcrypt_cost: Option<u32>,
    cors: Option<Vec<String>>,
}
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct KafkaFile {
    enabled: Option<bool>,
    port: Option<u16>,
    durability: Option<Durability>,
    log_dirs: Option<Vec<PathBuf>>,
    pods: Option<bool>,
    properties: BTreeMap<String, String>,
}
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct KubeletFile {
    enabled: Option<bool>,
    port: Option<u16>,
    node_name: Option<String>,
    node_ip: Option<IpAddr>,
}
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct ConsoleFile {
    port: Option<u16>,
}
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct NetworkFile {
    pod_cidr: Option<String>,
    service_cidr: Option<String>,
    cluster_domain: Option<String>,
    egress: Option<bool>,
}
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct StoreFile {
    cache_mib: Option<usize>,
    quota_backend_bytes: Option<u64>,
    auto_compaction_mode: Option<CompactionMode>,
    auto_compaction_retention: Option<String>,
    snapshot_every: Option<String>,
    snapshot_keep: Option<usize>,
    snapshot_dir: Option<String>,
    endpoints: Option<Vec<String>>,
    cacert: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl File {
    /// The file that is named, or nothing.
    fn of(args: &PartArgs) -> Result<Self> {
        let Some(path) = &args.config else { return Ok(Self::default()) };
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is not a configuration", path.display()))
    }
}

/// A snapshot reads the whole store.
const SNAPSHOT_EVERY_MIN: std::time::Duration = std::time::Duration::from_secs(1);
const SNAPSHOTS_KEPT: usize = 5;
/// kube-apiserver's `--etcd-compaction-interval`.
const API_SERVER_RETENTION: std::time::Duration = std::time::Duration::from_secs(300);

/// An etcd that somebody else runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    pub endpoints: Vec<String>,
    pub cacert: Option<PathBuf>,
    /// The certificate to show, and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl EtcdFile {
    /// The flags with what the file says where they are not given.
    fn auth(&self, args: &AuthArgs) -> Result<store::auth::Options> {
        AuthArgs {
            auth_token: args.auth_token.clone().or_else(|| self.auth_token.clone()),
            auth_token_ttl: args.auth_token_ttl.or(self.auth_token_ttl),
            bcrypt_cost: args.bcrypt_cost.or(self.bcrypt_cost),
        }
        .options()
    }
}

impl AuthArgs {
    /// What the store is to be started with.
    ///
    /// # Errors
    /// When a number is out of its bounds, which the file may say.
    pub fn options(&self) -> Result<store::auth::Options> {
        let mut options = store::auth::Options::default();
        if let Some(token) = &self.auth_token {
            options.token = token.clone();
        }
        if let Some(seconds) = self.auth_token_ttl {
            if seconds == 0 {
                bail!("auth-token-ttl: a token lives at least a second");
            }
            options.token_ttl = std::time::Duration::from_secs(seconds.into());
        }
        if let Some(cost) = self.bcrypt_cost {
            if !(4..=31).contains(&cost) {
                bail!("bcrypt-cost: {cost} does not lie between 4 and 31");
            }
            options.bcrypt_cost = cost;
        }
        Ok(options)
    }
}

impl StoreFile {
    fn external(&self, args: &ExternalArgs) -> Option<External> {
        let endpoints = args.store_endpoints.clone().or_else(|| self.endpoints.clone())?;
        let cert = args.store_cert.clone().or_else(|| self.cert.clone());
        let key = args.store_key.clone().or_else(|| self.key.clone());
        let cacert = args.store_cacert.clone().or_else(|| self.cacert.clone());
        Some(External { endpoints, cacert, client: cert.zip(key) })
    }

    fn snapshots(&self, args: &PartArgs, data_dir: &Path) -> Result<Option<store::snapshot::Schedule>> {
        let every = args.snapshot_every.map(Ok).or_else(|| self.snapshot_every.as_deref().map(duration));
        let place = args.snapshot_dir.as_ref().or(self.snapshot_dir.as_ref());
        let keep = args.snapshot_keep.or(self.snapshot_keep);
        let Some(every) = every.transpose()? else {
            if place.is_some() || keep.is_some() {
                bail!("--snapshot-dir and --snapshot-keep want --snapshot-every");
            }
            return Ok(None);
        };
        if every < SNAPSHOT_EVERY_MIN || keep == Some(0) {
            bail!("--snapshot-every is at least {SNAPSHOT_EVERY_MIN:?}, --snapshot-keep at least 1");
        }
        let target = match place {
            Some(url) if url.starts_with("s3://") => {
                store::snapshot::Target::Objects(store::snapshot::Objects::parse(url, environment())?)
            }
            Some(dir) => store::snapshot::Target::Directory(std::path::absolute(dir)?),
            None => store::snapshot::Target::Directory(data_dir.join("snapshots")),
        };
        Ok(Some(store::snapshot::Schedule { every, keep: keep.unwrap_or(SNAPSHOTS_KEPT), target }))
    }

    fn retention(&self, args: &PartArgs) -> Result<Option<store::Retention>> {
        let text = args.auto_compaction_retention.as_ref().or(self.auto_compaction_retention.as_ref());
        // Without a word of the user: what upstream's API server does to its etcd.
        let Some(text) = text else { return Ok(Some(store::Retention::Time(API_SERVER_RETENTION))) };
        let wrong = || format!("'{text}' is no retention such as 30m, 12h or 1000");
        let mode =
            args.auto_compaction_mode.or(self.auto_compaction_mode).unwrap_or(CompactionMode::Periodic);
        if mode == CompactionMode::Revision {
            let revisions: i64 = text.parse().with_context(wrong)?;
            return Ok((revisions > 0).then_some(store::Retention::Revisions(revisions)));
        }
        // As etcd reads it: a number alone is hours.
        let time = match text.parse::<u64>() {
            Ok(hours) => std::time::Duration::from_secs(hours.checked_mul(3600).with_context(wrong)?),
            Err(_) => duration(text).with_context(wrong)?,
        };
        Ok((!time.is_zero()).then_some(store::Retention::Time(time)))
    }
}

/// Broker settings that follow from Ketch's own, and where those are.
const OWN_PROPERTIES: &[(&str, &str)] = &[
    ("broker.id", "one broker runs, with the id 1"),
    ("node.id", "one broker runs, with the id 1"),
    ("log.dir", "logs are in 'kafka' under --data-dir"),
    ("log.dirs", "logs are in 'kafka' under --data-dir"),
];

impl KafkaFile {
    fn properties(&self, args: &PartArgs) -> Result<BTreeMap<String, String>> {
        let mut properties = self.properties.clone();
        properties.extend(args.kafka_property.iter().cloned());
        for (key, why) in OWN_PROPERTIES {
            if properties.contains_key(*key) {
                bail!("the broker setting {key} cannot be given: {why}");
            }
        }
        if properties.contains_key("listeners") && args.kafka_port.or(self.port).is_some() {
            bail!("the broker setting listeners names every port: leave --kafka-port (kafka.port) out");
        }
        Ok(properties)
    }
}

impl Config {
    /// Merges flags (with the environment already in them), the file and the defaults.
    ///
    /// # Errors
    /// When the file cannot be read or holds an unknown key, or a value makes no sense.
    pub fn up(args: &UpArgs) -> Result<Self> {
        let file = File::of(&args.parts)?;
        let external = file.store.external(&args.external);
        let config = Self { external, demo: args.demo, ..Self::merge(&args.parts, file)? };
        if config.external.is_some() && config.snapshots.is_some() {
            bail!(
                "snapshots are saved where the store is; with --store-endpoints leave --snapshot-every out"
            );
        }
        Ok(config)
    }

    /// As [`Config::up`], for a member of a replicated store.
    ///
    /// # Errors
    /// As [`Config::up`]; also when the addresses are none that others can reach.
    pub fn server(args: &ServerArgs) -> Result<Self> {
        let mut file = File::of(&args.parts)?;
        if file.store.external(&ExternalArgs::default()).is_some() {
            bail!("a server is a member of the store: take `endpoints` out of [store]");
        }
        let server = std::mem::take(&mut file.server);
        let log = args.parts.log.clone().or(file.log.take());
        let mut config = Self::merge(&args.parts, file)?;
        // Consensus warns of every member that is away for a moment.
        config.log = log.unwrap_or_else(|| "warn,openraft=error".into());
        let advertise = args.advertise.or(server.advertise).or(config.listen.first().copied());
        let advertise = advertise.context("--listen names no address")?;
        if advertise.is_unspecified() {
            bail!("{advertise} is no address others can reach: give one with --advertise");
        }
        if args.store_only || server.store_only.unwrap_or(false) {
            (config.control_plane, config.node, config.broker) = (false, false, false);
        }
        if config.node_ip.is_none() && !advertise.is_loopback() {
            config.node_ip = Some(advertise);
        }
        config.peering = Some(Peering {
            name: args.name.clone().or(server.name).unwrap_or_else(|| config.node_name.clone()),
            advertise,
            port: args.peer_port.or(server.peer_port).unwrap_or(2380),
            join: args.join.clone().or(server.join),
            token: args.token.clone().or(server.token),
        });
        Ok(config)
    }

    fn merge(args: &PartArgs, file: File) -> Result<Self> {
        let cidr = |flag: &Option<String>, file: Option<String>, default: &str| -> Result<Cidr> {
            flag.clone().or(file).unwrap_or_else(|| default.into()).parse()
        };
        let etcd = !args.no_etcd_port && file.etcd.enabled.unwrap_or(true);
        let data_dir = DataDir { data_dir: args.data_dir.data_dir.clone().or(file.data_dir) }.resolve()?;
        Ok(Self {
            snapshots: file.store.snapshots(args, &data_dir)?,
            data_dir,
            peering: None,
            control_plane: true,
            listen: args.listen.clone().or(file.listen).unwrap_or_else(|| vec![Ipv4Addr::LOCALHOST.into()]),
            api_port: args.api_port.or(file.api.port).unwrap_or(6443),
            etcd_port: etcd.then(|| args.etcd_port.or(file.etcd.port).unwrap_or(2379)),
            kafka_port: args.kafka_port.or(file.kafka.port).unwrap_or(9092),
            kubelet_port: args.kubelet_port.or(file.kubelet.port).unwrap_or(10_250),
            console_port: args.console_port.or(file.console.port).unwrap_or(8123),
            node: !args.no_node && file.kubelet.enabled.unwrap_or(true),
            broker: !args.no_broker && file.kafka.enabled.unwrap_or(true),
            pod_kafka: !args.no_pod_kafka && file.kafka.pods.unwrap_or(true),
            pod_egress: !args.no_pod_egress && file.network.egress.unwrap_or(true),
            kafka_properties: file.kafka.properties(args)?,
            kafka_durability: args.kafka_durability.or(file.kafka.durability).unwrap_or(Durability::Fsync),
            kafka_log_dirs: args.kafka_log_dirs.clone().or(file.kafka.log_dirs).unwrap_or_default(),
            node_name: args.node_name.clone().or(file.kubelet.node_name).map_or_else(host_name, Ok)?,
            node_ip: args.node_ip.or(file.kubelet.node_ip),
            pod_cidr: cidr(&args.pod_cidr, file.network.pod_cidr, "10.42.0.0/16")?,
            service_cidr: cidr(&args.service_cidr, file.network.service_cidr, "10.43.0.0/16")?,
            cluster_domain: args
                .cluster_domain
                .clone()
                .or(file.network.cluster_domain)
                .unwrap_or_else(|| "cluster.local".into()),
            store_quota_bytes: args
                .quota_backend_bytes
                .or(file.store.quota_backend_bytes)
                .map_or(Some(store::DEFAULT_QUOTA_BYTES), |bytes| (bytes > 0).then_some(bytes)),
            auth: file.etcd.auth(&args.auth)?,
            cors: args.cors.clone().or(file.etcd.cors.clone()).unwrap_or_default(),
            retention: file.store.retention(args)?,
            external: None,
            store_cache_bytes: args.store_cache.or(file.store.cache_mib).unwrap_or(16) << 20,
            log: args.log.clone().or(file.log).unwrap_or_else(|| "warn".into()),
            demo: false,
        })
    }
}

impl DataDir {
    /// The directory meant: the one given, else the default for this user.
    ///
    /// # Errors
    /// When none was given and the user has no home.
    pub fn resolve(&self) -> Result<PathBuf> {
        if let Some(dir) = &self.data_dir {
            return std::path::absolute(dir).with_context(|| format!("{} is not a path", dir.display()));
        }
        if is_root() {
            return Ok(ROOT_DIR.into());
        }
        let home = std::env::var_os("XDG_DATA_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/share")))
            .context("no home directory: name a place with --data-dir")?;
        Ok(home.join(USER_DIR))
    }
}

/// Whether this process may do what the node part needs.
#[must_use]
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A time such as 30m, 12h or 7d.
///
/// # Errors
/// When it is none.
pub fn duration(text: &str) -> Result<std::time::Duration> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let wrong = || format!("'{text}' is no time such as 30m, 12h or 7d");
    let found = units.iter().find_map(|(unit, ms)| Some((text.strip_suffix(unit)?, *ms)));
    let (number, ms): (&str, u64) = found.with_context(wrong)?;
    let number: u64 = number.parse().with_context(wrong)?;
    Ok(std::time::Duration::from_millis(number.checked_mul(ms).with_context(wrong)?))
}

/// The environment, as far as it is text.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// The host's name in lower case.
///
/// # Errors
/// When it has none.
pub fn host_name() -> Result<String> {
    let name = nix::unistd::gethostname().context("the host has no name: give one with --node-name")?;
    Ok(name.to_string_lossy().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn merged(flags: &[&str], file: &str) -> Result<Config> {
        let all = ["ketch", "up", "--data-dir", "/tmp/x"].iter().chain(flags);
        let Command::Up(args) = Cli::try_parse_from(all)?.command else { bail!("not up") };
        Config::merge(&args.parts, toml::from_str(file)?)
    }

    #[test]
    fn a_server_is_told_where_others_find_it() {
        let server = |flags: &[&str]| {
            let all = ["ketch", "server", "--data-dir", "/tmp/x"].iter().chain(flags);
            let Command::Server(args) = Cli::try_parse_from(all)?.command else { bail!("not server") };
            Config::server(&args)
        };
        let config = server(&[]).unwrap();
        let peering = config.peering.unwrap();
        assert_eq!((peering.port, peering.name, config.control_plane), (2380, config.node_name, true));
        assert!(peering.advertise.is_loopback() && config.node_ip.is_none());
        let config = server(&["--listen", "0.0.0.0", "--advertise", "10.0.0.7", "--store-only"]).unwrap();
        assert_eq!(config.peering.unwrap().advertise.to_string(), "10.0.0.7");
        assert!(!config.control_plane && !config.broker && !config.node);
        assert!(server(&["--listen", "0.0.0.0"]).is_err(), "nobody reaches 0.0.0.0");
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let config = merged(&["--api-port", "1"], "[api]\nport = 2\n[kafka]\nport = 3").unwrap();
        assert_eq!((config.api_port, config.kafka_port, config.kubelet_port), (1, 3, 10_250));
        assert_eq!(config.kafka_durability, Durability::Fsync);
        assert_eq!(config.etcd_port, Some(2379));
        assert_eq!(merged(&["--no-etcd-port"], "[etcd]\nport = 4").unwrap().etcd_port, None);
        assert_eq!(merged(&[], "[etcd]\nport = 4").unwrap().etcd_port, Some(4));
        let config = merged(&[], "[kafka]\ndurability = 'page-cache'").unwrap();
        assert_eq!(config.kafka_durability, Durability::PageCache);
        assert!(config.kafka_log_dirs.is_empty());
        let config = merged(&["--kafka-log-dirs", "/a,/b"], "[kafka]\nlog-dirs = ['/c']").unwrap();
        assert_eq!(config.kafka_log_dirs, [PathBuf::from("/a"), PathBuf::from("/b")]);
    }

    #[test]
    fn tokens_and_passwords_are_as_flags_or_the_file_say() {
        let file = "[etcd]\nauth-token = 'jwt,sign-method=HS256'\nauth-token-ttl = 7\nbcrypt-cost = 5";
        let auth = merged(&["--auth-token-ttl", "9"], file).unwrap().auth;
        assert_eq!(
            (auth.token.as_str(), auth.token_ttl.as_secs(), auth.bcrypt_cost),
            ("jwt,sign-method=HS256", 9, 5)
        );
        let auth = merged(&[], "").unwrap().auth;
        assert_eq!((auth.token.as_str(), auth.token_ttl.as_secs(), auth.bcrypt_cost), ("simple", 300, 10));
        for wrong in ["bcrypt-cost = 3", "bcrypt-cost = 32", "auth-token-ttl = 0"] {
            assert!(merged(&[], &format!("[etcd]\n{wrong}")).is_err(), "{wrong}");
        }
        for wrong in [["--bcrypt-cost", "3"], ["--bcrypt-cost", "32"], ["--auth-token-ttl", "0"]] {
            assert!(merged(&wrong, "").is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn snapshots_are_scheduled_by_flags_or_the_file() {
        use store::snapshot::Target;
        assert!(merged(&[], "").unwrap().snapshots.is_none());
        let schedule =
            merged(&["--snapshot-every", "6h"], "[store]\nsnapshot-keep = 3").unwrap().snapshots.unwrap();
        assert_eq!((schedule.every.as_secs(), schedule.keep), (6 * 3600, 3));
        assert!(matches!(schedule.target, Target::Directory(dir) if dir == Path::new("/tmp/x/snapshots")));
        let schedule =
            merged(&[], "[store]\nsnapshot-every = '1d'\nsnapshot-dir = '/s'").unwrap().snapshots.unwrap();
        assert!(matches!(schedule.target, Target::Directory(dir) if dir == Path::new("/s")));
        for wrong in [
            "snapshot-dir = '/s'",
            "snapshot-every = '6'",
            "snapshot-every = '1ms'",
            "snapshot-every = '6h'\nsnapshot-keep = 0",
            "snapshot-every = '6h'\nsnapshot-dir = 's3://'",
        ] {
            assert!(merged(&[], &format!("[store]\n{wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let error = merged(&[], "[kafka]\nports = 3").unwrap_err().to_string();
        assert!(error.contains("ports"), "{error}");
    }

    #[test]
    fn broker_settings_come_from_the_file_and_from_flags() {
        let file = "[kafka.properties]\n'log.retention.hours' = '2'\n'num.partitions' = '3'";
        let config = merged(&["--kafka-property", "num.partitions=5", "--kafka-property", "a=b=c"], file);
        let expected = [("a", "b=c"), ("log.retention.hours", "2"), ("num.partitions", "5")];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(config.unwrap().kafka_properties, BTreeMap::from(expected));
        assert!(merged(&[], "").unwrap().kafka_properties.is_empty());
        assert!(merged(&["--kafka-property", "=x"], "").is_err());
        assert!(merged(&["--kafka-property", "x"], "").is_err());
        for key in ["broker.id", "node.id", "log.dir", "log.dirs"] {
            let error = merged(&["--kafka-property", &format!("{key}=1")], "").unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn listeners_and_the_port_exclude_each_other() {
        let listeners = ["--kafka-property", "listeners=PLAINTEXT://127.0.0.1:0"];
        assert!(merged(&listeners, "").is_ok());
        for (flags, file) in [(&["--kafka-port", "1"][..], ""), (&[][..], "[kafka]\nport = 1")] {
            let error = merged(&[&listeners[..], flags].concat(), file).unwrap_err().to_string();
            assert!(error.contains("--kafka-port"), "{error}");
        }
    }

    #[test]
    fn ranges_are_checked() {
        for wrong in ["10.42.0.0", "10.42.0.0/30", "10.42.0.1/16", "x/16"] {
            assert!(merged(&["--pod-cidr", wrong], "").is_err(), "{wrong}");
        }
        assert_eq!(merged(&[], "").unwrap().service_cidr.nth(10).to_string(), "10.43.0.10");
    }
}
