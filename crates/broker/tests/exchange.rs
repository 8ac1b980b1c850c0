//! What a cluster has set goes with its directory, to a metadata log of Kafka's and back.

#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod common;

use std::sync::Arc;

use base::disk::{Disk, RealDisk};
use broker::exchange::{Guards, export, import};
use common::{Raw, Served, create, feature_level, options, set_feature};
use kafka_wire::ErrorCode;
use kafka_wire::messages::*;
use store_api::Store;

async fn finalized(raw: &mut Raw) -> Option<i16> {
    let name = ApiVersionsRequest { client_software_name: "t".into(), client_software_version: "1".into() };
    let response: ApiVersionsResponse = raw.call(4, &name).await;
    let found = response.finalized_features.iter().find(|found| found.name == "transaction.version");
    found.map(|found| found.max_version_level)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_transaction_version_goes_with_the_directory() {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let dir = tempfile::tempdir().unwrap();
    let dirs = [dir.path().to_owned()];
    let mut store: Arc<dyn Store> = testkit::MemStore::shared();
    // As new clusters begin, lowered, not in force at all, and raised again.
    for (level, upgrade_type) in [(2, 1), (1, 2), (0, 2), (2, 1)] {
        let served = Served::with(options(dir.path()), store.clone()).await;
        let mut raw = served.raw().await;
        create(&mut raw, "t", &[]).await;
        let set = set_feature(&mut raw, feature_level("transaction.version", level, upgrade_type)).await;
        assert_eq!(set, (ErrorCode::None, String::new()));
        served.stop().await;

        export(&disk, &dirs, &*store, 1_700_000_000_000).await.unwrap();
        // Another store, which knows nothing but what the log says.
        store = testkit::MemStore::shared();
        let done = import(&disk, &dirs, &*store, 1, Guards::Required).await.unwrap().expect("a log");
        assert_eq!(done.topics, 1);
        let served = Served::with(options(dir.path()), store.clone()).await;
        assert_eq!(finalized(&mut served.raw().await).await, (level > 0).then_some(level));
        served.stop().await;
    }
}
