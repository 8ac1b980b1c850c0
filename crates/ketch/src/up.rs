//! `ketch up` and `ketch server`: every part in one process.
//!
//! ```text
//! lock ─▶ certificates ─┐
//!         pod network  ─┼─▶ store ─▶ broker
//!         (its ground)  │       └──▶ API server ─▶ clients, caches ─▶ controllers, scheduler
//!                       └────────────────────────────────────────────▶ network, DNS, kubelet
//! ready: the API answers, the node is Ready, the broker listens
//! ```
//! A server is a member of a replicated store: it joins if it is to, and the store comes before the node's ground, because
//! it says which part of the pods' range is this node's and which member runs the broker. Every server has an API server;
//! controllers and scheduler run where the Lease `kube-system/ketch-control` says.
//!
//! Three runtimes, so that neither mast starves the other: control (store, API, controllers), node, broker.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use api_client::{Election, Informers};
use base::clock::{SharedClock, SystemClock};
use base::random::Random;
use base::task::{TaskKind, Tasks};
use identity::UserInfo;
use store_api::Store;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::cli::Durability;
use crate::config::{Config, Peering};
use crate::console::Console;
use crate::files::{self, Endpoints, Lock};
use crate::{claims, demo, member, node, status};

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

fn start_logging(filter: &str) -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter).with_context(|| format!("--log {filter}"))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    Ok(())
}

/// Kafka's partitions and many connections want more than the soft limit of 1,024.
fn raise_open_files() {
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

/// What everything else stands on.
struct Footing {
    ground: Option<node::Ground>,
    pki: pki::Pki,
    /// None where somebody else runs it.
    own: Option<store::Handle>,
    store: Arc<dyn Store>,
    /// Where the etcd API is to listen; None leaves it out.
    etcd_port: Option<u16>,
    /// Holds that port until it is listened on.
    _reserved: Option<member::Reserved>,
    peer_url: Option<String>,
    client_urls: Vec<String>,
}

impl Footing {
    fn gateway(&self) -> Option<IpAddr> {
        self.ground.as_ref().map(|ground| IpAddr::from(ground.gateway))
    }
}

/// What runs.
struct Parts {
    /// None where somebody else runs it.
    store: Option<store::Handle>,
    etcd: Option<store::door::Handle>,
    peer_url: Option<String>,
    api: Option<apiserver::Handle>,
    /// Controllers and scheduler.
    control: Tasks,
    broker: Option<broker::Handle>,
    node: Option<node::Node>,
    console: Option<SocketAddr>,
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
            match (self.config.demo, &parts.api) {
                (true, Some(api)) => demo::run(&self.config, api, parts.broker.as_ref()).await,
                _ => std::future::pending().await,
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
        let footing = match &self.config.peering {
            None => self.stand_alone().await?,
            Some(peering) => self.stand_among(peering).await?,
        };
        let gateway = footing.gateway();
        let etcd = match &footing.own {
            Some(own) => self.start_etcd(own, &footing).await?,
            None => None,
        };
        let broker = self.start_broker(&footing).await?;
        let control = self.tasks.child();
        let (mut api, mut node) = (None, None);
        if self.config.control_plane {
            let started = self.start_api(&footing.store, &footing.pki, gateway).await?;
            self.write_kubeconfig(&started, &footing.pki)?;
            let informers =
                Informers::start(self.client(&started, "system:kube-controller-manager"), &self.tasks);
            self.start_control(&started, &footing, informers.clone(), &control);
            node = match footing.ground {
                Some(ground) => {
                    let kafka = broker.as_ref();
                    Some(self.start_node(ground, &footing.pki, &started, kafka, informers).await?)
                }
                None => None,
            };
            api = Some(started);
        }
        let console = match self.config.control_plane || broker.is_some() {
            true => Some(self.start_console(broker.as_ref()).await?),
            false => None,
        };
        Ok(Parts {
            store: footing.own,
            etcd,
            peer_url: footing.peer_url,
            api,
            control,
            broker,
            node,
            console,
        })
    }

    /// `up`: a store of one, or somebody else's etcd.
    async fn stand_alone(&self) -> Result<Footing> {
        let ground = node::Ground::prepare(&self.config, None).await?;
        let pki = pki::Pki::open(&self.config.data_dir.join("pki"), self.clock.unix_ms() / 1000)?;
        let (own, store) = self.start_store().await?;
        let etcd_port = self.config.etcd_port;
        let (peer_url, client_urls) = (None, Vec::new());
        Ok(Footing { ground, pki, own, store, etcd_port, _reserved: None, peer_url, client_urls })
    }

    /// `server`: a member of a replicated store.
    async fn stand_among(&self, peering: &Peering) -> Result<Footing> {
        let now_s = self.clock.unix_ms() / 1000;
        let member =
            member::Member::start(&self.config, peering, self.store_options(), now_s, &self.tasks).await?;
        member.led().await?;
        let handle = member.store;
        self.look_after(&handle);
        self.say("store", &format!("member {:x}, peers {}", handle.header().member_id, member.peer_url));
        let range = match node::is_possible(&self.config) {
            true => Some(
                claims::pod_range(&handle, self.config.pod_cidr, &self.config.node_name)
                    .await
                    .context("no part of the pods' range for this node")?,
            ),
            false => None,
        };
        let ground = match range {
            Some(range) => node::Ground::prepare(&self.config, Some(range)).await?,
            None => None,
        };
        Ok(Footing {
            ground,
            pki: member.pki,
            store: handle.shared(),
            own: Some(handle),
            etcd_port: member.etcd.as_ref().map(|etcd| etcd.port),
            _reserved: member.etcd,
            peer_url: Some(member.peer_url),
            client_urls: member.client_urls,
        })
    }

    fn store_options(&self) -> store::Options {
        let mut options = store::Options::new(self.config.data_dir.join("store"));
        options.cache_bytes = self.config.store_cache_bytes;
        options.quota_bytes = self.config.store_quota_bytes;
        options.auth = self.config.auth.clone();
        options
    }

    /// Our own store, or somebody else's etcd.
    async fn start_store(&self) -> Result<(Option<store::Handle>, Arc<dyn Store>)> {
        if let Some(external) = &self.config.external {
            return Ok((None, self.reach_etcd(external).await?));
        }
        let handle =
            store::Service::start(self.store_options(), &self.tasks).context("the store does not start")?;
        self.look_after(&handle);
        self.say("store", "durable by group commit");
        Ok((Some(handle.clone()), handle.shared()))
    }

    /// What happens to the store without anybody asking: compactions, snapshots.
    fn look_after(&self, store: &store::Handle) {
        if let Some(schedule) = self.config.snapshots.clone() {
            let saving = store.clone();
            self.tasks.spawn(TaskKind::Service, "store snapshots", async move {
                saving.save_always(schedule).await;
                Ok::<_, std::convert::Infallible>(())
            });
        }
        if let Some(retention) = self.config.retention {
            let compacting = store.clone();
            self.tasks.spawn(TaskKind::Service, "store compactor", async move {
                compacting.compact_always(retention).await;
                Ok::<_, std::convert::Infallible>(())
            });
        }
    }

    /// Controllers and scheduler: here, or where the servers agree on.
    fn start_control(&self, api: &apiserver::Handle, footing: &Footing, informers: Informers, tasks: &Tasks) {
        let clients = control::Clients {
            manager: self.client(api, "system:kube-controller-manager"),
            scheduler: self.client(api, "system:kube-scheduler"),
        };
        let options = control::Options { ca_pem: footing.pki.ca_pem().to_owned(), clock: self.clock.clone() };
        let own = footing.own.as_ref().filter(|_| self.config.peering.is_some());
        let Some(own) = own else {
            control::Service::start(options, clients, informers, tasks);
            return self.say("control", "controllers and scheduler");
        };
        let election = Election {
            client: self.client_for(api, UserInfo::new("system:ketch", &[identity::groups::MASTERS])),
            namespace: "kube-system",
            name: "ketch-control",
            identity: format!("{}_{:x}", self.config.node_name, own.header().member_id),
            clock: self.clock.clone(),
        };
        let leads = election.start(tasks);
        tasks.spawn(
            TaskKind::Service,
            "control",
            control_where_elected(options, clients, informers, leads, tasks.clone()),
        );
        self.say("control", "controllers and scheduler on one server at a time");
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
        footing: &Footing,
    ) -> Result<Option<store::door::Handle>> {
        let Some(port) = footing.etcd_port else { return Ok(None) };
        let (pki, gateway) = (&footing.pki, footing.gateway());
        pki.etcd_client()?;
        let mut addresses = vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from(std::net::Ipv6Addr::LOCALHOST)];
        addresses.extend(self.config.listen.iter().copied().chain(gateway).chain(self.config.node_ip));
        addresses.extend(self.config.peering.as_ref().map(|peering| peering.advertise));
        addresses.sort_unstable();
        addresses.dedup();
        let dns = vec!["localhost".to_owned(), self.config.node_name.clone()];
        let leaf = pki.etcd_server(&pki::Names { dns, addresses })?;
        let tls = Arc::new(pki.etcd_server_config(&leaf)?);
        let mut options = store::door::Options::new(self.addresses(port, gateway), Some(tls));
        options.advertise.clone_from(&footing.client_urls);
        options.cors.clone_from(&self.config.cors);
        let handle = store::door::Service::start(options, store.clone(), &self.tasks)
            .await
            .context("the etcd API does not start")?;
        if let Some(address) = handle.addrs().first() {
            self.say("etcd", &format!("{}, mutual TLS", files::https(*address)));
        }
        Ok(Some(handle))
    }

    async fn start_broker(&self, footing: &Footing) -> Result<Option<broker::Handle>> {
        if !self.config.broker || !self.runs_the_broker(footing).await? {
            return Ok(None);
        }
        let pods = footing.gateway().filter(|_| self.config.pod_kafka);
        let listen = self.addresses(self.config.kafka_port, pods);
        let mut options = broker::Options::new(self.config.data_dir.join("kafka"), listen);
        options.durability = match self.config.kafka_durability {
            Durability::Fsync => broker::Durability::Fsync,
            Durability::PageCache => broker::Durability::PageCache,
        };
        options.properties.clone_from(&self.config.kafka_properties);
        let dirs: Vec<_> = self.config.kafka_log_dirs.iter().map(|dir| dir.display().to_string()).collect();
        if !dirs.is_empty() {
            options.properties.insert("log.dirs".to_owned(), dirs.join(","));
        }
        let (store, tasks) = (footing.store.clone(), self.tasks.clone());
        let starting =
            self.runtimes.broker.spawn(async move { broker::Service::start(options, store, &tasks).await });
        let handle = starting.await?.context("the broker does not start")?;
        let kind = self.config.kafka_durability.name();
        let text = status::durability_text(kind);
        self.say("broker", &format!("{}, durability {kind}: {text}", handle.addr()));
        Ok(Some(handle))
    }

    /// One member runs the broker: the first that could, whose directory has its data since.
    async fn runs_the_broker(&self, footing: &Footing) -> Result<bool> {
        let (Some(peering), Some(own)) = (&self.config.peering, &footing.own) else { return Ok(true) };
        let id = format!("{:x}", own.header().member_id);
        let is_member = |id| own.members().iter().any(|member| member.id == id);
        let holder = claims::broker(own, &format!("{id} {}", peering.name), is_member).await?;
        let (holder_id, name) = holder.split_once(' ').unwrap_or((&holder, ""));
        if holder_id != id {
            println!("broker   on member {holder_id} ({name})");
        }
        Ok(holder_id == id)
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
        addresses.extend(config.peering.as_ref().map(|peering| peering.advertise));
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
            advertise: self.reachable().or(gateway),
            shared_store: self.config.peering.is_some() || self.config.external.is_some(),
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

    /// The address at which other hosts reach this server.
    fn reachable(&self) -> Option<IpAddr> {
        self.config.peering.as_ref().map(|peering| peering.advertise).filter(|ip| !ip.is_loopback())
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
            api: parts.api.as_ref().and_then(apiserver::Handle::addr).map(files::https).unwrap_or_default(),
            etcd: parts.etcd.as_ref().and_then(|e| e.addrs().first()).copied().map(files::https),
            kafka: parts.broker.as_ref().map(|b| b.addr().to_string()),
            peer: parts.peer_url.clone(),
            console: parts.console.map(|console| format!("http://{console}")),
            kafka_durability: parts.broker.as_ref().map(|_| self.config.kafka_durability.name().to_owned()),
            kubelet: parts.node.as_ref().and_then(node::Node::kubelet_addr).map(files::https),
            pid: std::process::id(),
        };
        endpoints.write(&self.config.data_dir)?;
        println!("ready in {:.2}s", self.start.elapsed().as_secs_f64());
        self.suggest(&endpoints);
        Ok(())
    }

    fn suggest(&self, endpoints: &Endpoints) {
        let dir = self.config.data_dir.display();
        let known = [
            ("Kubernetes", self.config.control_plane.then_some(&endpoints.api)),
            ("Kafka", endpoints.kafka.as_ref()),
            ("etcd", endpoints.etcd.as_ref().filter(|_| endpoints.peer.is_some())),
            ("peers", endpoints.peer.as_ref()),
        ];
        for (name, address) in known {
            if let Some(address) = address {
                println!("  {name:<11} {address}");
            }
        }
        println!("try:");
        if self.config.control_plane {
            println!("  export KUBECONFIG={}", self.kubeconfig().display());
            println!("  kubectl get nodes");
        }
        match (&endpoints.peer, &endpoints.kafka) {
            (Some(_), _) => {
                println!("  ketch store members --data-dir {dir}");
                println!("  ketch token create --data-dir {dir}");
            }
            (None, Some(kafka)) => println!("  kcat -b {kafka} -L"),
            (None, None) => println!("  kubectl get namespaces"),
        }
    }

    /// Stops the parts in the order in which they lean on each other; containers stay.
    async fn land(&self, parts: Parts) {
        Endpoints::remove(&self.config.data_dir);
        let running = parts.node.as_ref().map(node::Node::containers);
        if let Some(broker) = &parts.broker {
            let _ = tokio::time::timeout(STOP_WITHIN, broker.shutdown()).await;
        }
        // While the API still answers, so that another server can take over at once.
        if !parts.control.shutdown(STOP_WITHIN).await {
            tracing::warn!("some controllers did not stop in time");
        }
        if let (Some(store), Some(_)) = (&parts.store, &self.config.peering) {
            member::hand_over(store).await;
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

/// Runs controllers and scheduler while this server leads.
async fn control_where_elected(
    options: control::Options,
    clients: control::Clients,
    informers: Informers,
    mut leads: watch::Receiver<bool>,
    tasks: Tasks,
) -> Result<(), std::convert::Infallible> {
    // The election ends with the tasks, and nothing leads any more.
    while leads.wait_for(|leads| *leads).await.is_ok() {
        let reign = tasks.child();
        control::Service::start(options.clone(), clients.clone(), informers.clone(), &reign);
        let _ = leads.wait_for(|leads| !*leads).await;
        reign.shutdown(STOP_WITHIN).await;
    }
    Ok(())
}
