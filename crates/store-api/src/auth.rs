//! Refusals of authentication and permission checks, in etcd's words.

/// Why a caller, or a change to users and roles, was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("etcdserver: root user does not exist")]
    RootUserMissing,
    #[error("etcdserver: root user does not have root role")]
    RootRoleMissing,
    #[error("etcdserver: user name already exists")]
    UserExists,
    /// Also: somebody without a name asks while authentication is on.
    #[error("etcdserver: user name is empty")]
    UserEmpty,
    #[error("etcdserver: user name not found")]
    UserNotFound,
    #[error("etcdserver: role name already exists")]
    RoleExists,
    #[error("etcdserver: role name not found")]
    RoleNotFound,
    #[error("etcdserver: role name is empty")]
    RoleEmpty,
    #[error("etcdserver: authentication failed, invalid user ID or password")]
    Failed,
    /// etcd has no code for this one, and shows the text of its inner layer.
    #[error("auth: authentication failed, password was given for no password user")]
    NoPasswordUser,
    #[error("etcdserver: permission not given")]
    PermissionNotGiven,
    #[error("etcdserver: permission denied")]
    PermissionDenied,
    #[error("etcdserver: role is not granted to the user")]
    RoleNotGranted,
    #[error("etcdserver: permission is not granted to the role")]
    PermissionNotGranted,
    #[error("etcdserver: authentication is not enabled")]
    NotEnabled,
    #[error("etcdserver: invalid auth token")]
    InvalidToken,
    #[error("etcdserver: invalid auth management")]
    InvalidManagement,
    /// Users or roles changed since the caller proved who it is: authenticate again.
    #[error("etcdserver: revision of auth store is old")]
    OldRevision,
    /// The member has only the public key of its tokens.
    #[error("auth: token signing attempted with verify-only key")]
    VerifyOnly,
    /// A password that cannot be hashed.
    #[error("{0}")]
    Password(String),
}
