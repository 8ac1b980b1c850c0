//! The Maintenance service.

use std::io::Read;
use std::sync::Arc;
use std::time::Instant;

use etcd_wire::etcdserverpb as pb;
use etcd_wire::etcdserverpb::alarm_request::AlarmAction;
use etcd_wire::etcdserverpb::downgrade_request::DowngradeAction;
use etcd_wire::etcdserverpb::maintenance_server;
use mvcc::alarm::{Alarm, AlarmKind};
use ring::digest::{Context, SHA256};
use store_api::{Error, Revision};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Door, error};
use crate::snapshot::{STORAGE_VERSION, Snapshot};

/// The release whose behaviour is on this port.
pub(crate) const ETCD_VERSION: &str = "3.6.16";
/// Bytes of a snapshot in one message: etcd's `snapshotSendBufferSize`.
const PIECE_BYTES: usize = 32 * 1024;
/// Messages of a snapshot that may wait for a slow receiver.
const PIECES: usize = 4;
/// Version of a cluster of 3.6, and the one it may be downgraded to in etcd.
pub(crate) const CLUSTER_VERSION: &str = "3.6";
const OLDER_VERSION: (u64, u64) = (3, 5);

/// The service.
pub(crate) struct Maintenance(pub Arc<Door>);

type Outcome<T> = Result<Response<T>, Status>;
type Piece = Result<pb::SnapshotResponse, Status>;

fn refused(error: Error) -> Status {
    error::status(&error)
}

fn wire(alarm: Alarm) -> pb::AlarmMember {
    pb::AlarmMember { member_id: alarm.member, alarm: alarm.kind.number().into() }
}

/// How etcd prints an alarm among a member's errors.
fn shown(alarm: Alarm) -> String {
    let kind = match alarm.kind {
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
    };
    // Fields that are zero are not printed.
    match alarm.member {
        0 => format!("alarm:{kind} "),
        member => format!("memberID:{member} alarm:{kind} "),
    }
}

#[tonic::async_trait]
impl maintenance_server::Maintenance for Maintenance {
    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Outcome<pb::AlarmResponse> {
        match AlarmAction::try_from(request.get_ref().action) {
            Ok(AlarmAction::Get) => self.0.acting(&request).await?.require_user().map_err(refused)?,
            _ => self.0.require_admin(&request).await?,
        }
        let request = request.into_inner();
        // A number that is no kind is as good as NONE: nothing is raised, nothing is ended.
        let kind = u8::try_from(request.alarm).ok().and_then(AlarmKind::of);
        let store = &self.0.store;
        let alarm = kind.map(|kind| Alarm { member: request.member_id, kind });
        let found = match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => {
                let all = store.alarms().map_err(refused)?;
                all.into_iter().filter(|alarm| kind.is_none_or(|kind| alarm.kind == kind)).collect()
            }
            Ok(action) => match alarm {
                Some(alarm) => {
                    let raise = action == AlarmAction::Activate;
                    Vec::from_iter(store.set_alarm(alarm, raise).await.map_err(refused)?)
                }
                None => Vec::new(),
            },
            Err(_) => Vec::new(),
        };
        let alarms = found.into_iter().map(wire).collect();
        Ok(Response::new(pb::AlarmResponse { header: Some(self.0.header(None)), alarms }))
    }

    async fn status(&self, request: Request<pb::StatusRequest>) -> Outcome<pb::StatusResponse> {
        self.0.acting(&request).await?.require_user().map_err(refused)?;
        let status = self.0.store.status().map_err(refused)?;
        let alarms = self.0.store.alarms().map_err(refused)?;
        let mut errors = Vec::new();
        if status.leader.is_none() {
            errors.push("etcdserver: no leader".to_owned());
        }
        errors.extend(alarms.into_iter().map(shown));
        errors.extend(status.errors);
        let used = self.0.store.used_bytes().await.map_err(refused)?;
        Ok(Response::new(pb::StatusResponse {
            header: Some(self.0.header(None)),
            version: ETCD_VERSION.to_owned(),
            db_size: status.db_size_bytes.cast_signed(),
            leader: status.leader.unwrap_or_default(),
            raft_index: status.raft_index,
            raft_term: status.raft_term,
            raft_applied_index: status.raft_applied_index,
            errors,
            db_size_in_use: used.min(status.db_size_bytes).cast_signed(),
            is_learner: status.is_learner,
            storage_version: STORAGE_VERSION.to_owned(),
            db_size_quota: self.0.store.quota_bytes().map_or(-1, u64::cast_signed),
            downgrade_info: Some(pb::DowngradeInfo::default()),
        }))
    }

    async fn defragment(&self, request: Request<pb::DefragmentRequest>) -> Outcome<pb::DefragmentResponse> {
        self.0.require_admin(&request).await?;
        let began = Instant::now();
        self.0.metrics.defragmenting.change(1);
        let done = self.0.store.defragment().await;
        self.0.metrics.defragmenting.change(-1);
        self.0.metrics.defragments.observe(began.elapsed());
        done.map_err(refused)?;
        Ok(Response::new(pb::DefragmentResponse { header: None }))
    }

    async fn hash(&self, request: Request<pb::HashRequest>) -> Outcome<pb::HashResponse> {
        self.0.require_admin(&request).await?;
        let began = Instant::now();
        let found = self.0.store.history_hash(Revision(0)).await.map_err(refused)?;
        self.0.metrics.hashes.observe(began.elapsed());
        let header = Some(self.0.header(Some(found.current)));
        Ok(Response::new(pb::HashResponse { header, hash: found.folded() }))
    }

    async fn hash_kv(&self, request: Request<pb::HashKvRequest>) -> Outcome<pb::HashKvResponse> {
        self.0.require_admin(&request).await?;
        let at = Revision(request.into_inner().revision);
        let began = Instant::now();
        let found = self.0.store.history_hash(at).await.map_err(refused)?;
        self.0.metrics.history_hashes.observe(began.elapsed());
        Ok(Response::new(pb::HashKvResponse {
            header: Some(self.0.header(Some(found.current))),
            hash: found.folded(),
            // etcd says -1 while nothing was compacted.
            compact_revision: if found.compacted.get() == 0 { -1 } else { found.compacted.get() },
            // A number below zero is now, and comes back.
            hash_revision: if at.get() < 0 { at.get() } else { found.revision.get() },
        }))
    }

    type SnapshotStream = ReceiverStream<Piece>;

    async fn snapshot(&self, request: Request<pb::SnapshotRequest>) -> Outcome<Self::SnapshotStream> {
        self.0.require_admin(&request).await?;
        let began = Instant::now();
        let snapshot = self.0.store.snapshot().await.map_err(refused)?;
        let (pieces, stream) = mpsc::channel(PIECES);
        let metrics = self.0.metrics.clone();
        tokio::task::spawn_blocking(move || {
            let sent = send(snapshot, &pieces);
            metrics.snapshots.observe(began.elapsed());
            if let Err(error) = sent {
                tracing::warn!(%error, "a snapshot was not sent");
                // Whoever listens learns it; nobody else has to.
                let _ = pieces.blocking_send(Err(Status::internal(error.to_string())));
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn move_leader(&self, request: Request<pb::MoveLeaderRequest>) -> Outcome<pb::MoveLeaderResponse> {
        self.0.require_admin(&request).await?;
        let target = request.into_inner().target_id;
        let header = self.0.store.header();
        if self.0.store.status().map_err(refused)?.leader != Some(header.member_id) {
            return Err(error::text("etcdserver: not leader"));
        }
        // etcd takes the leader itself as a target, and has nothing to do then.
        if target != header.member_id {
            self.0.store.move_leader(target).await.map_err(super::cluster::refused)?;
        }
        Ok(Response::new(pb::MoveLeaderResponse { header: None }))
    }

    async fn downgrade(&self, request: Request<pb::DowngradeRequest>) -> Outcome<pb::DowngradeResponse> {
        self.0.require_admin(&request).await?;
        let request = request.into_inner();
        let action = DowngradeAction::try_from(request.action);
        let action = action.map_err(|_| error::text("etcdserver: unknown method"))?;
        if action != DowngradeAction::Cancel {
            let target = version(&request.version)
                .ok_or_else(|| error::text("etcdserver: wrong downgrade target version format"))?;
            // Ketch has no older form of its storage to go back to, so nothing can be enabled.
            if target != OLDER_VERSION || action == DowngradeAction::Enable {
                return Err(error::text("etcdserver: invalid downgrade target version"));
            }
        }
        let header = Some(self.0.header(None));
        Ok(Response::new(pb::DowngradeResponse { header, version: CLUSTER_VERSION.to_owned() }))
    }
}

/// Sends a snapshot piece by piece and its hash last. Ends when nobody listens any more.
fn send(mut snapshot: Snapshot, pieces: &mpsc::Sender<Piece>) -> std::io::Result<()> {
    let mut hash = Context::new(&SHA256);
    let mut left = snapshot.bytes;
    while left > 0 {
        let mut blob = vec![0; left.min(PIECE_BYTES as u64) as usize];
        snapshot.file.read_exact(&mut blob)?;
        hash.update(&blob);
        left -= blob.len() as u64;
        if pieces.blocking_send(Ok(piece(left, blob))).is_err() {
            return Ok(());
        }
    }
    let _ = pieces.blocking_send(Ok(piece(0, hash.finish().as_ref().to_vec())));
    Ok(())
}

fn piece(remaining_bytes: u64, blob: Vec<u8>) -> pb::SnapshotResponse {
    let version = STORAGE_VERSION.to_owned();
    pb::SnapshotResponse { header: None, remaining_bytes, blob: blob.into(), version }
}

/// Major and minor of `3.5` or `3.5.0`.
fn version(text: &str) -> Option<(u64, u64)> {
    let mut parts = text.split('.');
    let mut number = || parts.next()?.parse().ok();
    let found = (number()?, number()?);
    let patch = parts.next().is_none_or(|patch| patch.parse::<u64>().is_ok());
    (patch && parts.next().is_none()).then_some(found)
}
