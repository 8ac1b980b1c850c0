//! A whole state on its way to a member that the log cannot bring up to date.
//!
//! ```text
//! chunk   records 4 | CRC-32C of what follows 4 | records x (key length 4, key, value length 4, value)
//! ```
//! The sender reads one consistent view, in the order of its keys, a chunk at a time; writes go on meanwhile. The
//! receiver fills a new state beside its own, makes it durable, and only then goes on with it.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::checksum::crc32c;
use base::disk::Disk;
use bytes::Bytes;
use mvcc::{Reader as _, State as _};

use super::types::{self, Malformed};
use crate::db::{Db, View};

/// Bytes of records in a chunk; one larger record makes a larger chunk.
const CHUNK_BYTES: usize = 512 * 1024;
/// Page cache of a state that is being received.
const RECEIVE_CACHE_BYTES: usize = 8 * 1024 * 1024;
/// Above every key: keys begin with 0 or a letter.
const END: &[u8] = &[0xff];

/// A state that is being read.
pub(crate) struct Outgoing {
    view: View,
    /// The first key not read yet; None at the end.
    next: Option<Vec<u8>>,
}

impl Outgoing {
    pub(crate) fn new(view: View) -> Self {
        Self { view, next: Some(Vec::new()) }
    }

    /// The next chunk; None when all has been read. Blocks on the disk.
    pub(crate) fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(from) = self.next.take() else { return Ok(None) };
        let (mut out, mut records) = (vec![0; 8], 0_u32);
        let scanned = self.view.scan(&from, END, false, &mut |key, stored| {
            if out.len() >= CHUNK_BYTES {
                self.next = Some(key.to_vec());
                return Ok(ControlFlow::Break(()));
            }
            types::put_bytes(&mut out, key);
            types::put_bytes(&mut out, stored.whole()?);
            records += 1;
            Ok(ControlFlow::Continue(()))
        });
        scanned.map_err(io::Error::other)?;
        out[..4].copy_from_slice(&records.to_be_bytes());
        let crc = crc32c(&out[8..]);
        out[4..8].copy_from_slice(&crc.to_be_bytes());
        Ok((records > 0).then_some(out))
    }
}

/// A state that arrived, whole and durable.
pub(crate) struct Received {
    pub db: Db,
    pub path: PathBuf,
}

/// A state that is arriving.
pub(crate) struct Incoming {
    db: Db,
    path: PathBuf,
    chunks: u64,
}

impl Incoming {
    /// With `patient` false a full disk is not waited for.
    pub(crate) fn begin(disk: &Arc<dyn Disk>, path: &Path, patient: bool) -> io::Result<Self> {
        let db = Db::receive(disk, path, RECEIVE_CACHE_BYTES).map_err(io::Error::other)?;
        if !patient {
            db.give_up();
        }
        Ok(Self { db, path: path.to_path_buf(), chunks: 0 })
    }

    /// Takes the chunk with this number (from 0 on).
    pub(crate) fn add(&mut self, number: u64, chunk: Bytes) -> io::Result<()> {
        if number != self.chunks {
            return Err(Malformed("snapshot: a chunk is missing").into());
        }
        let pairs = read_chunk(chunk)?;
        let added =
            self.db.update(false, |state| pairs.iter().try_for_each(|(key, value)| state.put(key, &[value])));
        added.map_err(io::Error::other)?;
        self.chunks += 1;
        Ok(())
    }

    /// All `chunks` have come: the state becomes durable.
    pub(crate) fn end(self, chunks: u64) -> io::Result<Received> {
        if chunks != self.chunks {
            return Err(Malformed("snapshot: a chunk is missing").into());
        }
        self.db.update(true, |_| Ok(())).map_err(io::Error::other)?;
        Ok(Received { db: self.db, path: self.path })
    }
}

/// The records of a chunk.
pub(crate) fn read_chunk(mut chunk: Bytes) -> Result<Vec<(Bytes, Bytes)>, Malformed> {
    let (records, crc) = (types::take_u32(&mut chunk)?, types::take_u32(&mut chunk)?);
    if crc32c(&chunk) != crc {
        return Err(Malformed("snapshot: a checksum does not match"));
    }
    (0..records).map(|_| Ok((types::take_bytes(&mut chunk)?, types::take_bytes(&mut chunk)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::sim::SimDisk;

    #[test]
    fn a_state_arrives_as_it_was() {
        let disk = SimDisk::new().shared();
        let from = Db::receive(&disk, Path::new("/from"), 1 << 20).unwrap();
        from.update(true, |state| {
            for n in 0..3000_u32 {
                state.put(&n.to_be_bytes(), &[&[7; 700]])?;
            }
            // Values that are apart from the tree, here and there.
            for n in 0..500_u32 {
                let record = vec![1; 30 + n as usize];
                state.put(&[&b"k"[..], &n.to_be_bytes()].concat(), &[&record])?;
                state.put(&mvcc::layout::old(&n.to_be_bytes(), store_api::Revision(9)), &[&record])?;
            }
            state.put(b"\0applied", &[b"x"])
        })
        .unwrap();
        let mut outgoing = Outgoing::new(from.view().unwrap());
        let mut incoming = Incoming::begin(&disk, Path::new("/to"), true).unwrap();
        let mut number = 0;
        while let Some(chunk) = outgoing.chunk().unwrap() {
            let mut bad = chunk.clone();
            bad[20] ^= 1;
            assert!(incoming.add(number, bad.into()).is_err());
            incoming.add(number, chunk.into()).unwrap();
            number += 1;
        }
        assert!(number > 2);
        let received = incoming.end(number).unwrap();
        let all = |db: &Db| {
            let mut all = Vec::new();
            let view = db.view().unwrap();
            view.scan(b"", END, false, &mut |key, stored| {
                all.push((key.to_vec(), stored.whole()?.to_vec()));
                Ok(ControlFlow::Continue(()))
            })
            .unwrap();
            all
        };
        assert_eq!(all(&from), all(&received.db));
        assert_eq!(all(&from).len(), 4001);
        assert_eq!(received.db.values().live_bytes(), from.values().live_bytes());
        assert!(from.values().live_bytes() > 0);
    }
}
