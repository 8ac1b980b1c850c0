//! What can be refused without looking at the state (etcd: server/etcdserver/api/v3rpc/key.go).

use std::collections::BTreeSet;

use bytes::Bytes;
use store_api::{Compare, CompareTarget, Error, KeyRange, MAX_REQUEST_BYTES, MAX_TXN_OPS, Op, Txn};

use crate::entry::MAX_TXN_DEPTH;

const EMPTY_KEY: &str = "etcdserver: key is not provided";
const TOO_MANY_OPS: &str = "etcdserver: too many operations in txn request";
const DUPLICATE_KEY: &str = "etcdserver: duplicate key given in txn request";
const TOO_LARGE: &str = "etcdserver: request is too large";

/// Whether the transaction could be served by any state.
///
/// # Errors
/// `Invalid` with etcd's text: an empty key, too many operations, a key that is written twice, too many bytes.
pub fn validate(txn: &Txn) -> Result<(), Error> {
    check_shape(txn, MAX_TXN_OPS, 0)?;
    if bytes_of(txn) > MAX_REQUEST_BYTES {
        return Err(invalid(TOO_LARGE));
    }
    check_writes(txn)
}

/// Whether no key is written twice on any path through the transaction.
///
/// # Errors
/// `Invalid` with etcd's text.
pub fn check_writes(txn: &Txn) -> Result<(), Error> {
    for ops in [&txn.success, &txn.failure] {
        // A lone operation, the common case, cannot write twice.
        if !matches!(
            ops[..],
            [] | [Op::Range(_) | Op::Put { .. } | Op::Update { .. } | Op::DeleteRange { .. }]
        ) {
            Writes::of(ops)?;
        }
    }
    Ok(())
}

/// Whether no branch of the transaction writes.
#[must_use]
pub fn is_read_only(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).all(|op| match op {
        Op::Range(_) => true,
        Op::Put { .. } | Op::Update { .. } | Op::DeleteRange { .. } => false,
        Op::Txn(inner) => is_read_only(inner),
    })
}

fn invalid(text: &str) -> Error {
    Error::Invalid(text.to_owned())
}

/// What a nested transaction may hold is what its parent's widest list left over (etcd's `checkTxnRequest`).
fn check_shape(txn: &Txn, budget: usize, depth: usize) -> Result<(), Error> {
    let most = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    if most > budget || depth > MAX_TXN_DEPTH {
        return Err(invalid(TOO_MANY_OPS));
    }
    for compare in &txn.compare {
        check_range(&compare.range)?;
    }
    txn.success.iter().chain(&txn.failure).try_for_each(|op| match op {
        Op::Range(request) => check_range(&request.range),
        Op::Put { key, .. } | Op::Update { key, .. } if key.is_empty() => Err(invalid(EMPTY_KEY)),
        Op::Put { .. } | Op::Update { .. } => Ok(()),
        Op::DeleteRange { range, .. } => check_range(range),
        Op::Txn(inner) => check_shape(inner, budget - most, depth + 1),
    })
}

/// Whether the range names something. A span may begin with the empty key: it stands for the first there is.
pub(crate) fn check_range(range: &KeyRange) -> Result<(), Error> {
    match range {
        KeyRange::One(key) if key.is_empty() => Err(invalid(EMPTY_KEY)),
        _ => Ok(()),
    }
}

fn bytes_of(txn: &Txn) -> usize {
    let compares: usize = txn.compare.iter().map(compare_bytes).sum();
    let ops = txn.success.iter().chain(&txn.failure);
    compares + ops.map(op_bytes).sum::<usize>()
}

fn compare_bytes(compare: &Compare) -> usize {
    let value = if let CompareTarget::Value(value) = &compare.target { value.len() } else { 8 };
    range_bytes(&compare.range) + value
}

fn op_bytes(op: &Op) -> usize {
    match op {
        Op::Range(request) => range_bytes(&request.range),
        Op::Put { key, value, .. } => key.len() + value.len(),
        Op::Update { key, value, .. } => key.len() + value.as_ref().map_or(0, Bytes::len),
        Op::DeleteRange { range, .. } => range_bytes(range),
        Op::Txn(inner) => bytes_of(inner),
    }
}

fn range_bytes(range: &KeyRange) -> usize {
    match range {
        KeyRange::One(key) => key.len(),
        KeyRange::Span { start, end } => start.len() + end.len(),
    }
}

/// What a list of operations may write: no key twice on any path through it. Two deletes may overlap (the second finds
/// nothing), and so may the branches of one nested transaction (only one is taken).
#[derive(Default)]
struct Writes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Vec<&'a KeyRange>,
}

impl<'a> Writes<'a> {
    fn of(ops: &'a [Op]) -> Result<Self, Error> {
        let mut all = Self::default();
        // Deletes of this level first, so that puts of nested transactions are checked against them.
        for op in ops {
            if let Op::DeleteRange { range, .. } = op {
                all.deletes.push(range);
            }
        }
        for op in ops {
            if let Op::Txn(txn) = op {
                all.add_nested(txn)?;
            }
        }
        for op in ops {
            if let Op::Put { key, .. } | Op::Update { key, .. } = op {
                all.add_put(key, None)?;
            }
        }
        Ok(all)
    }

    fn add_nested(&mut self, txn: &'a Txn) -> Result<(), Error> {
        let (yes, no) = (Self::of(&txn.success)?, Self::of(&txn.failure)?);
        for key in &yes.puts {
            self.add_put(key, None)?;
        }
        for key in &no.puts {
            self.add_put(key, Some(&yes.puts))?;
        }
        self.deletes.extend(yes.deletes);
        self.deletes.extend(no.deletes);
        Ok(())
    }

    fn add_put(&mut self, key: &'a [u8], other_branch: Option<&BTreeSet<&[u8]>>) -> Result<(), Error> {
        let deleted = self.deletes.iter().any(|range| range.contains(key));
        let fresh = self.puts.insert(key);
        let exclusive = other_branch.is_some_and(|other| other.contains(key));
        if deleted || !(fresh || exclusive) { Err(invalid(DUPLICATE_KEY)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(success: Vec<Op>, expect: Result<(), &str>) {
        let shown = format!("{success:?}");
        let found = validate(&Txn { success, ..Txn::default() });
        assert_eq!(found, expect.map_err(|text| Error::Invalid(text.to_owned())), "{shown}");
    }

    fn put(key: &'static str) -> Op {
        Op::put(key, "v")
    }
    fn wipe(prefix: &'static str) -> Op {
        Op::DeleteRange { range: KeyRange::prefix(prefix), prev_kv: false }
    }
    fn nested(success: Vec<Op>, failure: Vec<Op>) -> Op {
        Op::Txn(Txn { compare: vec![], success, failure })
    }

    #[test]
    fn a_key_is_written_at_most_once() {
        check(vec![put("a"), put("b")], Ok(()));
        check(vec![put("a"), put("a")], Err(DUPLICATE_KEY));
        check(vec![put("a1"), wipe("a")], Err(DUPLICATE_KEY));
        check(vec![wipe("a"), wipe("a")], Ok(()));
        check(vec![nested(vec![put("a")], vec![put("a")])], Ok(()));
        check(vec![nested(vec![put("a")], vec![]), put("a")], Err(DUPLICATE_KEY));
        check(vec![nested(vec![], vec![put("a")]), nested(vec![], vec![put("a")])], Err(DUPLICATE_KEY));
        check(vec![nested(vec![put("a1")], vec![]), wipe("a")], Err(DUPLICATE_KEY));
        check(vec![nested(vec![wipe("a")], vec![]), put("a1")], Err(DUPLICATE_KEY));
        check(vec![nested(vec![wipe("a")], vec![put("a1")])], Ok(()));
    }

    #[test]
    fn limits_have_their_own_texts() {
        check(vec![put("")], Err(EMPTY_KEY));
        check(vec![Op::delete("")], Err(EMPTY_KEY));
        check((0..129).map(|n| Op::put(n.to_string(), "")).collect(), Err(TOO_MANY_OPS));
        check(vec![Op::put("k", vec![0; MAX_REQUEST_BYTES])], Err(TOO_LARGE));
        check(vec![Op::put("k", vec![0; MAX_REQUEST_BYTES - 1])], Ok(()));
        let deep = (0..200).fold(put("a"), |op, _| nested(vec![op], vec![]));
        check(vec![deep], Err(TOO_MANY_OPS));
    }
}
