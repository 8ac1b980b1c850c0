//! Strangers on the network: frames that were tampered with, records that are not what they say, thousands of connections
//! that are idle, half open or slow. Whatever they do, others are served and memory stays bounded.

use std::time::{Duration, Instant};

use base::checksum::crc32c;
use base::random::Random;
use bytes::Bytes;
use kafka_wire::messages::{MetadataRequest, MetadataResponse};
use kafka_wire::record::{Builder, Compression};
use kafka_wire::{ApiKey, ErrorCode, MESSAGES, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::{Raw, Served, append, batch, create, fetch, options, produce};

const PATIENCE: Duration = Duration::from_secs(20);
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const HEADER_BYTES: usize = 61;

/// What this process holds in memory.
fn rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// A good client is answered, and how long that took.
async fn served_within(raw: &mut Raw) -> Duration {
    let began = Instant::now();
    let ask = MetadataRequest { topics: Some(vec![]), ..Default::default() };
    let answered = tokio::time::timeout(PATIENCE, raw.call(9, &ask)).await;
    let answer: MetadataResponse = answered.expect("served in time");
    assert_eq!(answer.brokers.len(), 1);
    began.elapsed()
}

/// A sound frame of every key that is no danger to the topic of the good client, in every version, and some with records.
fn sound_frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for message in MESSAGES.iter().filter(|message| message.name.ends_with("Request")) {
        let Some(key) = ApiKey::from_i16(message.key) else { continue };
        for version in message.versions.0..=message.versions.1 {
            let Ok(body) = (message.encode_default)(version) else { continue };
            let mut sound = [message.key.to_be_bytes(), version.to_be_bytes()].concat();
            sound.extend_from_slice(&[0, 0, 0, 7, 0, 1, b'c']);
            sound.extend(std::iter::repeat_n(0, usize::from(key.request_header_version(version) >= 2)));
            sound.extend_from_slice(&body);
            frames.push(sound);
        }
    }
    for version in [3, 8, 9, 11] {
        let request = produce("victim", -1, batch(5, None));
        frames.push(frame::request(7, Some("c"), version, &request).unwrap().concat().split_off(4));
        let request = fetch("victim", 0, 100, 1);
        frames.push(frame::request(7, Some("c"), version + 1, &request).unwrap().concat().split_off(4));
    }
    frames
}

/// Changes some bytes behind key and version, cuts the end or adds to it.
fn tamper(sound: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = sound.to_vec();
    for _ in 0..random.below(5) {
        let at = 4 + random.below(bytes.len() as u64 - 4) as usize;
        bytes[at] = match random.below(4) {
            0 => 0xff,
            1 => 0,
            2 => 0x7f,
            _ => random.below(256) as u8,
        };
    }
    match random.below(6) {
        0 => bytes.truncate(4 + random.below(bytes.len() as u64 - 4) as usize),
        1 => bytes.extend((0..random.below(40)).map(|n| n as u8)),
        _ => {}
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tampered_frames_harm_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut good = served.raw().await;
    create(&mut good, "good", &[]).await;
    create(&mut good, "victim", &[]).await;
    let (mut random, frames) = (Random::from_seed(11), sound_frames());
    let (before, mut kept) = (rss_bytes(), 0);
    for round in 0..1_200 {
        let bytes = tamper(&frames[random.below(frames.len() as u64) as usize], &mut random);
        let mut raw = served.raw().await;
        let sized = [&(bytes.len() as i32).to_be_bytes()[..], &bytes].concat();
        // The broker may close before all is sent.
        let _ = raw.stream.write_all(&sized).await;
        let _ = raw.stream.shutdown().await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, raw.stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "round {round}: the connection stays open after {bytes:x?}");
        if round % 100 == 0 {
            assert_eq!(append(&mut good, "good", batch(1, None)).await, (ErrorCode::None, kept));
            kept += 1;
        }
    }
    served_within(&mut good).await;
    let grown = rss_bytes().saturating_sub(before);
    assert!(grown < 300 << 20, "{grown} bytes more than before");
    served.stop().await;
}

/// Seals a batch again whose body was changed.
fn sealed(mut bytes: Vec<u8>) -> Bytes {
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c(&bytes[ATTRIBUTES_AT..]);
    bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

const CODECS: [Compression; 4] =
    [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_cut_or_explode_are_refused_whole() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    create(&mut raw, "t", &[]).await;
    let (zeros, now_ms) = (vec![0u8; 80 << 20], std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64);
    for codec in CODECS {
        let build = |value: &[u8], times: i64| {
            let mut builder = Builder::new().compression(codec);
            for n in 0..times {
                builder.append(now_ms + n, Some(b"k"), Some(value));
            }
            builder.build().unwrap()
        };
        // Cut in the compressed body: at its end, in the middle, and all of it.
        let sound = build(b"some text that is a record", 20);
        for left in [sound.len() - 2, (HEADER_BYTES + sound.len()) / 2, HEADER_BYTES] {
            let (refused, offset) = append(&mut raw, "t", sealed(sound[..left].to_vec())).await;
            assert!(!refused.is_ok() && offset == -1, "{codec:?} cut to {left}: {refused:?}");
        }
        // What is compressed is cut, not the compression: the last record is missing.
        let mut fewer = build(b"some text that is a record", 19).to_vec();
        fewer[23..27].copy_from_slice(&19i32.to_be_bytes());
        fewer[57..61].copy_from_slice(&20i32.to_be_bytes());
        let (refused, _) = append(&mut raw, "t", sealed(fewer)).await;
        assert!(!refused.is_ok(), "{codec:?}: a record is missing");
        // A compressed batch as the body of one: there is no record where one is to begin.
        let inner = codec.compress(&sound).unwrap();
        let nested = [&sound[..HEADER_BYTES], &inner].concat();
        let (refused, _) = append(&mut raw, "t", sealed(nested)).await;
        assert!(!refused.is_ok(), "{codec:?}: nested");
        // A bomb: more than any topic takes, in a frame that fits.
        let bomb = build(&zeros, 1);
        if bomb.len() < 1_000_000 {
            let before = rss_bytes();
            let (refused, _) = append(&mut raw, "t", bomb).await;
            let grown = rss_bytes().saturating_sub(before);
            assert!(!refused.is_ok() && grown < 80 << 20, "{codec:?}: {refused:?}, {grown} bytes held");
        }
    }
    // Nothing of all that was stored.
    assert_eq!(append(&mut raw, "t", batch(1, None)).await, (ErrorCode::None, 0));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_that_do_nothing_cost_little_and_slow_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    options.properties.insert("connections.max.idle.ms".into(), "600000".into());
    let served = Served::with(options, testkit::MemStore::shared()).await;
    let mut good = served.raw().await;
    create(&mut good, "t", &[]).await;
    // Both ends are in this process.
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let files: usize = files.split_whitespace().next().unwrap().parse().unwrap();
    let count = (files.saturating_sub(300) / 2).min(3_000);
    let before = rss_bytes();
    let question =
        frame::request(7, Some("c"), 9, &MetadataRequest { topics: Some(vec![]), ..Default::default() });
    let question = question.unwrap().concat();
    let mut strangers = Vec::with_capacity(count);
    for n in 0..count {
        let mut stranger = served.raw().await;
        let begun: &[u8] = match n % 3 {
            // Idle from the first.
            0 => &[],
            // Half open: announces 90 MB and sends some of it.
            1 => &[&(90i32 << 20).to_be_bytes()[..], &[0, 3, 0, 9, 0, 0, 0, 1]].concat(),
            // Slow: a sound request of which a part is missing.
            _ => &question[..question.len() - 3],
        };
        stranger.stream.write_all(begun).await.unwrap();
        strangers.push(stranger);
    }
    let connected = async {
        let seats = |text: &str| {
            let line = text
                .lines()
                .find(|line| line.starts_with("kafka_server_socketservermetrics_connection_count"));
            line.unwrap().rsplit(' ').next().unwrap().parse::<usize>().unwrap()
        };
        while seats(&served.handle.metrics()) <= count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, connected).await.expect("all are accepted");
    let each = rss_bytes().saturating_sub(before) / count as u64;
    let took = served_within(&mut good).await;
    assert_eq!(append(&mut good, "t", batch(1, None)).await.0, ErrorCode::None);
    eprintln!("{count} connections, {each} bytes each with both ends, another answered in {took:?}");
    assert!(each < 96 * 1024, "{each} bytes a connection");
    // The slow ones are answered once they have said it all.
    for stranger in strangers.iter_mut().skip(2).step_by(3).take(100) {
        stranger.stream.write_all(&question[question.len() - 3..]).await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, stranger.frame()).await.expect("in time");
        assert!(answer.is_some(), "a slow client is served");
    }
    served.stop().await;
}
