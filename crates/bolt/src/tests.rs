use std::collections::BTreeMap;
use std::io::Cursor;
use std::ops::ControlFlow;

use base::random::Random;

use crate::{Bucket, Error, PAGE_BYTES, Reader, Value, Writer};

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;
type File = BTreeMap<Vec<u8>, Entries>;

fn write(file: &File) -> Vec<u8> {
    let mut writer = Writer::new(Cursor::new(Vec::new())).unwrap();
    for (name, entries) in file {
        let mut bucket = writer.bucket(name).unwrap();
        for (key, value) in entries {
            bucket.put(key, value).unwrap();
        }
        bucket.finish().unwrap();
    }
    let (out, bytes) = writer.finish().unwrap();
    assert_eq!(out.get_ref().len() as u64, bytes);
    out.into_inner()
}

fn entries(reader: &Reader<&[u8]>, bucket: &Bucket) -> Result<Entries, Error> {
    let mut found = Entries::new();
    reader.each(bucket, &mut |key, value| {
        if let Value::Bytes(value) = value {
            found.insert(key.to_vec(), value.to_vec());
        }
        Ok::<_, Error>(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

fn read(bytes: &[u8]) -> Result<File, Error> {
    let reader = Reader::open(bytes)?;
    reader.check()?;
    let mut buckets = Vec::new();
    reader.each(&reader.root(), &mut |name, value| {
        if let Value::Bucket(bucket) = value {
            buckets.push((name.to_vec(), bucket));
        }
        Ok::<_, Error>(ControlFlow::Continue(()))
    })?;
    buckets.into_iter().map(|(name, bucket)| Ok((name, entries(&reader, &bucket)?))).collect()
}

fn some_bytes(random: &mut Random, max: u64) -> Vec<u8> {
    let len = 1 + random.next_u64() % max;
    (0..len).map(|_| random.next_u64() as u8).collect()
}

fn some_file(random: &mut Random) -> File {
    let buckets = 1 + random.next_u64() % 4;
    let mut file = File::new();
    for _ in 0..buckets {
        let keys = random.next_u64() % [1, 10, 3000][random.next_u64() as usize % 3];
        let (key_max, value_max) = (1 + random.next_u64() % 300, 1 + random.next_u64() % 9000);
        let value_max = if keys > 100 { value_max.min(200) } else { value_max };
        let entries =
            (0..keys).map(|_| (some_bytes(random, key_max), some_bytes(random, value_max))).collect();
        file.insert(some_bytes(random, 20), entries);
    }
    file
}

#[test]
fn what_is_written_is_read() {
    for seed in 0..40 {
        let file = some_file(&mut Random::from_seed(seed));
        let bytes = write(&file);
        assert_eq!(read(&bytes).unwrap(), file, "seed {seed}");
        let hashed = [&bytes[..], &[7; 32]].concat();
        assert_eq!(read(&hashed).unwrap(), file, "seed {seed} with a hash behind it");
    }
}

#[test]
fn damage_is_an_error_or_harmless_and_never_a_panic() {
    for seed in 0..30 {
        let mut random = Random::from_seed(seed);
        let bytes = write(&some_file(&mut random));
        for _ in 0..60 {
            let mut bad = bytes.clone();
            for _ in 0..1 + random.next_u64() % 4 {
                // Heads of pages and elements are where the numbers are.
                let page = random.next_u64() as usize % (bad.len() / PAGE_BYTES) * PAGE_BYTES;
                bad[page + random.next_u64() as usize % 120] = random.next_u64() as u8;
            }
            let _ = read(&bad);
            bad.truncate(random.next_u64() as usize % bad.len());
            assert!(read(&bad).is_err(), "cut to {} bytes", bad.len());
        }
    }
}

#[test]
fn a_circle_of_pages_ends() {
    let keys = (0..2000_u32).map(|n| (n.to_be_bytes().to_vec(), vec![1; 50]));
    let mut bytes = write(&File::from([(b"b".to_vec(), keys.collect())]));
    // Every branch page leads to itself.
    for page in (0..bytes.len()).step_by(PAGE_BYTES).skip(3) {
        if bytes[page + 8] == 1 {
            let id = (page / PAGE_BYTES) as u64;
            let count = usize::from(bytes[page + 10]);
            for element in 0..count {
                let at = page + 16 + element * 16 + 8;
                bytes[at..at + 8].copy_from_slice(&id.to_le_bytes());
            }
        }
    }
    assert!(matches!(read(&bytes), Err(Error::Corrupt(_))));
}

#[test]
fn the_other_meta_serves_when_one_is_damaged() {
    let file = File::from([(b"b".to_vec(), Entries::from([(b"k".to_vec(), b"v".to_vec())]))]);
    for page in 0..2 {
        let mut bytes = write(&file);
        bytes[page * PAGE_BYTES + 20] ^= 1;
        assert_eq!(read(&bytes).unwrap(), file);
        bytes[(1 - page) * PAGE_BYTES + 40] ^= 1;
        assert!(read(&bytes).is_err());
    }
}

#[test]
fn keys_must_rise_and_be_there() {
    let mut writer = Writer::new(Cursor::new(Vec::new())).unwrap();
    let mut bucket = writer.bucket(b"b").unwrap();
    bucket.put(b"b", b"").unwrap();
    for key in [&b""[..], b"a", b"b", &[b'c'; 32769]] {
        assert!(matches!(bucket.put(key, b""), Err(Error::Refused(_))));
    }
    bucket.finish().unwrap();
    assert!(matches!(writer.bucket(b"b"), Err(Error::Refused(_))));
}

#[test]
fn inline_buckets_are_read() {
    // What bbolt makes of an empty file with the bucket `b` holding `k` = `v`: a leaf page within the value.
    let mut inline = Vec::new();
    inline.extend_from_slice(&[0; 16]);
    inline.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0, 0]);
    inline.extend_from_slice(&[0, 0, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
    inline.extend_from_slice(b"kv");
    let mut bytes = write(&File::from([(b"b".to_vec(), Entries::from([(b"x".to_vec(), inline)]))]));
    // The entry's value becomes a bucket: its flag stands first in the leaf page, which is page 3.
    bytes[3 * PAGE_BYTES + 16] = 1;
    let reader = Reader::open(&bytes[..]).unwrap();
    reader.check().unwrap();
    let outer = reader.bucket(&reader.root(), b"b").unwrap().unwrap();
    let inner = reader.bucket(&outer, b"x").unwrap().unwrap();
    assert_eq!(entries(&reader, &inner).unwrap(), Entries::from([(b"k".to_vec(), b"v".to_vec())]));
}

#[test]
fn bytes_are_as_drawn() {
    let bytes = write(&File::from([(b"key".to_vec(), Entries::from([(b"k".to_vec(), b"value".to_vec())]))]));
    let mut drawn = String::new();
    for (place, row) in bytes.chunks(16).enumerate().filter(|(_, row)| row.iter().any(|byte| *byte != 0)) {
        let hex: String = row.iter().map(|byte| format!("{byte:02x}")).collect();
        drawn.push_str(&format!("{:05x} {hex}\n", place * 16));
    }
    expect_test::expect![[r#"
        00000 00000000000000000400000000000000
        00010 edda0ced020000000010000000000000
        00020 04000000000000000000000000000000
        00030 02000000000000000500000000000000
        00040 000000000000000088b4e6c8a24208fc
        01000 01000000000000000400000000000000
        01010 edda0ced020000000010000000000000
        01020 04000000000000000000000000000000
        01030 02000000000000000500000000000000
        01040 0100000000000000a9fed5d3ab09031b
        02000 02000000000000001000000000000000
        03000 03000000000000000200010000000000
        03010 00000000100000000100000005000000
        03020 6b76616c756500000000000000000000
        04000 04000000000000000200010000000000
        04010 01000000100000000300000010000000
        04020 6b657903000000000000000000000000
    "#]]
    .assert_eq(&drawn);
}
