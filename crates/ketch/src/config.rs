//! Settings: flags win over the environment, that over the file, that over the defaults.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::cli::{AuthArgs, CompactionMode, DataDir, Durability, UpArgs};

/// Name of the directory under a user's data home.
const USER_DIR: &str = "ketch";
const ROOT_DIR: &str = "/var/lib/ketch";

/// Everything `up` needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    pub data_dir: PathBuf,
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
    /// What the store itself keeps of history; None leaves that to whoever compacts.
    pub retention: Option<store::Retention>,
    /// An etcd to run on; None for a store of our own.
    pub external: Option<External>,
    pub log: String,
    pub demo: bool,
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
}
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct KafkaFile {
    enabled: Option<bool>,
    port: Option<u16>,
    durability: Option<Durability>,
    pods: Option<bool>,
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
    endpoints: Option<Vec<String>>,
    cacert: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

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
    fn external(&self, args: &UpArgs) -> Option<External> {
        let endpoints = args.store_endpoints.clone().or_else(|| self.endpoints.clone())?;
        let cert = args.store_cert.clone().or_else(|| self.cert.clone());
        let key = args.store_key.clone().or_else(|| self.key.clone());
        let cacert = args.store_cacert.clone().or_else(|| self.cacert.clone());
        Some(External { endpoints, cacert, client: cert.zip(key) })
    }

    fn retention(&self, args: &UpArgs) -> Result<Option<store::Retention>> {
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
        let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
        let found = units.iter().find_map(|(unit, ms)| Some((text.strip_suffix(unit)?, *ms)));
        // As etcd reads it: a number alone is hours.
        let (number, ms): (&str, u64) = found.unwrap_or((text, 3_600_000));
        let number: u64 = number.parse().with_context(wrong)?;
        let time = std::time::Duration::from_millis(number.checked_mul(ms).with_context(wrong)?);
        Ok((!time.is_zero()).then_some(store::Retention::Time(time)))
    }
}

impl Config {
    /// Merges flags (with the environment already in them), the file and the defaults.
    ///
    /// # Errors
    /// When the file cannot be read or holds an unknown key, or a value makes no sense.
    pub fn load(args: &UpArgs) -> Result<Self> {
        let file = args.config.as_deref().map_or_else(|| Ok(File::default()), read_file)?;
        Self::merge(args, file)
    }

    fn merge(args: &UpArgs, file: File) -> Result<Self> {
        let cidr = |flag: &Option<String>, file: Option<String>, default: &str| -> Result<Cidr> {
            flag.clone().or(file).unwrap_or_else(|| default.into()).parse()
        };
        let etcd = !args.no_etcd_port && file.etcd.enabled.unwrap_or(true);
        let data_dir = DataDir { data_dir: args.data_dir.data_dir.clone().or(file.data_dir) };
        Ok(Self {
            data_dir: data_dir.resolve()?,
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
            kafka_durability: args.kafka_durability.or(file.kafka.durability).unwrap_or(Durability::Fsync),
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
            retention: file.store.retention(args)?,
            external: file.store.external(args),
            store_cache_bytes: args.store_cache.or(file.store.cache_mib).unwrap_or(16) << 20,
            log: args.log.clone().or(file.log).unwrap_or_else(|| "warn".into()),
            demo: args.demo,
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

fn read_file(path: &Path) -> Result<File> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is not a configuration", path.display()))
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
        Config::merge(&args, toml::from_str(file)?)
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
    fn an_unknown_key_is_an_error_that_names_it() {
        let error = merged(&[], "[kafka]\nports = 3").unwrap_err().to_string();
        assert!(error.contains("ports"), "{error}");
    }

    #[test]
    fn ranges_are_checked() {
        for wrong in ["10.42.0.0", "10.42.0.0/30", "10.42.0.1/16", "x/16"] {
            assert!(merged(&["--pod-cidr", wrong], "").is_err(), "{wrong}");
        }
        assert_eq!(merged(&[], "").unwrap().service_cidr.nth(10).to_string(), "10.43.0.10");
    }
}
