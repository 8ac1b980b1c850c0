//! The script: seeded steps over keys, leases, compaction and transactions with every option, right and wrong.

use base::random::Random;
use etcd_wire::etcdserverpb::{self as pb, compare::TargetUnion, request_op};
use prost::bytes::Bytes;

use crate::wire::Call;

/// What the generator knows of the store, learned from the reference's answers.
#[derive(Debug, Default)]
pub struct World {
    pub revision: i64,
    pub compacted: i64,
}

/// Keys the script writes.
const KEYS: u64 = 24;
/// Leases the script knows; another number is unknown to the store.
const LEASES: u64 = 6;
/// How deep transactions nest.
const DEPTH_MAX: u32 = 3;

/// etcd 3.6 panics when a put that keeps the value or the lease follows a delete of its key in one transaction: it checks
/// before it runs. So transactions that delete do not keep. And it takes the `\0` that ends an unbounded delete for a key
/// when it looks for keys that are written twice; Ketch refuses those, so deletes in transactions have bounds.
fn spare_etcd(txn: &mut pb::TxnRequest) {
    bound_deletes(txn);
    if deletes(txn) {
        keep_nothing(txn);
    }
}

fn deletes(txn: &pb::TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match &op.request {
        Some(request_op::Request::RequestDeleteRange(_)) => true,
        Some(request_op::Request::RequestTxn(inner)) => deletes(inner),
        _ => false,
    })
}

fn bound_deletes(txn: &mut pb::TxnRequest) {
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        match &mut op.request {
            Some(request_op::Request::RequestDeleteRange(delete)) if delete.range_end == b"\0"[..] => {
                delete.range_end = Bytes::from_static(b"b/12");
            }
            Some(request_op::Request::RequestTxn(inner)) => bound_deletes(inner),
            _ => {}
        }
    }
}

fn keep_nothing(txn: &mut pb::TxnRequest) {
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        match &mut op.request {
            Some(request_op::Request::RequestPut(put)) => {
                (put.ignore_value, put.ignore_lease) = (false, false)
            }
            Some(request_op::Request::RequestTxn(inner)) => keep_nothing(inner),
            _ => {}
        }
    }
}

pub struct Script {
    random: Random,
    pub world: World,
}

impl Script {
    pub fn new(seed: u64) -> Self {
        Self { random: Random::from_seed(seed), world: World::default() }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn next(&mut self) -> Call {
        match self.below(100) {
            0..30 => Call::new("/etcdserverpb.KV/Range", &self.range()),
            30..55 => Call::new("/etcdserverpb.KV/Put", &self.put()),
            55..65 => Call::new("/etcdserverpb.KV/DeleteRange", &self.delete()),
            65..87 => {
                let mut txn = self.txn(0);
                spare_etcd(&mut txn);
                Call::new("/etcdserverpb.KV/Txn", &txn)
            }
            87..89 => Call::new("/etcdserverpb.KV/Compact", &self.compact()),
            89..98 => self.lease(),
            _ => self.maintenance(),
        }
    }

    fn key(&mut self) -> Bytes {
        match self.below(40) {
            0 => Bytes::new(),
            1 => Bytes::from_static(b"\0"),
            2 => Bytes::from_static(b"\xff"),
            3 => Bytes::from_static(b"a/\xff\xfe"),
            _ => {
                let n = self.below(KEYS);
                format!("{}/{n:02}", ["a", "b", "bb", "c"][(n % 4) as usize]).into()
            }
        }
    }

    fn range_end(&mut self, key: &Bytes) -> Bytes {
        match self.below(10) {
            0..5 => Bytes::new(),
            5 => Bytes::from_static(b"\0"),
            6 => store_api::prefix_end(&key[..key.len().min(2)]),
            7 => key.clone(),
            _ => self.key(),
        }
    }

    fn revision(&mut self) -> i64 {
        match self.below(12) {
            0..8 => 0,
            8 => self.world.compacted - 1 + self.below(3).cast_signed(),
            9 => self.world.revision - self.below(20).cast_signed(),
            10 => self.world.revision + self.below(3).cast_signed(),
            _ => -1,
        }
    }

    fn bound(&mut self) -> i64 {
        if self.one_in(8) { self.world.revision - self.below(60).cast_signed() } else { 0 }
    }

    fn range(&mut self) -> pb::RangeRequest {
        let key = self.key();
        let bad_sort = self.one_in(60);
        let sort_target = if bad_sort { 7 } else { self.below(5) as i32 };
        // Among more than twelve keys, etcd leaves it to its sorting algorithm which of two equal ones comes first.
        let prefix = sort_target != 0 && key.len() > 3;
        let range_end =
            if prefix { store_api::prefix_end(&key[..key.len() - 2]) } else { self.range_end(&key) };
        let key = if prefix { key.slice(..key.len() - 2) } else { key };
        pb::RangeRequest {
            range_end: if sort_target != 0 && !prefix { Bytes::new() } else { range_end },
            key,
            limit: if self.one_in(3) { self.below(8).cast_signed() - i64::from(self.one_in(20)) } else { 0 },
            revision: self.revision(),
            sort_order: if self.one_in(2) { self.below(3) as i32 } else { 0 },
            sort_target,
            serializable: self.one_in(3),
            keys_only: self.one_in(5),
            count_only: self.one_in(8),
            min_mod_revision: self.bound(),
            max_mod_revision: self.bound(),
            min_create_revision: self.bound(),
            max_create_revision: self.bound(),
        }
    }

    fn value(&mut self) -> Bytes {
        let length = self.below(20) as usize;
        self.random.text(b"0123456789abcdef", length).into()
    }

    fn lease_id(&mut self) -> i64 {
        let unknown = self.one_in(12);
        if unknown { 4242 } else { 1 + self.below(LEASES).cast_signed() }
    }

    fn put(&mut self) -> pb::PutRequest {
        let (ignore_value, ignore_lease) = (self.one_in(12), self.one_in(12));
        let keep_value = !ignore_value || self.one_in(6);
        // Which of two refusals a put gets (an unknown lease, nothing to keep) differs: Ketch looks for the key first, as
        // etcd does within transactions.
        let with_lease = self.one_in(5) && !ignore_value && (!ignore_lease || self.one_in(4));
        pb::PutRequest {
            key: self.key(),
            value: if keep_value { self.value() } else { Bytes::new() },
            lease: if with_lease { self.lease_id() } else { 0 },
            prev_kv: self.one_in(3),
            ignore_value,
            ignore_lease,
        }
    }

    fn delete(&mut self) -> pb::DeleteRangeRequest {
        let key = self.key();
        let range_end = if self.one_in(3) { self.range_end(&key) } else { Bytes::new() };
        pb::DeleteRangeRequest { key, range_end, prev_kv: self.one_in(2) }
    }

    fn compare(&mut self) -> pb::Compare {
        let key = self.key();
        let number = match self.below(4) {
            0 => 0,
            1 => self.below(4).cast_signed(),
            _ => self.world.revision - self.below(30).cast_signed(),
        };
        let union = match self.below(5) {
            0 => TargetUnion::Version(self.below(4).cast_signed()),
            1 => TargetUnion::CreateRevision(number),
            2 => TargetUnion::ModRevision(number),
            3 => TargetUnion::Value(self.value()),
            _ => TargetUnion::Lease(self.below(LEASES).cast_signed()),
        };
        let target = match union {
            TargetUnion::Version(_) => 0,
            TargetUnion::CreateRevision(_) => 1,
            TargetUnion::ModRevision(_) => 2,
            TargetUnion::Value(_) => 3,
            TargetUnion::Lease(_) => 4,
        };
        // Sometimes the target names another field than the one that is set, or none is.
        let wrong = self.one_in(15);
        pb::Compare {
            result: self.below(4) as i32,
            target: if wrong { self.below(5) as i32 } else { target },
            range_end: if self.one_in(4) { self.range_end(&key) } else { Bytes::new() },
            key,
            target_union: if wrong && self.one_in(2) { None } else { Some(union) },
        }
    }

    fn txn(&mut self, depth: u32) -> pb::TxnRequest {
        let (compares, success, failure) = (self.below(3), self.below(4), self.below(3));
        pb::TxnRequest {
            compare: (0..compares).map(|_| self.compare()).collect(),
            success: (0..success).map(|_| self.op(depth)).collect(),
            failure: (0..failure).map(|_| self.op(depth)).collect(),
        }
    }

    fn op(&mut self, depth: u32) -> pb::RequestOp {
        let request = match self.below(12) {
            0..4 => request_op::Request::RequestRange(self.range()),
            4..9 => request_op::Request::RequestPut(self.put()),
            9..11 => request_op::Request::RequestDeleteRange(self.delete()),
            _ if depth < DEPTH_MAX => request_op::Request::RequestTxn(self.txn(depth + 1)),
            _ => request_op::Request::RequestRange(self.range()),
        };
        let empty = self.one_in(200);
        pb::RequestOp { request: if empty { None } else { Some(request) } }
    }

    fn compact(&mut self) -> pb::CompactionRequest {
        let revision = match self.below(6) {
            0 => self.world.revision + 5,
            1 => self.world.compacted,
            2 => -1,
            _ => self.world.revision - 10 - self.below(60).cast_signed(),
        };
        pb::CompactionRequest { revision, physical: self.one_in(2) }
    }

    fn lease(&mut self) -> Call {
        let id = self.lease_id();
        match self.below(6) {
            0..2 => {
                // Far apart, so that their order by time left is known; far off, so that none ends on the way.
                let ttl = if self.one_in(10) { 9_000_000_001 } else { 1000 + id * 100 };
                Call::new("/etcdserverpb.Lease/LeaseGrant", &pb::LeaseGrantRequest { id, ttl })
            }
            2 => Call::new("/etcdserverpb.Lease/LeaseRevoke", &pb::LeaseRevokeRequest { id }),
            3 | 4 => {
                let request = pb::LeaseTimeToLiveRequest { id, keys: self.one_in(2) };
                Call::new("/etcdserverpb.Lease/LeaseTimeToLive", &request)
            }
            _ => Call::new("/etcdserverpb.Lease/LeaseLeases", &pb::LeaseLeasesRequest {}),
        }
    }

    fn maintenance(&mut self) -> Call {
        match self.below(4) {
            0 => Call::new("/etcdserverpb.Maintenance/Status", &pb::StatusRequest {}),
            1 => Call::new("/etcdserverpb.Maintenance/Alarm", &pb::AlarmRequest::default()),
            2 => {
                // Of what can be hashed, the hashes differ.
                let past = self.world.compacted > 1 && self.one_in(2);
                let revision = if past { 1 } else { self.world.revision + 5 };
                Call::new("/etcdserverpb.Maintenance/HashKV", &pb::HashKvRequest { revision })
            }
            _ => Call::new("/etcdserverpb.Cluster/MemberList", &pb::MemberListRequest { linearizable: true }),
        }
    }
}
