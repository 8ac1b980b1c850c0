use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use base::disk::RealDisk;
use base::random::Random;
use mvcc::alarm::{Alarm, AlarmKind};
use mvcc::auth::AuthOp;
use mvcc::{Entry, Reader as _, read, sweep};
use store_api::{KeyRange, LeaseId, Op, RangeRequest, Revision, Txn};

use super::write::AboutMember;
use super::*;
use crate::db::Db;

/// A store's state with history, deletes, leases and a compaction in it.
fn some_state(dir: &Path, seed: u64, changes: usize) -> Db {
    let db = Db::open(&RealDisk::shared(), dir, 1 << 20).unwrap();
    let mut random = Random::from_seed(seed);
    let mut entries = vec![Entry::LeaseGrant { id: LeaseId(7), ttl_s: 300 }];
    for _ in 0..changes {
        let ops = (0..1 + random.below(3)).map(|n| {
            let key = format!("/key/{n}/{}", random.below(100));
            match random.below(5) {
                0 => Op::delete(key),
                1 => Op::Put { key: key.into(), value: "leased".into(), lease: LeaseId(7), prev_kv: false },
                2 => Op::put(key, random.text(b"abc", 700)),
                _ => Op::put(key, random.text(b"abc", 50)),
            }
        });
        entries.push(Entry::Txn(Txn { success: ops.collect(), ..Txn::default() }));
    }
    entries.extend([
        Entry::Auth(AuthOp::RoleAdd { name: "reader".to_owned() }),
        Entry::Alarm { alarm: Alarm { member: 9, kind: AlarmKind::NoSpace }, raise: true },
    ]);
    let applied = db.update(true, |state| mvcc::apply(state, &entries)).unwrap();
    assert!(applied.replies[changes + 1..].iter().all(Result::is_ok), "{:?}", applied.replies.last());
    let now = read::revision(&db.view().unwrap()).unwrap().get();
    if seed % 2 == 1 {
        let half = Entry::Compact { revision: Revision(now / 2) };
        db.update(true, |state| mvcc::apply(state, &[half])).unwrap();
    }
    if seed % 4 == 3 {
        while db.update(true, |state| sweep(state, 50)).unwrap() {}
    }
    db
}

fn about() -> About {
    let member = AboutMember {
        id: 0x1234_5678,
        name: "one".to_owned(),
        peer_urls: vec!["http://127.0.0.1:2380".to_owned()],
        client_urls: vec![],
        is_learner: false,
    };
    About { members: vec![member] }
}

/// Writes a snapshot as the door streams it: with its hash behind it.
fn save(db: &Db, dir: &Path) -> PathBuf {
    let mut snapshot = write(&db.view().unwrap(), &about(), dir).unwrap();
    let mut bytes = Vec::new();
    snapshot.file.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, snapshot.bytes);
    let hash = ring::digest::digest(&ring::digest::SHA256, &bytes);
    let path = dir.join("snapshot.db");
    std::fs::File::create(&path).unwrap().write_all(&[&bytes, hash.as_ref()].concat()).unwrap();
    path
}

/// All that a state holds but where its log stands, swept.
fn content(db: &Db) -> BTreeMap<Vec<u8>, Vec<u8>> {
    while db.update(true, |state| sweep(state, 1000)).unwrap() {}
    let mut found = BTreeMap::new();
    let view = db.view().unwrap();
    view.scan(&[1], &[0xff], false, &mut |key, stored| {
        found.insert(key.to_vec(), stored.whole()?.to_vec());
        Ok(std::ops::ControlFlow::Continue(()))
    })
    .unwrap();
    found
}

fn opened(dir: &Path) -> Db {
    Db::open(&RealDisk::shared(), dir, 1 << 20).unwrap()
}

#[test]
fn what_is_saved_is_restored() {
    for seed in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        let db = some_state(dir.path(), seed, 400);
        let file = save(&db, dir.path());
        let restored = dir.path().join("restored");
        let told = restore(&file, &restored, RestoreOptions::default()).unwrap();
        assert_eq!(told.revision, read::revision(&db.view().unwrap()).unwrap());
        assert_eq!(content(&opened(&restored)), content(&db), "seed {seed}");
        let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 4, "left behind: {names:?}");
    }
}

#[test]
fn status_counts_keys_and_refuses_damage() {
    let dir = tempfile::tempdir().unwrap();
    let db = some_state(dir.path(), 3, 400);
    let file = save(&db, dir.path());
    let view = db.view().unwrap();
    let all = read::range(&view, &RangeRequest::of(KeyRange::prefix(""))).unwrap();
    let told = status(&file).unwrap();
    assert_eq!((told.total_keys, told.revision), (all.count as u64, all.revision));
    assert_eq!(told.version, "3.6.0");
    let mut bytes = std::fs::read(&file).unwrap();
    // The first leaf's count.
    bytes[3 * bolt::PAGE_BYTES + 10] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    assert!(status(&file).is_err());
    let refused = restore(&file, &dir.path().join("new"), RestoreOptions::default()).unwrap_err().to_string();
    assert!(refused.starts_with("expected sha256 ["), "{refused}");
}

#[test]
fn a_file_without_a_hash_and_a_full_directory_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let db = some_state(dir.path(), 1, 50);
    let file = save(&db, dir.path());
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 32]).unwrap();
    let new = dir.path().join("new");
    let refused = restore(&file, &new, RestoreOptions::default()).unwrap_err();
    assert_eq!(refused.to_string(), "snapshot missing hash but --skip-hash-check=false");
    assert!(!new.exists());
    let skip = RestoreOptions { skip_hash_check: true, ..RestoreOptions::default() };
    restore(&file, &new, skip).unwrap();
    let refused = restore(&file, &new, skip).unwrap_err().to_string();
    assert!(refused.ends_with("not empty or could not be read"), "{refused}");
    let bump = RestoreOptions { bump_revision: 5, ..skip };
    let refused = restore(&file, &dir.path().join("other"), bump).unwrap_err().to_string();
    assert_eq!(refused, "--mark-compacted required if --revision-bump > 0");
}

#[test]
fn a_bumped_revision_leaves_the_keys_and_ends_history() {
    let dir = tempfile::tempdir().unwrap();
    let db = some_state(dir.path(), 3, 100);
    let before = read::range(&db.view().unwrap(), &RangeRequest::of(KeyRange::prefix(""))).unwrap();
    let file = save(&db, dir.path());
    let options = RestoreOptions { bump_revision: 1_000_000, mark_compacted: true, skip_hash_check: false };
    let new = dir.path().join("new");
    let told = restore(&file, &new, options).unwrap();
    assert_eq!(told.revision.get(), before.revision.get() + 1_000_000);
    assert_eq!(told.compacted, told.revision);
    let restored = opened(&new);
    content(&restored);
    let after = read::range(&restored.view().unwrap(), &RangeRequest::of(KeyRange::prefix(""))).unwrap();
    assert_eq!((after.kvs, after.revision), (before.kvs, told.revision));
    // Once more through a snapshot: the revision no key was made at is not lost.
    let again = save(&restored, dir.path());
    let told = restore(&again, &dir.path().join("again"), RestoreOptions::default()).unwrap();
    assert_eq!(told.revision, after.revision);
}

/// etcd's own tool reads our files, and we read what it makes of them.
#[test]
fn etcdutl_reads_and_restores_ours() {
    let Some(etcdutl) = std::env::var_os("KETCH_TEST_ETCDUTL") else {
        eprintln!("skipped: KETCH_TEST_ETCDUTL is not set");
        return;
    };
    for seed in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        let db = some_state(dir.path(), seed, 3000);
        let file = save(&db, dir.path());
        let told =
            Command::new(&etcdutl).args(["snapshot", "status", "-w", "json"]).arg(&file).output().unwrap();
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
        let ours = status(&file).unwrap();
        let expect = serde_json::json!({
            "hash": ours.hash,
            "revision": ours.revision.get(),
            "totalKey": ours.total_keys,
            "totalSize": ours.total_bytes,
            "version": ours.version,
        });
        assert_eq!(told, expect);
        let etcd = dir.path().join("etcd");
        let made = Command::new(&etcdutl)
            .args(["snapshot", "restore", "--data-dir"])
            .args([&etcd, &file])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        // Back from etcd's data directory, where the file has no hash.
        let back = dir.path().join("back");
        let skip = RestoreOptions { skip_hash_check: true, ..RestoreOptions::default() };
        restore(&etcd.join("member/snap/db"), &back, skip).unwrap();
        assert_eq!(content(&opened(&back)), content(&db), "seed {seed}");
    }
}
