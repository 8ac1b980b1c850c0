//! Kafka's configuration keys: where a value comes from, and what of them takes effect here.
//!
//! ```text
//! topic value:  topic's own (DYNAMIC_TOPIC) > the broker's synonym > default
//! broker value: this broker's, changed while it runs (DYNAMIC_BROKER) > all brokers', changed while they run
//!               (DYNAMIC_DEFAULT_BROKER) > given at start (STATIC_BROKER) > default
//! ```
//! A broker's key that is not used here cannot be changed while it runs.

mod table;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use kafka_wire::record::Compression;

use crate::names;

pub(crate) use table::{Def, Kind, Mode, Scope, find, keys, list, topic_of_synonym};

/// Configurations by name.
pub(crate) type Values = BTreeMap<String, String>;

/// The broker's keys beyond those documented in the table that may be changed while it runs without effect, as on a
/// Kafka broker without followers.
const HARMLESS: &[&str] = &[
    "follower.replication.throttled.rate",
    "leader.replication.throttled.rate",
    // Not without effect: moves between directories keep to it.
    "replica.alter.log.dirs.io.max.bytes.per.second",
    // Neither: new partitions go elsewhere.
    CORDONED,
];

/// Directories that new partitions do not go to (KIP-1066), and the word for all of them.
const CORDONED: &str = "cordoned.log.dirs";
const ALL_DIRS: &str = "*";

/// Checks a topic's own configurations.
pub(crate) fn check_topic(values: &Values) -> Result<(), String> {
    for name in values.keys() {
        find(Scope::Topic, name).ok_or_else(|| format!("Unknown topic config name: {name}"))?;
    }
    for (name, value) in values {
        let def = find(Scope::Topic, name).expect("looked up above");
        def.check(value)?;
    }
    let lag = |name| values.get(name).and_then(|value| value.trim().parse::<i64>().ok());
    let (least, most) = ("min.compaction.lag.ms", "max.compaction.lag.ms");
    if let (Some(min), Some(max)) = (lag(least), lag(most))
        && min > max
    {
        return Err(format!("conflict topic config setting {least} ({min}) > {most} ({max})"));
    }
    if values.get("remote.storage.enable").is_some_and(|value| is_true(value)) {
        return Err("Tiered Storage functionality is disabled in the broker. \
                    Topic cannot be configured with remote log storage."
            .into());
    }
    Ok(())
}

/// Checks what a broker (`per_broker`) or all brokers are told while they run.
pub(crate) fn check_dynamic(values: &Values, per_broker: bool) -> Result<(), String> {
    let refuse = |names: Vec<&str>, text: &str| match names.is_empty() {
        true => Ok(()),
        false => Err(format!("{text}: [{}]", names.join(", "))),
    };
    let defs = || values.keys().filter_map(|name| find(Scope::Broker, name));
    let fixed = defs().filter(|def| def.mode == Mode::ReadOnly).map(|def| def.name);
    refuse(fixed.collect(), "Cannot update these configs dynamically")?;
    for (name, value) in values {
        let Some(def) = find(Scope::Broker, name) else { continue };
        def.check(value)?;
    }
    if !per_broker {
        let own = defs().filter(|def| def.mode == Mode::PerBroker).map(|def| def.name);
        let text = "Cannot update these configs at default cluster level, broker id must be specified";
        refuse(own.collect(), text)?;
    }
    let known = |name: &&String| HARMLESS.contains(&name.as_str());
    let used = |name: &&String| {
        find(Scope::Broker, name).is_some_and(|def| def.doc.is_some() && def.mode == Mode::ClusterWide)
            || topic_of_synonym(name).is_some()
    };
    let unused = values.keys().filter(|name| !known(name) && !used(name)).map(String::as_str);
    refuse(unused.collect(), "Cannot update these configs dynamically, this broker does not use them")
}

fn is_true(value: &str) -> bool {
    value.trim().eq_ignore_ascii_case("true")
}

/// What brokers were told while they run.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Dynamic {
    /// This broker.
    pub broker: Values,
    /// All brokers.
    pub default: Values,
}

/// The broker's configurations by Kafka's names, with typed access.
#[derive(Debug, Default)]
pub(crate) struct Server {
    statics: Values,
    dynamic: ArcSwap<Dynamic>,
}

/// Keys that give one value in other units, and how many milliseconds a unit has.
const UNITS_MS: &[(&str, i64)] = &[
    ("log.retention.minutes", 60_000),
    ("log.retention.hours", 3_600_000),
    ("log.roll.hours", 3_600_000),
    ("log.roll.jitter.hours", 3_600_000),
];

impl Server {
    /// Checks names and values of what is given at start.
    pub(crate) fn new(statics: Values) -> Result<Self, String> {
        for (name, value) in &statics {
            // `listener.name.<listener>.<key>` is the key for one listener.
            let own = name.strip_prefix("listener.name.").and_then(|rest| rest.split_once('.'));
            let def = find(Scope::Broker, own.map_or(name, |(_, key)| key));
            def.ok_or_else(|| format!("unknown broker configuration {name}"))?.check(value)?;
        }
        Ok(Self { statics, dynamic: ArcSwap::default() })
    }

    /// Notes what is known only once the broker runs.
    pub(crate) fn set(&mut self, name: &str, value: String) {
        self.statics.insert(name.to_owned(), value);
    }

    /// Replaces what was told while the broker runs.
    pub(crate) fn set_dynamic(&self, dynamic: Dynamic) {
        self.dynamic.store(Arc::new(dynamic));
    }

    /// What was told while the broker runs.
    pub(crate) fn dynamic(&self) -> Arc<Dynamic> {
        self.dynamic.load_full()
    }

    /// What was given at start.
    pub(crate) fn statics(&self) -> &Values {
        &self.statics
    }

    /// Reads the value in force of the first of `names` that has one, level by level, with the name that gave it.
    fn read<T>(&self, names: &[&str], read: impl FnOnce(&str, &str) -> T) -> Option<T> {
        let dynamic = self.dynamic.load();
        for level in [&dynamic.broker, &dynamic.default, &self.statics] {
            if let Some((name, value)) = names.iter().find_map(|name| level.get_key_value(*name)) {
                return Some(read(name, value));
            }
        }
        let default = |name| find(Scope::Broker, name).and_then(|def| Some((def.name, def.default?)));
        names.iter().copied().find_map(default).map(|(name, value)| read(name, value))
    }

    /// The value in force of a broker's key; None where it has neither value nor default.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.read(&[name], |_, value| value.to_owned())
    }

    /// A number; checked when it was set, so that it parses.
    pub(crate) fn number(&self, name: &str) -> i64 {
        self.read(&[name], |_, value| value.trim().parse().ok()).flatten().unwrap_or_default()
    }

    /// A switch.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.read(&[name], |_, value| is_true(value)).unwrap_or_default()
    }

    /// A topic's value in force.
    pub(crate) fn topic_text(&self, own: &Values, name: &str) -> String {
        let def = find(Scope::Topic, name).expect("the name of a topic's key");
        if let Some(value) = own.get(name) {
            return value.trim().to_owned();
        }
        let in_ms = |name: &str, value: &str| match UNITS_MS.iter().find(|(unit, _)| *unit == name) {
            Some((_, ms)) => match value.trim().parse::<i64>() {
                Ok(count) if count >= 0 => count.saturating_mul(*ms).to_string(),
                _ => "-1".to_owned(),
            },
            None => value.trim().to_owned(),
        };
        self.read(&def.synonyms, in_ms).unwrap_or_else(|| def.default.unwrap_or_default().to_owned())
    }

    fn topic_number(&self, own: &Values, name: &str) -> i64 {
        self.topic_text(own, name).parse().unwrap_or_default()
    }

    /// The codec that batches are stored with, and its level; None keeps what the producer chose.
    fn compression(&self, own: &Values) -> Option<(Compression, Option<i32>)> {
        let codec = match &*self.topic_text(own, "compression.type") {
            "producer" => return None,
            "uncompressed" => Compression::None,
            name => Compression::from_name(name)?,
        };
        let level = match codec {
            Compression::Gzip | Compression::Lz4 | Compression::Zstd => {
                let key = format!("compression.{}.level", codec.name());
                Some(self.topic_number(own, &key) as i32)
            }
            _ => None,
        };
        Some((codec, level))
    }

    /// Whether no new partitions go to the directory with this path.
    pub(crate) fn cordons(&self, path: &str) -> bool {
        let cordoned = self.text(CORDONED).unwrap_or_default();
        list(&cordoned).any(|dir| dir == ALL_DIRS || dir == path)
    }

    /// Checks `cordoned.log.dirs` among `values` (`KafkaConfig.validateCordonedLogDirs`).
    pub(crate) fn check_cordoned(&self, values: &Values) -> Result<(), String> {
        let Some(value) = values.get(CORDONED) else { return Ok(()) };
        let entries: Vec<&str> = list(value).collect();
        if entries.contains(&ALL_DIRS) {
            return match entries.len() {
                1 => Ok(()),
                _ => Err(format!(
                    "requirement failed: When {CORDONED} is set to {ALL_DIRS}, it must not contain other values"
                )),
            };
        }
        let dirs = self.text("log.dirs").unwrap_or_default();
        let missing: Vec<&str> =
            entries.into_iter().filter(|dir| !list(&dirs).any(|of| of == *dir)).collect();
        match missing.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "requirement failed: All entries in {CORDONED} must be present in log.dirs or log.dir. \
                 Missing entries : {}",
                missing.join(", ")
            )),
        }
    }

    /// What a topic that the broker itself makes is made with (`GroupCoordinatorService.groupMetadataTopicConfigs`,
    /// `TransactionStateManager.transactionTopicConfigs`).
    pub(crate) fn internal_topic(&self, name: &str) -> Values {
        let number = |key| self.number(key).to_string();
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        match name {
            names::OFFSETS => {
                let segment_bytes = number("offsets.topic.segment.bytes");
                let configs = [
                    ("cleanup.policy", "compact"),
                    ("compression.type", "producer"),
                    ("segment.bytes", &segment_bytes),
                ];
                configs.map(owned).into()
            }
            names::TRANSACTIONS => {
                let segment_bytes = number("transaction.state.log.segment.bytes");
                let replicas = number("transaction.state.log.min.isr");
                let configs = [
                    ("cleanup.policy", "compact"),
                    ("compression.type", "uncompressed"),
                    ("min.insync.replicas", &replicas),
                    ("segment.bytes", &segment_bytes),
                    ("unclean.leader.election.enable", "false"),
                ];
                configs.map(owned).into()
            }
            _ => Values::new(),
        }
    }

    /// A topic's settings in force.
    pub(crate) fn topic(&self, own: &Values) -> TopicSettings {
        TopicSettings {
            max_message_bytes: self.topic_number(own, "max.message.bytes"),
            log_append_time: self.topic_text(own, "message.timestamp.type") == "LogAppendTime",
            timestamp_before_max_ms: self.topic_number(own, "message.timestamp.before.max.ms"),
            timestamp_after_max_ms: self.topic_number(own, "message.timestamp.after.max.ms"),
            segment_bytes: match own.get("internal.segment.bytes").and_then(|value| value.trim().parse().ok())
            {
                Some(bytes) => bytes,
                None => self.topic_number(own, "segment.bytes"),
            },
            segment_ms: self.topic_number(own, "segment.ms"),
            segment_jitter_ms: self.topic_number(own, "segment.jitter.ms"),
            index_bytes_max: self.topic_number(own, "segment.index.bytes"),
            index_interval_bytes: self.topic_number(own, "index.interval.bytes"),
            preallocate: is_true(&self.topic_text(own, "preallocate")),
            retention_ms: self.topic_number(own, "retention.ms"),
            retention_bytes: self.topic_number(own, "retention.bytes"),
            file_delete_delay_ms: self.topic_number(own, "file.delete.delay.ms"),
            flush_messages: self.topic_number(own, "flush.messages"),
            flush_ms: self.topic_number(own, "flush.ms"),
            compaction_lag_ms_max: self.topic_number(own, "max.compaction.lag.ms"),
            compacted: self.topic_text(own, "cleanup.policy").contains("compact"),
            deletes: self.topic_text(own, "cleanup.policy").contains("delete"),
            compression: self.compression(own),
        }
    }
}

/// What a topic's configurations come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicSettings {
    pub max_message_bytes: i64,
    pub log_append_time: bool,
    pub timestamp_before_max_ms: i64,
    pub timestamp_after_max_ms: i64,
    pub segment_bytes: i64,
    pub segment_ms: i64,
    pub segment_jitter_ms: i64,
    pub index_bytes_max: i64,
    pub index_interval_bytes: i64,
    pub preallocate: bool,
    pub retention_ms: i64,
    pub retention_bytes: i64,
    pub file_delete_delay_ms: i64,
    pub flush_messages: i64,
    pub flush_ms: i64,
    pub compaction_lag_ms_max: i64,
    pub compacted: bool,
    /// Old segments go.
    pub deletes: bool,
    /// The codec and level that batches are stored with; None keeps the producer's.
    pub compression: Option<(Compression, Option<i32>)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, value: &str, expect: &str) {
        let got = check_topic(&Values::from([(name.to_owned(), value.to_owned())]));
        assert_eq!(got.err().unwrap_or_default(), expect);
    }

    /// The texts are those that `LogConfig.validate` of Kafka 4.3.1 gives.
    #[test]
    fn texts_of_topic_values() {
        let invalid = |name, value, why: &str| {
            check(name, value, &format!("Invalid value {value} for configuration {name}: {why}"));
        };
        check("retention.ms", "-1", "");
        check("retention.ms", " 5 ", "");
        check("retention.bytes", "-9", "");
        check("preallocate", "FALSE", "");
        check("compression.type", "zstd", "");
        invalid("retention.ms", "-2", "Value must be at least -1");
        invalid("retention.ms", "x", "Not a number of type LONG");
        invalid("retention.ms", "", "Not a number of type LONG");
        invalid("max.message.bytes", "3000000000", "Not a number of type INT");
        invalid("min.cleanable.dirty.ratio", "1.5", "Value must be no more than 1");
        invalid("min.cleanable.dirty.ratio", "-0.1", "Value must be at least 0");
        invalid("compression.gzip.level", "0", "Value must be between 1 and 9 or equal to -1");
        check("compression.lz4.level", "17", "");
        invalid("compression.lz4.level", "18", "Value must be no more than 17");
        invalid("preallocate", "maybe", "Expected value to be either true or false");
        let codecs = "String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer";
        invalid("compression.type", "foo", codecs);
        check(
            "cleanup.policy",
            "compact,foo",
            "Invalid value foo for configuration cleanup.policy: String must be one of: compact, delete",
        );
        check("leader.replication.throttled.replicas", "0:1,1:2", "");
        check("leader.replication.throttled.replicas", "*", "");
        assert!(
            check_topic(&Values::from([("leader.replication.throttled.replicas".into(), "abc".into())]))
                .is_err_and(|text| text.starts_with("Invalid value [abc] for configuration leader"))
        );
        check("no.such", "1", "Unknown topic config name: no.such");
        let lags = [("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "5")];
        let lags = lags.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(
            check_topic(&Values::from(lags)),
            Err("conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (5)".into())
        );
    }

    #[test]
    fn what_may_change_while_the_broker_runs() {
        let check = |name: &str, value: &str, per_broker| {
            check_dynamic(&Values::from([(name.to_owned(), value.to_owned())]), per_broker)
        };
        assert_eq!(check("log.retention.ms", "5", false), Ok(()));
        assert_eq!(check("max.connections", "5", true), Ok(()));
        assert_eq!(check("leader.replication.throttled.rate", "5", true), Ok(()));
        let text = |name| Err(format!("Cannot update these configs dynamically: [{name}]"));
        assert_eq!(check("broker.id", "1", true), text("broker.id"));
        assert_eq!(check("log.retention.hours", "1", true), text("log.retention.hours"));
        assert!(
            check("listeners", "PLAINTEXT://:1", false)
                .is_err_and(|text| text.contains("default cluster level"))
        );
        assert!(check("num.io.threads", "3", false).is_err_and(|text| text.contains("does not use")));
        assert_eq!(
            check("num.io.threads", "0", false),
            Err("Invalid value 0 for configuration num.io.threads: Value must be at least 1".into())
        );
    }

    #[test]
    fn levels_and_units() {
        let server = Server::new(Values::from([("log.retention.hours".into(), "2".into())])).unwrap();
        assert_eq!(server.topic(&Values::new()).retention_ms, 7_200_000);
        let own = Values::from([("retention.ms".into(), "5".into())]);
        assert_eq!(server.topic(&own).retention_ms, 5);
        assert_eq!(server.topic(&own).segment_bytes, 1 << 30);
        assert_eq!(server.topic(&own).segment_ms, 604_800_000);
        let one = |value: &str| Values::from([("log.retention.ms".to_owned(), value.to_owned())]);
        server.set_dynamic(Dynamic { broker: Values::new(), default: one("7") });
        assert_eq!(server.topic(&Values::new()).retention_ms, 7);
        server.set_dynamic(Dynamic { broker: one("8"), default: one("7") });
        assert_eq!(server.topic(&Values::new()).retention_ms, 8);
        assert!(Server::new(Values::from([("nope".into(), "2".into())])).is_err());
        assert_eq!(server.number("max.connections"), 10_000);
    }

    #[test]
    fn codecs_and_levels() {
        let server = Server::default();
        let of = |pairs: &[(&str, &str)]| {
            let own = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            server.topic(&own.collect()).compression
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("compression.type", "uncompressed")]), Some((Compression::None, None)));
        assert_eq!(of(&[("compression.type", "snappy")]), Some((Compression::Snappy, None)));
        let zstd = of(&[("compression.type", "zstd"), ("compression.zstd.level", "7")]);
        assert_eq!(zstd, Some((Compression::Zstd, Some(7))));
    }
}
