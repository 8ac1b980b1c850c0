//! A store with its etcd door in the clear on a free port of loopback, and clients of it.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]
#![allow(dead_code, reason = "each test file uses its part of it")]

use std::net::SocketAddr;
use std::time::Duration;

use base::task::Tasks;
use etcd_wire::etcdserverpb as pb;
use etcd_wire::etcdserverpb::kv_client::KvClient;
use etcd_wire::etcdserverpb::lease_client::LeaseClient;
use etcd_wire::etcdserverpb::watch_client::WatchClient;
use tonic::transport::Channel;

pub struct Served {
    pub store: store::Handle,
    pub door: store::door::Handle,
    tasks: Tasks,
    _dir: tempfile::TempDir,
}

impl Served {
    pub async fn start() -> Self {
        Self::with(|_| ()).await
    }

    pub async fn with(change: impl FnOnce(&mut store::door::Options)) -> Self {
        Self::with_both(|_| (), change).await
    }

    pub async fn with_store(change: impl FnOnce(&mut store::Options)) -> Self {
        Self::with_both(change, |_| ()).await
    }

    async fn with_both(
        change_store: impl FnOnce(&mut store::Options),
        change: impl FnOnce(&mut store::door::Options),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tasks = Tasks::new();
        let mut store_options = store::Options::new(dir.path());
        change_store(&mut store_options);
        let store = store::Service::start(store_options, &tasks).unwrap();
        let mut options = store::door::Options::new(vec![SocketAddr::from(([127, 0, 0, 1], 0))], None);
        change(&mut options);
        let door = store::door::Service::start(options, store.clone(), &tasks).await.unwrap();
        Self { store, door, tasks, _dir: dir }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.door.addrs()[0])
    }

    pub async fn channel(&self) -> Channel {
        Channel::from_shared(self.url()).unwrap().connect().await.unwrap()
    }

    pub async fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel().await).max_decoding_message_size(usize::MAX)
    }

    pub async fn watch(&self) -> WatchClient<Channel> {
        WatchClient::new(self.channel().await).max_decoding_message_size(usize::MAX)
    }

    pub async fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel().await)
    }

    pub async fn stop(self) {
        assert!(self.tasks.shutdown(Duration::from_secs(10)).await, "tasks did not end");
    }
}

pub fn put(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> pb::PutRequest {
    pb::PutRequest {
        key: key.as_ref().to_vec().into(),
        value: value.as_ref().to_vec().into(),
        ..pb::PutRequest::default()
    }
}

pub fn get(key: impl AsRef<[u8]>) -> pb::RangeRequest {
    pb::RangeRequest { key: key.as_ref().to_vec().into(), ..pb::RangeRequest::default() }
}

pub fn prefix(prefix: impl AsRef<[u8]>) -> pb::RangeRequest {
    let range_end = store_api::prefix_end(prefix.as_ref());
    pb::RangeRequest { range_end, ..get(prefix) }
}

pub fn delete(key: impl AsRef<[u8]>) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: key.as_ref().to_vec().into(), ..pb::DeleteRangeRequest::default() }
}

/// "Code: text" of a refusal.
pub fn refusal<T: std::fmt::Debug>(result: Result<T, tonic::Status>) -> String {
    let status = result.expect_err("refused");
    format!("{:?}: {}", status.code(), status.message())
}
