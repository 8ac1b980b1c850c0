//! What the log holds: one change of the store, before it is known whether it will succeed.

use store_api::{LeaseId, Revision, Txn};

use crate::alarm::Alarm;
use crate::auth::{AuthOp, Caller};

/// How deep transactions may nest. etcd has no limit of its own; ours keeps a stranger's bytes off the stack's end.
pub const MAX_TXN_DEPTH: usize = 64;

/// One change.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A transaction; may turn out to write nothing.
    Txn(Txn),
    /// A new lease. The proposer chose the id.
    LeaseGrant { id: LeaseId, ttl_s: i64 },
    /// The end of a lease, asked for or by expiry: its keys are deleted.
    LeaseRevoke { id: LeaseId },
    /// How much of these leases is left, seconds, so that a new leader does not give them their whole time again; 0 for
    /// one that was renewed since it was noted.
    LeaseCheckpoint { remaining: Vec<(LeaseId, i64)> },
    /// History below `revision` may be forgotten.
    Compact { revision: Revision },
    /// A change of users, roles, or of authentication itself.
    Auth(AuthOp),
    /// An alarm is raised, or is over.
    Alarm { alarm: Alarm, raise: bool },
    /// An entry that is applied only if the caller may. Without this the process itself asked, which is trusted.
    As { caller: Caller, entry: Box<Entry> },
}
