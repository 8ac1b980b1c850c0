//! Every configuration key of Kafka 4.3, from the pinned jars: `kafka-4.3.tsv` is printed by
//! `tests/java/wire/ConfigTable.java` (`cargo xtask codegen kafka-configs`), `docs.tsv` holds our sentences.
//!
//! ```text
//! scope <tab> name <tab> type <tab> default, \N for none <tab> what a value must be <tab> how it is changed
//!       <tab> names that give its value, first wins <tab> public or internal
//! ```

use std::sync::OnceLock;

const FACTS: &str = include_str!("kafka-4.3.tsv");
const DOCS: &str = include_str!("docs.tsv");

/// Defaults that differ here, and why.
const OUR_DEFAULTS: &[(&str, &str)] = &[
    // Each connection holds a descriptor; the process has 20,000.
    ("max.connections", "10000"),
];

/// Where a key belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    Topic,
    Broker,
    Group,
    ClientMetrics,
}

/// The type of a value, with DescribeConfigs' numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub(crate) enum Kind {
    Boolean = 1,
    String = 2,
    Int = 3,
    Short = 4,
    Long = 5,
    Double = 6,
    List = 7,
    Class = 8,
    Password = 9,
}

/// What a value must be beside its type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Rule {
    Any,
    /// A number not below, and not above.
    Range(f64, Option<f64>),
    /// A number in the range, or -1.
    RangeOrMinusOne(i64, i64),
    /// One of these words; in a list, each.
    OneOf(Vec<&'static str>),
    /// The same, in any case.
    OneOfAnyCase(Vec<&'static str>),
    /// `*` or a list of `partition:broker`.
    Replicas,
    NotEmpty,
}

/// How a broker's key is changed while the broker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    ReadOnly,
    PerBroker,
    ClusterWide,
}

/// One key.
#[derive(Debug)]
pub(crate) struct Def {
    pub scope: Scope,
    pub name: &'static str,
    pub kind: Kind,
    pub default: Option<&'static str>,
    pub rule: Rule,
    pub mode: Mode,
    /// For topics and groups the broker's keys that give the default; for the broker the other units of the same value.
    pub synonyms: Vec<&'static str>,
    pub internal: bool,
    /// Our sentence; None for keys that this broker does not use.
    pub doc: Option<&'static str>,
}

impl Def {
    /// The documentation as DescribeConfigs tells it.
    pub(crate) fn documentation(&self) -> String {
        match (self.doc, self.scope) {
            (Some(doc), _) => doc.to_owned(),
            (None, Scope::Broker) => match topic_of_synonym(self.name) {
                Some(topic) => format!("Default of the topics' {}. {}", topic.name, topic.documentation()),
                None => "A key of Apache Kafka that this broker does not use.".to_owned(),
            },
            (None, _) => "A key of Apache Kafka.".to_owned(),
        }
    }
}

/// All keys, by scope and name.
fn all() -> &'static [Def] {
    static ALL: OnceLock<Vec<Def>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all: Vec<Def> = FACTS
            .lines()
            .map(|line| parse(line).unwrap_or_else(|| panic!("checked by a test: {line}")))
            .collect();
        all.sort_by_key(|def| (def.scope, def.name));
        all
    })
}

/// The keys of a scope, by name.
pub(crate) fn keys(scope: Scope) -> &'static [Def] {
    let from = all().partition_point(|def| def.scope < scope);
    let to = all().partition_point(|def| def.scope <= scope);
    &all()[from..to]
}

/// The key with this name.
pub(crate) fn find(scope: Scope, name: &str) -> Option<&'static Def> {
    let at = all().binary_search_by(|def| (def.scope, def.name).cmp(&(scope, name))).ok()?;
    Some(&all()[at])
}

/// The topics' key whose default the broker's key `name` gives.
pub(crate) fn topic_of_synonym(name: &str) -> Option<&'static Def> {
    keys(Scope::Topic).iter().find(|def| def.synonyms.contains(&name))
}

fn parse(line: &'static str) -> Option<Def> {
    let fields: Vec<&'static str> = line.split('\t').collect();
    let [scope_name, name, kind, default, rule, mode, synonyms, kind_of] = fields[..] else { return None };
    let scope = match scope_name {
        "topic" => Scope::Topic,
        "broker" => Scope::Broker,
        "group" => Scope::Group,
        "client-metrics" => Scope::ClientMetrics,
        _ => return None,
    };
    let ours =
        OUR_DEFAULTS.iter().find(|(key, _)| scope == Scope::Broker && *key == name).map(|(_, value)| *value);
    let doc = DOCS.lines().find_map(|line| {
        line.strip_prefix(scope_name)?.strip_prefix('\t')?.strip_prefix(name)?.strip_prefix('\t')
    });
    Some(Def {
        scope,
        name,
        kind: parse_kind(kind)?,
        default: ours.or((default != "\\N").then_some(default)),
        rule: parse_rule(rule)?,
        mode: match mode {
            "cluster-wide" | "dynamic" => Mode::ClusterWide,
            "per-broker" => Mode::PerBroker,
            "read-only" => Mode::ReadOnly,
            _ => return None,
        },
        synonyms: synonyms.split(',').filter(|name| !name.is_empty()).collect(),
        internal: kind_of == "internal",
        doc,
    })
}

fn parse_kind(kind: &str) -> Option<Kind> {
    Some(match kind {
        "BOOLEAN" => Kind::Boolean,
        "STRING" => Kind::String,
        "INT" => Kind::Int,
        "SHORT" => Kind::Short,
        "LONG" => Kind::Long,
        "DOUBLE" => Kind::Double,
        "LIST" => Kind::List,
        "CLASS" => Kind::Class,
        "PASSWORD" => Kind::Password,
        _ => return None,
    })
}

fn parse_rule(rule: &'static str) -> Option<Rule> {
    if let Some(words) = rule.strip_prefix("(case insensitive) ") {
        return Some(Rule::OneOfAnyCase(words.strip_prefix('[')?.strip_suffix(']')?.split(", ").collect()));
    }
    if let Some((least, most)) = rule.strip_suffix(" or -1").and_then(range) {
        return Some(Rule::RangeOrMinusOne(least as i64, most? as i64));
    }
    if let Some((least, most)) = range(rule) {
        return Some(Rule::Range(least, most));
    }
    Some(match rule {
        "" | "non-null string" | "non-empty list" => Rule::Any,
        "non-empty string" => Rule::NotEmpty,
        _ if rule.starts_with("[partitionId]") => Rule::Replicas,
        // Patterns stand among the words; nothing here depends on their values.
        _ if rule.contains("by_duration") => Rule::Any,
        words => Rule::OneOf(words.strip_prefix('[')?.strip_suffix(']')?.split(", ").collect()),
    })
}

/// `[1,...]` or `[1,...,9]`.
fn range(text: &str) -> Option<(f64, Option<f64>)> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let (least, most) = inner.split_once(",...")?;
    let most = match most.strip_prefix(',') {
        Some(most) => Some(most.parse().ok()?),
        None => None,
    };
    Some((least.parse().ok()?, most))
}

impl Def {
    /// Whether `value` may be set; else why not, in Kafka's words.
    pub(crate) fn check(&self, value: &str) -> Result<(), String> {
        let trimmed = value.trim();
        let number = match self.kind {
            Kind::Boolean
                if !trimmed.eq_ignore_ascii_case("true") && !trimmed.eq_ignore_ascii_case("false") =>
            {
                return self.invalid(value, "Expected value to be either true or false");
            }
            Kind::Short => trimmed.parse::<i16>().map(f64::from).map_err(|_| "SHORT"),
            Kind::Int => trimmed.parse::<i32>().map(f64::from).map_err(|_| "INT"),
            Kind::Long => trimmed.parse::<i64>().map(|v| v as f64).map_err(|_| "LONG"),
            Kind::Double => trimmed.parse::<f64>().map_err(|_| "DOUBLE"),
            _ => Ok(0.0),
        };
        let number = match number {
            Ok(number) => number,
            Err(kind) => return self.invalid(value, &format!("Not a number of type {kind}")),
        };
        match &self.rule {
            Rule::Any => Ok(()),
            Rule::Range(least, _) if number < *least => {
                self.invalid(trimmed, &format!("Value must be at least {least}"))
            }
            Rule::Range(_, Some(most)) if number > *most => {
                self.invalid(trimmed, &format!("Value must be no more than {most}"))
            }
            Rule::Range(..) => Ok(()),
            Rule::RangeOrMinusOne(least, most) => {
                let whole = number as i64;
                if whole == -1 || (*least..=*most).contains(&whole) {
                    return Ok(());
                }
                self.invalid(trimmed, &format!("Value must be between {least} and {most} or equal to -1"))
            }
            Rule::OneOf(words) => self.check_words(trimmed, words),
            Rule::OneOfAnyCase(words) if words.iter().any(|word| word.eq_ignore_ascii_case(trimmed)) => {
                Ok(())
            }
            Rule::OneOfAnyCase(words) => self
                .invalid(trimmed, &format!("String must be one of (case insensitive): {}", words.join(", "))),
            Rule::Replicas if is_replicas(trimmed) => Ok(()),
            Rule::Replicas => self.invalid(
                &format!("[{trimmed}]"),
                &format!(
                    "{} must be the literal '*' or a list of replicas in the following format: \
                     [partitionId]:[brokerId],[partitionId]:[brokerId],...",
                    self.name
                ),
            ),
            Rule::NotEmpty if trimmed.is_empty() => self.invalid(value, "String must be non-empty"),
            Rule::NotEmpty => Ok(()),
        }
    }

    fn check_words(&self, value: &str, words: &[&str]) -> Result<(), String> {
        let wrong = match self.kind {
            Kind::List => list(value).find(|word| !words.contains(word)),
            _ => Some(value).filter(|word| !words.contains(word)),
        };
        match wrong {
            Some(word) => self.invalid(word, &format!("String must be one of: {}", words.join(", "))),
            None => Ok(()),
        }
    }

    pub(crate) fn invalid(&self, value: &str, why: &str) -> Result<(), String> {
        Err(format!("Invalid value {value} for configuration {}: {why}", self.name))
    }
}

/// The words of a list.
pub(crate) fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|word| !word.is_empty())
}

fn is_replicas(value: &str) -> bool {
    let pair = |word: &str| {
        let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        word.split_once(':').is_some_and(|(partition, broker)| number(partition) && number(broker))
    };
    value.is_empty() || value == "*" || value.split(',').all(|word| pair(word.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_parses_and_every_default_passes_its_own_rule() {
        let count = |scope| keys(scope).len();
        let counts = [Scope::Topic, Scope::Broker, Scope::Group, Scope::ClientMetrics].map(count);
        assert_eq!(counts, [34, 360, 17, 3]);
        for def in all() {
            let default = def.default.filter(|value| !value.is_empty());
            assert_eq!(default.map_or(Ok(()), |value| def.check(value)), Ok(()), "{}", def.name);
            assert_eq!(find(def.scope, def.name).map(|found| found.name), Some(def.name));
        }
        for line in DOCS.lines() {
            let (scope, rest) = line.split_once('\t').unwrap();
            let (name, _) = rest.split_once('\t').unwrap();
            assert!(FACTS.lines().any(|fact| fact.starts_with(&format!("{scope}\t{name}\t"))), "{line}");
        }
        assert!(keys(Scope::Topic).iter().all(|def| def.internal || def.doc.is_some()));
        assert_eq!(topic_of_synonym("log.retention.hours").map(|def| def.name), Some("retention.ms"));
    }
}
