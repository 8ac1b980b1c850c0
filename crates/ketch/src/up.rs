//! `ketch up`: every part in one process.
//!
//! ```text
//! lock ─▶ certificates ─┐
//!         pod network  ─┼─▶ store ─▶ broker
//!         (its ground)  │       └──▶ API server ─▶ clients, caches ─▶ controllers, scheduler
//!                       └────────────────────────────────────────────▶ network, DNS, kubelet
//! ready: the API answers, the node is Ready, the broker listens
//! ```
//!
//! Three runtimes, so that neither mast starves the other: control (store, API, controllers), node, broker.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use api_client::Informers;
use base::clock::{SharedClock, SystemClock};
use base::random::Random;
use base::task::{TaskKind, Tasks};
use identity::UserInfo;
use store_api::Store;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Durability;
use crate::config::Config;
use crate::console::Console;
use crate::files::{self, Endpoints, Lock};
use crate::{demo, node, status};

/// Threads of each runtime: two parts never wait for each other's, and an idle thread costs next to nothing.
const THREADS: usize = 2;
/// How long a part may take to stop before it is left behind.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Runs everything until a signal or a failure.
///
/// # Errors
/// When a part does not start, or fails so that nothing can go on.
pub fn run(config: Config) -> Result<()> {
    let start = Instant::now();
    start_logging(&config.log)?;
    raise_open_files();
    let _lock = Lock::take(&config.data_dir)?;
    Endpoints::remove(&config.data_dir);
    let runtimes = Runtimes::new()?;
    let result = runtimes.control.block_on(Voyage::new(config, start, &runtimes).run());
    runtimes.stop();
    result
}

pub fn start_logging(filter: &str) -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter).with_context(|| format!("--log {filter}"))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    Ok(())
}

/// Kafka's partitions and many connections want more than the soft limit of 1,024.
pub fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(%error, soft, "the limit on open files stays as it is");
    }
}

struct Runtimes {
    control: Runtime,
    node: Runtime,
    broker: Runtime,
}

impl Runtimes {
    fn new() -> Result<Self> {
        let runtime = |name: &str| {
            Builder::new_multi_thread().worker_threads(THREADS).thread_name(name).enable_all().build()
        };
        Ok(Self { control: runtime("control")?, node: runtime("node")?, broker: runtime("broker")? })
    }

    fn stop(self) {
        for runtime in [self.broker, self.node, self.control] {
            runtime.shutdown_timeout(Duration::from_secs(2));
        }
    }
}

/// One run of `up`.
struct Voyage<'a> {
    config: Config,
    start: Instant,
    runtimes: &'a Runtimes,
    tasks: Tasks,
    clock: SharedClock,
}

/// What runs.
struct Parts {
    /// None where somebody else runs it.
    store: Option<store::Handle>,
    etcd: Option<store::door::Handle>,
    api: apiserver::Handle,
    broker: Option<broker::Handle>,
    node: Option<node::Node>,
    console: SocketAddr,
}

impl<'a> Voyage<'a> {
    fn new(config: Config, start: Instant, runtimes: &'a Runtimes) -> Self {
        Self { config, start, runtimes, tasks: Tasks::new(), clock: SystemClock::shared() }
    }

    async fn run(self) -> Result<()> {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let parts = tokio::select! {
            parts = self.launch() => parts?,
            _ = interrupt.recv() => bail!("interrupted before it was ready"),
            _ = terminate.recv() => bail!("stopped before it was ready"),
        };
        self.announce(&parts)?;
        let token = self.tasks.token();
        let demo = async {
            match self.config.demo {
                true => demo::run(&self.config, &parts.api, parts.broker.as_ref()).await,
                false => std::future::pending().await,
            }
        };
        let outcome = tokio::select! {
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
            () = token.cancelled() => Err(anyhow::anyhow!(self.tasks.failure().unwrap_or_else(|| "stopped".into()))),
            result = demo => result,
        };
        self.land(parts).await;
        outcome
    }

    /// Starts the parts, each as soon as what it stands on is there.
    async fn launch(&self) -> Result<Parts> {
        let ground = node::Ground::prepare(&self.config).await?;
        let gateway = ground.as_ref().map(|g| IpAddr::from(g.gateway));
        let pki = pki::Pki::open(&self.config.data_dir.join("pki"), self.clock.unix_ms() / 1000)?;
        let (own, store) = self.start_store().await?;
        let etcd = match &own {
            Some(own) => self.start_etcd(own, &pki, gateway).await?,
            None => None,
        };
        let broker = self.start_broker(&store, gateway).await?;
        let api = self.start_api(&store, &pki, gateway).await?;
        self.write_kubeconfig(&api, &pki)?;
        let informers = Informers::start(self.client(&api, "system:kube-controller-manager"), &self.tasks);
        let clients = control::Clients {
            manager: self.client(&api, "system:kube-controller-manager"),
            scheduler: self.client(&api, "system:kube-scheduler"),
        };
        let options = control::Options { ca_pem: pki.ca_pem().to_owned(), clock: self.clock.clone() };
        control::Service::start(options, clients, informers.clone(), &self.tasks);
        self.say("control", "controllers and scheduler");
        let node = match ground {
            Some(ground) => Some(self.start_node(ground, &pki, &api, broker.as_ref(), informers).await?),
            None => None,
        };
        let console = self.start_console(broker.as_ref()).await?;
        Ok(Parts { store: own, etcd, api, broker, node, console })
    }

    /// Our own store, or somebody else's etcd.
    async fn start_store(&self) -> Result<(Option<store::Handle>, Arc<dyn Store>)> {
        if let Some(external) = &self.config.external {
            return Ok((None, self.reach_etcd(external).await?));
        }
        let mut options = store::Options::new(self.config.data_dir.join("store"));
        options.cache_bytes = self.config.store_cache_bytes;
        options.quota_bytes = self.config.store_quota_bytes;
        options.auth = self.config.auth.clone();
        let handle = store::Service::start(options, &self.tasks).context("the store does not start")?;
        if let Some(retention) = self.config.retention {
            let compacting = handle.clone();
            self.tasks.spawn(TaskKind::Service, "store compactor", async move {
                compacting.compact_always(retention).await;
                Ok::<_, std::convert::Infallible>(())
            });
        }
        self.say("store", "durable by group commit");
        Ok((Some(handle.clone()), handle.shared()))
    }

    async fn reach_etcd(&self, external: &crate::config::External) -> Result<Arc<dyn Store>> {
        let client = external.client.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path()));
        let tls = match &external.cacert {
            Some(ca) => Some(store::external::RootsAndKey { ca, client }.config()?),
            None => None,
        };
        let options = store::external::Options { endpoints: external.endpoints.clone(), tls };
        let reached = store::external::External::connect(&options, &self.tasks).await?;
        self.say("store", &format!("etcd at {}", external.endpoints.join(", ")));
        Ok(reached.shared())
    }

    /// The store's etcd API; who comes must show a certificate, such as `pki/etcd/client.crt`.
    async fn start_etcd(
        &self,
        store: &store::Handle,
        pki: &pki::Pki,
        gateway: Option<IpAddr>,
    ) -> Result<Option<store::door::Handle>> {
        let Some(port) = self.config.etcd_port else { return Ok(None) };
        pki.etcd_client()?;
        let mut addresses = vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from(std::net::Ipv6Addr::LOCALHOST)];
        addresses.extend(self.config.listen.iter().copied().chain(gateway).chain(self.config.node_ip));
        addresses.sort_unstable();
        addresses.dedup();
        let dns = vec!["localhost".to_owned(), self.config.node_name.clone()];
        let leaf = pki.etcd_server(&pki::Names { dns, addresses })?;
        let tls = Arc::new(pki.etcd_server_config(&leaf)?);
        let options = store::door::Options::new(self.addresses(port, gateway), Some(tls));
        let handle = store::door::Service::start(options, store.clone(), &self.tasks)
            .await
            .context("the etcd API does not start")?;
        if let Some(address) = handle.addrs().first() {
            self.say("etcd", &format!("{}, mutual TLS", files::https(*address)));
        }
        Ok(Some(handle))
    }

    async fn start_broker(
        &self,
        store: &Arc<dyn Store>,
        gateway: Option<IpAddr>,
    ) -> Result<Option<broker::Handle>> {
        if !self.config.broker {
            return Ok(None);
        }
        let pods = gateway.filter(|_| self.config.pod_kafka);
        let listen = self.addresses(self.config.kafka_port, pods);
        let mut options = broker::Options::new(self.config.data_dir.join("kafka"), listen);
        options.durability = match self.config.kafka_durability {
            Durability::Fsync => broker::Durability::Fsync,
            Durability::PageCache => broker::Durability::PageCache,
        };
        let (store, tasks) = (store.clone(), self.tasks.clone());
        let starting =
            self.runtimes.broker.spawn(async move { broker::Service::start(options, store, &tasks).await });
        let handle = starting.await?.context("the broker does not start")?;
        let kind = self.config.kafka_durability.name();
        let text = status::durability_text(kind);
        self.say("broker", &format!("{}, durability {kind}: {text}", handle.addr()));
        Ok(Some(handle))
    }

    /// Metrics are for this host: the first address listened on, never the pods' gateway.
    async fn start_console(&self, broker: Option<&broker::Handle>) -> Result<SocketAddr> {
        let ip = self.config.listen.first().copied().unwrap_or(IpAddr::from([127, 0, 0, 1]));
        let listen = SocketAddr::new(ip, self.config.console_port);
        let console = Console { broker: broker.cloned() };
        let bound = console.start(listen, &self.tasks).await;
        let bound =
            bound.with_context(|| format!("cannot listen on {listen}: choose another --console-port"))?;
        self.say("metrics", &format!("http://{bound}/metrics"));
        Ok(bound)
    }

    async fn start_api(
        &self,
        store: &Arc<dyn Store>,
        pki: &pki::Pki,
        gateway: Option<IpAddr>,
    ) -> Result<apiserver::Handle> {
        let config = &self.config;
        let service_ip = IpAddr::from(config.service_cidr.nth(1));
        let mut addresses = config.listen.clone();
        addresses.extend(gateway);
        addresses.extend(config.node_ip);
        let names = pki::Names::api_server(&config.cluster_domain, service_ip, &config.node_name, &addresses);
        let options = apiserver::Options {
            listen: self.addresses(config.api_port, gateway),
            tls: pki.server_config(&pki.api_server(&names)?)?,
            kubelet_tls: pki.client_config(Some(&pki.kubelet_client()?))?,
            service_account_key: pki.service_account_key_der().to_vec(),
            issuer: identity::token::DEFAULT_ISSUER.to_owned(),
            service_cidr: apiserver::Cidr {
                base: config.service_cidr.base,
                prefix: config.service_cidr.prefix,
            },
            advertise: gateway,
            clock: self.clock.clone(),
            random: Random::from_entropy(),
        };
        let handle = apiserver::Service::start(options, store.clone(), &self.tasks)
            .await
            .context("the API server does not start")?;
        handle.ready().await;
        if let Some(address) = handle.addr() {
            self.say("api", &files::https(address));
        }
        Ok(handle)
    }

    async fn start_node(
        &self,
        ground: node::Ground,
        pki: &pki::Pki,
        api: &apiserver::Handle,
        broker: Option<&broker::Handle>,
        informers: Informers,
    ) -> Result<node::Node> {
        let client = self.client_for(api, UserInfo::node(&self.config.node_name));
        let admin = self.client_for(api, UserInfo::new("system:ketch", &[identity::groups::MASTERS]));
        let plan = node::Plan::new(&self.config, &ground, pki, broker.map(broker::Handle::addrs))?;
        let tasks = self.tasks.clone();
        let starting = self
            .runtimes
            .node
            .spawn(async move { node::Node::start(plan, ground, client, admin, informers, &tasks).await });
        let node = starting.await??;
        self.say("network", &format!("pods {}, services {}", self.config.pod_cidr, self.config.service_cidr));
        self.say("node", &format!("{} is Ready", self.config.node_name));
        Ok(node)
    }

    fn client(&self, api: &apiserver::Handle, user: &str) -> kube::Client {
        self.client_for(api, UserInfo::new(user, &[identity::groups::AUTHENTICATED]))
    }

    fn client_for(&self, api: &apiserver::Handle, user: UserInfo) -> kube::Client {
        api_client::client(api.local(user))
    }

    fn addresses(&self, port: u16, gateway: Option<IpAddr>) -> Vec<SocketAddr> {
        let all =
            self.config.listen.iter().copied().chain(gateway.filter(|g| !self.config.listen.contains(g)));
        all.map(|ip| SocketAddr::new(ip, port)).collect()
    }

    fn kubeconfig(&self) -> PathBuf {
        self.config.data_dir.join("kubeconfig")
    }

    fn write_kubeconfig(&self, api: &apiserver::Handle, pki: &pki::Pki) -> Result<()> {
        let server = files::https(api.addr().context("the API listens nowhere: give --listen an address")?);
        Ok(pki::write_kubeconfig(&self.kubeconfig(), &server, pki.ca_pem(), &pki.admin()?)?)
    }

    fn say(&self, part: &str, text: &str) {
        println!("{part:<8} {text} ({} ms)", self.start.elapsed().as_millis());
    }

    /// Writes endpoints.json, then says that all is ready and what to try.
    fn announce(&self, parts: &Parts) -> Result<()> {
        let endpoints = Endpoints {
            api: parts.api.addr().map(files::https).unwrap_or_default(),
            etcd: parts.etcd.as_ref().and_then(|e| e.addrs().first()).copied().map(files::https),
            kafka: parts.broker.as_ref().map(|b| b.addr().to_string()),
            console: Some(format!("http://{}", parts.console)),
            kafka_durability: parts.broker.as_ref().map(|_| self.config.kafka_durability.name().to_owned()),
            kubelet: parts.node.as_ref().and_then(node::Node::kubelet_addr).map(files::https),
            pid: std::process::id(),
        };
        endpoints.write(&self.config.data_dir)?;
        println!("ready in {:.2}s", self.start.elapsed().as_secs_f64());
        println!("  Kubernetes  {}", endpoints.api);
        if let Some(kafka) = &endpoints.kafka {
            println!("  Kafka       {kafka}");
        }
        println!("try:");
        println!("  export KUBECONFIG={}", self.kubeconfig().display());
        println!("  kubectl get nodes");
        match &endpoints.kafka {
            Some(kafka) => println!("  kcat -b {kafka} -L"),
            None => println!("  kubectl get namespaces"),
        }
        Ok(())
    }

    /// Stops the parts in the order in which they lean on each other; containers stay.
    async fn land(&self, parts: Parts) {
        Endpoints::remove(&self.config.data_dir);
        let running = parts.node.as_ref().map(node::Node::containers);
        if let Some(broker) = &parts.broker {
            let _ = tokio::time::timeout(STOP_WITHIN, broker.shutdown()).await;
        }
        if !self.tasks.shutdown(STOP_WITHIN).await {
            tracing::warn!("some tasks did not stop in time");
        }
        if let Some(store) = parts.store {
            store.close().await;
        }
        if let Some(count) = running {
            let dir = self.config.data_dir.display();
            println!("{count} containers keep running; 'ketch down --data-dir {dir}' stops them");
        }
    }
}
