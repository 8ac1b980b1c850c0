//! Transactions over the wire, with a client that speaks frames: what each step answers, what readers of committed records
//! see, what is left after a restart.

#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod common;

use std::time::Duration;

use common::{Raw, Served, code, create, fetch, options};
use kafka_wire::ErrorCode;
use kafka_wire::messages as m;
use kafka_wire::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use kafka_wire::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_wire::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_wire::record::{Builder, Producer, batches};

/// Long enough for anything to be over on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const READ_COMMITTED: i8 = 1;

/// A producer with its transactional id, as a client of one version keeps it.
struct Client {
    id: &'static str,
    producer_id: i64,
    epoch: i16,
    sequence: i32,
    /// Whether it relies on the broker to add partitions, and its epoch rises with every end.
    new: bool,
}

impl Client {
    async fn init(raw: &mut Raw, id: &'static str, new: bool) -> Self {
        let mut client = Self { id, producer_id: -1, epoch: -1, sequence: 0, new };
        client.renew(raw, 60_000).await;
        client
    }

    /// InitProducerId until the transaction before is over.
    async fn renew(&mut self, raw: &mut Raw, timeout_ms: i32) {
        let request = m::InitProducerIdRequest {
            transactional_id: Some(self.id.into()),
            transaction_timeout_ms: timeout_ms,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        };
        let found = m::FindCoordinatorRequest {
            key_type: 1,
            coordinator_keys: vec![self.id.into()],
            ..Default::default()
        };
        let found: m::FindCoordinatorResponse = raw.call(4, &found).await;
        assert_eq!(code(found.coordinators[0].error_code), ErrorCode::None);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let got: m::InitProducerIdResponse = raw.call(4, &request).await;
            match code(got.error_code) {
                ErrorCode::None => {
                    (self.producer_id, self.epoch, self.sequence) = (got.producer_id, got.producer_epoch, 0);
                    return;
                }
                ErrorCode::ConcurrentTransactions => {}
                other => panic!("{other}"),
            }
            assert!(tokio::time::Instant::now() < deadline, "the transaction before does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn announce(&self, raw: &mut Raw, topic: &str) -> ErrorCode {
        let topics = vec![AddPartitionsToTxnTopic { name: topic.into(), partitions: vec![0] }];
        let request = m::AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.id.into(),
            v3_and_below_producer_id: self.producer_id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: topics,
            ..Default::default()
        };
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let got: m::AddPartitionsToTxnResponse = raw.call(3, &request).await;
            let got = &got.results_by_topic_v3_and_below[0].results_by_partition[0];
            let told = code(got.partition_error_code);
            if told != ErrorCode::ConcurrentTransactions || tokio::time::Instant::now() >= deadline {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// One record.
    async fn send(&mut self, raw: &mut Raw, topic: &str, value: &str) -> ErrorCode {
        if !self.new {
            let added = self.announce(raw, topic).await;
            if added != ErrorCode::None {
                return added;
            }
        }
        self.produce(raw, topic, value, if self.new { 12 } else { 9 }).await
    }

    async fn produce(&mut self, raw: &mut Raw, topic: &str, value: &str, version: i16) -> ErrorCode {
        let producer = Producer { id: self.producer_id, epoch: self.epoch, base_sequence: self.sequence };
        let mut batch = Builder::new().producer(producer).transactional();
        let now_ms = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
        batch.append(now_ms, None, Some(value.as_bytes()));
        let request = m::ProduceRequest {
            transactional_id: Some(self.id.into()),
            ..common::produce(topic, -1, batch.build().unwrap())
        };
        let got: m::ProduceResponse = raw.call(version, &request).await;
        let told = code(got.responses[0].partition_responses[0].error_code);
        if told == ErrorCode::None {
            self.sequence += 1;
        }
        told
    }

    async fn end(&mut self, raw: &mut Raw, committed: bool) -> ErrorCode {
        let request = m::EndTxnRequest {
            transactional_id: self.id.into(),
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            committed,
        };
        let got: m::EndTxnResponse = raw.call(if self.new { 5 } else { 3 }, &request).await;
        if got.error_code == 0 && self.new {
            (self.producer_id, self.epoch, self.sequence) = (got.producer_id, got.producer_epoch, 0);
        }
        code(got.error_code)
    }

    async fn commit_offset(&self, raw: &mut Raw, group: &str, topic: &str, offset: i64) -> ErrorCode {
        if !self.new {
            let request = m::AddOffsetsToTxnRequest {
                transactional_id: self.id.into(),
                producer_id: self.producer_id,
                producer_epoch: self.epoch,
                group_id: group.into(),
            };
            let got: m::AddOffsetsToTxnResponse = raw.call(3, &request).await;
            assert_eq!(code(got.error_code), ErrorCode::None);
        }
        let partition = TxnOffsetCommitRequestPartition { committed_offset: offset, ..Default::default() };
        let request = m::TxnOffsetCommitRequest {
            transactional_id: self.id.into(),
            group_id: group.into(),
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            generation_id: -1,
            topics: vec![TxnOffsetCommitRequestTopic { name: topic.into(), partitions: vec![partition] }],
            ..Default::default()
        };
        let got: m::TxnOffsetCommitResponse = raw.call(if self.new { 5 } else { 3 }, &request).await;
        code(got.topics[0].partitions[0].error_code)
    }
}

/// The values that a reader of committed records gets.
async fn committed(raw: &mut Raw, topic: &str) -> Vec<String> {
    let request = m::FetchRequest { isolation_level: READ_COMMITTED, ..fetch(topic, 0, 0, 0) };
    let got: m::FetchResponse = raw.call(12, &request).await;
    let partition = &got.responses[0].partitions[0];
    assert_eq!(code(partition.error_code), ErrorCode::None);
    let aborted = partition.aborted_transactions.clone().unwrap_or_default();
    let mut values = Vec::new();
    let mut open: Vec<i64> = Vec::new();
    let bytes = partition.records.clone().unwrap_or_default();
    for batch in batches(&bytes) {
        let batch = batch.unwrap();
        let begins = aborted.iter().filter(|a| a.first_offset == batch.base_offset());
        open.extend(begins.map(|a| a.producer_id));
        if batch.is_control() {
            open.retain(|id| *id != batch.producer_id());
            continue;
        }
        if batch.is_transactional() && open.contains(&batch.producer_id()) {
            continue;
        }
        let mut records = batch.records(1 << 20).unwrap();
        while let Some(record) = records.next() {
            values.push(String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
        }
    }
    values
}

/// Waits until a reader of committed records gets these.
async fn until_committed(raw: &mut Raw, topic: &str, expect: &[&str]) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let got = committed(raw, topic).await;
        if got == expect {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{topic}: {got:?} for {expect:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn offset(raw: &mut Raw, group: &str, topic: &str, require_stable: bool) -> (ErrorCode, i64) {
    let asked =
        OffsetFetchRequestTopics { name: topic.into(), partition_indexes: vec![0], ..Default::default() };
    let group =
        OffsetFetchRequestGroup { group_id: group.into(), topics: Some(vec![asked]), ..Default::default() };
    let request = m::OffsetFetchRequest { groups: vec![group], require_stable, ..Default::default() };
    let got: m::OffsetFetchResponse = raw.call(8, &request).await;
    let partition = &got.groups[0].topics[0].partitions[0];
    (code(partition.error_code), partition.committed_offset)
}

async fn describe(raw: &mut Raw, id: &str) -> m::describe_transactions_response::TransactionState {
    let request = m::DescribeTransactionsRequest { transactional_ids: vec![id.into()] };
    let mut got: m::DescribeTransactionsResponse = raw.call(0, &request).await;
    got.transaction_states.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_is_seen_and_what_is_aborted_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    for (new, topic, id) in [(true, "new", "tx-new"), (false, "old", "tx-old")] {
        create(&mut raw, topic, &[]).await;
        let mut client = Client::init(&mut raw, id, new).await;
        assert_eq!(client.send(&mut raw, topic, "a").await, ErrorCode::None);
        assert_eq!(client.send(&mut raw, topic, "b").await, ErrorCode::None);
        assert_eq!(committed(&mut raw, topic).await, [""; 0], "nothing before the end");
        assert_eq!(describe(&mut raw, id).await.transaction_state, "Ongoing");
        let epoch = client.epoch;
        assert_eq!(client.end(&mut raw, true).await, ErrorCode::None);
        assert_eq!(client.epoch, epoch + i16::from(new));
        until_committed(&mut raw, topic, &["a", "b"]).await;
        assert_eq!(client.send(&mut raw, topic, "no").await, ErrorCode::None);
        assert_eq!(client.end(&mut raw, false).await, ErrorCode::None);
        assert_eq!(client.send(&mut raw, topic, "c").await, ErrorCode::None);
        assert_eq!(client.end(&mut raw, true).await, ErrorCode::None);
        until_committed(&mut raw, topic, &["a", "b", "c"]).await;
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_instance_fences_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    for (new, topic, id) in [(true, "new", "tx-new"), (false, "old", "tx-old")] {
        create(&mut raw, topic, &[]).await;
        let mut zombie = Client::init(&mut raw, id, new).await;
        assert_eq!(zombie.send(&mut raw, topic, "half").await, ErrorCode::None);
        let mut client = Client::init(&mut raw, id, new).await;
        assert_eq!(client.producer_id, zombie.producer_id);
        assert!(client.epoch > zombie.epoch);
        let fenced = zombie.produce(&mut raw, topic, "late", if new { 12 } else { 9 }).await;
        assert_eq!(fenced, ErrorCode::InvalidProducerEpoch);
        if !new {
            assert_eq!(zombie.announce(&mut raw, topic).await, ErrorCode::ProducerFenced);
        }
        assert_eq!(zombie.end(&mut raw, true).await, ErrorCode::ProducerFenced);
        assert_eq!(client.send(&mut raw, topic, "whole").await, ErrorCode::None);
        assert_eq!(client.end(&mut raw, true).await, ErrorCode::None);
        until_committed(&mut raw, topic, &["whole"]).await;
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_count_from_the_end_of_their_transaction_on() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    create(&mut raw, "in", &[]).await;
    for (new, group, id) in [(true, "g-new", "tx-new"), (false, "g-old", "tx-old")] {
        let mut client = Client::init(&mut raw, id, new).await;
        assert_eq!(client.commit_offset(&mut raw, group, "in", 5).await, ErrorCode::None);
        assert_eq!(offset(&mut raw, group, "in", false).await, (ErrorCode::None, -1));
        assert_eq!(offset(&mut raw, group, "in", true).await, (ErrorCode::UnstableOffsetCommit, -1));
        assert_eq!(client.end(&mut raw, true).await, ErrorCode::None);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while offset(&mut raw, group, "in", true).await != (ErrorCode::None, 5) {
            assert!(tokio::time::Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut next = Client::init(&mut raw, id, new).await;
        assert_eq!(next.commit_offset(&mut raw, group, "in", 9).await, ErrorCode::None);
        assert_eq!(offset(&mut raw, group, "in", false).await, (ErrorCode::None, 5));
        assert_eq!(next.end(&mut raw, false).await, ErrorCode::None);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while offset(&mut raw, group, "in", true).await != (ErrorCode::None, 5) {
            assert!(tokio::time::Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_transactions_and_offsets_that_wait() {
    let dir = tempfile::tempdir().unwrap();
    let store = testkit::MemStore::shared();
    let served = Served::with(options(dir.path()), store.clone()).await;
    let mut raw = served.raw().await;
    create(&mut raw, "t", &[]).await;
    let mut client = Client::init(&mut raw, "tx", true).await;
    assert_eq!(client.send(&mut raw, "t", "a").await, ErrorCode::None);
    assert_eq!(client.commit_offset(&mut raw, "g", "t", 7).await, ErrorCode::None);
    let before = describe(&mut raw, "tx").await;
    served.stop().await;
    let served = Served::with(options(dir.path()), store).await;
    let mut raw = served.raw().await;
    assert_eq!(describe(&mut raw, "tx").await, before);
    assert_eq!(before.transaction_state, "Ongoing");
    assert_eq!(committed(&mut raw, "t").await, [""; 0]);
    assert_eq!(offset(&mut raw, "g", "t", true).await, (ErrorCode::UnstableOffsetCommit, -1));
    assert_eq!(client.send(&mut raw, "t", "b").await, ErrorCode::None);
    assert_eq!(client.end(&mut raw, true).await, ErrorCode::None);
    until_committed(&mut raw, "t", &["a", "b"]).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while offset(&mut raw, "g", "t", true).await != (ErrorCode::None, 7) {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_lasts_too_long_is_aborted() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    create(&mut raw, "t", &[]).await;
    let mut client = Client { id: "tx", producer_id: -1, epoch: -1, sequence: 0, new: true };
    client.renew(&mut raw, 200).await;
    assert_eq!(client.send(&mut raw, "t", "half").await, ErrorCode::None);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while describe(&mut raw, "tx").await.transaction_state != "CompleteAbort" {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Its producer did not notice: it may not commit, nor write.
    let late = client.produce(&mut raw, "t", "late", 12).await;
    assert_eq!(late, ErrorCode::InvalidProducerEpoch);
    assert_eq!(client.end(&mut raw, true).await, ErrorCode::InvalidTxnState);
    assert_eq!(client.end(&mut raw, false).await, ErrorCode::None);
    assert_eq!(client.send(&mut raw, "t", "whole").await, ErrorCode::None);
    assert_eq!(client.end(&mut raw, true).await, ErrorCode::None);
    until_committed(&mut raw, "t", &["whole"]).await;
    let long = m::InitProducerIdRequest {
        transactional_id: Some("tx".into()),
        transaction_timeout_ms: 900_001,
        ..Default::default()
    };
    let refused: m::InitProducerIdResponse = raw.call(2, &long).await;
    assert_eq!(code(refused.error_code), ErrorCode::InvalidTransactionTimeout);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_announced_is_refused_in_the_words_each_version_knows() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    create(&mut raw, "t", &[]).await;
    let mut client = Client::init(&mut raw, "tx", false).await;
    assert_eq!(client.produce(&mut raw, "t", "x", 10).await, ErrorCode::InvalidTxnState);
    assert_eq!(client.produce(&mut raw, "t", "x", 11).await, ErrorCode::TransactionAbortable);
    let mut other = Client { id: "nobody", ..Client::init(&mut raw, "tx", false).await };
    assert_eq!(other.produce(&mut raw, "t", "x", 12).await, ErrorCode::InvalidProducerIdMapping);
    assert_eq!(client.announce(&mut raw, "none").await, ErrorCode::UnknownTopicOrPartition);
    // As brokers ask: only whether it is in the transaction.
    let mut mine = Client::init(&mut raw, "tx", false).await;
    let asked = |verify_only| m::AddPartitionsToTxnRequest {
        transactions: vec![AddPartitionsToTxnTransaction {
            transactional_id: "tx".into(),
            producer_id: mine.producer_id,
            producer_epoch: mine.epoch,
            verify_only,
            topics: vec![AddPartitionsToTxnTopic { name: "t".into(), partitions: vec![0] }],
        }],
        ..Default::default()
    };
    for (verify_only, expect) in
        [(true, ErrorCode::TransactionAbortable), (false, ErrorCode::None), (true, ErrorCode::None)]
    {
        let got: m::AddPartitionsToTxnResponse = raw.call(5, &asked(verify_only)).await;
        let got = &got.results_by_transaction[0].topic_results[0].results_by_partition[0];
        assert_eq!(code(got.partition_error_code), expect);
    }
    assert_eq!(mine.end(&mut raw, true).await, ErrorCode::None);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_behind_one_that_opens_a_transaction_keep_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    create(&mut raw, "t", &[]).await;
    let mut client = Client::init(&mut raw, "tx", true).await;
    for round in 0..20 {
        let values: Vec<String> = (0..8).map(|n| format!("{round}-{n}")).collect();
        for (n, value) in values.iter().enumerate() {
            let producer = Producer { id: client.producer_id, epoch: client.epoch, base_sequence: n as i32 };
            let mut batch = Builder::new().producer(producer).transactional();
            batch.append(1_700_000_000_000, None, Some(value.as_bytes()));
            let request = m::ProduceRequest {
                transactional_id: Some("tx".into()),
                ..common::produce("t", -1, batch.build().unwrap())
            };
            raw.send(12, &request).await;
        }
        for _ in &values {
            let frame = raw.frame().await.unwrap();
            let (_, got) = kafka_wire::frame::read_response::<m::ProduceResponse>(&frame, 12).unwrap();
            assert_eq!(code(got.responses[0].partition_responses[0].error_code), ErrorCode::None);
        }
        assert_eq!(client.end(&mut raw, true).await, ErrorCode::None);
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_finds_and_ends_what_nobody_else_ends() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path()).await;
    let mut raw = served.raw().await;
    create(&mut raw, "t", &[]).await;
    let mut client = Client::init(&mut raw, "tx", true).await;
    assert_eq!(client.send(&mut raw, "t", "half").await, ErrorCode::None);
    let list = |states: &[&str], pattern: Option<&str>| m::ListTransactionsRequest {
        state_filters: states.iter().map(ToString::to_string).collect(),
        duration_filter: -1,
        transactional_id_pattern: pattern.map(str::to_owned),
        ..Default::default()
    };
    for (states, pattern, found, unknown) in [
        (&[][..], None, 1, 0),
        (&["Ongoing"], Some("t."), 1, 0),
        (&["Ongoing"], Some("t"), 0, 0),
        (&["Empty", "Sleeping"], None, 0, 1),
    ] {
        let got: m::ListTransactionsResponse = raw.call(2, &list(states, pattern)).await;
        assert_eq!((got.transaction_states.len(), got.unknown_state_filters.len()), (found, unknown));
    }
    let bad: m::ListTransactionsResponse = raw.call(2, &list(&[], Some("("))).await;
    assert_eq!(code(bad.error_code), ErrorCode::InvalidRegularExpression);
    let marker = |epoch, version| m::WriteTxnMarkersRequest {
        markers: vec![m::write_txn_markers_request::WritableTxnMarker {
            producer_id: client.producer_id,
            producer_epoch: epoch,
            transaction_result: false,
            topics: vec![m::write_txn_markers_request::WritableTxnMarkerTopic {
                name: "t".into(),
                partition_indexes: vec![0, 9],
            }],
            coordinator_epoch: 0,
            transaction_version: version,
        }],
    };
    for (epoch, version, expect) in
        [(client.epoch, 2, ErrorCode::InvalidProducerEpoch), (client.epoch, 0, ErrorCode::None)]
    {
        let got: m::WriteTxnMarkersResponse = raw.call(2, &marker(epoch, version)).await;
        let got = &got.markers[0].topics[0].partitions;
        assert_eq!(code(got[0].error_code), expect);
        assert_eq!(code(got[1].error_code), ErrorCode::UnknownTopicOrPartition);
    }
    until_committed(&mut raw, "t", &[]).await;
    let plain = common::append(&mut raw, "t", common::batch(1, None)).await;
    assert_eq!(plain.0, ErrorCode::None);
    until_committed(&mut raw, "t", &["value"]).await;
    served.stop().await;
}
