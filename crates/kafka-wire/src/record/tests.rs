use super::*;

/// The records of `tests/java/wire/Batches.java`, as text.
fn shown(batch: &Batch<'_>) -> Vec<String> {
    let mut out = Vec::new();
    let reader = batch.records(1 << 20).expect("opens");
    let text =
        |bytes: Option<&[u8]>| bytes.map_or("null".into(), |b| String::from_utf8_lossy(b).into_owned());
    reader
        .for_each(|r| {
            let headers: Vec<String> =
                r.headers.map(|h| format!("{}={:?}", text(Some(h.key)), h.value)).collect();
            out.push(format!("{} {} {} {} {headers:?}", r.offset, r.timestamp, text(r.key), text(r.value)));
        })
        .expect("reads");
    out
}

fn sample(codec: Compression) -> Vec<u8> {
    let mut builder = Builder::new().compression(codec).base_offset(7).leader_epoch(3);
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
    builder.build().expect("builds").to_vec()
}

#[test]
fn every_codec_gives_the_same_records() {
    let plain = shown(&Batch::single(&sample(Compression::None)).expect("parses"));
    assert_eq!(plain.len(), 40);
    assert_eq!(
        plain[5],
        "12 1700000000035 key-5 value value value value value  [\"trace=Some([5])\", \"none=None\"]"
    );
    for codec in Compression::ALL {
        let bytes = sample(codec);
        let batch = Batch::single(&bytes).expect("parses");
        batch.verify().expect("checksum");
        assert_eq!(
            (batch.compression().expect("known"), batch.next_offset(), batch.leader_epoch()),
            (codec, 47, 3)
        );
        assert_eq!(shown(&batch), plain, "{codec:?}");
    }
}

#[test]
fn patches_keep_the_checksum_right() {
    let mut bytes = sample(Compression::Lz4);
    patch_base(&mut bytes, 1000, 9);
    let batch = Batch::single(&bytes).expect("parses");
    batch.verify().expect("not covered");
    assert_eq!((batch.base_offset(), batch.last_offset(), batch.leader_epoch()), (1000, 1039, 9));
    patch_log_append_time(&mut bytes, 5);
    let batch = Batch::single(&bytes).expect("parses");
    batch.verify().expect("renewed");
    assert!(batch.is_log_append_time());
    batch.records(1 << 20).expect("opens").for_each(|r| assert_eq!(r.timestamp, 5)).expect("reads");
}

#[test]
fn sequences_wrap_after_the_largest() {
    let producer = Producer { id: 1, epoch: 0, base_sequence: i32::MAX };
    let mut builder = Builder::new().producer(producer);
    builder.append(0, None, None).append(0, None, None);
    let bytes = builder.build().expect("builds");
    assert_eq!(Batch::single(&bytes).expect("parses").last_sequence(), 0);
}

#[test]
fn a_raw_snappy_body_is_read_too() {
    let bytes = sample(Compression::Snappy);
    let plain = sample(Compression::None);
    let raw = snap::raw::Encoder::new().compress_vec(&plain[HEADER_SIZE..]).expect("compresses");
    let mut unframed = bytes[..HEADER_SIZE].to_vec();
    unframed.extend_from_slice(&raw);
    let length = (unframed.len() - LOG_OVERHEAD) as i32;
    unframed[8..12].copy_from_slice(&length.to_be_bytes());
    let batch = Batch::single(&unframed).expect("parses");
    assert_eq!(shown(&batch), shown(&Batch::single(&plain).expect("parses")));
}

/// Changes a good batch, renews its checksum and says what validation answers.
fn check(change: impl FnOnce(&mut Vec<u8>), rules: &Rules, expect: Result<i32, ErrorCode>) {
    let mut bytes = sample(Compression::Gzip);
    change(&mut bytes);
    let crc = crc32c(&bytes[ATTRIBUTES_AT..]);
    bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
    let got = Batch::single(&bytes).and_then(|batch| batch.validate(rules, 1_700_000_000_000));
    assert_eq!(got.map(|s| s.max_timestamp_delta).map_err(|e| e.code()), expect);
}

#[test]
fn validation_is_that_of_log_validator() {
    let rules = Rules::default();
    let zero = |b: &mut Vec<u8>| b[..8].fill(0);
    let changed = |change: fn(&mut Vec<u8>)| {
        move |b: &mut Vec<u8>| {
            b[..8].fill(0);
            change(b);
        }
    };
    check(zero, &rules, Ok(38));
    check(|_| {}, &rules, Err(ErrorCode::InvalidRecord));
    check(changed(|b| b[COUNT_AT + 3] = 41), &rules, Err(ErrorCode::InvalidRecord));
    check(changed(|b| b[LAST_DELTA_AT + 3] = 2), &rules, Err(ErrorCode::InvalidRecord));
    check(changed(|b| b[ATTRIBUTES_AT + 1] |= CONTROL as u8), &rules, Err(ErrorCode::InvalidRecord));
    check(changed(|b| b[ATTRIBUTES_AT + 1] |= 7), &rules, Err(ErrorCode::UnsupportedCompressionType));
    check(changed(|b| b[PRODUCER_ID_AT..PRODUCER_ID_AT + 8].fill(0)), &rules, Err(ErrorCode::InvalidRecord));
    check(changed(|b| b[MAGIC_AT] = 1), &rules, Err(ErrorCode::InvalidRecord));
    check(changed(|b| b.extend_from_slice(&[0; 61])), &rules, Err(ErrorCode::InvalidRecord));
    check(changed(|b| b.truncate(80)), &rules, Err(ErrorCode::InvalidRecord));
    check(changed(|b| b[HEADER_SIZE + 20..].fill(0x55)), &rules, Err(ErrorCode::UnknownServerError));
    let keys = Rules { keys_required: true, ..rules };
    check(zero, &keys, Err(ErrorCode::InvalidRecord));
    let soon = Rules { timestamp_after_max_ms: 100, ..rules };
    check(zero, &soon, Err(ErrorCode::InvalidTimestamp));
    let append = Rules { log_append_time: true, ..soon };
    check(zero, &append, Ok(38));
    // A batch that claims the broker's time: its one time is checked, or the claim is refused.
    check(changed(|b| b[ATTRIBUTES_AT + 1] |= LOG_APPEND_TIME as u8), &rules, Ok(0));
    check(
        changed(|b| b[ATTRIBUTES_AT + 1] |= LOG_APPEND_TIME as u8),
        &append,
        Err(ErrorCode::InvalidTimestamp),
    );
    let small = Rules { decompressed_max_bytes: 500, ..rules };
    check(zero, &small, Err(ErrorCode::MessageTooLarge));
}

#[test]
fn every_record_at_fault_is_named() {
    let mut bytes = sample(Compression::None);
    bytes[..8].fill(0);
    let rules = Rules { keys_required: true, ..Rules::default() };
    let error = Batch::single(&bytes).and_then(|batch| batch.validate(&rules, 1_700_000_000_000));
    let Err(RecordError::Faults(faults)) = error else { panic!("{error:?}") };
    let expect: Vec<_> = (0..40).step_by(3).map(|record| (record, Fault::NoKey)).collect();
    assert_eq!(faults, expect);
}

#[test]
fn a_batch_recompressed_holds_the_same_records() {
    let plain = sample(Compression::None);
    let expect = shown(&Batch::single(&plain).expect("parses"));
    for (from, to) in Compression::ALL.into_iter().flat_map(|from| Compression::ALL.map(|to| (from, to))) {
        let bytes = sample(from);
        let made = recompress(Batch::single(&bytes).expect("parses"), to, Some(1), 1 << 20).expect("made");
        let batch = Batch::single(&made).expect("parses");
        batch.verify().expect("checksum");
        assert_eq!((batch.compression(), shown(&batch)), (Ok(to), expect.clone()), "{from:?} to {to:?}");
    }
    let bytes = sample(Compression::Gzip);
    let small = recompress(Batch::single(&bytes).expect("parses"), Compression::Zstd, None, 100);
    assert_eq!(small, Err(RecordError::TooLarge(100)));
}

#[test]
fn a_wrong_checksum_is_corruption() {
    let mut bytes = sample(Compression::None);
    bytes[70] ^= 1;
    let error = Batch::single(&bytes).expect("parses").validate(&Rules::default(), 0).expect_err("corrupt");
    assert_eq!(error.code(), ErrorCode::CorruptMessage);
}

#[test]
fn a_bomb_stops_at_the_bound() {
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let mut builder = Builder::new().compression(codec);
        builder.append(0, None, Some(&vec![0; 8 << 20]));
        let bytes = builder.build().expect("builds");
        let batch = Batch::single(&bytes).expect("parses");
        let rules = Rules { decompressed_max_bytes: 1 << 20, log_append_time: true, ..Rules::default() };
        let error = batch.validate(&rules, 0).expect_err("too large");
        assert!(
            matches!(error, RecordError::TooLarge(_) | RecordError::Decompress(_)),
            "{codec:?} {error:?}"
        );
    }
}

#[test]
fn many_batches_are_walked_until_the_end_or_the_tear() {
    let mut bytes = sample(Compression::None);
    bytes.extend(sample(Compression::Zstd));
    assert_eq!(batches(&bytes).filter(Result::is_ok).count(), 2);
    bytes.truncate(bytes.len() - 1);
    let last = batches(&bytes).last().expect("two");
    assert_eq!(last, Err(RecordError::Truncated));
}

/// Every level gives a frame that the decoder and, by its header, the Java client read; a higher one is no larger.
#[test]
fn levels_of_lz4() {
    // Words that come again, some noise, and more than two blocks.
    let mut random = base::random::Random::from_seed(5);
    let words: Vec<String> = (0..300).map(|_| format!("{:x} ", random.below(1 << 40))).collect();
    let text: String = (0..20_000).map(|_| &*words[random.below(300) as usize]).collect();
    let noise: Vec<u8> = (0..100_000).map(|_| random.below(256) as u8).collect();
    let body = [text.as_bytes(), &noise].concat();
    let fast = Compression::Lz4.compress(&body).unwrap();
    assert_eq!(Compression::Lz4.compress_at(&body, Some(9)).unwrap(), fast);
    let mut sizes = Vec::new();
    for level in (1..=17).filter(|level| *level != 9) {
        let frame = Compression::Lz4.compress_at(&body, Some(level)).unwrap();
        assert_eq!(frame[..7], fast[..7], "the header of level {level}");
        assert_eq!(Compression::Lz4.decompress(&frame, body.len()).unwrap(), body, "level {level}");
        sizes.push(frame.len());
    }
    assert!(sizes.iter().all(|size| *size < fast.len()), "{sizes:?}, fast {}", fast.len());
    let (low, high) = (sizes.first().unwrap(), sizes.last().unwrap());
    assert!(low > high, "{sizes:?}");
    // And nothing at all is a frame, too.
    let empty = Compression::Lz4.compress_at(&[], Some(1)).unwrap();
    assert_eq!(Compression::Lz4.decompress(&empty, 10).unwrap(), []);
}
