//! A frame as a broker reads it, and every message by its place in the table. What is read is written again, and what
//! was written is read as the same.
//!
//! Cannot produce: frames above libFuzzer's length limit (4 KiB unless `-max_len` says otherwise).
#![no_main]

use bytes::Bytes;
use kafka_wire::MESSAGES;
use kafka_wire::frame::RequestHead;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok((head, body)) = RequestHead::read(&bytes) {
        let request = MESSAGES.iter().find(|m| m.key == head.key && m.name.ends_with("Request"));
        request.map(|m| (m.recode)(&body.rest(), head.version));
    }
    let [which, version, ..] = data else { return };
    let message = &MESSAGES[*which as usize % MESSAGES.len()];
    let span = message.versions.1 - message.versions.0 + 1;
    let version = message.versions.0 + i16::from(*version) % span;
    let Ok((again, text)) = (message.recode)(&bytes.slice(2..), version) else { return };
    let (same, same_text) = (message.recode)(&again, version).expect("reads what it wrote");
    // Not-a-number is never equal to itself, so texts are compared.
    assert_eq!((again, text), (same, same_text), "{} v{version}", message.name);
});
