//! A partition whose directory cannot be opened is offline; all else is served, and nothing of it is forgotten.

#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::{Raw, Served, append, batch, code, create, options};
use kafka_wire::ErrorCode;
use kafka_wire::messages::metadata_response::MetadataResponsePartition;
use kafka_wire::messages::*;
use store_api::{
    Future_, LeaseId, LeaseStatus, Op, RangeRequest, RangeResponse, Revision, Store, Txn, TxnResponse, Watch,
    WatchRequest,
};
use tokio::sync::{Notify, mpsc};

const PATIENCE: Duration = Duration::from_secs(30);
const EARLIEST: i64 = -2;
const TOPICS: &str = "/ketch/kafka/topics/";

/// Puts a directory in the place of a partition's first segment; gives where the segment is now.
fn spoil(dir: &Path, partition: &str) -> (PathBuf, PathBuf) {
    let segment = dir.join(partition).join("00000000000000000000.log");
    let saved = dir.join(format!("{partition}.saved"));
    std::fs::rename(&segment, &saved).unwrap();
    std::fs::create_dir(&segment).unwrap();
    (segment, saved)
}

async fn partitions(raw: &mut Raw, topic: &str) -> (ErrorCode, Vec<MetadataResponsePartition>) {
    let wanted = metadata_request::MetadataRequestTopic { name: Some(topic.into()), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![wanted]), ..Default::default() };
    let mut response: MetadataResponse = raw.call(9, &request).await;
    let topic = response.topics.remove(0);
    (code(topic.error_code), topic.partitions)
}

async fn fetched(raw: &mut Raw, topic: &str, offset: i64) -> (ErrorCode, usize) {
    let response: FetchResponse = raw.call(12, &common::fetch(topic, offset, 0, 0)).await;
    let partition = &response.responses[0].partitions[0];
    (code(partition.error_code), partition.records.as_ref().map_or(0, |records| records.len()))
}

async fn earliest(raw: &mut Raw, topic: &str) -> (ErrorCode, i64) {
    let partition = list_offsets_request::ListOffsetsPartition { timestamp: EARLIEST, ..Default::default() };
    let topic = list_offsets_request::ListOffsetsTopic { name: topic.into(), partitions: vec![partition] };
    let request = ListOffsetsRequest { topics: vec![topic], ..Default::default() };
    let response: ListOffsetsResponse = raw.call(7, &request).await;
    let partition = &response.topics[0].partitions[0];
    (code(partition.error_code), partition.offset)
}

async fn delete_before(raw: &mut Raw, topic: &str, offset: i64) -> ErrorCode {
    let partition = delete_records_request::DeleteRecordsPartition { offset, ..Default::default() };
    let topic =
        delete_records_request::DeleteRecordsTopic { name: topic.into(), partitions: vec![partition] };
    let request = DeleteRecordsRequest { topics: vec![topic], ..Default::default() };
    let response: DeleteRecordsResponse = raw.call(2, &request).await;
    code(response.topics[0].partitions[0].error_code)
}

async fn elect(raw: &mut Raw, topic: &str) -> ErrorCode {
    let topic = elect_leaders_request::TopicPartitions { topic: topic.into(), partitions: vec![0] };
    let request = ElectLeadersRequest { topic_partitions: Some(vec![topic]), ..Default::default() };
    let response: ElectLeadersResponse = raw.call(2, &request).await;
    code(response.replica_election_results[0].partition_result[0].error_code)
}

async fn delete(raw: &mut Raw, topic: &str) -> ErrorCode {
    let topic = delete_topics_request::DeleteTopicState { name: Some(topic.into()), ..Default::default() };
    let request = DeleteTopicsRequest { topics: vec![topic], timeout_ms: 1000, ..Default::default() };
    let response: DeleteTopicsResponse = raw.call(6, &request).await;
    code(response.responses[0].error_code)
}

/// Topics `bad` and `good` with three records each.
async fn two_topics(served: &Served) -> Raw {
    let mut raw = served.raw().await;
    for topic in ["bad", "good"] {
        assert_eq!(create(&mut raw, topic, &[]).await, ErrorCode::None);
        assert_eq!(append(&mut raw, topic, batch(3, None)).await, (ErrorCode::None, 0));
    }
    raw
}

#[tokio::test]
async fn a_directory_that_cannot_be_opened_takes_its_partition_offline_only() {
    let (dir, store) = (tempfile::tempdir().unwrap(), testkit::MemStore::shared());
    let served = Served::with(options(dir.path()), store.clone()).await;
    let mut raw = two_topics(&served).await;
    assert_eq!(delete_before(&mut raw, "bad", 1).await, ErrorCode::None);
    served.stop().await;
    let marked = dir.path().join(".kafka_cleanshutdown");
    assert!(marked.exists());

    let (segment, saved) = spoil(dir.path(), "bad-0");
    // Offline in two runs: the second knows only what the first passed on.
    for round in 0..2 {
        let served = Served::with(options(dir.path()), store.clone()).await;
        let mut raw = served.raw().await;
        check_offline(&mut raw, &damage_is_told(&served).await).await;
        assert_eq!(append(&mut raw, "good", batch(1, None)).await, (ErrorCode::None, 3 + round));
        assert_eq!(fetched(&mut raw, "good", 0).await.0, ErrorCode::None);
        served.stop().await;
        assert!(!marked.exists(), "a clean mark would vouch for the log that was not opened");
    }

    std::fs::remove_dir(&segment).unwrap();
    std::fs::rename(&saved, &segment).unwrap();
    let served = Served::with(options(dir.path()), store).await;
    let mut raw = served.raw().await;
    assert_eq!(earliest(&mut raw, "bad").await, (ErrorCode::None, 1), "what was deleted stays so");
    assert!(fetched(&mut raw, "bad", 1).await.1 > 0);
    assert_eq!(append(&mut raw, "bad", batch(1, None)).await, (ErrorCode::None, 3));
    assert_eq!(partitions(&mut raw, "bad").await.1[0].leader_id, 1);
    served.stop().await;
    assert!(marked.exists());
}

/// Waits until the start has looked at every partition; gives the metrics.
async fn damage_is_told(served: &Served) -> String {
    let offline = "kafka_controller_kafkacontroller_offlinepartitionscount 1";
    let told = async {
        loop {
            let metrics = served.handle.metrics();
            if metrics.lines().any(|told| told == offline) {
                return metrics;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("the damage is told")
}

/// What clients are told while the topic `bad` is offline and `good` is not.
async fn check_offline(raw: &mut Raw, metrics: &str) {
    assert_eq!(append(raw, "bad", batch(1, None)).await.0, ErrorCode::KafkaStorageError);
    assert_eq!(fetched(raw, "bad", 1).await.0, ErrorCode::KafkaStorageError);
    assert_eq!(earliest(raw, "bad").await.0, ErrorCode::KafkaStorageError);
    assert_eq!(delete_before(raw, "bad", 2).await, ErrorCode::KafkaStorageError);
    assert_eq!(elect(raw, "bad").await, ErrorCode::PreferredLeaderNotAvailable);
    assert_eq!(elect(raw, "good").await, ErrorCode::ElectionNotNeeded);
    let (error, found) = partitions(raw, "bad").await;
    assert_eq!((error, code(found[0].error_code)), (ErrorCode::None, ErrorCode::LeaderNotAvailable));
    assert_eq!((found[0].leader_id, &*found[0].offline_replicas), (-1, &[1][..]));
    let (_, found) = partitions(raw, "good").await;
    assert_eq!((found[0].error_code, found[0].leader_id, &*found[0].offline_replicas), (0, 1, &[][..]));
    let topic = describe_topic_partitions_request::TopicRequest { name: "bad".into() };
    let request = DescribeTopicPartitionsRequest {
        topics: vec![topic],
        response_partition_limit: 10,
        ..Default::default()
    };
    let response: DescribeTopicPartitionsResponse = raw.call(0, &request).await;
    let partition = &response.topics[0].partitions[0];
    assert_eq!((partition.leader_id, &*partition.offline_replicas), (-1, &[1][..]));
    for line in [
        "kafka_controller_kafkacontroller_offlinepartitionscount 1",
        "kafka_server_replicamanager_offlinereplicacount 1",
        "kafka_server_replicamanager_partitioncount 2",
        "kafka_server_replicamanager_leadercount 1",
    ] {
        assert!(metrics.lines().any(|told| told == line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn damage_is_found_without_anybody_asking_and_the_rest_keeps_its_checkpoints() {
    let (dir, store) = (tempfile::tempdir().unwrap(), testkit::MemStore::shared());
    let served = Served::with(options(dir.path()), store.clone()).await;
    let mut raw = two_topics(&served).await;
    assert_eq!(delete_before(&mut raw, "good", 2).await, ErrorCode::None);
    served.stop().await;
    spoil(dir.path(), "bad-0");
    let served = Served::with(options(dir.path()), store.clone()).await;
    damage_is_told(&served).await;
    served.stop().await;
    let points = std::fs::read_to_string(dir.path().join("recovery-point-offset-checkpoint")).unwrap();
    assert_eq!(points, "0\n2\nbad 0 3\ngood 0 3\n");
    let starts = std::fs::read_to_string(dir.path().join("log-start-offset-checkpoint")).unwrap();
    assert_eq!(starts, "0\n1\ngood 0 2\n");
}

#[tokio::test]
async fn a_topic_that_was_left_alone_can_be_deleted_and_made_again() {
    let (dir, store) = (tempfile::tempdir().unwrap(), testkit::MemStore::shared());
    for round in 0..3 {
        let served = Served::with(options(dir.path()), store.clone()).await;
        let mut raw = served.raw().await;
        if round > 0 {
            // The first thing that is asked of it: whether it sleeps or not, it goes.
            assert_eq!(delete(&mut raw, "again").await, ErrorCode::None);
        }
        assert_eq!(create(&mut raw, "again", &[]).await, ErrorCode::None);
        assert_eq!(append(&mut raw, "again", batch(1, None)).await, (ErrorCode::None, 0));
        served.stop().await;
        assert!(dir.path().join("again-0").exists() && dir.path().join(".kafka_cleanshutdown").exists());
    }
}

#[tokio::test]
async fn a_topic_that_is_offline_can_be_deleted_and_made_again() {
    let (dir, store) = (tempfile::tempdir().unwrap(), testkit::MemStore::shared());
    let served = Served::with(options(dir.path()), store.clone()).await;
    let mut raw = served.raw().await;
    assert_eq!(create(&mut raw, "bad", &[]).await, ErrorCode::None);
    assert_eq!(append(&mut raw, "bad", batch(3, None)).await.0, ErrorCode::None);
    served.stop().await;
    spoil(dir.path(), "bad-0");
    let served = Served::with(options(dir.path()), store.clone()).await;
    let mut raw = served.raw().await;
    assert_eq!(append(&mut raw, "bad", batch(1, None)).await.0, ErrorCode::KafkaStorageError);
    assert_eq!(delete(&mut raw, "bad").await, ErrorCode::None);
    assert_eq!(create(&mut raw, "bad", &[]).await, ErrorCode::None);
    assert_eq!(append(&mut raw, "bad", batch(1, None)).await, (ErrorCode::None, 0));
    served.stop().await;
    let served = Served::with(options(dir.path()), store).await;
    let mut raw = served.raw().await;
    assert!(fetched(&mut raw, "bad", 0).await.1 > 0);
    served.stop().await;
}

/// A store whose first watch of topics sees nothing until it is told to, and ends then, as one that fell behind does, or
/// sees everything late; it answers nothing while it is out.
struct FallsBehind {
    inner: Arc<dyn Store>,
    watched: AtomicBool,
    late: bool,
    end: Arc<Notify>,
    out: Arc<AtomicBool>,
    /// Questions while it was out.
    asked: Arc<AtomicU64>,
}

impl FallsBehind {
    fn new(inner: &Arc<dyn Store>, end: &Arc<Notify>) -> Self {
        let (watched, out, asked) = (AtomicBool::new(false), Arc::default(), Arc::default());
        Self { inner: inner.clone(), watched, late: false, end: end.clone(), out, asked }
    }

    fn late(inner: &Arc<dyn Store>, end: &Arc<Notify>) -> Self {
        Self { late: true, ..Self::new(inner, end) }
    }

    fn is_out(&self) -> bool {
        let out = self.out.load(Ordering::Acquire);
        self.asked.fetch_add(u64::from(out), Ordering::AcqRel);
        out
    }
}

fn unavailable<T: Send + 'static>() -> Future_<'static, T> {
    Box::pin(async { Err(store_api::Error::Unavailable("it is out".to_owned())) })
}

impl Store for FallsBehind {
    fn range(&self, request: RangeRequest) -> Future_<'_, RangeResponse> {
        if self.is_out() {
            return unavailable();
        }
        self.inner.range(request)
    }
    fn txn(&self, txn: Txn) -> Future_<'_, TxnResponse> {
        self.inner.txn(txn)
    }
    fn watch(&self, request: WatchRequest) -> Future_<'_, Watch> {
        if self.is_out() {
            return unavailable();
        }
        if !request.range.contains(format!("{TOPICS}x").as_bytes())
            || self.watched.swap(true, Ordering::AcqRel)
        {
            return self.inner.watch(request);
        }
        let end = self.end.clone();
        if self.late {
            return Box::pin(async move {
                end.notified().await;
                self.inner.watch(request).await
            });
        }
        Box::pin(async move {
            let ((tell, messages), (progress, _)) = (mpsc::channel(1), mpsc::channel(1));
            tokio::spawn(async move {
                end.notified().await;
                drop(tell);
            });
            Ok(Watch { created_revision: self.inner.revision(), messages, progress })
        })
    }
    fn lease_grant(&self, id: LeaseId, ttl_s: i64) -> Future_<'_, LeaseStatus> {
        self.inner.lease_grant(id, ttl_s)
    }
    fn lease_revoke(&self, id: LeaseId) -> Future_<'_, ()> {
        self.inner.lease_revoke(id)
    }
    fn lease_keep_alive(&self, id: LeaseId) -> Future_<'_, LeaseStatus> {
        self.inner.lease_keep_alive(id)
    }
    fn lease_status(&self, id: LeaseId) -> Future_<'_, LeaseStatus> {
        self.inner.lease_status(id)
    }
    fn compact(&self, revision: Revision) -> Future_<'_, ()> {
        self.inner.compact(revision)
    }
    fn revision(&self) -> Revision {
        self.inner.revision()
    }
}

async fn put_topic(store: &Arc<dyn Store>, name: &str, number: u8) {
    let value = format!(r#"{{"id":"{number:032x}","partitions":1}}"#);
    let put = Op::put(format!("{TOPICS}{name}"), value);
    store.txn(Txn { success: vec![put], ..Txn::default() }).await.unwrap();
}

/// Waits until a topic is known, and gives what its partition tells.
async fn appears(raw: &mut Raw, topic: &str) -> ErrorCode {
    let known = async {
        loop {
            match partitions(raw, topic).await {
                (ErrorCode::None, found) => return code(found[0].error_code),
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, known).await.expect("the topic appears")
}

#[tokio::test]
async fn a_topic_that_cannot_be_opened_does_not_end_the_catalog() {
    let (dir, end) = (tempfile::tempdir().unwrap(), Arc::new(Notify::new()));
    let inner = testkit::MemStore::shared();
    let store = FallsBehind::new(&inner, &end);
    let served = Served::with(options(dir.path()), Arc::new(store)).await;
    let mut raw = served.raw().await;
    std::fs::write(dir.path().join("bad-0"), "in the way").unwrap();
    put_topic(&inner, "bad", 1).await;
    put_topic(&inner, "good", 2).await;
    end.notify_one();
    assert_eq!(appears(&mut raw, "good").await, ErrorCode::None);
    assert_eq!(appears(&mut raw, "bad").await, ErrorCode::LeaderNotAvailable);
    assert_eq!(append(&mut raw, "bad", batch(1, None)).await.0, ErrorCode::KafkaStorageError);
    assert_eq!(append(&mut raw, "good", batch(1, None)).await, (ErrorCode::None, 0));
    // The watch goes on.
    put_topic(&inner, "later", 3).await;
    assert_eq!(appears(&mut raw, "later").await, ErrorCode::None);
    assert_eq!(served.tasks.failure(), None);
    served.stop().await;
}

#[tokio::test]
async fn an_outage_of_the_store_is_waited_out() {
    let (dir, end) = (tempfile::tempdir().unwrap(), Arc::new(Notify::new()));
    let inner = testkit::MemStore::shared();
    let store = FallsBehind::new(&inner, &end);
    let (out, asked) = (store.out.clone(), store.asked.clone());
    let served = Served::with(options(dir.path()), Arc::new(store)).await;
    let mut raw = served.raw().await;
    assert_eq!(create(&mut raw, "before", &[]).await, ErrorCode::None);
    out.store(true, Ordering::Release);
    end.notify_one();
    let retried = async {
        while asked.load(Ordering::Acquire) < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, retried).await.expect("it is asked again");
    put_topic(&inner, "meanwhile", 1).await;
    assert_eq!(append(&mut raw, "before", batch(1, None)).await, (ErrorCode::None, 0), "served from memory");
    assert_eq!(served.tasks.failure(), None);
    out.store(false, Ordering::Release);
    assert_eq!(appears(&mut raw, "meanwhile").await, ErrorCode::None);
    put_topic(&inner, "later", 2).await;
    assert_eq!(appears(&mut raw, "later").await, ErrorCode::None);
    served.stop().await;
}

/// Topic `t` with one record, on a broker that hears nothing of topics yet.
async fn one_record(dir: &Path, store: FallsBehind) -> (Served, Raw) {
    let served = Served::with(options(dir), Arc::new(store)).await;
    let mut raw = served.raw().await;
    assert_eq!(create(&mut raw, "t", &[]).await, ErrorCode::None);
    assert_eq!(append(&mut raw, "t", batch(1, None)).await, (ErrorCode::None, 0));
    (served, raw)
}

/// Once the broker has heard of everything, what is written to topic `t`, made once more, is found by the next broker.
async fn is_kept(dir: &Path, inner: Arc<dyn Store>, end: &Notify, (served, mut raw): (Served, Raw)) {
    put_topic(&inner, "after", 3).await;
    end.notify_one();
    assert_eq!(appears(&mut raw, "after").await, ErrorCode::None);
    assert_eq!(append(&mut raw, "t", batch(2, None)).await, (ErrorCode::None, 0));
    served.stop().await;
    let served = Served::with(options(dir), inner).await;
    let mut raw = served.raw().await;
    assert_eq!(append(&mut raw, "t", batch(1, None)).await, (ErrorCode::None, 2));
    served.stop().await;
}

#[tokio::test]
async fn what_is_heard_late_of_a_topic_that_was_made_again_concerns_the_old_one() {
    let (dir, end) = (tempfile::tempdir().unwrap(), Arc::new(Notify::new()));
    let inner = testkit::MemStore::shared();
    let (served, mut raw) = one_record(dir.path(), FallsBehind::late(&inner, &end)).await;
    assert_eq!(delete(&mut raw, "t").await, ErrorCode::None);
    assert_eq!(create(&mut raw, "t", &[]).await, ErrorCode::None);
    is_kept(dir.path(), inner, &end, (served, raw)).await;
}

#[tokio::test]
async fn a_topic_made_again_while_nobody_listened_has_its_directory_to_itself() {
    let (dir, end) = (tempfile::tempdir().unwrap(), Arc::new(Notify::new()));
    let inner = testkit::MemStore::shared();
    let running = one_record(dir.path(), FallsBehind::new(&inner, &end)).await;
    let gone = Op::delete(format!("{TOPICS}t"));
    inner.txn(Txn { success: vec![gone], ..Txn::default() }).await.unwrap();
    put_topic(&inner, "t", 7).await;
    is_kept(dir.path(), inner, &end, running).await;
}
