//! What one of several servers takes for itself, for good: keys in the store under its name.
//!
//! ```text
//! /ketch/kafka/broker         the member that runs the broker: its data is in that member's directory. One that is no
//!                             member any more (removed, or of the cluster a snapshot was saved in) has lost it
//! /ketch/pod-ranges/<n>       the node whose pods have the n-th /24 of the pods' range
//! ```

use anyhow::{Context, Result, bail};
use store_api::{Compare, Op, RangeRequest, Store, Txn};

use crate::config::Cidr;

const BROKER: &str = "/ketch/kafka/broker";
const POD_RANGES: &str = "/ketch/pod-ranges/";
/// Pods of one node: a /24 of the cluster's range.
const NODE_PREFIX: u8 = 24;
/// Races with servers that start at the same time; each loses at most once to each other.
const TRIES: usize = 32;

/// Takes the broker for `me` unless it is another member's: whose it is, as `id name`, the id in hexadecimal. The members
/// are asked for after the store has answered, so that they are at least as new.
///
/// # Errors
/// When the store does not answer.
pub async fn broker(store: &dyn Store, me: &str, is_member: impl Fn(u64) -> bool + Sync) -> Result<String> {
    for _ in 0..TRIES {
        let found = store.range(RangeRequest::key(BROKER)).await?.kvs;
        let Some(kv) = found.first() else {
            take(store, BROKER.to_owned(), me).await?;
            continue;
        };
        let holder = String::from_utf8_lossy(&kv.value).into_owned();
        let id = holder.split(' ').next().and_then(|id| u64::from_str_radix(id, 16).ok());
        if id.is_some_and(&is_member) {
            return Ok(holder);
        }
        tracing::warn!(%holder, "the broker's member is none any more; this one runs it from now on");
        let same = Compare {
            range: store_api::KeyRange::One(BROKER.into()),
            target: store_api::CompareTarget::ModRevision(kv.mod_revision),
            ..Compare::absent(BROKER)
        };
        let txn =
            Txn { compare: vec![same], success: vec![Op::put(BROKER, me.to_owned())], ..Txn::default() };
        store.txn(txn).await?;
    }
    bail!("{BROKER} comes and goes")
}

/// The part of the pods' range that is `node`'s.
///
/// # Errors
/// When the store does not answer, or every part is taken.
pub async fn pod_range(store: &dyn Store, all: Cidr, node: &str) -> Result<Cidr> {
    for _ in 0..TRIES {
        let mut taken = Vec::new();
        for kv in store.range(RangeRequest::prefix(POD_RANGES)).await?.kvs {
            let index: u32 = std::str::from_utf8(&kv.key[POD_RANGES.len()..])?
                .parse()
                .with_context(|| format!("{} in the store", String::from_utf8_lossy(&kv.key)))?;
            if kv.value == node.as_bytes() {
                return Ok(part(all, index));
            }
            taken.push(index);
        }
        let free = (0..1 << (NODE_PREFIX - all.prefix)).find(|index| !taken.contains(index));
        let free = free.with_context(|| format!("every /{NODE_PREFIX} of {all} belongs to a node"))?;
        take(store, format!("{POD_RANGES}{free}"), node).await?;
    }
    bail!("too many nodes take a part of {all} at once")
}

fn part(all: Cidr, index: u32) -> Cidr {
    Cidr { base: all.nth(index << (32 - NODE_PREFIX)), prefix: NODE_PREFIX }
}

/// Writes a key that is not there; somebody else may have been faster.
async fn take(store: &dyn Store, key: String, value: &str) -> Result<()> {
    let txn = Txn {
        compare: vec![Compare::absent(key.clone())],
        success: vec![Op::put(key, value.to_owned())],
        ..Txn::default()
    };
    store.txn(txn).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_node_keeps_its_part_and_the_broker_its_member() {
        let store = testkit::MemStore::shared();
        let all: Cidr = "10.42.0.0/22".parse().unwrap();
        for (node, expect) in [("a", "10.42.0.0/24"), ("b", "10.42.1.0/24"), ("a", "10.42.0.0/24")] {
            assert_eq!(pod_range(&*store, all, node).await.unwrap().to_string(), expect, "{node}");
        }
        pod_range(&*store, all, "c").await.unwrap();
        pod_range(&*store, all, "d").await.unwrap();
        let full = pod_range(&*store, all, "e").await.unwrap_err().to_string();
        assert!(full.contains("10.42.0.0/22"), "{full}");
        let both = |id| [0x1f, 2].contains(&id);
        assert_eq!(broker(&*store, "1f a", both).await.unwrap(), "1f a");
        assert_eq!(broker(&*store, "2 b", both).await.unwrap(), "1f a");
        assert_eq!(broker(&*store, "2 b", |id| id == 2).await.unwrap(), "2 b", "the first has been removed");
        assert_eq!(broker(&*store, "1f a", both).await.unwrap(), "2 b");
    }
}
