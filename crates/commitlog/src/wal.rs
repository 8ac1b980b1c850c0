//! The store's write-ahead log: one frame an entry, big-endian.
//!
//! ```text
//! byte  0        4        8       12       20       28       36
//!       | length | crc    | kind  | term   | node   | index  | payload ... |
//! ```
//! `length` counts the whole frame; `crc` is CRC-32C over everything behind it; `kind` is one byte and three zeros. A
//! frame's offset is its index: one entry, one offset. Where nothing was written yet there are zeros, which segments are
//! filled with ahead of the writes, or frames of lower indexes and parts of them, in a file that was used before.

use base::checksum::crc32c;
use bytes::Bytes;

use crate::{Frame, Framing, Offset, Parsed};

/// Bytes before the payload.
pub const WAL_HEADER_BYTES: usize = 36;
/// No frame is longer: twice the store's largest request and room for its keys, so a torn length allocates no more.
pub const WAL_FRAME_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Frames of the store's log, see the module.
#[derive(Debug, Clone, Copy, Default)]
pub struct WalFrame;

/// What an entry carries beside its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalMeta {
    /// What the payload is; not 0.
    pub kind: u8,
    /// The leader's term in which the entry was made.
    pub term: u64,
    /// The member that made it.
    pub node: u64,
    /// The entry's number, counted up by one.
    pub index: Offset,
}

impl WalFrame {
    /// Appends a frame to `out`. A payload longer than [`WAL_FRAME_BYTES_MAX`] less the header is the caller's mistake:
    /// the frame would not be read again.
    pub fn encode(out: &mut Vec<u8>, meta: &WalMeta, payload: &[u8]) {
        let start = out.len();
        let len = WAL_HEADER_BYTES + payload.len();
        debug_assert!(len <= WAL_FRAME_BYTES_MAX, "a frame of {len} bytes");
        out.reserve(len);
        out.extend_from_slice(&(len as u32).to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&[meta.kind, 0, 0, 0]);
        out.extend_from_slice(&meta.term.to_be_bytes());
        out.extend_from_slice(&meta.node.to_be_bytes());
        out.extend_from_slice(&meta.index.get().to_be_bytes());
        out.extend_from_slice(payload);
        let crc = crc32c(&out[start + 8..]);
        out[start + 4..start + 8].copy_from_slice(&crc.to_be_bytes());
    }

    /// Splits a whole, verified frame; None when it is too short to be one.
    #[must_use]
    pub fn decode(frame: &[u8]) -> Option<(WalMeta, Bytes)> {
        let header: &[u8; WAL_HEADER_BYTES] = frame.first_chunk()?;
        let meta = WalMeta {
            kind: header[8],
            term: u64_at(header, 12),
            node: u64_at(header, 20),
            index: index_of(header),
        };
        Some((meta, Bytes::copy_from_slice(&frame[WAL_HEADER_BYTES..])))
    }
}

impl Framing for WalFrame {
    const EXTENSION: &'static str = "wal";
    const HEADER_BYTES: usize = WAL_HEADER_BYTES;
    const INDEXED: bool = false;
    const MARKED: bool = true;
    const REUSED: bool = true;

    fn parse(header: &[u8]) -> Parsed {
        let Some(header) = header.first_chunk::<WAL_HEADER_BYTES>() else { return Parsed::Torn };
        if header.iter().all(|&byte| byte == 0) {
            return Parsed::End;
        }
        let len = u32_at(header, 0) as usize;
        let sound = (WAL_HEADER_BYTES..=WAL_FRAME_BYTES_MAX).contains(&len) && header[8] != 0;
        let index = index_of(header);
        if !sound || index.get() < 0 {
            return Parsed::Torn;
        }
        Parsed::Frame(Frame { len, first: index, last: index, max_timestamp_ms: -1 })
    }

    fn verify(frame: &[u8]) -> bool {
        frame.len() >= WAL_HEADER_BYTES && crc32c(&frame[8..]) == u32_at(frame, 4)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |b| u32::from_be_bytes(*b))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |b| u64::from_be_bytes(*b))
}

fn index_of(header: &[u8]) -> Offset {
    Offset(u64_at(header, 28).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Log, LogOptions, OpenFrom};
    use base::disk::{Disk, RealDisk};
    use std::path::Path;

    fn frame(index: i64, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let meta = WalMeta { kind: 1, term: 2, node: 3, index: Offset(index) };
        WalFrame::encode(&mut out, &meta, payload);
        out
    }

    fn spanning(bytes: &[u8], first: i64, last: i64) -> Frame {
        Frame { len: bytes.len(), first: Offset(first), last: Offset(last), max_timestamp_ms: -1 }
    }

    fn open(dir: &Path) -> (Log<WalFrame>, Vec<i64>) {
        let mut seen = Vec::new();
        let options = LogOptions { segment_bytes: 4096, zero_fill_bytes: 1024, ..LogOptions::default() };
        let (log, _) = Log::open(
            RealDisk::shared(),
            dir,
            options,
            OpenFrom::RecoveryPoint(Offset(1)),
            Offset(1),
            &mut |f, _| seen.push(f.first.get()),
        )
        .unwrap();
        (log, seen)
    }

    #[test]
    fn bytes_are_as_drawn() {
        let bytes = frame(5, b"hi");
        let shown: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
        expect_test::expect![
            "00000026 0930e40d 01000000 0000000000000002 0000000000000003 0000000000000005 6869"
        ]
        .assert_eq(&format!(
            "{} {} {} {} {} {} {}",
            shown[..4].concat(),
            shown[4..8].concat(),
            shown[8..12].concat(),
            shown[12..20].concat(),
            shown[20..28].concat(),
            shown[28..36].concat(),
            shown[36..].concat()
        ));
        let (meta, payload) = WalFrame::decode(&bytes).unwrap();
        assert_eq!(
            (meta.kind, meta.term, meta.node, meta.index, &payload[..]),
            (1, 2, 3, Offset(5), &b"hi"[..])
        );
    }

    #[test]
    fn any_flipped_bit_is_found() {
        let bytes = frame(5, b"payload");
        assert!(WalFrame::verify(&bytes));
        for at in 4..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(!WalFrame::verify(&bad), "byte {at}");
        }
        assert_eq!(WalFrame::parse(&[0; WAL_HEADER_BYTES]), Parsed::End);
        assert_eq!(WalFrame::parse(&[0xff; WAL_HEADER_BYTES]), Parsed::Torn);
    }

    #[test]
    fn a_torn_tail_and_what_lies_behind_it_are_cut() {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = open(dir.path());
        let bytes = [frame(1, b"one"), frame(2, b"two")].concat();
        log.append(&bytes, &spanning(&bytes, 1, 2), false).unwrap();
        log.flush().unwrap();
        drop(log);
        // A crash lost the header of frame 3 and kept frame 4 behind it: 4 must not come back behind a new 3.
        let file = RealDisk.open(&dir.path().join("00000000000000000001.wal"), false).unwrap();
        let (third, fourth) = (frame(3, b"three"), frame(4, b"four"));
        file.write_all_at(&fourth, (bytes.len() + third.len()) as u64).unwrap();
        let (log, seen) = open(dir.path());
        assert_eq!(seen, [1, 2]);
        log.append(&third, &spanning(&third, 3, 3), false).unwrap();
        drop(log);
        assert_eq!(open(dir.path()).1, [1, 2, 3]);
        // Half a frame.
        let end = file.len().unwrap();
        file.write_all_at(&fourth[..20], (bytes.len() + third.len()) as u64).unwrap();
        let (log, seen) = open(dir.path());
        assert_eq!((seen, log.end()), (vec![1, 2, 3], Offset(4)));
        assert_eq!(file.len().unwrap(), end);
    }
}
