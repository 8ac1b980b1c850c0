//! Ids for producers, handed out of blocks reserved in the store.

use std::sync::Arc;

use store_api::{Compare, Op, RangeRequest, Store, Txn};
use tokio::sync::Mutex;

/// Key of the first id that no block holds, in decimal.
pub(crate) const NEXT: &str = "/ketch/kafka/producer-ids";
/// Ids reserved at a time (ProducerIdsBlock.java): one write to the store per thousand producers.
const BLOCK: i64 = 1000;

/// Hands out ids that no broker of the cluster hands out again.
pub(crate) struct ProducerIds {
    store: Arc<dyn Store>,
    block: Mutex<std::ops::Range<i64>>,
}

impl ProducerIds {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, block: Mutex::new(0..0) }
    }

    /// A fresh id.
    pub(crate) async fn next(&self) -> Result<i64, store_api::Error> {
        // A tokio lock: the block is refilled under it, so that one write serves all who wait.
        let mut block = self.block.lock().await;
        if block.is_empty() {
            *block = self.reserve().await?;
        }
        let id = block.start;
        block.start += 1;
        Ok(id)
    }

    async fn reserve(&self) -> Result<std::ops::Range<i64>, store_api::Error> {
        loop {
            let found = self.store.range(RangeRequest::key(NEXT)).await?;
            let kv = found.kvs.first();
            let text = kv.map(|kv| String::from_utf8_lossy(&kv.value).into_owned());
            let first: i64 = match text {
                None => 0,
                Some(text) => {
                    let bad = |_| store_api::Error::Corrupt(format!("{NEXT} holds {text:?}"));
                    text.parse().map_err(bad)?
                }
            };
            let same =
                kv.map_or_else(|| Compare::absent(NEXT), |kv| Compare::unchanged(NEXT, kv.mod_revision));
            let put = Op::put(NEXT, (first + BLOCK).to_string());
            if self
                .store
                .txn(Txn { compare: vec![same], success: vec![put], failure: Vec::new() })
                .await?
                .succeeded
            {
                return Ok(first..first + BLOCK);
            }
        }
    }
}
