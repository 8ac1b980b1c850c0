//! Making a log equal to another log of the same partition, batch by batch: how a partition moves to another directory.

use super::*;

impl PartitionLog {
    /// Appends a batch as it stands in the other log: with its offset, which leaves a gap where compaction left one, and
    /// its leader epoch. Not durable before a flush.
    ///
    /// # Errors
    /// `Refused` for bytes that are no batch, or one that ends below the end of this log; the disk's.
    pub fn append_copy(&self, batch: &[u8], now_ms: i64) -> Result<AppendInfo> {
        let bad = || Error::Refused("not a batch".to_owned());
        let header = BatchHeader::parse(batch).filter(|h| h.len == batch.len()).ok_or_else(bad)?;
        let marker = if header.is_control() { EndTxnMarker::parse(batch) } else { None };
        let mut state = self.state.lock();
        self.place(&mut state, batch, &header, marker, header.leader_epoch, now_ms)
    }

    /// Takes over the leader epochs of the other log: also the newest, which may have written nothing yet though clients
    /// were told of it.
    ///
    /// # Errors
    /// The disk's.
    pub fn adopt_epochs(&self, other: &Self) -> Result<()> {
        let theirs = other.state.lock().epochs.entries().to_vec();
        let mut state = self.state.lock();
        let mut changed = false;
        for entry in theirs {
            changed |= state.epochs.assign(entry.epoch, entry.start);
        }
        if changed {
            state.epochs.save(&*self.disk).map_err(|e| Error::io(self.log.dir(), e))
        } else {
            Ok(())
        }
    }

    /// Moves the end to `to` where the other log has nothing that could be copied up to there (compaction removed its last
    /// batches): an empty batch stands for the offsets, which must not be given out again.
    ///
    /// # Errors
    /// `Refused` when the gap is too wide for a batch; the disk's.
    pub fn fill_to(&self, to: Offset, now_ms: i64) -> Result<()> {
        let end = self.log.end();
        if to <= end {
            return Ok(());
        }
        let wide = |_| Error::Refused(format!("a gap from {end} to {to}"));
        let delta = i32::try_from(to.get() - 1 - end.get()).map_err(wide)?;
        let mut batch = vec![0; BATCH_HEADER_BYTES];
        batch[0..8].copy_from_slice(&end.get().to_be_bytes());
        batch[8..12].copy_from_slice(&(BATCH_HEADER_BYTES as i32 - 12).to_be_bytes());
        batch[12..16].copy_from_slice(&self.leader_epoch().to_be_bytes());
        batch[16] = 2;
        batch[23..27].copy_from_slice(&delta.to_be_bytes());
        batch[27..35].copy_from_slice(&(-1i64).to_be_bytes());
        // No producer: id, epoch and sequence.
        batch[43..57].fill(0xff);
        KafkaBatch::set_max_timestamp(&mut batch, -1);
        self.append_copy(&batch, now_ms).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::disk::RealDisk;
    use kafka_wire::record::Builder;

    const OPTIONS: PartitionOptions = PartitionOptions {
        segment_bytes: 400,
        segment_ms: i64::MAX,
        segment_jitter_ms: 0,
        index_bytes_max: 1 << 20,
        index_interval_bytes: 4096,
        preallocate: false,
        producer_expiration_ms: i64::MAX,
    };

    fn open(dir: &Path, start: i64) -> PartitionLog {
        PartitionLog::open(RealDisk::shared(), dir, OPTIONS, OpenFrom::Clean, Offset(start)).unwrap().0
    }

    fn all(log: &PartitionLog) -> Vec<u8> {
        let (mut at, mut bytes) = (log.log().start(), Vec::new());
        while at < log.log().end() {
            let chunk = log.log().read(at, log.log().end(), 1 << 20, true).unwrap();
            bytes.extend_from_slice(&chunk.bytes);
            at = chunk.next.unwrap();
        }
        bytes
    }

    #[test]
    fn a_copy_is_the_same_and_goes_on_where_the_other_does() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (open(&dir.path().join("a-0"), 0), open(&dir.path().join("b-0"), 4));
        for n in 0..20 {
            let mut batch = Builder::new();
            batch.append(n, Some(b"k"), Some(b"value")).append(n, None, Some(b"value"));
            let mut batch = bytes::BytesMut::from(&batch.build().unwrap()[..]);
            from.append(&mut batch, (n / 7) as i32, n).unwrap();
        }
        from.delete_before(Offset(4)).unwrap();
        let bytes = all(&from);
        for (header, batch) in whole_batches(&bytes).filter(|(header, _)| header.base_offset.get() != 30) {
            let placed = to.append_copy(batch, 0).unwrap();
            assert_eq!(placed.base_offset, header.base_offset);
        }
        assert_eq!((to.log().start(), to.log().end()), (Offset(4), Offset(40)));
        to.adopt_epochs(&from).unwrap();
        for epoch in 0..3 {
            assert_eq!(to.epoch_end(epoch, Offset(40)), from.epoch_end(epoch, Offset(40)), "{epoch}");
        }
        assert!(to.append_copy(&bytes, 0).is_err(), "nothing is written twice");
        to.fill_to(Offset(50), 0).unwrap();
        to.close().unwrap();
        let again = open(&dir.path().join("b-0"), 4);
        assert_eq!(again.log().end(), Offset(50));
        let found: Vec<_> =
            whole_batches(&all(&again)).map(|(h, _)| (h.base_offset.get(), h.last_offset().get())).collect();
        let mut wanted: Vec<_> =
            (2..20).map(|n| (2 * n, 2 * n + 1)).filter(|(base, _)| *base != 30).collect();
        wanted.push((40, 49));
        assert_eq!(found, wanted);
    }
}
