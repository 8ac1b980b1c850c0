//! What tools and partitions ask: describe, list, verify.

use kafka_wire::ErrorCode;
use kafka_wire::messages::describe_transactions_response::{TopicData, TransactionState as Described};
use kafka_wire::messages::list_transactions_response::TransactionState as Listed;

use super::shard::{Entry, Shard};
use super::state::{Partitions, State};

/// What ListTransactions asks for; empty lists and negative numbers ask for all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Names of states.
    pub states: Vec<String>,
    /// Producer ids.
    pub producer_ids: Vec<i64>,
    /// Only what has lasted longer.
    pub duration_ms: i64,
}

/// What ListTransactions is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// Ids that the filter lets through, in their order.
    pub found: Vec<Listed>,
}

impl Filter {
    /// The names that are none of a state.
    #[must_use]
    pub fn unknown_states(&self) -> Vec<String> {
        self.states.iter().filter(|name| State::from_name(name).is_none()).cloned().collect()
    }
}

impl Shard {
    /// One id of DescribeTransactions.
    #[must_use]
    pub fn describe(&self, id: &str) -> Described {
        let Some(Entry { now, .. }) = self.entries.get(id) else {
            let error_code = match id.is_empty() {
                true => ErrorCode::InvalidRequest.code(),
                false => ErrorCode::TransactionalIdNotFound.code(),
            };
            return Described { error_code, transactional_id: id.to_owned(), ..Default::default() };
        };
        let topic = |(topic, partitions): (&String, &std::collections::BTreeSet<i32>)| TopicData {
            topic: topic.clone(),
            partitions: partitions.iter().copied().collect(),
        };
        Described {
            error_code: 0,
            transactional_id: id.to_owned(),
            transaction_state: now.state.name().to_owned(),
            transaction_timeout_ms: now.timeout_ms,
            transaction_start_time_ms: now.started_ms,
            producer_id: now.producer_id,
            producer_epoch: now.epoch,
            topics: now.partitions.iter().map(topic).collect(),
        }
    }

    /// ListTransactions: what the filter and `named` let through.
    #[must_use]
    pub fn list(&self, filter: &Filter, named: impl Fn(&str) -> bool, now_ms: i64) -> Listing {
        let shown = |(id, entry): &(&String, &Entry)| {
            let now = &entry.now;
            let lasts = now_ms.saturating_sub(now.started_ms);
            (filter.producer_ids.is_empty() || filter.producer_ids.contains(&now.producer_id))
                && (filter.states.is_empty() || filter.states.iter().any(|name| name == now.state.name()))
                && (filter.duration_ms < 0 || lasts > filter.duration_ms)
                && named(id)
        };
        let each = |(id, entry): (&String, &Entry)| Listed {
            transactional_id: id.clone(),
            producer_id: entry.now.producer_id,
            transaction_state: entry.now.state.name().to_owned(),
        };
        Listing { found: self.entries.iter().filter(shown).map(each).collect() }
    }

    /// Whether partitions are in the producer's transaction: for each an answer.
    ///
    /// # Errors
    /// One answer for all: it is not its producer, or the transaction ends.
    pub fn verify(
        &self,
        who: (&str, i64, i16),
        partitions: &Partitions,
    ) -> Result<Vec<(String, i32, ErrorCode)>, ErrorCode> {
        let now = &self.known(who)?.now;
        if now.state.is_prepared() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        let is_in =
            |topic: &str, partition| now.partitions.get(topic).is_some_and(|all| all.contains(&partition));
        let all = partitions.iter().flat_map(|(topic, all)| all.iter().map(move |p| (topic, *p)));
        let answer = |(topic, partition): (&String, i32)| {
            let code =
                if is_in(topic, partition) { ErrorCode::None } else { ErrorCode::TransactionAbortable };
            (topic.clone(), partition, code)
        };
        Ok(all.map(answer).collect())
    }
}
