//! `/metrics` in Prometheus' text form, under etcd's names.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http::header::{self, HeaderValue};
use http_body::Frame;
use http_body_util::Full;
use parking_lot::{Mutex, RwLock};
use store_api::Store as _;
use tonic::body::Body;
use tonic::{Code, Status};

use super::grpc::{Heads, Messages};
use super::maintenance::{CLUSTER_VERSION, ETCD_VERSION};
use super::{Door, hot};
use crate::raft::peers::Moves;
use crate::stats::{Compactions, Histogram, SLOW, Stats};

/// A number that rises.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that rises and falls.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicI64);

impl Gauge {
    pub(crate) fn change(&self, by: i64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What there is of watches.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    pub streams: Gauge,
    pub watchers: Gauge,
    /// Of those, the ones that read history.
    pub slow: Gauge,
    /// Events sent to them.
    pub events: Counter,
}

/// Codes of gRPC there are.
const CODES: usize = 17;

/// What is counted of one method.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    started: Counter,
    /// Messages, from and to clients.
    pub received: Counter,
    pub sent: Counter,
    handled: [Counter; CODES],
}

/// By probe and check: the last result, and how often it passed and failed.
type Checks = BTreeMap<(&'static str, &'static str), (bool, u64, u64)>;

/// Versions are the clients' to choose: beyond so many they are unknown.
const VERSIONS_MAX: usize = 32;
const UNKNOWN_VERSION: &str = "unknown";

/// Calls of a version, by their kinds.
#[derive(Debug, Default)]
struct Kinds {
    unary: Counter,
    stream: Counter,
}

/// Calls by the version that clients say they speak. Every call looks its version up: a walk along those that came
/// before, which takes no lock and makes nothing, since few are ever in use.
#[derive(Debug, Default)]
struct Asked {
    unknown: Kinds,
    /// In the order they came; the first empty place is the end.
    versions: [OnceLock<(Box<str>, Kinds)>; VERSIONS_MAX],
}

impl Asked {
    fn of(&self, version: &str) -> &Kinds {
        if version == UNKNOWN_VERSION {
            return &self.unknown;
        }
        let new = || (version.into(), Kinds::default());
        let mut places = self.versions.iter().map(|place| place.get_or_init(new));
        places.find(|(known, _)| **known == *version).map_or(&self.unknown, |(_, kinds)| kinds)
    }

    /// All of them, by name.
    fn all(&self) -> BTreeMap<&str, &Kinds> {
        let known = self.versions.iter().map_while(OnceLock::get);
        known.map(|(version, kinds)| (&**version, kinds)).chain([(UNKNOWN_VERSION, &self.unknown)]).collect()
    }
}

/// What the door counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    received_bytes: Counter,
    sent_bytes: Counter,
    asked: Asked,
    /// Ranges that were answered, and those that were refused.
    ranges: Histogram,
    refused_ranges: Histogram,
    slow_ranges: Counter,
    pub hashes: Histogram,
    pub history_hashes: Histogram,
    pub snapshots: Histogram,
    pub defragments: Histogram,
    pub defragmenting: Gauge,
    pub health_success: Counter,
    pub health_failures: Counter,
    pub watch: Watches,
    /// Of the methods that take the short way.
    hot: [Arc<Calls>; hot::Method::ALL.len()],
    /// By path, those among them. Only methods that are served get in, so the number is bounded.
    calls: RwLock<BTreeMap<String, Arc<Calls>>>,
    /// Probe and check: the last result, and how often each.
    checks: Mutex<Checks>,
}

impl Default for Metrics {
    /// With etcd's buckets.
    fn default() -> Self {
        let hot = hot::Method::ALL.map(|_| Arc::<Calls>::default());
        let paths = hot::Method::ALL.map(|method| method.path().to_owned());
        let calls = RwLock::new(paths.into_iter().zip(hot.clone()).collect());
        Self {
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
            asked: Asked::default(),
            ranges: Histogram::new(0.0001, 20),
            refused_ranges: Histogram::new(0.0001, 20),
            slow_ranges: Counter::default(),
            hashes: Histogram::new(0.01, 15),
            history_hashes: Histogram::new(0.01, 15),
            snapshots: Histogram::new(0.01, 17),
            defragments: Histogram::new(0.1, 13),
            defragmenting: Gauge::default(),
            health_success: Counter::default(),
            health_failures: Counter::default(),
            watch: Watches::default(),
            hot,
            calls,
            checks: Mutex::default(),
        }
    }
}

impl Metrics {
    /// The counts of a method.
    fn calls(&self, path: &str) -> Arc<Calls> {
        if let Some(calls) = self.calls.read().get(path) {
            return calls.clone();
        }
        self.calls.write().entry(path.to_owned()).or_default().clone()
    }

    /// Bytes of a client's message came.
    pub(crate) fn received(&self, bytes: usize) {
        self.received_bytes.add(bytes as u64);
    }

    /// Bytes of a message went to a client.
    pub(super) fn sent(&self, bytes: usize) {
        self.sent_bytes.add(bytes as u64);
    }

    /// A client asks something, by a call of this kind.
    pub(super) fn asked(&self, headers: &http::HeaderMap, kind: &'static str) {
        let version = headers.get("client-api-version").and_then(|value| value.to_str().ok());
        let kinds = self.asked.of(version.unwrap_or(UNKNOWN_VERSION));
        if kind == "unary" { &kinds.unary } else { &kinds.stream }.add(1);
    }

    /// A range is read; how long it takes.
    pub(super) async fn ranged<T, E>(&self, read: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let began = std::time::Instant::now();
        let done = read.await;
        let histogram = if done.is_ok() { &self.ranges } else { &self.refused_ranges };
        let took = began.elapsed();
        histogram.observe(took);
        if took > SLOW {
            self.slow_ranges.add(1);
        }
        done
    }

    /// A call of this method came, with its one message.
    pub(super) fn begun(&self, method: hot::Method) -> &Calls {
        let calls = &self.hot[method as usize];
        calls.started.add(1);
        calls.received.add(1);
        calls
    }

    /// A call was answered by a method that there is: counts it, its answer and its end.
    pub(super) fn follow(
        self: &Arc<Self>,
        path: &str,
        response: Response<Body>,
        messages: Arc<Messages>,
    ) -> Response<Body> {
        let calls = self.calls(path);
        calls.started.add(1);
        calls.received.add(messages.take());
        if let Some(code) = response.headers().get(Status::GRPC_STATUS) {
            calls.ended(Code::from_bytes(code.as_bytes()));
            return response;
        }
        let metrics = self.clone();
        response.map(|body| {
            let heads = Heads::default();
            Body::new(Followed { body, metrics, calls, messages, heads, ended: false })
        })
    }

    /// A probe looked at something.
    pub(crate) fn checked(&self, probe: &'static str, check: &'static str, well: bool) {
        let mut checks = self.checks.lock();
        let (last, good, bad) = checks.entry((probe, check)).or_default();
        *last = well;
        *if well { good } else { bad } += 1;
    }
}

impl Calls {
    /// A call ended like this.
    pub(super) fn ended(&self, code: Code) {
        if let Some(counter) = usize::try_from(i32::from(code)).ok().and_then(|code| self.handled.get(code)) {
            counter.add(1);
        }
    }
}

/// An answer that is counted on its way.
struct Followed {
    body: Body,
    metrics: Arc<Metrics>,
    calls: Arc<Calls>,
    /// What comes meanwhile.
    messages: Arc<Messages>,
    heads: Heads,
    ended: bool,
}

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.calls.received.add(self.messages.take());
        let frame = ready!(frame);
        if let Some(Ok(frame)) = &frame {
            if let Some(data) = frame.data_ref() {
                self.metrics.sent_bytes.add(data.len() as u64);
                let Self { heads, calls, .. } = &mut *self;
                let counted = heads.follow(data, |_| {
                    calls.sent.add(1);
                    Ok::<_, std::convert::Infallible>(())
                });
                let Ok(()) = counted;
            }
            let code = frame.trailers_ref().and_then(|trailers| trailers.get(Status::GRPC_STATUS));
            if let Some(code) = code {
                self.ended = true;
                self.calls.ended(Code::from_bytes(code.as_bytes()));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.calls.received.add(self.messages.take());
        if !self.ended {
            self.calls.ended(Code::Cancelled);
        }
    }
}

/// A page under construction.
#[derive(Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = match labels.is_empty() {
            true => writeln!(self.0, "{name} {value}"),
            false => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }

    /// A name with one sample, without labels.
    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, kind, help);
        self.sample(name, "", value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.single(name, "gauge", help, value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.single(name, "counter", help, value);
    }
}

impl Page {
    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        self.buckets(name, "", histogram);
    }

    /// The samples of a histogram, with labels.
    fn buckets(&mut self, name: &str, labels: &str, histogram: &Histogram) {
        let comma = if labels.is_empty() { "" } else { "," };
        let bucket = format!("{name}_bucket");
        for (bound, count) in histogram.cumulative() {
            self.sample(&bucket, &format!("{labels}{comma}le=\"{bound}\""), count);
        }
        self.sample(&bucket, &format!("{labels}{comma}le=\"+Inf\""), histogram.count());
        self.sample(&format!("{name}_sum"), labels, histogram.sum());
        self.sample(&format!("{name}_count"), labels, histogram.count());
    }
}

/// The page.
pub(super) async fn page(door: &Door) -> Response<Body> {
    let mut page = Page::default();
    server(&mut page, door);
    sizes(&mut page, door).await;
    store(&mut page, door);
    applies(&mut page, door);
    compactions(&mut page, &door.store.inner.reads.db.stats.compactions);
    leases(&mut page, door);
    watches(&mut page, &door.metrics.watch);
    reads(&mut page, &door.metrics);
    upkeep(&mut page, &door.metrics);
    calls(&mut page, &door.metrics);
    process(&mut page);
    let mut response = Response::new(Body::new(Full::new(Bytes::from(page.0))));
    let content = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, content);
    response
}

fn server(page: &mut Page, door: &Door) {
    let header = door.store.header();
    let leader = *door.store.leader_changes().borrow();
    page.gauge(
        "etcd_server_has_leader",
        "1 while this member knows a leader, else 0.",
        u8::from(leader.is_some()),
    );
    let leads = u8::from(leader == Some(header.member_id));
    page.gauge("etcd_server_is_leader", "1 while this member leads, else 0.", leads);
    if let Ok(status) = door.store.status() {
        page.gauge(
            "etcd_server_is_learner",
            "1 while this member only learns, else 0.",
            u8::from(status.is_learner),
        );
        page.gauge("etcd_server_proposals_committed_total", "The last entry committed.", status.raft_index);
        page.gauge(
            "etcd_server_proposals_applied_total",
            "The last entry applied.",
            status.raft_applied_index,
        );
    }
    let stats = &door.store.inner.reads.db.stats;
    proposals(page, stats);
    peers(page, door);
    page.head("etcd_server_version", "gauge", "The version of the API in the label, with value 1.");
    page.sample("etcd_server_version", &format!("server_version=\"{ETCD_VERSION}\""), 1);
    page.head("etcd_cluster_version", "gauge", "The version all members speak in the label, with value 1.");
    page.sample("etcd_cluster_version", &format!("cluster_version=\"{CLUSTER_VERSION}\""), 1);
    page.head("etcd_server_id", "gauge", "The member's id in the label, with value 1.");
    page.sample("etcd_server_id", &format!("server_id=\"{:x}\"", header.member_id), 1);
    page.counter("etcd_server_health_success", "Health checks passed.", door.metrics.health_success.get());
    page.counter("etcd_server_health_failures", "Health checks failed.", door.metrics.health_failures.get());
    checks(page, &door.metrics);
}

/// What becomes of changes and reads between the members.
fn proposals(page: &mut Page, stats: &Stats) {
    for (name, kind, help, count) in [
        (
            "etcd_server_leader_changes_seen_total",
            "counter",
            "How often another member came to lead.",
            &stats.leader_changes,
        ),
        (
            "etcd_server_proposals_pending",
            "gauge",
            "Changes that wait for the log.",
            &stats.proposals_pending,
        ),
        (
            "etcd_server_proposals_failed_total",
            "counter",
            "Changes that did not get into the log.",
            &stats.proposals_failed,
        ),
        (
            "etcd_server_read_indexes_failed_total",
            "counter",
            "Times no leader said how far reads must be.",
            &stats.read_indexes_failed,
        ),
        (
            "etcd_server_heartbeat_send_failures_total",
            "counter",
            "Heartbeats that went out late.",
            &stats.late_heartbeats,
        ),
        (
            "etcd_server_learner_promote_successes",
            "counter",
            "Learners that were made voters by this member as the leader.",
            &stats.promotions,
        ),
        (
            "etcd_server_slow_read_indexes_total",
            "counter",
            "Times it took long until reads might be served.",
            &stats.slow_read_indexes,
        ),
        (
            "etcd_server_snapshot_apply_in_progress_total",
            "gauge",
            "States from the leader that are being taken over.",
            &stats.installing,
        ),
    ] {
        page.single(name, kind, help, count.load(Ordering::Relaxed));
    }
    let failed = stats.promotions_failed.lock();
    if !failed.is_empty() {
        let name = "etcd_server_learner_promote_failures";
        page.head(name, "counter", "Learners that were not made voters by this member as the leader.");
        failed.iter().for_each(|(reason, count)| page.sample(name, &format!("Reason={reason:?}"), count));
    }
}

fn checks(page: &mut Page, metrics: &Metrics) {
    let checks = metrics.checks.lock();
    if checks.is_empty() {
        return;
    }
    page.head("etcd_server_healthcheck", "gauge", "The last result of each check, 1 when it passed.");
    for ((probe, check), (last, ..)) in checks.iter() {
        let labels = format!("name=\"{check}\",type=\"{probe}\"");
        page.sample("etcd_server_healthcheck", &labels, u8::from(*last));
    }
    page.head("etcd_server_healthchecks_total", "counter", "Checks made, by their results.");
    for ((probe, check), (_, good, bad)) in checks.iter() {
        for (count, status) in [(good, "success"), (bad, "error")] {
            if *count > 0 {
                let labels = format!("name=\"{check}\",status=\"{status}\",type=\"{probe}\"");
                page.sample("etcd_server_healthchecks_total", &labels, count);
            }
        }
    }
}

/// The other members, by this one and them.
fn peers(page: &mut Page, door: &Door) {
    let mine = door.store.header().member_id;
    let others: Vec<_> = door.store.members().into_iter().filter(|member| member.id != mine).collect();
    if others.is_empty() {
        return;
    }
    let pair = |other: u64| format!("Local=\"{mine:x}\",Remote=\"{other:x}\"");
    page.head("etcd_network_known_peers", "gauge", "The other members, each with value 1.");
    for member in others {
        page.sample("etcd_network_known_peers", &pair(member.id), 1);
    }
    let spoken = door.store.inner.reads.db.stats.peers.all();
    let name = "etcd_network_active_peers";
    page.head(name, "gauge", "1 for each other member with a connection, else 0.");
    spoken.iter().for_each(|(id, peer)| page.sample(name, &pair(*id), u8::from(peer.is_active())));
    let to = |id: u64| format!("To=\"{id:x}\"");
    let from = |id: u64| format!("From=\"{id:x}\"");
    let labels: [&dyn Fn(u64) -> String; PEER_COUNTS.len()] = [&to, &from, &to, &from, &pair];
    for (at, ((name, help), labels)) in PEER_COUNTS.into_iter().zip(labels).enumerate() {
        page.head(name, "counter", help);
        spoken.iter().for_each(|(id, peer)| page.sample(name, &labels(*id), peer.counts()[at]));
    }
    let name = "etcd_network_peer_round_trip_time_seconds";
    page.head(name, "histogram", "Seconds from a question that takes no work to its answer.");
    spoken.iter().for_each(|(id, peer)| page.buckets(name, &to(*id), &peer.round_trips));
    let sends: Vec<_> = spoken.iter().map(|(id, peer)| (to(*id), &*peer.sends)).collect();
    moves(page, "send", &sends);
    let receives: Vec<_> = spoken.iter().map(|(id, peer)| (from(*id), &*peer.receives)).collect();
    moves(page, "receive", &receives);
}

/// Whole states that were sent, or received, by their members' labels.
fn moves(page: &mut Page, way: &str, all: &[(String, &Moves)]) {
    for (at, (what, kind, help)) in [
        ("success", "counter", "Whole states that arrived."),
        ("failures", "counter", "Whole states that did not."),
        ("inflights_total", "gauge", "Whole states that are under way."),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("etcd_network_snapshot_{way}_{what}");
        page.head(&name, kind, help);
        all.iter().for_each(|(labels, moves)| page.sample(&name, labels, moves.counts()[at]));
    }
    let name = format!("etcd_network_snapshot_{way}_total_duration_seconds");
    page.head(&name, "histogram", "Seconds those took that arrived.");
    all.iter().for_each(|(labels, moves)| page.buckets(&name, labels, &moves.took));
}

/// What is counted of another member, in the order it is told.
const PEER_COUNTS: [(&str, &str); 5] = [
    ("etcd_network_peer_sent_bytes_total", "Bytes sent to each other member."),
    ("etcd_network_peer_received_bytes_total", "Bytes received from it."),
    ("etcd_network_peer_sent_failures_total", "Questions that did not get there, or got no answer."),
    ("etcd_network_peer_received_failures_total", "Connections from it that failed."),
    ("etcd_network_disconnected_peers_total", "Times its last connection ended."),
];

/// How long changes took to be applied.
fn applies(page: &mut Page, door: &Door) {
    let stats = &door.store.inner.reads.db.stats;
    let name = "etcd_server_apply_duration_seconds";
    page.head(name, "histogram", "Seconds applying took, by what was applied; a batch's in equal parts.");
    stats.applies.each(|op, success, took| {
        page.buckets(name, &format!("op=\"{op}\",success=\"{success}\",version=\"v3\""), took);
    });
    let slow = stats.slow.load(Ordering::Relaxed) + door.metrics.slow_ranges.get();
    page.counter("etcd_server_slow_apply_total", "Changes and ranges that took more than 100 ms.", slow);
}

/// What is cleaned up after compactions.
fn compactions(page: &mut Page, compactions: &Compactions) {
    let name = "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds";
    page.histogram(name, "Milliseconds a step of cleaning up took.", &compactions.pauses_ms);
    let name = "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds";
    page.histogram(name, "Milliseconds from its first step to the end of its last.", &compactions.totals_ms);
    let name = "etcd_debugging_mvcc_db_compaction_last";
    let last = compactions.last_unix_s.load(Ordering::Relaxed);
    page.gauge(name, "When it last ended, seconds since 1970; 0 for never since the start.", last);
    let name = "etcd_debugging_mvcc_db_compaction_keys_total";
    page.counter(name, "Versions of keys removed.", compactions.versions.load(Ordering::Relaxed));
}

async fn sizes(page: &mut Page, door: &Door) {
    let Ok(status) = door.store.status() else { return };
    page.gauge("etcd_mvcc_db_total_size_in_bytes", "Bytes of the state's file.", status.db_size_bytes);
    if let Ok(used) = door.store.used_bytes().await {
        let used = used.min(status.db_size_bytes);
        page.gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes of it that hold something.", used);
    }
    let quota = door.store.quota_bytes().unwrap_or_default();
    page.gauge(
        "etcd_server_quota_backend_bytes",
        "Bytes at which additions are refused; 0 for no bound.",
        quota,
    );
}

fn leases(page: &mut Page, door: &Door) {
    let counts = &door.store.inner.leases.counts;
    page.histogram("etcd_debugging_lease_ttl_total", "Seconds that leases were granted for.", &counts.ttls);
    let all = [
        ("etcd_debugging_lease_granted_total", "Leases granted.", &counts.granted),
        ("etcd_debugging_lease_revoked_total", "Leases ended, by whom ever.", &counts.revoked),
        ("etcd_debugging_lease_renewed_total", "Renewals of leases, by the leader.", &counts.renewed),
        ("etcd_debugging_server_lease_expired_total", "Leases that ran out.", &counts.expired),
    ];
    for (name, help, count) in all {
        page.counter(name, help, count.load(Ordering::Relaxed));
    }
}

fn watches(page: &mut Page, watch: &Watches) {
    page.gauge("etcd_debugging_mvcc_watch_stream_total", "Streams of watches.", watch.streams.get());
    page.gauge("etcd_debugging_mvcc_watcher_total", "Watches.", watch.watchers.get());
    page.gauge("etcd_debugging_mvcc_slow_watcher_total", "Watches that read history.", watch.slow.get());
    page.counter("etcd_debugging_mvcc_events_total", "Events sent to watches.", watch.events.get());
}

fn store(page: &mut Page, door: &Door) {
    let revision = door.store.revision();
    page.gauge("etcd_debugging_mvcc_current_revision", "The store's revision.", revision);
    if let Ok(compacted) = door.compacted() {
        page.gauge("etcd_debugging_mvcc_compact_revision", "History below it is forgotten.", compacted);
    }
    let stats = &door.store.inner.reads.db.stats;
    let counts = [
        ("etcd_mvcc_put_total", "Keys put.", &stats.puts),
        ("etcd_mvcc_delete_total", "Keys deleted.", &stats.deletes),
        ("etcd_mvcc_txn_total", "Transactions of more than one operation.", &stats.txns),
    ];
    for (name, help, count) in counts {
        page.counter(name, help, count.load(Ordering::Relaxed));
    }
    let put_bytes = stats.put_bytes.load(Ordering::Relaxed);
    page.gauge("etcd_debugging_mvcc_total_put_size_in_bytes", "Bytes of keys and values put.", put_bytes);
    let written = stats.log_bytes.load(Ordering::Relaxed);
    page.gauge("etcd_disk_wal_write_bytes_total", "Bytes written to the log.", written);
    let writes = "etcd_disk_wal_write_duration_seconds";
    page.histogram(writes, "Seconds a write to the log took, its sync apart.", &stats.log_writes);
    let commits = "etcd_disk_backend_commit_duration_seconds";
    page.histogram(commits, "Seconds a durable commit of the state took.", &stats.commits);
    let syncs = "etcd_disk_wal_fsync_duration_seconds";
    page.histogram(syncs, "Seconds a sync of the log took.", &stats.syncs);
    let auth = door.store.auth_status().revision;
    page.gauge("etcd_debugging_auth_revision", "How often users and roles have changed.", auth);
}

fn reads(page: &mut Page, metrics: &Metrics) {
    let (good, bad) = (&metrics.ranges, &metrics.refused_ranges);
    let total = good.count() + bad.count();
    page.counter("etcd_mvcc_range_total", "Ranges read, those in transactions apart.", total);
    let name = "etcd_server_range_duration_seconds";
    page.head(name, "histogram", "Seconds a range took.");
    for (histogram, success) in [(good, true), (bad, false)] {
        if histogram.count() > 0 {
            page.buckets(name, &format!("success=\"{success}\""), histogram);
        }
    }
}

/// What is done now and then.
fn upkeep(page: &mut Page, metrics: &Metrics) {
    let all = [
        ("etcd_mvcc_hash_duration_seconds", "Seconds a fingerprint of all took.", &metrics.hashes),
        ("etcd_mvcc_hash_rev_duration_seconds", "Seconds one of history took.", &metrics.history_hashes),
        ("etcd_disk_backend_snapshot_duration_seconds", "Seconds a snapshot took.", &metrics.snapshots),
        (
            "etcd_disk_backend_defrag_duration_seconds",
            "Seconds a defragmentation took.",
            &metrics.defragments,
        ),
    ];
    for (name, help, histogram) in all {
        page.histogram(name, help, histogram);
    }
    let now = metrics.defragmenting.get();
    page.gauge("etcd_disk_defrag_inflight", "1 while the state is defragmented, else 0.", now);
}

fn calls(page: &mut Page, metrics: &Metrics) {
    page.head("etcd_server_client_requests_total", "counter", "Calls by the version that clients speak.");
    for (version, kinds) in metrics.asked.all() {
        // As Prometheus' text wants it.
        let version = version.replace('\\', r"\\").replace('"', "\\\"");
        for (kind, counter) in [("stream", &kinds.stream), ("unary", &kinds.unary)] {
            if counter.get() > 0 {
                let labels = format!("client_api_version=\"{version}\",type=\"{kind}\"");
                page.sample("etcd_server_client_requests_total", &labels, counter.get());
            }
        }
    }
    let (received, sent) =
        ("etcd_network_client_grpc_received_bytes_total", "etcd_network_client_grpc_sent_bytes_total");
    page.counter(received, "Bytes of messages received from clients.", metrics.received_bytes.get());
    page.counter(sent, "Bytes of messages sent to clients.", metrics.sent_bytes.get());
    let calls = metrics.calls.read();
    let labels = |path: &str| {
        let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
        let kind = kind(service, method);
        format!("grpc_method=\"{method}\",grpc_service=\"{service}\",grpc_type=\"{kind}\"")
    };
    page.head("grpc_server_started_total", "counter", "Calls begun, by method.");
    for (path, calls) in calls.iter() {
        page.sample("grpc_server_started_total", &labels(path), calls.started.get());
    }
    for (name, help, of) in [
        (
            "grpc_server_msg_received_total",
            "Messages from clients, by method.",
            received_of as fn(&Calls) -> u64,
        ),
        ("grpc_server_msg_sent_total", "Messages to clients, by method.", sent_of),
    ] {
        page.head(name, "counter", help);
        calls.iter().for_each(|(path, calls)| page.sample(name, &labels(path), of(calls)));
    }
    page.head("grpc_server_handled_total", "counter", "Calls ended, by method and code.");
    for (path, calls) in calls.iter() {
        for (code, counter) in (0..).zip(&calls.handled).filter(|(_, counter)| counter.get() > 0) {
            let labels = format!("grpc_code=\"{}\",{}", code_name(Code::from_i32(code)), labels(path));
            page.sample("grpc_server_handled_total", &labels, counter.get());
        }
    }
}

fn received_of(calls: &Calls) -> u64 {
    calls.received.get()
}

fn sent_of(calls: &Calls) -> u64 {
    calls.sent.get()
}

/// The kind of a method as Go's interceptor names it.
pub(super) fn kind(service: &str, method: &str) -> &'static str {
    match (service.rsplit('.').next(), method) {
        (_, "Watch") if service.starts_with("etcdserverpb") => "bidi_stream",
        (_, "LeaseKeepAlive" | "ServerReflectionInfo") => "bidi_stream",
        (_, "Snapshot" | "Observe") | (Some("Health"), "Watch") => "server_stream",
        _ => "unary",
    }
}

/// A code as Go prints it.
pub(super) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

/// What the kernel says of the process.
fn process(page: &mut Page) {
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        let open = entries.count();
        page.gauge("process_open_fds", "Descriptors open.", open);
        page.gauge("os_fd_used", "Descriptors open.", open);
    }
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = |of: &str| limits.lines().find_map(|line| line.strip_prefix(of)?.split_whitespace().next());
    if let Some(soft) = soft("Max address space") {
        // As Prometheus' library for Go writes "unlimited".
        let bytes = soft.parse().unwrap_or(u64::MAX);
        page.gauge("process_virtual_memory_max_bytes", "Bytes of address space there may be.", bytes);
    }
    if let Some(soft) = soft("Max open files") {
        page.gauge("process_max_fds", "Descriptors that may be open.", soft);
        page.gauge("os_fd_limit", "Descriptors that may be open.", soft);
    }
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return };
    // The name in brackets may hold spaces; what follows is fields from the third on.
    let fields: Vec<u64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(|field| field.parse().unwrap_or_default())
        .collect();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or_default();
    // USER_HZ is 100 on every architecture of Linux that matters here.
    let seconds = (field(14) + field(15)) as f64 / 100.0;
    page.counter("process_cpu_seconds_total", "Seconds of processor time used.", seconds);
    let kernel = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let booted = kernel.lines().find_map(|line| line.strip_prefix("btime ")?.parse::<f64>().ok());
    if let Some(booted) = booted {
        let start = booted + field(22) as f64 / 100.0;
        page.gauge("process_start_time_seconds", "When the process began, seconds since 1970.", start);
    }
    network(page);
    page.gauge("process_virtual_memory_bytes", "Bytes of address space.", field(23));
    page.gauge("process_resident_memory_bytes", "Bytes of memory in use.", field(24) * 4096);
}

/// Bytes of IP that went by in the process's network, as Prometheus' library for Go counts them.
fn network(page: &mut Page) {
    let counts = std::fs::read_to_string("/proc/self/net/netstat").unwrap_or_default();
    let mut lines = counts.lines().filter_map(|line| line.strip_prefix("IpExt:")).map(str::split_whitespace);
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return };
    let found: BTreeMap<_, _> = names.zip(values).collect();
    for (name, help, of) in [
        (
            "process_network_receive_bytes_total",
            "Bytes received by the process over the network.",
            "InOctets",
        ),
        ("process_network_transmit_bytes_total", "Bytes sent by the process over the network.", "OutOctets"),
    ] {
        if let Some(bytes) = found.get(of) {
            page.counter(name, help, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_beyond_the_bound_are_unknown() {
        let metrics = Metrics::default();
        let asks = |version: &str| {
            let headers = [("client-api-version", version)].map(|(name, value)| {
                (http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
            });
            metrics.asked(&headers.into_iter().collect(), "unary");
        };
        metrics.asked(&http::HeaderMap::new(), "stream");
        for number in 0..VERSIONS_MAX + 2 {
            asks(&format!("3.{number}"));
        }
        asks("3.1");
        asks(UNKNOWN_VERSION);
        let all = metrics.asked.all();
        let counts = |version: &str| (all[version].unary.get(), all[version].stream.get());
        assert_eq!((all.len(), counts("3.0"), counts("3.1")), (VERSIONS_MAX + 1, (1, 0), (2, 0)));
        assert_eq!(counts(UNKNOWN_VERSION), (3, 1));
    }

    #[tokio::test]
    async fn a_range_that_takes_long_is_slow() {
        let metrics = Metrics::default();
        let read = metrics.ranged(async { Ok::<_, ()>(()) });
        read.await.unwrap();
        assert_eq!(metrics.slow_ranges.get(), 0);
        let read = metrics.ranged(async {
            tokio::time::sleep(SLOW).await;
            Err::<(), _>(())
        });
        read.await.unwrap_err();
        let counts = (metrics.slow_ranges.get(), metrics.ranges.count(), metrics.refused_ranges.count());
        assert_eq!(counts, (1, 1, 1));
    }
}
