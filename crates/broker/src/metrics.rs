//! What the broker counts, and its Prometheus text with the names of the JMX exporter's usual Kafka mapping, so that the
//! dashboards people have show it.
//!
//! ```text
//! kafka.server:type=BrokerTopicMetrics,name=MessagesInPerSec,topic=t  Count    kafka_server_brokertopicmetrics_messagesin_total{topic="t"}
//! kafka.network:type=RequestMetrics,name=TotalTimeMs,request=Produce  99th     kafka_network_requestmetrics_totaltimems{request="Produce",quantile="0.99"}
//! kafka.server:type=ReplicaManager,name=PartitionCount                Value    kafka_server_replicamanager_partitioncount
//! ```
//! Counters are atomics that handlers raise; gauges are read from the catalog when somebody asks for the text.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kafka_wire::ApiKey;
use parking_lot::RwLock;

use crate::api::Broker;

/// Content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Quantiles look back one to two of these: long enough to be steady, short enough to show a bad hour as bad.
const WINDOW: Duration = Duration::from_secs(300);
/// Buckets of a histogram: four in each power of two of microseconds, up to 2^32 (an hour).
const BUCKETS: usize = 4 * 32;
/// API keys of clients lie below this number.
const KEYS: usize = 128;
/// Kafka's broker state "running".
const RUNNING: i64 = 3;

/// Counters of one topic, or of all.
#[derive(Debug, Default)]
pub(crate) struct TopicCounters {
    messages_in: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    bytes_rejected: AtomicU64,
    produce_requests: AtomicU64,
    fetch_requests: AtomicU64,
    failed_produce: AtomicU64,
    failed_fetch: AtomicU64,
}

/// Names in the text and how each is read.
type Counter = (&'static str, fn(&TopicCounters) -> &AtomicU64);
const COUNTERS: &[Counter] = &[
    ("messagesin", |c| &c.messages_in),
    ("bytesin", |c| &c.bytes_in),
    ("bytesout", |c| &c.bytes_out),
    ("bytesrejected", |c| &c.bytes_rejected),
    ("totalproducerequests", |c| &c.produce_requests),
    ("totalfetchrequests", |c| &c.fetch_requests),
    ("failedproducerequests", |c| &c.failed_produce),
    ("failedfetchrequests", |c| &c.failed_fetch),
];

/// Latencies of one kind of request.
#[derive(Debug)]
struct Latency {
    count: AtomicU64,
    /// Two windows of [`WINDOW`]; a window's number tells which it holds.
    windows: [(AtomicU64, [AtomicU64; BUCKETS]); 2],
}

impl Default for Latency {
    fn default() -> Self {
        let window = || (AtomicU64::new(0), [const { AtomicU64::new(0) }; BUCKETS]);
        Self { count: AtomicU64::new(0), windows: [window(), window()] }
    }
}

impl Latency {
    fn record(&self, window: u64, took: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let (holds, buckets) = &self.windows[(window & 1) as usize];
        if holds.swap(window, Ordering::Relaxed) != window {
            // Two recorders may both come first and clear; a handful of samples more or less does not matter.
            buckets.iter().for_each(|bucket| bucket.store(0, Ordering::Relaxed));
        }
        buckets[bucket(took)].fetch_add(1, Ordering::Relaxed);
    }

    /// The quantiles asked for, in milliseconds, over this window and the one before it.
    fn quantiles_ms(&self, window: u64, wanted: &[f64]) -> Vec<f64> {
        let mut sums = [0u64; BUCKETS];
        for (holds, buckets) in &self.windows {
            if holds.load(Ordering::Relaxed) + 1 >= window {
                sums.iter_mut().zip(buckets).for_each(|(sum, bucket)| *sum += bucket.load(Ordering::Relaxed));
            }
        }
        let total: u64 = sums.iter().sum();
        let find = |quantile: f64| {
            let (rank, mut seen) = ((quantile * total as f64).ceil() as u64, 0);
            let reached = |sum: &u64| {
                seen += sum;
                seen >= rank
            };
            sums.iter().position(reached).map_or(0.0, |at| upper_us(at) / 1000.0)
        };
        wanted.iter().map(|quantile| if total == 0 { 0.0 } else { find(*quantile) }).collect()
    }
}

/// Which bucket holds a duration.
fn bucket(took: Duration) -> usize {
    let us = (took.as_micros() as u64).max(1);
    let power = us.ilog2() as usize;
    // The two bits after the leading one.
    let quarter = if power >= 2 { (us >> (power - 2)) & 3 } else { (us << (2 - power)) & 3 };
    (power * 4 + quarter as usize).min(BUCKETS - 1)
}

/// The upper edge of a bucket, microseconds.
fn upper_us(bucket: usize) -> f64 {
    let (power, quarter) = (bucket / 4, bucket % 4);
    (1u64 << power) as f64 * (5.0 + quarter as f64) / 4.0
}

/// Everything that is counted.
pub(crate) struct Metrics {
    started: Instant,
    all: TopicCounters,
    topics: RwLock<HashMap<Arc<str>, Arc<TopicCounters>>>,
    /// By API key; made when the first request of a key comes.
    requests: [std::sync::OnceLock<Box<Latency>>; KEYS],
    /// Error codes told, by key and code.
    errors: RwLock<HashMap<(i16, i16), u64>>,
    /// Partitions that could not be verified to be in a transaction.
    failed_verifications: AtomicU64,
    /// Markers that wait for their partition to take them.
    waiting_markers: AtomicU64,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            all: TopicCounters::default(),
            topics: RwLock::default(),
            requests: [const { std::sync::OnceLock::new() }; KEYS],
            errors: RwLock::default(),
            failed_verifications: AtomicU64::new(0),
            waiting_markers: AtomicU64::new(0),
        }
    }

    /// Partitions were verified to be in a transaction, but for so many.
    pub(crate) fn verified(&self, failed: u64) {
        self.failed_verifications.fetch_add(failed, Ordering::Relaxed);
    }

    /// So many markers wait from here on...
    pub(crate) fn markers_wait(&self, count: u64) {
        self.waiting_markers.fetch_add(count, Ordering::Relaxed);
    }

    /// ...and no longer.
    pub(crate) fn markers_go_on(&self, count: u64) {
        self.waiting_markers.fetch_sub(count, Ordering::Relaxed);
    }

    fn window(&self) -> u64 {
        // The first window is 2, so that a fresh latency's window 0 is never taken for a current one.
        self.started.elapsed().as_secs() / WINDOW.as_secs() + 2
    }

    fn topic(&self, name: &Arc<str>) -> Arc<TopicCounters> {
        if let Some(known) = self.topics.read().get(name) {
            return known.clone();
        }
        self.topics.write().entry(name.clone()).or_default().clone()
    }

    fn add(&self, topic: &Arc<str>, counter: fn(&TopicCounters) -> &AtomicU64, amount: u64) {
        counter(&self.topic(topic)).fetch_add(amount, Ordering::Relaxed);
        counter(&self.all).fetch_add(amount, Ordering::Relaxed);
    }

    /// A request was answered: from its last byte read to its answer written.
    pub(crate) fn answered(&self, key: i16, took: Duration) {
        if let Some(slot) = usize::try_from(key).ok().and_then(|key| self.requests.get(key)) {
            slot.get_or_init(Box::default).record(self.window(), took);
        }
    }

    /// An error code went into an answer.
    pub(crate) fn told_error(&self, key: ApiKey, code: i16) {
        if code != 0 {
            *self.errors.write().entry((key.number(), code)).or_default() += 1;
        }
    }

    /// A partition's records were appended.
    pub(crate) fn produced(&self, topic: &Arc<str>, records: u64, bytes: u64) {
        let one = self.topic(topic);
        for counters in [&*one, &self.all] {
            counters.messages_in.fetch_add(records, Ordering::Relaxed);
            counters.bytes_in.fetch_add(bytes, Ordering::Relaxed);
            counters.produce_requests.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A partition's records were refused; the topic may be one that does not exist, which is not counted by name.
    pub(crate) fn refused_produce(&self, topic: Option<&Arc<str>>, bytes: u64) {
        let one = topic.map(|topic| self.topic(topic));
        for counters in one.as_deref().into_iter().chain([&self.all]) {
            counters.bytes_rejected.fetch_add(bytes, Ordering::Relaxed);
            counters.produce_requests.fetch_add(1, Ordering::Relaxed);
            counters.failed_produce.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A partition was read for a consumer.
    pub(crate) fn fetched(&self, topic: &Arc<str>, bytes: u64) {
        let one = self.topic(topic);
        for counters in [&*one, &self.all] {
            counters.bytes_out.fetch_add(bytes, Ordering::Relaxed);
            counters.fetch_requests.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A partition could not be read.
    pub(crate) fn failed_fetch(&self, topic: &Arc<str>) {
        self.add(topic, |c| &c.fetch_requests, 1);
        self.add(topic, |c| &c.failed_fetch, 1);
    }
}

/// The whole text.
pub(crate) fn text(broker: &Broker) -> String {
    let mut text = Text(String::with_capacity(16 * 1024));
    counters(&mut text, broker);
    requests(&mut text, &broker.metrics);
    state(&mut text, broker);
    logs(&mut text, broker);
    fetch_sessions(&mut text, broker);
    process(&mut text);
    broker.telemetry.write(&mut text.0, broker.now_ms());
    text.0
}

/// The fetch sessions kept, as `kafka.server:type=FetchSessionCache` tells them.
fn fetch_sessions(text: &mut Text, broker: &Broker) {
    let (sessions, partitions, evictions) = broker.sessions.counts();
    text.gauge("kafka_server_fetchsessioncache_numincrementalfetchsessions", sessions);
    text.gauge("kafka_server_fetchsessioncache_numincrementalfetchpartitionscached", partitions);
    text.head("kafka_server_fetchsessioncache_incrementalfetchsessionevictions_total", "counter");
    text.line("kafka_server_fetchsessioncache_incrementalfetchsessionevictions_total", &[], evictions);
}

/// Text in the exposition format.
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str) {
        let _ = writeln!(self.0, "# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            self.0.push(if index == 0 { '{' } else { ',' });
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{label}=\"{escaped}\"");
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn gauge(&mut self, name: &str, value: impl std::fmt::Display) {
        self.head(name, "gauge");
        self.line(name, &[], value);
    }
}

fn counters(text: &mut Text, broker: &Broker) {
    let snapshot = broker.catalog.snapshot();
    let metrics = &broker.metrics;
    // Topics that are gone take their series with them.
    metrics.topics.write().retain(|name, _| snapshot.by_name.contains_key(name));
    let mut topics: Vec<_> = metrics.topics.read().iter().map(|(n, c)| (n.clone(), c.clone())).collect();
    topics.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, read) in COUNTERS {
        let name = format!("kafka_server_brokertopicmetrics_{name}_total");
        text.head(&name, "counter");
        text.line(&name, &[], read(&metrics.all).load(Ordering::Relaxed));
        for (topic, counters) in &topics {
            text.line(&name, &[("topic", topic)], read(counters).load(Ordering::Relaxed));
        }
    }
}

fn requests(text: &mut Text, metrics: &Metrics) {
    const WANTED: [f64; 6] = [0.5, 0.75, 0.95, 0.98, 0.99, 0.999];
    const SHOWN: [&str; 6] = ["0.50", "0.75", "0.95", "0.98", "0.99", "0.999"];
    let known: Vec<_> = ApiKey::all()
        .filter_map(|key| Some((key, metrics.requests.get(key.number() as usize)?.get()?)))
        .collect();
    let (total, count, time) = (
        "kafka_network_requestmetrics_requests_total",
        "kafka_network_requestmetrics_totaltimems_count",
        "kafka_network_requestmetrics_totaltimems",
    );
    for name in [total, count] {
        text.head(name, "counter");
        for (key, latency) in &known {
            text.line(name, &[("request", key.name())], latency.count.load(Ordering::Relaxed));
        }
    }
    text.head(time, "gauge");
    for (key, latency) in &known {
        for (shown, ms) in SHOWN.iter().zip(latency.quantiles_ms(metrics.window(), &WANTED)) {
            text.line(time, &[("request", key.name()), ("quantile", shown)], ms);
        }
    }
    let errors = "kafka_network_requestmetrics_errors_total";
    text.head(errors, "counter");
    let mut told: Vec<_> = metrics.errors.read().iter().map(|(at, count)| (*at, *count)).collect();
    told.sort_unstable();
    for ((key, code), count) in told {
        let (Some(key), Some(code)) = (ApiKey::from_i16(key), kafka_wire::ErrorCode::from_i16(code)) else {
            continue;
        };
        text.line(errors, &[("request", key.name()), ("error", code.name())], count);
    }
}

/// Gauges of the broker and, as it is its own controller, of the cluster.
fn state(text: &mut Text, broker: &Broker) {
    let snapshot = broker.catalog.snapshot();
    let topics = snapshot.by_name.len();
    let partitions: usize = snapshot.by_name.values().map(|topic| topic.partitions.len()).sum();
    let manager = "kafka_server_replicamanager_";
    text.gauge(&format!("{manager}partitioncount"), partitions);
    let offline: usize = snapshot.by_name.values().map(|topic| topic.offline()).sum();
    text.gauge(&format!("{manager}leadercount"), partitions - offline);
    text.gauge(&format!("{manager}offlinereplicacount"), offline);
    for none in ["underreplicatedpartitions", "underminisrpartitioncount", "atminisrpartitioncount"] {
        text.gauge(&format!("{manager}{none}"), 0);
    }
    log_dirs(text, broker);
    let failures = "kafka_server_addpartitionstotxnmanager_verificationfailures_total";
    text.head(failures, "counter");
    text.line(failures, &[], broker.metrics.failed_verifications.load(Ordering::Relaxed));
    let waiting = broker.metrics.waiting_markers.load(Ordering::Relaxed);
    let manager = "kafka_coordinator_transaction_transactionmarkerchannelmanager_";
    text.gauge(&format!("{manager}unknowndestinationqueuesize"), waiting);
    let controller = "kafka_controller_kafkacontroller_";
    text.gauge(&format!("{controller}activecontrollercount"), 1);
    text.gauge(&format!("{controller}activebrokercount"), 1);
    text.gauge(&format!("{controller}fencedbrokercount"), 0);
    text.gauge(&format!("{controller}globaltopiccount"), topics);
    text.gauge(&format!("{controller}globalpartitioncount"), partitions);
    text.gauge(&format!("{controller}offlinepartitionscount"), offline);
    text.gauge(&format!("{controller}preferredreplicaimbalancecount"), 0);
    text.gauge("kafka_server_kafkaserver_brokerstate", RUNNING);
    let (total, free) = (broker.memory.total(), broker.memory.free());
    text.gauge("kafka_network_socketserver_memorypoolavailable", free);
    text.gauge("kafka_network_socketserver_memorypoolused", total - free);
    let connections = "kafka_server_socketservermetrics_connection_count";
    text.gauge(connections, broker.connections.count());
}

/// Which directories have failed.
fn log_dirs(text: &mut Text, broker: &Broker) {
    let (dirs, manager) = (&broker.catalog.root.dirs, "kafka_log_logmanager_");
    let failed = dirs.iter().filter(|dir| !dir.is_online()).count();
    text.gauge(&format!("{manager}offlinelogdirectorycount"), failed);
    let name = format!("{manager}logdirectoryoffline");
    text.head(&name, "gauge");
    for dir in dirs {
        let path = dir.path.display().to_string();
        text.line(&name, &[("logdirectory", &path)], u8::from(!dir.is_online()));
    }
}

fn logs(text: &mut Text, broker: &Broker) {
    let partitions = broker.catalog.partitions();
    type Read = fn(&crate::partition::Partition) -> i64;
    let gauges: [(&str, Read); 4] = [
        ("kafka_log_log_logendoffset", |p| p.log().log().end().get()),
        ("kafka_log_log_logstartoffset", |p| p.log_start().get()),
        ("kafka_log_log_size", |p| i64::try_from(p.log().log().bytes()).unwrap_or(i64::MAX)),
        ("kafka_log_log_numlogsegments", |p| p.log().log().segments().len() as i64),
    ];
    for (name, read) in gauges {
        text.head(name, "gauge");
        for partition in &partitions {
            let index = partition.index.to_string();
            text.line(name, &[("topic", &partition.topic), ("partition", &index)], read(partition));
        }
    }
}

/// What Prometheus's own client libraries tell of their process.
fn process(text: &mut Text) {
    /// Clock ticks of a second and bytes of a page in /proc, fixed on Linux for user space.
    const TICKS: f64 = 100.0;
    let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    let stat = read("stat");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let field = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    text.head("process_cpu_seconds_total", "counter");
    text.line("process_cpu_seconds_total", &[], (field(11) + field(12)) / TICKS);
    let status = read("status");
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = rss.and_then(|rss| rss.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0);
    text.gauge("process_resident_memory_bytes", kib * 1024);
    text.gauge("process_open_fds", std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_what_lies_between_their_edges() {
        for us in [1u64, 2, 3, 4, 5, 7, 8, 100, 1_000, 123_456, 3_600_000_000] {
            let at = bucket(Duration::from_micros(us));
            assert!(us as f64 <= upper_us(at), "{us} {at}");
            assert!(us as f64 >= upper_us(at) / 2.0 * 0.79, "{us} {at}");
        }
    }

    #[test]
    fn quantiles_forget_what_is_two_windows_old() {
        let latency = Latency::default();
        (0..99).for_each(|_| latency.record(2, Duration::from_millis(1)));
        latency.record(2, Duration::from_millis(500));
        let found = latency.quantiles_ms(2, &[0.5, 0.999]);
        assert!((1.0..1.3).contains(&found[0]) && (500.0..630.0).contains(&found[1]), "{found:?}");
        latency.record(3, Duration::from_millis(1));
        assert!(latency.quantiles_ms(3, &[0.999])[0] > 400.0);
        latency.record(4, Duration::from_millis(1));
        assert!(latency.quantiles_ms(4, &[0.999])[0] < 2.0);
        assert_eq!(latency.count.load(Ordering::Relaxed), 102);
    }
}
