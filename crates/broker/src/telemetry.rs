//! Client telemetry (KIP-714): clients ask which metrics are wanted, push them, and they are exported with our own.
//!
//! ```text
//! client-metrics configurations ──match──▶ instance: metrics, interval, subscription id
//! PushTelemetry ─▶ checks ─▶ decompress (bounded) ─▶ otlp::decode ─▶ series of the instance ─▶ metrics text
//! ```
//! Instances and series are bounded and forgotten when their client was silent for three intervals; nothing runs
//! meanwhile, who looks sorts out what is too old.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::net::SocketAddr;

use base::checksum::crc32c;
use kafka_wire::messages as m;
use kafka_wire::record::{Compression, RecordError};
use kafka_wire::{ErrorCode, Uuid};
use parking_lot::Mutex;
use regex::{Regex, RegexBuilder};

use crate::catalog::Refusal;
use crate::config::{self, Scope, Values};
use crate::otlp;
use crate::resources::{Kind, Resources};

/// Clients at a time (ClientMetricsManager.java); the one silent for longest gives way.
const INSTANCES_MAX: usize = 16_384;
/// Series kept of one client; a Java producer has about 150.
const SERIES_MAX: usize = 1_000;
/// Series kept of all clients: some 30 MB.
const ALL_SERIES_MAX: usize = 100_000;
/// An instance lives at least this long without a request.
const EXPIRY_MS_MIN: i64 = 60_000;
/// `interval.ms` where no subscription asks for less.
const INTERVAL_MS: i32 = 300_000;
const INTERVAL_MS_RANGE: std::ops::RangeInclusive<i32> = 100..=3_600_000;
/// Compiled size of a pattern.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// Wants everything.
const ALL_METRICS: &str = "*";
/// What a subscription may select clients by.
const SELECTORS: [&str; 6] = [
    "client_instance_id",
    "client_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];
/// What clients may compress with, best first.
const CODECS: [Compression; 4] =
    [Compression::Zstd, Compression::Lz4, Compression::Gzip, Compression::Snappy];

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub id: String,
    pub software: (String, String),
    pub remote: SocketAddr,
}

/// A subscription, taken from its configurations.
struct Subscription {
    metrics: Vec<String>,
    interval_ms: i32,
    patterns: Vec<(usize, Regex)>,
}

/// Checks a subscription's configurations, with Kafka's texts.
pub(crate) fn check_subscription(name: &str, values: &Values) -> Result<(), Refusal> {
    let invalid = |text: String| Err(Refusal::new(ErrorCode::InvalidRequest, text));
    if name.is_empty() {
        return invalid("Subscription name can't be empty".into());
    }
    if let Some(key) = values.keys().find(|key| config::find(Scope::ClientMetrics, key).is_none()) {
        return invalid(format!("Unknown client metrics configuration: {key}"));
    }
    for (key, value) in values {
        let checked = config::find(Scope::ClientMetrics, key).map_or(Ok(()), |def| def.check(value));
        checked.map_err(|text| Refusal::new(ErrorCode::InvalidConfig, text))?;
    }
    if let Some(interval) = values.get("interval.ms").and_then(|value| value.trim().parse::<i32>().ok())
        && !INTERVAL_MS_RANGE.contains(&interval)
    {
        let text = "interval must be between 100 and 3600000 (1 hour)";
        return invalid(format!("Invalid value {interval} for interval.ms, {text}"));
    }
    match patterns(values.get("match").map_or("", String::as_str)) {
        Ok(_) => Ok(()),
        Err(pattern) => {
            let text = format!("Illegal client matching pattern: {pattern}");
            Err(Refusal::new(ErrorCode::InvalidConfig, text))
        }
    }
}

/// Selectors and what must match them wholly; else the pair that is none.
fn patterns(text: &str) -> Result<Vec<(usize, Regex)>, String> {
    let one = |pair: &str| {
        let (selector, pattern) = pair.split_once('=').filter(|(_, pattern)| !pattern.contains('='))?;
        let at = SELECTORS.iter().position(|known| *known == selector.trim())?;
        let mut builder = RegexBuilder::new(&format!("^(?:{})$", pattern.trim()));
        Some((at, builder.size_limit(PATTERN_BYTES_MAX).build().ok()?))
    };
    config::list(text).map(|pair| one(pair).ok_or_else(|| pair.to_owned())).collect()
}

impl Subscription {
    fn of(values: &Values) -> Option<Self> {
        let interval = values.get("interval.ms").and_then(|value| value.trim().parse().ok());
        Some(Self {
            metrics: config::list(values.get("metrics").map_or("", String::as_str))
                .map(str::to_owned)
                .collect(),
            interval_ms: interval.unwrap_or(INTERVAL_MS),
            patterns: patterns(values.get("match").map_or("", String::as_str)).ok()?,
        })
    }

    fn wants(&self, facts: &[String; 6]) -> bool {
        self.patterns.iter().all(|(selector, pattern)| pattern.is_match(&facts[*selector]))
    }
}

/// One client.
struct Instance {
    client: Client,
    subscription_id: i32,
    metrics: BTreeSet<String>,
    interval_ms: i32,
    /// The subscriptions' version this was worked out from.
    version: u64,
    got_ms: i64,
    pushed_ms: i64,
    used_ms: i64,
    last_error: ErrorCode,
    terminating: bool,
    series: HashMap<otlp::SeriesKey, otlp::Value>,
}

impl Instance {
    fn expired(&self, now_ms: i64) -> bool {
        now_ms - self.used_ms > EXPIRY_MS_MIN.max(i64::from(self.interval_ms) * 3)
    }

    /// Once an interval, whichever request it is.
    fn may_get(&mut self, now_ms: i64) -> bool {
        let due = now_ms - self.got_ms.max(self.pushed_ms) >= i64::from(self.interval_ms);
        if due {
            self.got_ms = now_ms;
        }
        due
    }

    /// Once an interval, and the first after the subscriptions were asked for: clients spread it over the interval.
    fn may_push(&mut self, now_ms: i64) -> bool {
        let may = self.got_ms > self.pushed_ms || now_ms - self.pushed_ms >= i64::from(self.interval_ms);
        if may {
            self.pushed_ms = now_ms;
        }
        may
    }
}

/// All clients that take part.
#[derive(Default)]
pub(crate) struct Telemetry {
    instances: Mutex<HashMap<Uuid, Instance>>,
}

impl Telemetry {
    /// Answers GetTelemetrySubscriptions.
    pub(crate) fn get(
        &self,
        resources: &Resources,
        client: &Client,
        request: &m::GetTelemetrySubscriptionsRequest,
        bytes_max: i64,
        now_ms: i64,
    ) -> m::GetTelemetrySubscriptionsResponse {
        let mut instances = self.instances.lock();
        let mut id = request.client_instance_id;
        while id.is_nil() || request.client_instance_id.is_nil() && instances.contains_key(&id) {
            id = Uuid::new_v4();
        }
        let instance = current(&mut instances, resources, id, client, now_ms);
        let known = instance.last_error;
        let again = matches!(known, ErrorCode::UnknownSubscriptionId | ErrorCode::UnsupportedCompressionType);
        if !instance.may_get(now_ms) && !again {
            let error_code = ErrorCode::ThrottlingQuotaExceeded.code();
            return m::GetTelemetrySubscriptionsResponse { error_code, ..Default::default() };
        }
        instance.last_error = ErrorCode::None;
        m::GetTelemetrySubscriptionsResponse {
            client_instance_id: id,
            subscription_id: instance.subscription_id,
            accepted_compression_types: CODECS.iter().map(|codec| codec.number() as i8).collect(),
            push_interval_ms: instance.interval_ms,
            telemetry_max_bytes: bytes_max as i32,
            delta_temporality: true,
            requested_metrics: instance.metrics.iter().cloned().collect(),
            ..Default::default()
        }
    }

    /// Answers PushTelemetry.
    pub(crate) fn push(
        &self,
        resources: &Resources,
        client: &Client,
        request: &m::PushTelemetryRequest,
        bytes_max: i64,
        now_ms: i64,
    ) -> m::PushTelemetryResponse {
        let id = request.client_instance_id;
        let code = if id.is_nil() || id == Uuid::from_u128(1) {
            ErrorCode::InvalidRequest
        } else {
            let mut instances = self.instances.lock();
            current(&mut instances, resources, id, client, now_ms);
            let others: usize =
                instances.iter().filter(|(other, _)| **other != id).map(|(_, i)| i.series.len()).sum();
            let instance = instances.get_mut(&id).expect("made above");
            let room = SERIES_MAX.min(ALL_SERIES_MAX.saturating_sub(others));
            let code =
                take(instance, request, bytes_max as usize, room, now_ms).err().unwrap_or(ErrorCode::None);
            instance.last_error = code;
            instance.terminating |= request.terminating;
            code
        };
        m::PushTelemetryResponse { error_code: code.code(), ..Default::default() }
    }

    /// Writes what clients pushed as Prometheus text.
    pub(crate) fn write(&self, out: &mut String, now_ms: i64) {
        let mut instances = self.instances.lock();
        instances.retain(|_, instance| !instance.expired(now_ms));
        let _ = writeln!(out, "# TYPE kafka_server_client_metrics_instance_count gauge");
        let _ = writeln!(out, "kafka_server_client_metrics_instance_count {}", instances.len());
        let mut lines: Vec<String> = Vec::new();
        for (id, instance) in instances.iter() {
            for (key, value) in &instance.series {
                lines.push(line(id, &instance.client.id, key, value));
            }
        }
        // Series of one name together, as the format wants it.
        lines.sort_unstable();
        lines.iter().for_each(|line| out.push_str(line));
    }
}

fn line(id: &Uuid, client_id: &str, key: &otlp::SeriesKey, value: &otlp::Value) -> String {
    let mut out = String::from("kafka_client_");
    let name = key.name.strip_prefix("org.apache.kafka.").unwrap_or(&key.name);
    out.extend(name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }));
    if value.is_total && !out.ends_with("_total") {
        out.push_str("_total");
    }
    let _ = write!(out, "{{client_instance_id=\"{id}\",client_id=\"{}\"", escaped(client_id));
    for (label, text) in &key.labels {
        let label: String = label.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        if !label.starts_with(|c: char| c.is_ascii_digit()) && !label.starts_with("client_i") {
            let _ = write!(out, ",{label}=\"{}\"", escaped(text));
        }
    }
    let _ = writeln!(out, "}} {}", value.number);
    out
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The client's instance, made or worked out anew when subscriptions changed.
fn current<'a>(
    instances: &'a mut HashMap<Uuid, Instance>,
    resources: &Resources,
    id: Uuid,
    client: &Client,
    now_ms: i64,
) -> &'a mut Instance {
    let version = resources.subscriptions_version();
    let known = instances.get(&id).filter(|known| !known.expired(now_ms) && known.version == version);
    if known.is_none() {
        let old = instances.remove(&id).filter(|old| !old.expired(now_ms));
        make_room(instances, now_ms);
        let mut fresh = subscribed(resources, id, client, version);
        if let Some(old) = old {
            // The same client with another subscription: what it pushed stays.
            fresh.series = old.series;
        }
        instances.insert(id, fresh);
    }
    let instance = instances.get_mut(&id).expect("there or made");
    instance.used_ms = now_ms;
    instance
}

fn make_room(instances: &mut HashMap<Uuid, Instance>, now_ms: i64) {
    if instances.len() < INSTANCES_MAX {
        return;
    }
    instances.retain(|_, instance| !instance.expired(now_ms));
    if instances.len() >= INSTANCES_MAX
        && let Some(oldest) = instances.iter().min_by_key(|(_, instance)| instance.used_ms).map(|(id, _)| *id)
    {
        instances.remove(&oldest);
    }
}

fn subscribed(resources: &Resources, id: Uuid, client: &Client, version: u64) -> Instance {
    let facts = [
        crate::names::base64url(&id),
        client.id.clone(),
        client.software.0.clone(),
        client.software.1.clone(),
        client.remote.ip().to_canonical().to_string(),
        client.remote.port().to_string(),
    ];
    let (mut metrics, mut interval_ms) = (BTreeSet::new(), INTERVAL_MS);
    for name in resources.names(Kind::ClientMetrics) {
        let subscription = Subscription::of(&resources.values(Kind::ClientMetrics, &name));
        let Some(subscription) = subscription.filter(|subscription| subscription.wants(&facts)) else {
            continue;
        };
        interval_ms = interval_ms.min(subscription.interval_ms);
        metrics.extend(subscription.metrics);
    }
    if metrics.contains(ALL_METRICS) {
        metrics = BTreeSet::from([ALL_METRICS.to_owned()]);
    }
    let text = format!("{metrics:?}{interval_ms}");
    let subscription_id = (crc32c(text.as_bytes()) ^ crc32c(id.as_bytes())) as i32;
    Instance {
        client: client.clone(),
        subscription_id,
        metrics,
        interval_ms,
        version,
        got_ms: 0,
        pushed_ms: 0,
        used_ms: 0,
        last_error: ErrorCode::None,
        terminating: false,
        series: HashMap::new(),
    }
}

/// Checks a push and takes its metrics in.
fn take(
    instance: &mut Instance,
    request: &m::PushTelemetryRequest,
    bytes_max: usize,
    room: usize,
    now_ms: i64,
) -> Result<(), ErrorCode> {
    if instance.terminating {
        return Err(ErrorCode::InvalidRequest);
    }
    if !instance.may_push(now_ms) && !request.terminating {
        return Err(ErrorCode::ThrottlingQuotaExceeded);
    }
    if request.subscription_id != instance.subscription_id {
        return Err(ErrorCode::UnknownSubscriptionId);
    }
    let codec =
        Compression::ALL.into_iter().find(|codec| codec.number() == i16::from(request.compression_type));
    let codec = codec.ok_or(ErrorCode::UnsupportedCompressionType)?;
    if request.metrics.len() > bytes_max {
        return Err(ErrorCode::TelemetryTooLarge);
    }
    if request.metrics.is_empty() {
        return Ok(());
    }
    let plain = codec.decompress(&request.metrics, bytes_max).map_err(|error| match error {
        RecordError::TooLarge(_) => ErrorCode::TelemetryTooLarge,
        _ => ErrorCode::InvalidRecord,
    })?;
    let points = otlp::decode(&plain).ok_or(ErrorCode::InvalidRecord)?;
    for point in points {
        let full = instance.series.len() >= room;
        match instance.series.get_mut(&point.key) {
            Some(value) => value.take(&point),
            None if full => {}
            None => drop(instance.series.insert(point.key.clone(), point.first())),
        }
    }
    Ok(())
}
