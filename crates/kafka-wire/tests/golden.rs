//! Bytes that Kafka's own Java classes wrote (`tests/java/wire`), read and written again by ours.

use bytes::Bytes;
use kafka_wire::codec::MessageInfo;
use kafka_wire::record::{Batch, Builder, Compression, Producer};
use kafka_wire::{ApiKey, MESSAGES};

fn unhex(text: &str) -> Bytes {
    let digits = text.trim_end_matches('-').as_bytes();
    let pair = |p: &[u8]| u8::from_str_radix(std::str::from_utf8(p).expect("ascii"), 16).expect("hex");
    digits.chunks(2).map(pair).collect()
}

fn info(name: &str) -> &'static MessageInfo {
    MESSAGES.iter().find(|m| m.name == name).unwrap_or_else(|| panic!("{name} is not generated"))
}

#[test]
fn every_message_of_every_version_is_byte_for_byte_that_of_java() {
    let (mut full, mut defaults) = (0, 0);
    for line in include_str!("golden/messages.txt").lines() {
        let [name, version, kind, hex] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let (version, bytes) = (version.parse().expect("version"), unhex(hex));
        let (again, text) =
            (info(name).recode)(&bytes, version).unwrap_or_else(|e| panic!("{name} v{version}: {e}"));
        assert_eq!(again, bytes, "{name} v{version} {kind}: {text}");
        if kind == "default" {
            assert_eq!((info(name).encode_default)(version), Ok(bytes), "{name} v{version}: {text}");
            defaults += 1;
        } else {
            full += 1;
        }
    }
    assert!(full > 600 && defaults > 500, "{full} {defaults}");
}

#[test]
fn every_version_of_every_message_has_a_case() {
    let lines: Vec<&str> = include_str!("golden/messages.txt").lines().collect();
    // Kept in the tree by kafka-storage and the client's security classes; their classes are not on the class path.
    let without = ["DefaultPrincipalData", "ProducerSnapshot"];
    for message in MESSAGES.iter().filter(|m| !without.contains(&m.name)) {
        for version in message.versions.0..=message.versions.1 {
            let case = format!("{} {version} full ", message.name);
            assert!(lines.iter().any(|l| l.starts_with(&case)), "no golden bytes of {case}");
        }
    }
}

#[test]
fn api_keys_and_messages_agree() {
    for api in ApiKey::all() {
        let versions = (api.versions().min, api.versions().max);
        for kind in ["Request", "Response"] {
            let message = info(&format!("{}{kind}", api.name()));
            assert_eq!((message.key, message.versions), (api.number(), versions), "{}", message.name);
            assert_eq!(message.flexible_from, api.versions().flexible_from, "{}", message.name);
        }
        assert_eq!(ApiKey::from_i16(api.number()), Some(api));
    }
    assert_eq!(ApiKey::all().count(), 77);
    assert_eq!(ApiKey::from_i16(52), None);
    assert_eq!(ApiKey::ApiVersions.response_header_version(4), 0);
    assert_eq!(ApiKey::Metadata.response_header_version(9), 1);
    assert_eq!(ApiKey::InitProducerId.versions().stable_max, 5);
}

/// The records of `Batches.java`.
fn ours(codec: Compression, idempotent: bool) -> Bytes {
    let mut builder = Builder::new().compression(codec);
    builder = match idempotent {
        true => builder.producer(Producer { id: 4711, epoch: 2, base_sequence: 99 }),
        false => builder.base_offset(7).leader_epoch(3),
    };
    for i in 0..40i64 {
        let key = (i % 3 != 0).then(|| format!("key-{i}"));
        let value = (i % 7 != 6).then(|| "value ".repeat(i as usize));
        let trace = [i as u8];
        let headers: &[(&str, Option<&[u8]>)] = &[("trace", Some(&trace)), ("none", None)];
        builder.append_with_headers(
            1_700_000_000_000 + i * 10 - (i % 2) * 15,
            key.as_deref().map(str::as_bytes),
            value.as_deref().map(str::as_bytes),
            if i % 5 == 0 { headers } else { &[] },
        );
    }
    builder.build().expect("builds")
}

fn records(bytes: &Bytes) -> Vec<String> {
    let batch = Batch::single(bytes).expect("parses");
    batch.verify().expect("checksum");
    let mut out = vec![format!("{:?} {}", batch.producer_id(), batch.max_timestamp())];
    let reader = batch.records(1 << 20).expect("opens");
    reader
        .for_each(|r| {
            let headers: Vec<_> = r.headers.clone().collect();
            out.push(format!("{} {} {:?} {:?} {headers:?}", r.offset, r.timestamp, r.key, r.value));
        })
        .expect("reads");
    out
}

#[test]
fn batches_of_the_java_client_are_read_and_made_alike() {
    let lines: Vec<&str> = include_str!("golden/batches.txt").lines().collect();
    assert_eq!(lines.len(), 10);
    for line in lines {
        let [codec, kind, hex] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let (codec, java) = (Compression::from_name(codec).expect("codec"), unhex(hex));
        let made = ours(codec, kind == "idempotent");
        assert_eq!(records(&java), records(&made), "{codec:?}");
        if codec == Compression::None {
            assert_eq!(java, made);
        }
    }
}
