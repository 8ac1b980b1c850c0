//! Bytes of strangers: nothing panics, nothing allocates much more than it was sent, what is read is written alike.
//!
//! What the generators cannot produce: frames beyond a few kilobytes, and compressed bodies with a valid checksum.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use kafka_wire::frame::RequestHead;
use kafka_wire::record::{self, Batch, Builder, Compression, Rules};
use kafka_wire::{MESSAGES, Message, messages};
use proptest::prelude::*;

/// Counts what the current thread holds, and the largest piece it asked for.
struct Counting;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: hands everything to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = LARGEST.try_with(|l| l.set(l.get().max(layout.size())));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn largest_allocation(work: impl FnOnce()) -> usize {
    LARGEST.with(|l| l.set(0));
    work();
    LARGEST.with(Cell::get)
}

/// Structs are at most this much larger in memory than their least size on the wire, doubling of vectors included.
const GROWTH_MAX: usize = 1024;

#[test]
fn damage_behind_the_last_record_is_told_once() {
    let mut told = 0;
    for codec in Compression::ALL {
        let mut builder = Builder::new().compression(codec);
        builder.append(1, None, Some(&[7; 300]));
        let mut bytes = builder.build().expect("builds").to_vec();
        // No record is counted, so that the end is looked for at once: in what is no frame of the compression's.
        bytes[57..].fill(0);
        let batch = Batch::single(&bytes).expect("a header and a right length");
        let Ok(mut reader) = batch.records(1 << 20) else { continue };
        let mut errors = 0;
        for _ in 0..10 {
            errors += u32::from(reader.next().is_some_and(|record| record.is_err()));
        }
        assert!(errors <= 1, "{codec:?}: told {errors} times");
        told += errors;
    }
    assert!(told >= 2, "{told}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from(bytes);
        let _ = RequestHead::read(&bytes);
        for message in MESSAGES {
            for version in message.versions.0 - 1..=message.versions.1 + 1 {
                let _ = (message.recode)(&bytes, version);
            }
        }
    }

    #[test]
    fn arbitrary_batches_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 61..400), codec in 0u8..8) {
        let length = (bytes.len() - 12) as i32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[16] = 2;
        bytes[22] = bytes[22] & 0xf8 | codec;
        bytes[57..60].fill(0);
        let batch = Batch::single(&bytes).expect("a header and a right length");
        let _ = batch.validate(&Rules::default(), 0);
        if let Ok(mut reader) = batch.records(4096) {
            let mut errors = 0;
            while let Some(record) = reader.next() {
                errors += u32::from(record.map(|record| record.headers.count()).is_err());
                prop_assert!(errors < 2, "an error is the end");
            }
        }
        prop_assert!(record::batches(&bytes[1..]).count() <= 2);
    }

    #[test]
    fn records_survive_every_codec(
        values in proptest::collection::vec(proptest::option::of(proptest::collection::vec(any::<u8>(), 0..50)), 1..30),
        times in proptest::collection::vec(0i64..i64::MAX / 2, 30),
    ) {
        for codec in Compression::ALL {
            let mut builder = Builder::new().compression(codec);
            for (value, time) in values.iter().zip(&times) {
                builder.append(*time, value.as_deref(), value.as_deref());
            }
            let bytes = builder.build().expect("builds");
            let batch = Batch::single(&bytes).expect("parses");
            let rules = Rules { timestamp_after_max_ms: i64::MAX, ..Rules::default() };
            let summary = batch.validate(&rules, 0).expect("valid");
            prop_assert_eq!(summary.max_timestamp, batch.max_timestamp());
            let mut at = 0;
            let mut reader = batch.records(1 << 20).expect("opens");
            while let Some(record) = reader.next() {
                let record = record.expect("reads");
                prop_assert_eq!((record.value, record.timestamp), (values[at].as_deref(), times[at]));
                at += 1;
            }
            prop_assert_eq!(at, values.len());
        }
    }

    #[test]
    fn golden_messages_with_flipped_bytes_stay_bounded(line in 0usize..600, flips in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..6)) {
        let text = include_str!("golden/messages.txt").lines().nth(line).expect("a line");
        let parts: Vec<&str> = text.split(' ').collect();
        let mut bytes: Vec<u8> = (0..parts[3].len() / 2)
            .filter_map(|i| u8::from_str_radix(&parts[3][2 * i..2 * i + 2], 16).ok())
            .collect();
        for (at, value) in flips {
            if let Some(len) = std::num::NonZeroUsize::new(bytes.len()) {
                bytes[at as usize % len] = value;
            }
        }
        let message = MESSAGES.iter().find(|m| m.name == parts[0]).expect("generated");
        let (bytes, version) = (Bytes::from(bytes), parts[1].parse().expect("version"));
        let bound = bytes.len() * GROWTH_MAX + 4096;
        let largest = largest_allocation(|| { let _ = (message.recode)(&bytes, version); });
        prop_assert!(largest <= bound, "{} bytes for {}", largest, bytes.len());
    }
}

/// The twelve bytes that make another codec ask for 206 GB: counts of billions before nothing.
#[test]
fn huge_counts_allocate_nothing() {
    for message in MESSAGES {
        for version in message.versions.0..=message.versions.1 {
            for filler in [[0x7f, 0xff, 0xff, 0xff], [0xff, 0xff, 0xff, 0x0f], [0x00, 0x00, 0x00, 0x7f]] {
                let bytes = Bytes::from(filler.repeat(3));
                let largest = largest_allocation(|| {
                    let _ = (message.recode)(&bytes, version);
                });
                assert!(largest <= 16 * 1024, "{} v{version} asks for {largest} bytes", message.name);
            }
        }
    }
}

#[test]
fn records_are_slices_of_the_frame_and_chunks_of_the_answer() {
    let records = Bytes::from(vec![7u8; 4096]);
    let partition =
        messages::fetch_response::PartitionData { records: Some(records.clone()), ..Default::default() };
    let topic = messages::fetch_response::FetchableTopicResponse {
        partitions: vec![partition],
        ..Default::default()
    };
    let answer = messages::FetchResponse { responses: vec![topic], ..Default::default() };
    let chunks = kafka_wire::frame::response(5, 16, &answer).expect("encodes");
    assert!(chunks.iter().any(|c| c.as_ptr() == records.as_ptr() && c.len() == records.len()));
    let frame = Bytes::from(chunks.concat());
    assert_eq!(i32::from_be_bytes(frame[..4].try_into().expect("four")) as usize, frame.len() - 4);
    let body = frame.slice(4..);
    let (id, back) = kafka_wire::frame::read_response::<messages::FetchResponse>(&body, 16).expect("decodes");
    assert_eq!((id, &back), (5, &answer));
    let shared = back.responses[0].partitions[0].records.clone().expect("records");
    assert!(body.as_ptr_range().contains(&shared.as_ptr()));
}

#[test]
fn strings_that_do_not_fit_are_an_error_not_a_broken_frame() {
    let request = messages::SaslHandshakeRequest { mechanism: "x".repeat(40_000) };
    assert_eq!(request.to_bytes(1), Err(kafka_wire::EncodeError::TooLong));
    assert!(request.to_bytes(9).is_err());
}
