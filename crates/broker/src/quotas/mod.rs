//! Client quotas: what of the network, of the broker's time, of new connections and of changed partitions a client may have
//! a second.
//!
//! ```text
//! store  /ketch/kafka/quotas/{"client-id":"c","user":null} = {"producer_byte_rate":1048576.0}
//!   │                                                         null: all that have no quota of their own
//!   └ Entries (alter, watch) ──apply──▶ current, what is known of clients is looked up anew
//! request ─▶ record ─▶ over the limit? ─▶ throttle_time_ms in the answer, the connection is read again after that time
//! ```
//! Who has the same quota by the same rule shares it, as in Kafka: clients of a user whose quota is the user's, connections
//! of one client id.

mod entity;
mod mutations;
mod rate;
pub(crate) mod throttle;

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use store_api::{Revision, Store};

use crate::catalog::Refusal;
use crate::config::Server;
use crate::entries::{All, Entries, Stored};
use crate::follow::Follower;
use entity::{CLIENT_ID, CONNECTION_CREATION_RATE, IP, USER};
use mutations::Bucket;
use rate::{Rate, Windows};

pub(crate) use entity::{Entity, Limits};
pub(crate) use mutations::Mutations;

/// Prefix of the keys.
const QUOTAS: &str = "/ketch/kafka/quotas/";
/// The most users and client ids that are known at a time: who comes with ever new ones gets no further.
const KNOWN_MAX: usize = 10_000;
/// Who a client is that did not say: nobody says on a listener without authentication.
pub(crate) const ANONYMOUS: &str = "ANONYMOUS";

/// What is limited by user and client id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Bytes of produce requests.
    Produce,
    /// Bytes of fetches' answers.
    Fetch,
    /// The broker's time, in percent of one thread.
    Request,
    /// Partitions that are made and removed.
    Mutation,
}

impl Kind {
    fn key(self) -> &'static str {
        match self {
            Self::Produce => entity::PRODUCER_BYTE_RATE,
            Self::Fetch => entity::CONSUMER_BYTE_RATE,
            Self::Request => entity::REQUEST_PERCENTAGE,
            Self::Mutation => entity::CONTROLLER_MUTATION_RATE,
        }
    }
}

/// A client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Who {
    pub user: &'static str,
    pub client_id: String,
}

/// Who shares a quota: the kind, the user and the client id as far as the quota tells them apart.
type Share = (Kind, &'static str, String);

/// What a client may use, with what it shares it with.
type Allowed = Option<(f64, Arc<Mutex<Rate>>)>;

/// The quotas.
pub(crate) struct Quotas {
    windows: Windows,
    mutation_windows: Windows,
    entries: Entries<Entity, f64>,
    /// Whether there is any for requests of users or client ids, any for what they change, and any for addresses: the rest
    /// costs a look at these.
    limits_clients: AtomicBool,
    limits_mutations: AtomicBool,
    limits_addresses: AtomicBool,
    shares: Mutex<HashMap<Share, Arc<Mutex<Rate>>>>,
    buckets: Mutex<HashMap<Share, Bucket>>,
    addresses: Mutex<HashMap<IpAddr, Rate>>,
}

impl Quotas {
    pub(crate) fn new(store: Arc<dyn Store>, server: &Server) -> Arc<Self> {
        let windows = |of: &str| Windows {
            count: server.number(&format!("{of}.window.num")).max(1),
            size_ms: server.number(&format!("{of}.window.size.seconds")).max(1).saturating_mul(1000),
        };
        Arc::new(Self {
            windows: windows("quota"),
            mutation_windows: windows("controller.quota"),
            entries: Entries::new(store),
            limits_clients: AtomicBool::new(false),
            limits_mutations: AtomicBool::new(false),
            limits_addresses: AtomicBool::new(false),
            shares: Mutex::default(),
            buckets: Mutex::default(),
            addresses: Mutex::default(),
        })
    }

    /// Whether any client's use is limited.
    pub(crate) fn limits_clients(&self) -> bool {
        self.limits_clients.load(Ordering::Acquire)
    }

    /// Every entity with its limits.
    pub(crate) fn all(&self) -> Vec<(Entity, Arc<Limits>)> {
        let current = self.entries.current();
        let with = current.iter().filter(|(_, stored)| !stored.values.is_empty());
        with.map(|(entity, stored)| (entity.clone(), stored.values.clone())).collect()
    }

    /// The limit that a client has, and who shares it. Kafka's order: the more a quota says, the earlier it counts.
    fn limit(&self, kind: Kind, who: &Who) -> Option<(f64, Share)> {
        let current = self.entries.current();
        let (user, client) = (Some(Some(who.user)), Some(Some(&*who.client_id)));
        let (default, none) = (Some(None), None);
        let rules = [
            (user, client),
            (user, default),
            (user, none),
            (default, client),
            (default, default),
            (default, none),
            (none, client),
            (none, default),
        ];
        rules.into_iter().find_map(|(user, client)| {
            let named = |kind: &str, name: Option<&str>| (kind.to_owned(), name.map(str::to_owned));
            let parts = [user.map(|name| named(USER, name)), client.map(|name| named(CLIENT_ID, name))];
            let entity: Entity = parts.into_iter().flatten().collect();
            let limit = *current.get(&entity)?.values.get(kind.key())?;
            let shared_user = if user.is_some() { who.user } else { "" };
            let shared_client = if client.is_some() { who.client_id.clone() } else { String::new() };
            Some((limit, (kind, shared_user, shared_client)))
        })
    }

    fn allowed(&self, kind: Kind, who: &Who, now_ms: i64) -> Allowed {
        let (limit, share) = self.limit(kind, who)?;
        let mut shares = self.shares.lock();
        make_room(&mut shares, &share, |rate| rate.lock().is_idle(now_ms));
        let rate = shares.entry(share).or_insert_with(|| Arc::new(Mutex::new(Rate::new(self.windows))));
        Some((limit, rate.clone()))
    }

    /// Counts a use; how long the client must pause then, milliseconds.
    pub(crate) fn record(&self, kind: Kind, who: &Who, value: f64, now_ms: i64) -> i64 {
        let Some((limit, rate)) = self.allowed(kind, who, now_ms) else { return 0 };
        let mut rate = rate.lock();
        rate.record(value, now_ms);
        let pause_ms = rate.pause_ms(limit, now_ms);
        // A client that takes too much of the broker's time pauses a window at most.
        if kind == Kind::Request { pause_ms.min(self.windows.size_ms) } else { pause_ms }
    }

    /// Takes back a use that was not to be.
    pub(crate) fn unrecord(&self, kind: Kind, who: &Who, value: f64, now_ms: i64) {
        if let Some((_, rate)) = self.allowed(kind, who, now_ms) {
            rate.lock().record(-value, now_ms);
        }
    }

    /// What a request of a client may change; `strict` where its answer can refuse. A look, where nobody is limited.
    pub(crate) fn mutations(self: &Arc<Self>, who: impl FnOnce() -> Who, strict: bool) -> Mutations {
        match self.limits_mutations.load(Ordering::Acquire) {
            true => Mutations::limited(self.clone(), who(), strict),
            false => Mutations::unlimited(),
        }
    }

    /// Counts changed partitions; see [`Bucket::take`].
    fn mutate(&self, who: &Who, partitions: f64, strict: bool, now_ms: i64) -> i64 {
        let Some((limit, share)) = self.limit(Kind::Mutation, who) else { return 0 };
        let mut buckets = self.buckets.lock();
        make_room(&mut buckets, &share, |bucket| bucket.is_full(now_ms));
        let bucket = buckets.entry(share).or_insert_with(|| Bucket::new(self.mutation_windows));
        bucket.take(partitions, limit, strict, now_ms)
    }

    /// The most that an answer may have so that a client gets it at all (`getMaxValueInQuotaWindow`).
    pub(crate) fn fetch_bytes_max(&self, who: &Who) -> usize {
        let Some((limit, _)) = self.limit(Kind::Fetch, who) else { return usize::MAX };
        let seconds = (self.windows.count - 1).saturating_mul(self.windows.size_ms) as f64 / 1000.0;
        (limit * seconds) as usize
    }

    /// Counts a new connection from an address; how long it must be kept waiting before it is closed, where there are too
    /// many.
    pub(crate) fn connected(&self, address: IpAddr, now_ms: i64) -> Option<Duration> {
        if !self.limits_addresses.load(Ordering::Acquire) {
            return None;
        }
        let limit = self.address_limit(address)?;
        let mut addresses = self.addresses.lock();
        make_room(&mut addresses, &address, |rate| rate.is_idle(now_ms));
        let rate = addresses.entry(address).or_insert_with(|| Rate::new(self.windows));
        rate.record(1.0, now_ms);
        let pause_ms = rate.pause_ms(limit, now_ms).min(self.windows.size_ms);
        if pause_ms <= 0 {
            return None;
        }
        // It does not come in, so it does not count.
        rate.record(-1.0, now_ms);
        Some(Duration::from_millis(pause_ms as u64))
    }

    fn address_limit(&self, address: IpAddr) -> Option<f64> {
        let current = self.entries.current();
        // An address has many spellings.
        let own = current.iter().find(|(entity, _)| {
            let name = entity.get(IP).and_then(Option::as_ref);
            name.and_then(|name| name.parse::<IpAddr>().ok()).is_some_and(|ip| ip.to_canonical() == address)
        });
        let limit = |stored: &Stored<f64>| stored.values.get(CONNECTION_CREATION_RATE).copied();
        let default = || current.get(&Entity::from([(IP.to_owned(), None)])).and_then(limit);
        own.and_then(|(_, stored)| limit(stored)).or_else(default)
    }

    /// Changes limits of an entity (None removes one); in force when this returns.
    pub(crate) async fn alter(
        &self,
        entity: &Entity,
        changes: &BTreeMap<String, Option<f64>>,
        validate_only: bool,
    ) -> Result<(), Refusal> {
        entity::check(entity)?;
        for (key, value) in changes {
            value.map_or(Ok(()), |value| entity::check_limit(entity, key, value))?;
        }
        let change = |old: &Limits| {
            let mut new = old.clone();
            for (key, value) in changes {
                match value {
                    Some(value) => drop(new.insert(key.clone(), *value)),
                    None => drop(new.remove(key)),
                }
            }
            Ok(new)
        };
        self.entries.alter(entity, change, validate_only, |_, all| self.tell(all)).await
    }

    /// Brings memory to what the store holds; the revision read.
    pub(crate) async fn load(&self) -> Result<Revision, store_api::Error> {
        self.entries.load(|all| self.tell(all)).await
    }

    /// Notes what there are limits for.
    fn tell(&self, all: &All<Entity, f64>) {
        let limiting = all.iter().filter(|(_, stored)| !stored.values.is_empty());
        let addresses = limiting.clone().any(|(entity, _)| entity.contains_key(IP));
        let any = |kinds: &[Kind]| {
            let one =
                |(_, stored): (_, &Stored<f64>)| kinds.iter().any(|k| stored.values.contains_key(k.key()));
            limiting.clone().any(one)
        };
        let (clients, mutations) =
            (any(&[Kind::Produce, Kind::Fetch, Kind::Request]), any(&[Kind::Mutation]));
        self.limits_addresses.store(addresses, Ordering::Release);
        self.limits_clients.store(clients, Ordering::Release);
        self.limits_mutations.store(mutations, Ordering::Release);
    }
}

/// Makes room for one more that is not known yet: those that are as new are forgotten, and all where that is not enough.
fn make_room<K: Eq + Hash, V>(known: &mut HashMap<K, V>, more: &K, mut is_new: impl FnMut(&mut V) -> bool) {
    if known.len() >= KNOWN_MAX && !known.contains_key(more) {
        known.retain(|_, one| !is_new(one));
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
    }
}

impl Follower for Quotas {
    fn prefix(&self) -> &'static str {
        QUOTAS
    }

    fn event(&self, event: &store_api::Event) {
        self.entries.event(event, |_, all| self.tell(all));
    }

    fn reload(&self) -> store_api::Future_<'_, Revision> {
        Box::pin(self.load())
    }
}

/// Checks one limit with whom it is for.
pub(crate) fn check(entity: &Entity, key: &str, value: f64) -> Result<(), Refusal> {
    entity::check(entity)?;
    entity::check_limit(entity, key, value)
}

#[cfg(test)]
mod tests {
    use kafka_wire::ErrorCode;

    use super::*;
    use crate::config::Values;

    fn quotas() -> Arc<Quotas> {
        let server = Server::new(Values::new()).unwrap();
        Quotas::new(testkit::MemStore::shared(), &server)
    }

    fn entity(parts: &[(&str, Option<&str>)]) -> Entity {
        parts.iter().map(|(kind, name)| ((*kind).to_owned(), name.map(str::to_owned))).collect()
    }

    fn who(client_id: &str) -> Who {
        Who { user: ANONYMOUS, client_id: client_id.to_owned() }
    }

    async fn set(quotas: &Quotas, parts: &[(&str, Option<&str>)], key: &str, value: Option<f64>) {
        let changes = BTreeMap::from([(key.to_owned(), value)]);
        quotas.alter(&entity(parts), &changes, false).await.unwrap();
    }

    /// From the weakest rule to the strongest: each comes before all that were there.
    #[tokio::test]
    async fn the_more_a_quota_says_the_earlier_it_counts() {
        let quotas = quotas();
        assert!(!quotas.limits_clients());
        let (user, client) = (Some(ANONYMOUS), Some("c"));
        let rules: [&[(&str, Option<&str>)]; 8] = [
            &[("client-id", None)],
            &[("client-id", client)],
            &[("user", None)],
            &[("user", None), ("client-id", None)],
            &[("user", None), ("client-id", client)],
            &[("user", user)],
            &[("user", user), ("client-id", None)],
            &[("user", user), ("client-id", client)],
        ];
        for (n, rule) in rules.into_iter().enumerate() {
            let limit = 1.0 + n as f64;
            set(&quotas, rule, "producer_byte_rate", Some(limit)).await;
            assert_eq!(quotas.limit(Kind::Produce, &who("c")).unwrap().0, limit, "{rule:?}");
            assert_eq!(quotas.limit(Kind::Fetch, &who("c")), None);
        }
        assert!(quotas.limits_clients());
        assert_eq!(quotas.limit(Kind::Produce, &who("other")).unwrap().0, 7.0);
        for rule in rules {
            set(&quotas, rule, "producer_byte_rate", None).await;
        }
        assert!(!quotas.limits_clients() && quotas.all().is_empty());
    }

    #[tokio::test]
    async fn who_shares_what() {
        let quotas = quotas();
        set(&quotas, &[("client-id", None)], "producer_byte_rate", Some(100.0)).await;
        let produce = |id: &str, bytes| quotas.record(Kind::Produce, &who(id), bytes, 0);
        // Every client id has its own.
        assert_eq!((produce("a", 2000.0), produce("b", 900.0)), (10_000, 0));
        // All of a user's share the user's.
        set(&quotas, &[("user", Some(ANONYMOUS))], "producer_byte_rate", Some(100.0)).await;
        assert_eq!((produce("a", 900.0), produce("b", 1100.0)), (0, 10_000));
        quotas.unrecord(Kind::Produce, &who("x"), 1100.0, 0);
        assert_eq!(produce("a", 0.0), 0);
        set(&quotas, &[("user", None)], "request_percentage", Some(1.0)).await;
        assert_eq!(quotas.record(Kind::Request, &who("a"), 1e9, 0), 1000);
        assert_eq!(quotas.fetch_bytes_max(&who("a")), usize::MAX);
        set(&quotas, &[("user", None)], "consumer_byte_rate", Some(50.0)).await;
        assert_eq!(quotas.fetch_bytes_max(&who("a")), 500);
        // Ever new client ids do not grow the memory for ever.
        set(&quotas, &[("user", Some(ANONYMOUS))], "producer_byte_rate", None).await;
        (0..2 * KNOWN_MAX).for_each(|n| assert_eq!(produce(&n.to_string(), 1.0), 0));
        assert!(quotas.shares.lock().len() <= KNOWN_MAX);
    }

    #[tokio::test]
    async fn addresses() {
        let quotas = quotas();
        let (one, two) = ([127, 0, 0, 1].into(), [10, 0, 0, 1].into());
        assert_eq!(quotas.connected(one, 0), None);
        set(&quotas, &[("ip", None)], "connection_creation_rate", Some(1.0)).await;
        set(&quotas, &[("ip", Some("127.0.0.1"))], "connection_creation_rate", Some(100.0)).await;
        let most = |address| (0..2000).take_while(|_| quotas.connected(address, 0).is_none()).count();
        assert_eq!((most(one), most(two)), (1000, 10));
        assert!(quotas.connected(two, 5_000).is_some() && quotas.connected(two, 20_000).is_none());
    }

    #[tokio::test]
    async fn changes_of_partitions() {
        let quotas = quotas();
        let name = || who("c");
        quotas.mutations(|| unreachable!("nobody is limited"), true).take(usize::MAX, 0).unwrap();
        set(&quotas, &[("client-id", None)], "controller_mutation_rate", Some(2.0)).await;
        assert!(!quotas.limits_clients(), "what else is asked costs nothing more");
        // Eleven windows of a second, two each: 22 at once, and what comes with them.
        let mut request = quotas.mutations(name, true);
        request.take(20, 0).unwrap();
        request.take(6, 0).unwrap();
        assert_eq!(request.pause_ms(0), 0);
        assert_eq!(request.take(1, 0).unwrap_err().code, ErrorCode::ThrottlingQuotaExceeded);
        assert_eq!((request.pause_ms(0), request.pause_ms(1_500), request.pause_ms(9_000)), (2_000, 500, 0));
        // An older version is served, and told to pause.
        let mut older = quotas.mutations(name, false);
        older.take(2, 1_000).unwrap();
        assert_eq!(older.pause_ms(1_000), 2_000);
        quotas.mutations(|| who("other"), true).take(22, 1_000).unwrap();
        quotas.mutations(name, true).take(1, 3_000).unwrap();
        set(&quotas, &[("client-id", None)], "controller_mutation_rate", None).await;
        quotas.mutations(name, true).take(1_000, 3_000).unwrap();
    }

    #[tokio::test]
    async fn what_is_stored_comes_back() {
        let store = testkit::MemStore::shared();
        let server = Server::new(Values::new()).unwrap();
        let first = Quotas::new(store.clone(), &server);
        set(&first, &[("user", None), ("client-id", Some("ü \"x\""))], "consumer_byte_rate", Some(7.0)).await;
        let second = Quotas::new(store, &server);
        second.load().await.unwrap();
        assert_eq!(second.all(), first.all());
        // Each knows what it read last: who changes an older state reads anew and changes that.
        set(&first, &[("user", None)], "consumer_byte_rate", Some(8.0)).await;
        set(&second, &[("user", None)], "producer_byte_rate", Some(9.0)).await;
        let both = Limits::from([("consumer_byte_rate".into(), 8.0), ("producer_byte_rate".into(), 9.0)]);
        let found = second.all().into_iter().find(|(of, _)| *of == entity(&[("user", None)])).unwrap();
        assert_eq!(*found.1, both);
    }
}
