//! Why a member did not do what another asked.

use bytes::Bytes;

use super::types::{Malformed, take_u8};

/// A refusal, as it travels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Ask the leader. Nothing was done.
    #[error("etcdserver: not leader")]
    NotLeader,
    /// Nothing was done, and it may work later.
    #[error("{0}")]
    Busy(String),
    /// Whether it was done is not known.
    #[error("{0}")]
    Unknown(String),
    /// There is no such lease.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// There is no space for more.
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    /// The member cannot read what it holds.
    #[error("{0}")]
    Damaged(String),
    /// The members do not change so.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// Why the members stay as they are; texts are etcd's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    #[error("etcdserver: member not found")]
    MemberNotFound,
    #[error("etcdserver: Peer URLs already exists")]
    PeerUrlExists,
    #[error("etcdserver: given member URLs are invalid")]
    BadUrls,
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    #[error("etcdserver: can only promote a learner member")]
    NotLearner,
    #[error("etcdserver: too many learner members in cluster")]
    TooManyLearners,
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    #[error("etcdserver: unhealthy cluster")]
    Unhealthy,
    #[error("etcdserver: bad leader transferee")]
    BadTransferee,
    #[error("etcdserver: request timed out, leader transfer took too long")]
    TransferTimeout,
    /// The member was started without a peer port.
    #[error(
        "etcdserver: this member runs alone, without a peer port; start it as `ketch server` to add members"
    )]
    Alone,
}

const CLUSTER: [ClusterError; 11] = [
    ClusterError::MemberNotFound,
    ClusterError::PeerUrlExists,
    ClusterError::BadUrls,
    ClusterError::LearnerNotReady,
    ClusterError::NotLearner,
    ClusterError::TooManyLearners,
    ClusterError::NotEnoughStarted,
    ClusterError::Unhealthy,
    ClusterError::BadTransferee,
    ClusterError::TransferTimeout,
    ClusterError::Alone,
];
/// Codes of [`CLUSTER`] begin here.
const CLUSTER_CODE: usize = 32;

impl PeerError {
    fn code(&self) -> u8 {
        match self {
            Self::NotLeader => 1,
            Self::Busy(_) => 2,
            Self::Unknown(_) => 3,
            Self::LeaseNotFound => 4,
            Self::NoSpace => 5,
            Self::Damaged(_) => 6,
            Self::Cluster(error) => {
                let at = CLUSTER.iter().position(|known| known == error);
                (CLUSTER_CODE + at.expect("the table has all")) as u8
            }
        }
    }

    fn from_parts(code: u8, text: String) -> Self {
        match code {
            1 => Self::NotLeader,
            2 => Self::Busy(text),
            4 => Self::LeaseNotFound,
            5 => Self::NoSpace,
            6 => Self::Damaged(text),
            code => usize::from(code)
                .checked_sub(CLUSTER_CODE)
                .and_then(|at| CLUSTER.get(at))
                .map_or(Self::Unknown(text), |error| Self::Cluster(*error)),
        }
    }
}

/// An answer's bytes.
pub(crate) fn encode_answer(answer: Result<Vec<u8>, PeerError>) -> Bytes {
    match answer {
        Ok(mut body) => {
            body.insert(0, 0);
            body.into()
        }
        Err(error) => {
            let mut out = vec![1, error.code()];
            out.extend_from_slice(error.to_string().as_bytes());
            out.into()
        }
    }
}

/// An answer from its bytes.
pub(crate) fn decode_answer(mut bytes: Bytes) -> Result<Result<Bytes, PeerError>, Malformed> {
    if take_u8(&mut bytes)? == 0 {
        return Ok(Ok(bytes));
    }
    let code = take_u8(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Err(PeerError::from_parts(code, text)))
}

impl From<PeerError> for store_api::Error {
    fn from(error: PeerError) -> Self {
        match error {
            PeerError::LeaseNotFound => Self::LeaseNotFound,
            PeerError::NoSpace => Self::NoSpace,
            other => Self::Unavailable(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_travel() {
        let mut errors: Vec<_> = CLUSTER.into_iter().map(PeerError::Cluster).collect();
        errors.extend([PeerError::NotLeader, PeerError::Busy("b".into()), PeerError::Unknown("u".into())]);
        errors.extend([PeerError::LeaseNotFound, PeerError::NoSpace, PeerError::Damaged("d".into())]);
        for error in errors {
            let bytes = encode_answer(Err(error.clone()));
            assert_eq!(decode_answer(bytes).unwrap(), Err(error));
        }
        assert_eq!(decode_answer(encode_answer(Ok(b"x".to_vec()))).unwrap(), Ok(Bytes::from_static(b"x")));
    }
}
