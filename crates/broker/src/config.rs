//! Kafka's configuration keys: names, types, defaults, limits, documentation, and what of them takes effect here.
//!
//! ```text
//! topic value:  topic's own (5 DYNAMIC_TOPIC) > broker's synonym given at start (4 STATIC_BROKER) > default (5 DEFAULT)
//! ```
//! A key whose other values would change nothing here accepts its default only: nothing is accepted and ignored.

use std::collections::BTreeMap;

/// Configurations by name.
pub(crate) type Values = BTreeMap<String, String>;

/// The type of a value, with DescribeConfigs' numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub(crate) enum Kind {
    Boolean = 1,
    String = 2,
    Int = 3,
    Long = 5,
    Double = 6,
    List = 7,
}

/// What a value must be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rule {
    /// Anything of the type.
    Any,
    /// A number in the range.
    Range(i64, i64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// The default, because nothing else would be acted on.
    DefaultOnly,
}

/// One key.
#[derive(Debug)]
pub(crate) struct Def {
    pub name: &'static str,
    pub kind: Kind,
    pub default: &'static str,
    pub rule: Rule,
    /// The broker's key that gives the topic's default; empty for none.
    pub synonym: &'static str,
    pub doc: &'static str,
}

const LONG_MAX: i64 = i64::MAX;
const INT_MAX: i64 = i32::MAX as i64;

const fn def(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    rule: Rule,
    synonym: &'static str,
    doc: &'static str,
) -> Def {
    Def { name, kind, default, rule, synonym, doc }
}

/// Keys of topics, by name (TopicConfig.java of Kafka 4.3).
pub(crate) static TOPIC: &[Def] = &[
    def(
        "cleanup.policy",
        Kind::List,
        "delete",
        Rule::OneOf(&["delete"]),
        "log.cleanup.policy",
        "What becomes of old segments: they are deleted.",
    ),
    def(
        "compression.gzip.level",
        Kind::Int,
        "-1",
        Rule::DefaultOnly,
        "compression.gzip.level",
        "Level of gzip when the broker compresses.",
    ),
    def(
        "compression.lz4.level",
        Kind::Int,
        "9",
        Rule::DefaultOnly,
        "compression.lz4.level",
        "Level of lz4 when the broker compresses.",
    ),
    def(
        "compression.type",
        Kind::String,
        "producer",
        Rule::DefaultOnly,
        "compression.type",
        "Batches keep the compression that the producer chose.",
    ),
    def(
        "compression.zstd.level",
        Kind::Int,
        "3",
        Rule::DefaultOnly,
        "compression.zstd.level",
        "Level of zstd when the broker compresses.",
    ),
    def(
        "delete.retention.ms",
        Kind::Long,
        "86400000",
        Rule::Range(0, LONG_MAX),
        "log.cleaner.delete.retention.ms",
        "How long compaction keeps tombstones.",
    ),
    def(
        "file.delete.delay.ms",
        Kind::Long,
        "60000",
        Rule::Range(0, LONG_MAX),
        "log.segment.delete.delay.ms",
        "How long a retired file stays on disk.",
    ),
    def(
        "flush.messages",
        Kind::Long,
        "9223372036854775807",
        Rule::Range(1, LONG_MAX),
        "log.flush.interval.messages",
        "Records after which the log is flushed to disk.",
    ),
    def(
        "flush.ms",
        Kind::Long,
        "9223372036854775807",
        Rule::DefaultOnly,
        "log.flush.interval.ms",
        "Milliseconds after which the log is flushed to disk.",
    ),
    def(
        "follower.replication.throttled.replicas",
        Kind::List,
        "",
        Rule::DefaultOnly,
        "",
        "Replicas whose followers are throttled.",
    ),
    def(
        "index.interval.bytes",
        Kind::Int,
        "4096",
        Rule::DefaultOnly,
        "log.index.interval.bytes",
        "Bytes between two entries of the index.",
    ),
    def(
        "leader.replication.throttled.replicas",
        Kind::List,
        "",
        Rule::DefaultOnly,
        "",
        "Replicas whose leaders are throttled.",
    ),
    def(
        "local.retention.bytes",
        Kind::Long,
        "-2",
        Rule::DefaultOnly,
        "log.local.retention.bytes",
        "Bytes kept locally when segments are tiered.",
    ),
    def(
        "local.retention.ms",
        Kind::Long,
        "-2",
        Rule::DefaultOnly,
        "log.local.retention.ms",
        "Milliseconds kept locally when segments are tiered.",
    ),
    def(
        "max.compaction.lag.ms",
        Kind::Long,
        "9223372036854775807",
        Rule::Range(1, LONG_MAX),
        "log.cleaner.max.compaction.lag.ms",
        "The longest a record stays uncompacted.",
    ),
    def(
        "max.message.bytes",
        Kind::Int,
        "1048588",
        Rule::Range(0, INT_MAX),
        "message.max.bytes",
        "The largest batch, after compression.",
    ),
    def(
        "message.timestamp.after.max.ms",
        Kind::Long,
        "3600000",
        Rule::Range(0, LONG_MAX),
        "log.message.timestamp.after.max.ms",
        "How far a record's time may lie after the broker's.",
    ),
    def(
        "message.timestamp.before.max.ms",
        Kind::Long,
        "9223372036854775807",
        Rule::Range(0, LONG_MAX),
        "log.message.timestamp.before.max.ms",
        "How far a record's time may lie before the broker's.",
    ),
    def(
        "message.timestamp.type",
        Kind::String,
        "CreateTime",
        Rule::OneOf(&["CreateTime", "LogAppendTime"]),
        "log.message.timestamp.type",
        "Whether records keep the producer's time or get the broker's.",
    ),
    def(
        "min.cleanable.dirty.ratio",
        Kind::Double,
        "0.5",
        Rule::Range(0, 1),
        "log.cleaner.min.cleanable.ratio",
        "How much of a log must be dirty before it is compacted.",
    ),
    def(
        "min.compaction.lag.ms",
        Kind::Long,
        "0",
        Rule::Range(0, LONG_MAX),
        "log.cleaner.min.compaction.lag.ms",
        "The shortest a record stays uncompacted.",
    ),
    def(
        "min.insync.replicas",
        Kind::Int,
        "1",
        Rule::Range(1, INT_MAX),
        "min.insync.replicas",
        "Replicas that must have a record before acks=all is answered.",
    ),
    def(
        "preallocate",
        Kind::Boolean,
        "false",
        Rule::DefaultOnly,
        "log.preallocate",
        "Whether a segment's file is made at full size.",
    ),
    def(
        "remote.log.copy.disable",
        Kind::Boolean,
        "false",
        Rule::DefaultOnly,
        "",
        "Whether copying to the remote tier is stopped.",
    ),
    def(
        "remote.log.delete.on.disable",
        Kind::Boolean,
        "false",
        Rule::DefaultOnly,
        "",
        "Whether tiered data goes when tiering is turned off.",
    ),
    def(
        "remote.storage.enable",
        Kind::Boolean,
        "false",
        Rule::DefaultOnly,
        "",
        "Whether segments are tiered.",
    ),
    def(
        "retention.bytes",
        Kind::Long,
        "-1",
        Rule::Range(-1, LONG_MAX),
        "log.retention.bytes",
        "Bytes kept a partition; -1 for no limit.",
    ),
    def(
        "retention.ms",
        Kind::Long,
        "604800000",
        Rule::Range(-1, LONG_MAX),
        "log.retention.ms",
        "Milliseconds kept; -1 for no limit.",
    ),
    def(
        "segment.bytes",
        Kind::Int,
        "1073741824",
        Rule::Range(1_048_576, INT_MAX),
        "log.segment.bytes",
        "The largest segment file.",
    ),
    def(
        "segment.index.bytes",
        Kind::Int,
        "10485760",
        Rule::Range(4, INT_MAX),
        "log.index.size.max.bytes",
        "The largest index file of a segment.",
    ),
    def(
        "segment.jitter.ms",
        Kind::Long,
        "0",
        Rule::Range(0, LONG_MAX),
        "log.roll.jitter.ms",
        "Random part of segment.ms.",
    ),
    def(
        "segment.ms",
        Kind::Long,
        "604800000",
        Rule::Range(1, LONG_MAX),
        "log.roll.ms",
        "Milliseconds of records after which a new segment begins.",
    ),
    def(
        "unclean.leader.election.enable",
        Kind::Boolean,
        "false",
        Rule::Any,
        "unclean.leader.election.enable",
        "Whether a replica that is behind may become leader.",
    ),
];

/// Keys of the broker that are not a topic's default, by name.
pub(crate) static BROKER: &[Def] = &[
    def(
        "advertised.listeners",
        Kind::String,
        "",
        Rule::Any,
        "",
        "Addresses told to clients; empty for the one they dialled.",
    ),
    def(
        "auto.create.topics.enable",
        Kind::Boolean,
        "true",
        Rule::Any,
        "",
        "Whether asking for an unknown topic makes it.",
    ),
    def("broker.id", Kind::Int, "1", Rule::Range(0, INT_MAX), "", "This broker's id."),
    def(
        "connections.max.idle.ms",
        Kind::Long,
        "600000",
        Rule::Range(1, LONG_MAX),
        "",
        "Milliseconds after which an idle connection is closed.",
    ),
    def(
        "default.replication.factor",
        Kind::Int,
        "1",
        Rule::Range(1, 1),
        "",
        "Replicas of topics that are made automatically.",
    ),
    def("delete.topic.enable", Kind::Boolean, "true", Rule::Any, "", "Whether topics may be deleted."),
    def(
        "fetch.max.bytes",
        Kind::Int,
        "57671680",
        Rule::Range(1024, INT_MAX),
        "",
        "The most that one fetch returns.",
    ),
    def(
        "group.initial.rebalance.delay.ms",
        Kind::Int,
        "3000",
        Rule::Range(0, INT_MAX),
        "",
        "How long the first rebalance of a group waits for more members.",
    ),
    def(
        "group.max.session.timeout.ms",
        Kind::Int,
        "1800000",
        Rule::Range(1, INT_MAX),
        "",
        "The longest session a group member may ask for.",
    ),
    def(
        "group.max.size",
        Kind::Int,
        "2147483647",
        Rule::Range(1, INT_MAX),
        "",
        "The most members a group may have.",
    ),
    def(
        "group.min.session.timeout.ms",
        Kind::Int,
        "6000",
        Rule::Range(1, INT_MAX),
        "",
        "The shortest session a group member may ask for.",
    ),
    def("listeners", Kind::String, "", Rule::Any, "", "Addresses listened on."),
    def("log.dirs", Kind::String, "", Rule::Any, "", "Where logs are kept."),
    def(
        "log.retention.check.interval.ms",
        Kind::Long,
        "300000",
        Rule::Range(1, LONG_MAX),
        "",
        "How often old segments are looked for.",
    ),
    def(
        "max.connections",
        Kind::Int,
        "10000",
        Rule::Range(1, INT_MAX),
        "",
        "The most connections at a time.",
    ),
    def(
        "max.incremental.fetch.session.cache.slots",
        Kind::Int,
        "1000",
        Rule::Range(0, INT_MAX),
        "",
        "The most fetch sessions kept at a time.",
    ),
    def(
        "min.incremental.fetch.session.eviction.ms",
        Kind::Int,
        "120000",
        Rule::Range(0, INT_MAX),
        "",
        "How old a fetch session must be before another may take its place.",
    ),
    def("node.id", Kind::Int, "1", Rule::Range(0, INT_MAX), "", "This node's id."),
    def(
        "num.partitions",
        Kind::Int,
        "1",
        Rule::Range(1, INT_MAX),
        "",
        "Partitions of topics that are made automatically.",
    ),
    def(
        "offset.metadata.max.bytes",
        Kind::Int,
        "4096",
        Rule::Range(0, INT_MAX),
        "",
        "The longest metadata of a committed offset.",
    ),
    def(
        "offsets.retention.check.interval.ms",
        Kind::Long,
        "600000",
        Rule::Range(1, LONG_MAX),
        "",
        "How often old offsets are looked for.",
    ),
    def(
        "offsets.retention.minutes",
        Kind::Int,
        "10080",
        Rule::Range(1, INT_MAX),
        "",
        "How long an empty group's offsets are kept.",
    ),
    def(
        "offsets.topic.num.partitions",
        Kind::Int,
        "50",
        Rule::Range(1, INT_MAX),
        "",
        "Partitions of the topic of offsets.",
    ),
    def(
        "offsets.topic.replication.factor",
        Kind::Int,
        "1",
        Rule::Range(1, 1),
        "",
        "Replicas of the topic of offsets.",
    ),
    def(
        "offsets.topic.segment.bytes",
        Kind::Int,
        "104857600",
        Rule::Range(1, INT_MAX),
        "",
        "The largest segment of the topic of offsets.",
    ),
    def(
        "producer.id.expiration.ms",
        Kind::Int,
        "86400000",
        Rule::Range(1, INT_MAX),
        "",
        "How long an idle producer's sequence is remembered.",
    ),
    def(
        "socket.request.max.bytes",
        Kind::Int,
        "104857600",
        Rule::Range(1, INT_MAX),
        "",
        "The largest request.",
    ),
];

/// The key of a topic with this name.
pub(crate) fn topic_def(name: &str) -> Option<&'static Def> {
    TOPIC.iter().find(|def| def.name == name)
}

impl Def {
    /// Whether `value` may be set; else a text in Kafka's words.
    pub(crate) fn check(&self, value: &str) -> Result<(), String> {
        let invalid =
            |why: &str| Err(format!("Invalid value {value} for configuration {}: {why}", self.name));
        let number = match self.kind {
            Kind::Boolean if value != "true" && value != "false" => {
                return invalid("Expected value to be either true or false");
            }
            Kind::Int => value.parse::<i32>().map(i64::from).map_err(|_| "Not a number of type INT"),
            Kind::Long => value.parse().map_err(|_| "Not a number of type LONG"),
            Kind::Double => {
                value.parse::<f64>().map(|v| v.ceil() as i64).map_err(|_| "Not a number of type DOUBLE")
            }
            Kind::Boolean | Kind::String | Kind::List => Ok(0),
        };
        let number = match number {
            Ok(number) => number,
            Err(why) => return invalid(why),
        };
        match self.rule {
            Rule::Any => Ok(()),
            Rule::Range(least, most) if (least..=most).contains(&number) => Ok(()),
            Rule::Range(least, _) if number < least => invalid(&format!("Value must be at least {least}")),
            Rule::Range(_, most) => invalid(&format!("Value must be no more than {most}")),
            Rule::OneOf(words) if value.split(',').all(|word| words.contains(&word.trim())) => Ok(()),
            Rule::OneOf(words) => invalid(&format!("this broker supports only {}", words.join(", "))),
            Rule::DefaultOnly if value == self.default => Ok(()),
            Rule::DefaultOnly => {
                invalid(&format!("this broker supports only the default, {:?}", self.default))
            }
        }
    }
}

/// Checks a topic's own configurations.
pub(crate) fn check_topic(values: &Values) -> Result<(), String> {
    for (name, value) in values {
        let def = topic_def(name).ok_or_else(|| format!("Unknown topic config name: {name}"))?;
        def.check(value)?;
    }
    Ok(())
}

/// The broker's configurations as given at start, by Kafka's names, with typed access.
#[derive(Debug, Clone, Default)]
pub(crate) struct Server {
    values: Values,
}

impl Server {
    /// Checks names and values.
    pub(crate) fn new(mut values: Values) -> Result<Self, String> {
        fold_units(&mut values)?;
        for (name, value) in &values {
            let def = BROKER
                .iter()
                .find(|def| def.name == name)
                .or_else(|| TOPIC.iter().find(|d| d.synonym == name));
            def.ok_or_else(|| format!("unknown broker configuration {name}"))?.check(value)?;
        }
        Ok(Self { values })
    }

    /// What was given, if it was.
    pub(crate) fn given(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Notes what is known only once the broker runs.
    pub(crate) fn set(&mut self, name: &str, value: String) {
        self.values.insert(name.to_owned(), value);
    }

    fn text(&self, name: &str) -> &str {
        let default = || BROKER.iter().find(|def| def.name == name).map(|def| def.default);
        self.given(name).or_else(default).unwrap_or_default()
    }

    /// A number; checked at start, so that it parses.
    pub(crate) fn number(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or_default()
    }

    /// A switch.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.text(name) == "true"
    }

    /// A topic's value in force.
    pub(crate) fn topic_text<'a>(&'a self, own: &'a Values, name: &str) -> &'a str {
        let def = topic_def(name).expect("the name of a topic's key");
        own.get(name).map(String::as_str).or_else(|| self.given(def.synonym)).unwrap_or(def.default)
    }

    fn topic_number(&self, own: &Values, name: &str) -> i64 {
        self.topic_text(own, name).parse().unwrap_or_default()
    }

    /// A topic's settings in force.
    pub(crate) fn topic(&self, own: &Values) -> TopicSettings {
        TopicSettings {
            max_message_bytes: self.topic_number(own, "max.message.bytes"),
            log_append_time: self.topic_text(own, "message.timestamp.type") == "LogAppendTime",
            timestamp_before_max_ms: self.topic_number(own, "message.timestamp.before.max.ms"),
            timestamp_after_max_ms: self.topic_number(own, "message.timestamp.after.max.ms"),
            min_insync_replicas: self.topic_number(own, "min.insync.replicas"),
            segment_bytes: self.topic_number(own, "segment.bytes"),
            segment_ms: self.topic_number(own, "segment.ms"),
            segment_jitter_ms: self.topic_number(own, "segment.jitter.ms"),
            index_bytes_max: self.topic_number(own, "segment.index.bytes"),
            retention_ms: self.topic_number(own, "retention.ms"),
            retention_bytes: self.topic_number(own, "retention.bytes"),
            file_delete_delay_ms: self.topic_number(own, "file.delete.delay.ms"),
            flush_messages: self.topic_number(own, "flush.messages"),
            compacted: self.topic_text(own, "cleanup.policy").contains("compact"),
        }
    }
}

/// `log.retention.minutes` and `hours` and `log.roll.hours` as the milliseconds they mean; milliseconds win.
fn fold_units(values: &mut Values) -> Result<(), String> {
    for (name, unit_ms, target) in [
        ("log.retention.minutes", 60_000, "log.retention.ms"),
        ("log.retention.hours", 3_600_000, "log.retention.ms"),
        ("log.roll.hours", 3_600_000, "log.roll.ms"),
    ] {
        if let Some(value) = values.remove(name) {
            let count: i64 = value.parse().map_err(|_| format!("{name} is not a number: {value}"))?;
            let ms = if count < 0 { -1 } else { count.saturating_mul(unit_ms) };
            values.entry(target.to_owned()).or_insert(ms.to_string());
        }
    }
    Ok(())
}

/// What a topic's configurations come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicSettings {
    pub max_message_bytes: i64,
    pub log_append_time: bool,
    pub timestamp_before_max_ms: i64,
    pub timestamp_after_max_ms: i64,
    pub min_insync_replicas: i64,
    pub segment_bytes: i64,
    pub segment_ms: i64,
    pub segment_jitter_ms: i64,
    pub index_bytes_max: i64,
    pub retention_ms: i64,
    pub retention_bytes: i64,
    pub file_delete_delay_ms: i64,
    pub flush_messages: i64,
    pub compacted: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_defaults_pass_their_own_rules() {
        assert!(TOPIC.is_sorted_by_key(|def| def.name) && BROKER.is_sorted_by_key(|def| def.name));
        for def in TOPIC.iter().chain(BROKER) {
            assert_eq!(def.check(def.default), Ok(()), "{}", def.name);
        }
    }

    #[track_caller]
    fn check(name: &str, value: &str, expect: &str) {
        let got = check_topic(&Values::from([(name.to_owned(), value.to_owned())]));
        assert_eq!(got.err().unwrap_or_default(), expect);
    }

    #[test]
    fn values() {
        check("retention.ms", "-1", "");
        check(
            "retention.ms",
            "-2",
            "Invalid value -2 for configuration retention.ms: Value must be at least -1",
        );
        check(
            "retention.ms",
            "x",
            "Invalid value x for configuration retention.ms: Not a number of type LONG",
        );
        check("cleanup.policy", "delete", "");
        let only = "this broker supports only delete";
        check(
            "cleanup.policy",
            "compact",
            &format!("Invalid value compact for configuration cleanup.policy: {only}"),
        );
        check("compression.type", "producer", "");
        check("no.such", "1", "Unknown topic config name: no.such");
    }

    #[test]
    fn the_topic_wins_over_the_broker_and_the_broker_over_the_default() {
        let server = Server::new(Values::from([("log.retention.hours".into(), "2".into())])).unwrap();
        assert_eq!(server.topic(&Values::new()).retention_ms, 7_200_000);
        let own = Values::from([("retention.ms".into(), "5".into())]);
        assert_eq!(server.topic(&own).retention_ms, 5);
        assert_eq!(server.topic(&own).segment_bytes, 1 << 30);
        assert!(Server::new(Values::from([("nope".into(), "2".into())])).is_err());
    }
}
