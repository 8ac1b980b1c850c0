//! Batches to produce: sound ones, and one of each kind that a broker refuses.

use base::checksum::crc32c;
use base::random::Random;
use bytes::Bytes;
use kafka_wire::record::{Builder, Compression, Producer};

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;

/// A sound batch.
pub fn sound(random: &mut Random, now_ms: i64) -> Bytes {
    let builder = Builder::new().compression(CODECS[random.below(5) as usize]);
    filled(builder, random, now_ms)
}

fn filled(mut builder: Builder, random: &mut Random, now_ms: i64) -> Bytes {
    for n in 0..=random.below(8) as i64 {
        let key = format!("k{}", random.below(5));
        let value = "v".repeat(random.below(200) as usize);
        let headers: &[(&str, Option<&[u8]>)] = if n == 2 { &[("h", Some(b"x")), ("n", None)] } else { &[] };
        let value = (random.below(9) > 0).then_some(value.as_bytes());
        builder.append_with_headers(now_ms + n, Some(key.as_bytes()), value, headers);
    }
    builder.build().expect("a batch")
}

/// A sound batch with any codec but none.
fn compressed(random: &mut Random, now_ms: i64) -> Bytes {
    filled(Builder::new().compression(CODECS[1 + random.below(4) as usize]), random, now_ms)
}

/// A changed batch with its checksum right.
fn resealed(batch: Bytes, change: impl Fn(&mut Vec<u8>)) -> Bytes {
    let mut bytes = batch.to_vec();
    change(&mut bytes);
    let crc = crc32c(&bytes[ATTRIBUTES_AT..]);
    bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

/// A batch of an idempotent producer: ids and sequences from small ranges, so that repeats and gaps come up.
pub fn idempotent(random: &mut Random, now_ms: i64) -> Bytes {
    let producer = Producer {
        id: 5_000_000 + random.below(3) as i64,
        epoch: random.below(2) as i16,
        base_sequence: random.below(4) as i32,
    };
    let mut builder = Builder::new().producer(producer);
    builder.append(now_ms, Some(b"k"), Some(b"idempotent"));
    builder.build().expect("a batch")
}

/// Something wrong, by a number from 0 to [`WRONGS`], with what is wrong in words.
pub fn wrong(kind: usize, random: &mut Random, now_ms: i64) -> (&'static str, Bytes) {
    let plain = filled(Builder::new(), random, now_ms);
    let sealed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = plain.to_vec();
        change(&mut bytes);
        let crc = crc32c(&bytes[ATTRIBUTES_AT..]);
        bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
        Bytes::from(bytes)
    };
    let one = |key: Option<&[u8]>, timestamp: i64| {
        let mut builder = Builder::new();
        builder.append(timestamp, key, Some(b"value"));
        builder.build().expect("a batch")
    };
    match kind {
        0 => ("crc", {
            let mut bytes = plain.to_vec();
            bytes[CRC_AT] ^= 1;
            bytes.into()
        }),
        1 => ("cut in the records", plain.slice(..plain.len() - 3)),
        2 => ("cut in the header", plain.slice(..30)),
        3 => ("two batches", [&plain[..], &plain[..]].concat().into()),
        4 => ("magic 1", {
            let mut bytes = plain.to_vec();
            bytes[16] = 1;
            bytes.into()
        }),
        5 => ("magic 3", {
            let mut bytes = plain.to_vec();
            bytes[16] = 3;
            bytes.into()
        }),
        6 => ("count too large", sealed(&|b| b[60] += 1)),
        7 => ("last offset delta too large", sealed(&|b| b[26] += 1)),
        8 => ("control", sealed(&|b| b[22] |= 0x20)),
        9 => ("transactional without an id", sealed(&|b| b[22] |= 0x10)),
        10 => ("compressed in name only", sealed(&|b| b[22] |= 1)),
        11 => ("unknown codec", sealed(&|b| b[22] |= 7)),
        12 => ("two hours ahead", one(Some(b"k"), now_ms + 7_200_000)),
        13 => ("no key", one(None, now_ms)),
        14 => ("no timestamp", one(Some(b"k"), -1)),
        15 => ("nothing", Bytes::new()),
        16 => ("an old timestamp", one(Some(b"k"), now_ms - 864_000_000)),
        17 => ("garbage in the records", sealed(&|b| b[61..].fill(0xff))),
        18 => ("sequence without a producer", sealed(&|b| b[53..57].copy_from_slice(&7i32.to_be_bytes()))),
        19 => ("producer without a sequence", sealed(&|b| b[43..51].copy_from_slice(&9i64.to_be_bytes()))),
        20 => ("base offset 5", {
            let mut bytes = plain.to_vec();
            bytes[7] = 5;
            bytes.into()
        }),
        21 => (
            "no records",
            sealed(&|b| {
                b.truncate(61);
                b[8..12].copy_from_slice(&49i32.to_be_bytes());
                b[57..61].fill(0);
            }),
        ),
        22 => ("length too small", {
            let mut bytes = plain.to_vec();
            bytes[8..12].copy_from_slice(&10i32.to_be_bytes());
            bytes.into()
        }),
        23 => ("log append time claimed", sealed(&|b| b[22] |= 8)),
        24 => (
            "header maximum timestamp wrong",
            sealed(&|b| b[35..43].copy_from_slice(&(now_ms - 5).to_be_bytes())),
        ),
        26 => (
            "a record is missing in what is compressed",
            resealed(compressed(random, now_ms), |b| {
                let more = |b: &mut Vec<u8>, at: usize| b[at] += 1;
                more(b, 26);
                more(b, 60);
            }),
        ),
        27 => (
            "a compressed body that is cut",
            resealed(compressed(random, now_ms), |b| {
                b.truncate(b.len() - 2);
                let length = (b.len() - 12) as i32;
                b[8..12].copy_from_slice(&length.to_be_bytes());
            }),
        ),
        _ => ("large", {
            let mut builder = Builder::new();
            builder.append(now_ms, Some(b"k"), Some(&[b'x'; 1_100_000]));
            builder.build().expect("a batch")
        }),
    }
}

pub const WRONGS: usize = 29;
