//! Field by field: answers as trees of fields, less what may differ, and where two of them do.

use std::collections::BTreeMap;

use etcd_wire::DESCRIPTORS;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;

use crate::wire::{Answer, Call};

/// What may differ: (method or `*`, field by its names from any message on, why).
pub const IGNORED: &[(&str, &str, &str)] = &[
    ("*", "header.cluster_id", "made at random"),
    ("*", "header.member_id", "made at random"),
    ("*", "header.raft_term", "counts elections"),
    ("Lease/LeaseTimeToLive", "TTL", "seconds left (whether it is there at all is compared)"),
    ("Lease/LeaseKeepAlive", "raft_term", "counts elections"),
    ("Cluster/*", "members.ID", "made at random"),
    ("Cluster/*", "members.name", "chosen at the start"),
    ("Cluster/*", "members.peerURLs", "chosen at the start"),
    ("Cluster/*", "members.clientURLs", "chosen at the start"),
    ("Maintenance/Alarm", "alarms.memberID", "made at random"),
    ("Maintenance/Status", "version", "the patch release"),
    ("Maintenance/Status", "dbSize", "another file format"),
    ("Maintenance/Status", "dbSizeInUse", "another file format"),
    ("Maintenance/Status", "dbSizeQuota", "chosen at the start"),
    ("Maintenance/Status", "leader", "made at random"),
    ("Maintenance/Status", "raftIndex", "counts entries of another log"),
    ("Maintenance/Status", "raftAppliedIndex", "counts entries of another log"),
    ("Maintenance/Status", "raftTerm", "counts elections"),
    ("Maintenance/HashKV", "hash", "another encoding"),
    ("Maintenance/Hash", "hash", "another encoding"),
    ("Auth/Authenticate", "token", "made at random"),
];

/// Lists whose order etcd takes from a Go map.
const UNORDERED: &[(&str, &str)] = &[("Lease/LeaseTimeToLive", "keys")];

/// Messages by method.
pub struct Shapes {
    pool: DescriptorPool,
}

impl Shapes {
    pub fn new() -> Self {
        Self { pool: DescriptorPool::decode(DESCRIPTORS).unwrap() }
    }

    fn method(&self, path: &str) -> Option<prost_reflect::MethodDescriptor> {
        let (service, method) = path.trim_start_matches('/').split_once('/')?;
        self.pool.get_service_by_name(service)?.methods().find(|found| found.name() == method)
    }

    /// A request in words.
    pub fn request(&self, call: &Call) -> String {
        let message = self.method(&call.path).map(|method| method.input());
        let message = message.and_then(|shape| DynamicMessage::decode(shape, call.request.clone()).ok());
        message.map_or_else(|| format!("{:?}", call.request), |message| message.to_string())
    }

    /// An answer as fields by name, less what may differ.
    pub fn fields(&self, path: &str, answer: &Answer) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        match answer {
            Err((code, text)) => {
                fields.insert("code".to_owned(), format!("{code:?}"));
                fields.insert("text".to_owned(), text.clone());
            }
            Ok(bytes) => {
                let shape = self.method(path).unwrap_or_else(|| panic!("no method {path}")).output();
                let message = DynamicMessage::decode(shape, bytes.clone()).unwrap();
                let options =
                    SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);
                let value = message.serialize_with_options(serde_json::value::Serializer, &options).unwrap();
                let short = path.rsplit('.').next().unwrap_or(path);
                flatten(short, "", value, &mut fields);
            }
        }
        fields
    }
}

/// The lines in which two answers differ; empty when they are the same.
pub fn differences(
    ours: &BTreeMap<String, String>,
    theirs: &BTreeMap<String, String>,
    names: (&str, &str),
) -> Vec<String> {
    let absent = || "(absent)".to_owned();
    let mut names_of_fields: Vec<&String> = ours.keys().chain(theirs.keys()).collect();
    names_of_fields.sort();
    names_of_fields.dedup();
    let differ = names_of_fields.into_iter().filter(|name| ours.get(*name) != theirs.get(*name));
    differ
        .map(|name| {
            let one = ours.get(name).cloned().unwrap_or_else(absent);
            let other = theirs.get(name).cloned().unwrap_or_else(absent);
            format!("{name}: {} says {one}, {} says {other}", names.0, names.1)
        })
        .collect()
}

fn flatten(method: &str, at: &str, value: Value, out: &mut BTreeMap<String, String>) {
    let plain: String = at.chars().filter(|c| !c.is_ascii_digit() && *c != '[' && *c != ']').collect();
    if ignored(method, &plain) {
        // Whether it is there is still compared, and -1 says that there is no such thing.
        if let Some(number) = value.as_f64() {
            out.insert(at.to_owned(), if number < 0.0 { "negative" } else { "positive" }.to_owned());
        }
        return;
    }
    match value {
        Value::Object(map) => {
            for (name, inner) in map {
                let path = if at.is_empty() { name } else { format!("{at}.{name}") };
                flatten(method, &path, inner, out);
            }
        }
        Value::Array(mut list) => {
            if UNORDERED.contains(&(method, plain.as_str())) {
                list.sort_by_key(Value::to_string);
            }
            for (index, inner) in list.into_iter().enumerate() {
                flatten(method, &format!("{at}[{index}]"), inner, out);
            }
        }
        plain => {
            out.insert(at.to_owned(), plain.to_string());
        }
    }
}

fn ignored(method: &str, field: &str) -> bool {
    IGNORED.iter().any(|(of, name, _)| {
        let applies =
            *of == "*" || *of == method || of.strip_suffix('*').is_some_and(|p| method.starts_with(p));
        applies && (field == *name || field.ends_with(&format!(".{name}")))
    })
}
