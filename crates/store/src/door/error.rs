//! The store's refusals in gRPC's terms, with etcd's codes and texts to the letter: clients map errors by text
//! (facts: go.etcd.io/etcd/api/v3 v3rpc/rpctypes/error.go).

use store_api::Error;
use tonic::{Code, Status};

use crate::raft::LEADER_FAILED;

const TIMED_OUT: &str = "etcdserver: request timed out";
const CORRUPT: &str = "etcdserver: corrupt cluster";

/// Every text that etcd's clients know, with its code.
const CODES: &[(Code, &[&str])] = &[
    (
        Code::InvalidArgument,
        &[
            "etcdserver: key is not provided",
            "etcdserver: key not found",
            "etcdserver: value is provided",
            "etcdserver: lease is provided",
            "etcdserver: too many operations in txn request",
            "etcdserver: duplicate key given in txn request",
            "etcdserver: invalid client api version",
            "etcdserver: invalid sort option",
            "etcdserver: given member URLs are invalid",
            "etcdserver: request is too large",
            "etcdserver: user name is empty",
            "etcdserver: role name is empty",
            "etcdserver: authentication failed, invalid user ID or password",
            "etcdserver: permission not given",
            "etcdserver: invalid auth management",
            "etcdserver: revision of auth store is old",
            "etcdserver: wrong downgrade target version format",
            "etcdserver: invalid downgrade target version",
        ],
    ),
    (
        Code::OutOfRange,
        &[
            "etcdserver: mvcc: required revision has been compacted",
            "etcdserver: mvcc: required revision is a future revision",
            "etcdserver: too large lease TTL",
        ],
    ),
    (
        Code::ResourceExhausted,
        &["etcdserver: mvcc: database space exceeded", "etcdserver: too many requests"],
    ),
    (Code::NotFound, &["etcdserver: requested lease not found", "etcdserver: member not found"]),
    (
        Code::FailedPrecondition,
        &[
            "etcdserver: lease already exists",
            "etcdserver: member ID already exist",
            "etcdserver: Peer URLs already exists",
            "etcdserver: re-configuration failed due to not enough started members",
            "etcdserver: can only promote a learner member",
            "etcdserver: can only promote a learner member which is in sync with leader",
            "etcdserver: too many learner members in cluster",
            "etcdserver: cluster ID mismatch",
            "etcdserver: root user does not exist",
            "etcdserver: root user does not have root role",
            "etcdserver: user name already exists",
            "etcdserver: user name not found",
            "etcdserver: role name already exists",
            "etcdserver: role name not found",
            "etcdserver: role is not granted to the user",
            "etcdserver: permission is not granted to the role",
            "etcdserver: authentication is not enabled",
            "etcdserver: not leader",
            "etcdserver: not capable",
            "etcdserver: rpc not supported for learner",
            "etcdserver: bad leader transferee",
            "etcdserver: cluster version not found during downgrade",
            "etcdserver: cluster has a downgrade job in progress",
            "etcdserver: no inflight downgrade job",
        ],
    ),
    (Code::PermissionDenied, &["etcdserver: permission denied"]),
    (Code::Unauthenticated, &["etcdserver: invalid auth token"]),
    (Code::Cancelled, &["etcdserver: watch canceled", "etcdserver: request canceled"]),
    (Code::DeadlineExceeded, &["etcdserver: context deadline exceeded"]),
    (Code::DataLoss, &[CORRUPT]),
    (
        Code::Unavailable,
        &[
            "etcdserver: no leader",
            "etcdserver: leader changed",
            "etcdserver: server stopped",
            TIMED_OUT,
            LEADER_FAILED,
            "etcdserver: request timed out, possibly due to connection lost",
            "etcdserver: request timed out, waiting for the applied index took too long",
            "etcdserver: unhealthy cluster",
        ],
    ),
];

/// An answer with one of etcd's texts, under its code; `Unknown` for any other text, as etcd does.
pub(crate) fn text(text: impl Into<String>) -> Status {
    let text = text.into();
    let known = CODES.iter().find(|(_, texts)| texts.contains(&text.as_str()));
    Status::new(known.map_or(Code::Unknown, |(code, _)| *code), text)
}

/// The store's refusal as an answer.
pub(crate) fn status(error: &Error) -> Status {
    match error {
        Error::Unavailable(why) if why == LEADER_FAILED => text(why),
        Error::Unavailable(why) => {
            tracing::debug!(why, "a request was not finished");
            text(TIMED_OUT)
        }
        Error::Corrupt(why) => {
            tracing::error!(why, "corruption found");
            text(CORRUPT)
        }
        Error::SlowWatcher => text("etcdserver: watch canceled"),
        other => text(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store_api::Revision;

    #[test]
    fn every_refusal_of_the_store_has_a_code_of_etcds() {
        let check = |error: Error, code, expect: &str| {
            let status = status(&error);
            assert_eq!((status.code(), status.message()), (code, expect), "{error:?}");
        };
        let compacted = Error::Compacted { compact_revision: Revision(3) };
        check(compacted, Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted");
        let future = Error::FutureRevision { current: Revision(3) };
        check(future, Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision");
        check(Error::LeaseNotFound, Code::NotFound, "etcdserver: requested lease not found");
        check(Error::LeaseExists, Code::FailedPrecondition, "etcdserver: lease already exists");
        check(Error::TooManyRequests, Code::ResourceExhausted, "etcdserver: too many requests");
        check(Error::NoSpace, Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded");
        check(Error::ShuttingDown, Code::Unavailable, "etcdserver: server stopped");
        check(Error::Unavailable("disk".into()), Code::Unavailable, "etcdserver: request timed out");
        check(Error::Corrupt("x".into()), Code::DataLoss, "etcdserver: corrupt cluster");
        let large = Error::Invalid("etcdserver: too large lease TTL".into());
        check(large, Code::OutOfRange, "etcdserver: too large lease TTL");
        check(Error::Invalid("other".into()), Code::Unknown, "other");
    }
}
