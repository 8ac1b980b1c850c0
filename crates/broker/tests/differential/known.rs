//! What differs by nature, and what differs on purpose. Every line of the second table stands in `docs/compat.md`.

use kafka_wire::ApiKey;
use kafka_wire::record::Batch;
use serde_json::Value;

use crate::side::Ids;
use crate::tree::{self, Difference};

/// Fields that no two brokers share: times, identities, addresses, what a disk holds.
const BY_NATURE: &[&str] = &[
    "throttle_time_ms",
    "cluster_id",
    "port",
    "log_append_time_ms",
    "log_dir",
    "total_bytes",
    "usable_bytes",
    "finalized_features_epoch",
];

/// Answers whose lists Kafka leaves in the order of a hash map.
const UNORDERED: &[ApiKey] = &[
    ApiKey::Metadata,
    ApiKey::DescribeConfigs,
    ApiKey::ListConfigResources,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::ApiVersions,
    ApiKey::DescribeLogDirs,
    ApiKey::DescribeTransactions,
    ApiKey::ListTransactions,
    ApiKey::AddPartitionsToTxn,
];

/// Differences on purpose: key, path, why.
const STATED: &[(ApiKey, &str, &str)] = &[];

/// Makes both answers comparable.
pub fn normalise(key: ApiKey, ours: &mut Value, theirs: &mut Value) {
    for side in [&mut *ours, &mut *theirs] {
        tree::each_field(side, &mut |name, value| {
            if BY_NATURE.contains(&name) {
                *value = Value::Null;
            }
        });
        if UNORDERED.contains(&key) {
            tree::sort_lists(side);
        }
    }
    if key == ApiKey::DescribeTransactions {
        [&mut *ours, &mut *theirs].into_iter().for_each(began);
    }
    if key == ApiKey::Fetch {
        [&mut *ours, &mut *theirs].into_iter().for_each(records_of_transactions);
        aborted_beyond(ours, theirs);
    }
    if key == ApiKey::DescribeConfigs {
        [&mut *ours, &mut *theirs].into_iter().for_each(configs);
    }
    if key == ApiKey::ApiVersions {
        without_telemetry(ours);
        only_served(ours, theirs);
    }
}

/// When a transaction began is each broker's own time; that it began counts.
fn began(answer: &mut Value) {
    tree::each_field(answer, &mut |name, value| {
        if name == "transaction_start_time_ms" && value.as_i64().is_some_and(|at| at > 0) {
            *value = "a time".into();
        }
    });
}

/// Records of transactions hold producer ids: how long they are counts.
fn records_of_transactions(answer: &mut Value) {
    for topic in answer["responses"].as_array_mut().into_iter().flatten() {
        let named = topic["topic"].as_str().is_some_and(|name| name.starts_with(crate::transactions::PREFIX));
        for partition in topic["partitions"].as_array_mut().into_iter().flatten().filter(|_| named) {
            let records = &mut partition["records"];
            if let Some(length) = records.as_str().map(bytes_of) {
                *records = length.into();
            }
        }
    }
}

/// Kafka tells of aborted transactions up to the next entry of its offset index, which may lie beyond what is returned; here
/// the answer tells of those in what it returns (`docs/compat.md`).
fn aborted_beyond(ours: &Value, theirs: &mut Value) {
    let partition = |answer: &Value| answer["responses"][0]["partitions"][0]["aborted_transactions"].clone();
    if let (Value::Array(mine), Value::Array(all)) = (partition(ours), partition(theirs))
        && all.len() > mine.len()
        && all.starts_with(&mine)
    {
        theirs["responses"][0]["partitions"][0]["aborted_transactions"] = Value::Array(mine);
    }
}

/// How many bytes a text like `b"\\x00a"` stands for.
fn bytes_of(text: &str) -> usize {
    let (mut count, mut left) = (0usize, text.strip_prefix("b\"").unwrap_or(text).chars());
    while let Some(character) = left.next() {
        count += 1;
        if character == '\\' && left.next() == Some('x') {
            left.nth(1);
        }
    }
    // The closing quotation mark.
    count.saturating_sub(1)
}

/// Configurations of a broker that are another on each side: paths, and what a node without a controller's listener has.
const OTHER_CONFIGS: &[&str] = &[
    "controller.listener.names",
    "controller.quorum.bootstrap.servers",
    "listeners",
    "log.dirs",
    // Bounded by default here.
    "max.connections",
    "process.roles",
];

/// Texts of documentation are our own: that there is one counts.
fn configs(answer: &mut Value) {
    let results = answer["results"].as_array_mut().into_iter().flatten();
    for config in results.flat_map(|result| result["configs"].as_array_mut().into_iter().flatten()) {
        if config["documentation"].as_str().is_some_and(|text| !text.is_empty()) {
            config["documentation"] = "a text".into();
        }
        if config["name"].as_str().is_some_and(|name| OTHER_CONFIGS.contains(&name)) {
            for field in ["config_source", "synonyms", "value"] {
                config[field] = Value::Null;
            }
        }
    }
}

/// Kafka announces telemetry only with a plug-in that exports it; here it is exported always.
fn without_telemetry(ours: &mut Value) {
    if let Some(all) = ours["api_keys"].as_array_mut() {
        all.retain(|item| !matches!(item["api_key"].as_i64(), Some(71 | 72)));
    }
}

/// Of what Kafka announces, the keys that are served here: the rest is absent, and says so in `docs/compat.md`.
fn only_served(ours: &Value, theirs: &mut Value) {
    for (list, name) in
        [("api_keys", "api_key"), ("supported_features", "name"), ("finalized_features", "name")]
    {
        let Some(served) = ours[list].as_array() else { return };
        let known: Vec<&Value> = served.iter().map(|item| &item[name]).collect();
        if let Some(all) = theirs[list].as_array_mut() {
            all.retain(|item| known.contains(&&item[name]));
        }
    }
}

/// Differences that are to be mended, by place: a line goes when the place is right, none is added.
const OPEN: &str = include_str!("open.txt");

/// Whether a place is known to differ still. `KETCH_TEST_DIFFERENTIAL_OPEN` shows those too.
pub fn open(at: &str) -> bool {
    std::env::var_os("KETCH_TEST_DIFFERENTIAL_OPEN").is_none() && OPEN.lines().any(|line| line == at)
}

/// Whether a difference is one on purpose.
pub fn stated(key: ApiKey, difference: &Difference) -> bool {
    STATED.iter().any(|(stated, path, _)| *stated == key && *path == difference.path)
}

/// How far apart two brokers may be in answering the same request.
const CLOCK_MS_MAX: u64 = 60_000;

/// Whether the only difference is when the two were asked: texts that tell of a time (the bounds of timestamps), and
/// records that a broker writes itself (group offsets: times in header and value, topic ids, and the checksum over them).
pub fn by_nature(difference: &Difference, ids: (&Ids, &Ids)) -> bool {
    let (ours, theirs) = (&difference.ours, &difference.theirs);
    if difference.path.ends_with("error_message") {
        return ours.contains("The timestamp should be within") && texts_by_clock(ours, theirs);
    }
    difference.path == "responses.partitions.records" && records_alike(ours, theirs, ids)
}

/// The same words with numbers that are not far apart.
fn texts_by_clock(ours: &str, theirs: &str) -> bool {
    let split = |text: &str| -> (String, Vec<i64>) {
        let words =
            text.split(|c: char| !c.is_ascii_digit() && c != '-').filter_map(|word| word.parse().ok());
        (text.chars().filter(|c| !c.is_ascii_digit()).collect(), words.collect())
    };
    let ((words, a), (same, b)) = (split(ours), split(theirs));
    words == same && a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.abs_diff(*b) < CLOCK_MS_MAX)
}

/// The same batches, but for checksums, times that are not far apart and topics' ids. Only where the checksum is right on
/// both sides, so that what is compared is what was stored.
fn records_alike(ours: &str, theirs: &str, ids: (&Ids, &Ids)) -> bool {
    let (ours, theirs) = (tree::unescape(ours), tree::unescape(theirs));
    if ours.len() != theirs.len() || ours.is_empty() {
        return false;
    }
    let (mut a, mut b) = (&ours[..], &theirs[..]);
    while let (Ok((one, more)), Ok((two, and))) = (Batch::split(a), Batch::split(b)) {
        if one.bytes().len() != two.bytes().len() || one.verify().is_err() || two.verify().is_err() {
            return false;
        }
        if !bytes_alike(one.bytes(), two.bytes(), ids) {
            return false;
        }
        (a, b) = (more, and);
    }
    // The last may be cut, anywhere.
    bytes_alike(a, b, ids)
}

/// Where the checksum of a batch lies.
const CRC: std::ops::Range<usize> = 17..21;

fn bytes_alike(a: &[u8], b: &[u8], ids: (&Ids, &Ids)) -> bool {
    let long = |bytes: &[u8], at: usize| {
        let bytes = bytes.get(at..at + 8)?.try_into().ok()?;
        Some(i64::from_be_bytes(bytes)).filter(|ms| *ms > 1_500_000_000_000 && *ms < 4_000_000_000_000)
    };
    let near = |at: usize| {
        let both = long(a, at).zip(long(b, at));
        both.is_some_and(|(a, b)| a.abs_diff(b) < CLOCK_MS_MAX)
    };
    let same_topic = |at: usize| {
        let both = a.get(at..at + 16).zip(b.get(at..at + 16));
        both.is_some_and(|(a, b)| ids.0.pairs(ids.1).any(|(x, y)| x.as_bytes() == a && y.as_bytes() == b))
    };
    let mut differing = (0..a.len()).filter(|at| a[*at] != b[*at] && !CRC.contains(at));
    differing.all(|at| (at.saturating_sub(7)..=at).any(near) || (at.saturating_sub(15)..=at).any(same_topic))
}
