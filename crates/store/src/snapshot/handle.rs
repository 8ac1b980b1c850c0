//! Snapshots of a running member.

use store_api::Error;

use super::write::AboutMember;
use super::{About, Snapshot, write};
use crate::Handle;
use crate::raft::MemberInfo;

impl Handle {
    /// A snapshot of the state as it is now, in a file without a name in the store's directory. Writes go on meanwhile.
    ///
    /// # Errors
    /// When the state or the disk fails, or the disk is full.
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        let (reads, about) = (self.inner.reads.clone(), self.about());
        let wal = self.inner.log.dir();
        let dir = wal.parent().unwrap_or(wal).to_path_buf();
        let written = tokio::task::spawn_blocking(move || {
            let view = reads.db.view()?;
            write(&view, &about, &dir).map_err(Error::from)
        });
        written
            .await
            .unwrap_or_else(|join| Err(Error::Unavailable(format!("the snapshot was not finished: {join}"))))
    }

    fn about(&self) -> About {
        let member = |member: MemberInfo| AboutMember {
            id: member.id,
            name: member.name,
            peer_urls: member.peer_urls,
            client_urls: member.client_urls,
            is_learner: member.is_learner,
        };
        About { members: self.members().into_iter().map(member).collect() }
    }
}
