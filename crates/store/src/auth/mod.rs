//! Who asks: passwords and tokens around `mvcc::auth`, which decides what a caller may.
//!
//! ```text
//! authenticate: password ── bcrypt, on a thread of its own ──▶ entry ──▶ every member learns the token
//! request: token, or the common name of a certificate ──▶ Caller ──▶ Acting: the store as this caller sees it
//! ```

mod acting;
mod tokens;

use std::time::Duration;

use base::clock::SharedClock;
use bytes::Bytes;
use mvcc::auth::{self, AuthChange, AuthOp, Caller, Role, Status, User};
use mvcc::{Entry, Reply};
use parking_lot::RwLock;
use store_api::{AuthError, Error};

pub use acting::Acting;
pub(crate) use tokens::Provider;

use crate::Handle;

/// bcrypt's cost in etcd unless told otherwise (`--bcrypt-cost`).
pub const DEFAULT_BCRYPT_COST: u32 = 10;
/// bcrypt's own bounds.
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 4..=31;
/// How long a simple token lives without being used (`--auth-token-ttl`).
pub const DEFAULT_TOKEN_TTL: Duration = Duration::from_secs(300);
/// bcrypt looks at so many bytes of a password; Go's implementation refuses longer ones, with this text.
const PASSWORD_BYTES_MAX: usize = 72;
const PASSWORD_TOO_LONG: &str = "bcrypt: password length exceeds 72 bytes";

/// How passwords and tokens are made.
#[derive(Debug, Clone)]
pub struct Options {
    /// `simple`, or `jwt,sign-method=...,priv-key=...,pub-key=...,ttl=...` (etcd's `--auth-token`).
    pub token: String,
    /// How long a simple token lives without being used.
    pub token_ttl: Duration,
    /// How hard passwords are hashed: each step doubles the work. Out of 4 to 31 the default is taken.
    pub bcrypt_cost: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { token: "simple".to_owned(), token_ttl: DEFAULT_TOKEN_TTL, bcrypt_cost: DEFAULT_BCRYPT_COST }
    }
}

/// What a member knows about authentication besides the state.
pub(crate) struct Auth {
    /// The state's, as of the last entry applied.
    status: RwLock<Status>,
    provider: Provider,
    bcrypt_cost: u32,
}

impl Auth {
    pub(crate) fn new(options: &Options, clock: SharedClock) -> Result<Self, crate::Error> {
        let cost = options.bcrypt_cost;
        Ok(Self {
            status: RwLock::new(Status::default()),
            provider: Provider::new(options, clock)?,
            bcrypt_cost: if BCRYPT_COSTS.contains(&cost) { cost } else { DEFAULT_BCRYPT_COST },
        })
    }

    pub(crate) fn status(&self) -> Status {
        *self.status.read()
    }

    /// The state was opened, or replaced by another.
    pub(crate) fn reset(&self, status: Status) {
        *self.status.write() = status;
        if !status.enabled {
            self.provider.clear();
        }
    }

    /// Takes over what was applied; `index` is that of the last entry.
    pub(crate) fn apply(&self, changes: Vec<AuthChange>, index: u64) {
        for change in changes {
            match change {
                AuthChange::Status(status) => self.reset(status),
                AuthChange::Forget { user } => self.provider.forget(&user),
                AuthChange::Token { user, token } => self.provider.assign(user, token, index),
            }
        }
    }
}

/// A check's or a change's answer.
type Outcome<T> = Result<T, Error>;

impl Handle {
    /// Whether callers must say who they are, and the auth revision.
    #[must_use]
    pub fn auth_status(&self) -> Status {
        self.inner.auth.status()
    }

    /// The store as `caller` sees it.
    #[must_use]
    pub fn acting(&self, caller: Caller) -> Acting {
        Acting { handle: self.clone(), caller }
    }

    /// A token for a user who knows the password.
    ///
    /// # Errors
    /// `Auth` when authentication is off, or name or password are wrong.
    pub async fn authenticate(&self, user: &str, password: &str) -> Outcome<String> {
        loop {
            let checked = self.check_password(user, password).await?;
            let token = self.inner.auth.provider.prefix()?;
            let op = AuthOp::Authenticate { user: user.to_owned(), token: token.clone() };
            self.propose_auth(Entry::Auth(op)).await?;
            // A password that was changed in between counts for nothing.
            if self.auth_status().revision == checked {
                return self.inner.auth.provider.token(user, checked, &token);
            }
        }
    }

    /// The auth revision at which the password was right.
    async fn check_password(&self, name: &str, password: &str) -> Outcome<u64> {
        self.read_barrier().await?;
        let (user, status) = {
            let view = self.inner.reads.db.view()?;
            (auth::user(&view, name)?, auth::status(&view)?)
        };
        if !status.enabled {
            return Err(AuthError::NotEnabled.into());
        }
        let user = user.ok_or(AuthError::Failed)?;
        if user.no_password {
            return Err(AuthError::NoPasswordUser.into());
        }
        let password = password.to_owned();
        let right = hashing(move || {
            let hash = std::str::from_utf8(&user.password_hash).unwrap_or_default();
            bcrypt::verify(password, hash).unwrap_or(false)
        });
        if right.await? { Ok(status.revision) } else { Err(AuthError::Failed.into()) }
    }

    /// A password as the state keeps it.
    ///
    /// # Errors
    /// `Auth` for a password that is too long.
    pub async fn hash_password(&self, password: String) -> Outcome<Bytes> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(AuthError::Password(PASSWORD_TOO_LONG.to_owned()).into());
        }
        let cost = self.inner.auth.bcrypt_cost;
        let hash = hashing(move || bcrypt::hash(password, cost)).await?;
        let hash = hash.map_err(|error| AuthError::Password(error.to_string()))?;
        Ok(Bytes::from(hash))
    }

    /// Whose token it is.
    ///
    /// # Errors
    /// `Auth` when it is nobody's, or no longer.
    pub async fn caller_of_token(&self, token: &str) -> Outcome<Caller> {
        let found = self.inner.auth.provider.find(token, self.auth_status().revision).await;
        found.ok_or_else(|| AuthError::InvalidToken.into())
    }

    pub(crate) async fn propose_auth(&self, entry: Entry) -> Outcome<()> {
        match self.propose(entry).await? {
            Reply::Auth => Ok(()),
            other => Err(Error::Corrupt(format!("unexpected reply {other:?}"))),
        }
    }
}

/// Hashing takes tens of milliseconds of a core: never on a thread that serves connections.
async fn hashing<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Outcome<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|join| Error::Unavailable(format!("the password was not hashed: {join}")))
}

/// What administration asks of the store, as one caller.
impl Acting {
    /// Changes users, roles, or whether authentication is on.
    ///
    /// # Errors
    /// `Auth` says why not.
    pub async fn change_auth(&self, op: AuthOp) -> Outcome<()> {
        let entry = Entry::As { caller: self.caller.clone(), entry: Box::new(Entry::Auth(op)) };
        self.handle.propose_auth(entry).await
    }

    /// Whether authentication is on, and the auth revision.
    ///
    /// # Errors
    /// `Auth` for whoever is not the root.
    pub async fn auth_status(&self) -> Outcome<Status> {
        self.handle.read_barrier().await?;
        let view = self.handle.inner.reads.db.view()?;
        auth::permit_admin(&view, &self.caller)?;
        Ok(auth::status(&view)?)
    }

    /// A user.
    ///
    /// # Errors
    /// `Auth` when there is none, or the caller may not know.
    pub async fn auth_user(&self, name: &str) -> Outcome<User> {
        self.handle.read_barrier().await?;
        let view = self.handle.inner.reads.db.view()?;
        auth::permit_lookup_user(&view, &self.caller, name)?;
        Ok(auth::user(&view, name)?.ok_or(AuthError::UserNotFound)?)
    }

    /// A role.
    ///
    /// # Errors
    /// `Auth` when there is none, or the caller may not know.
    pub async fn auth_role(&self, name: &str) -> Outcome<Role> {
        self.handle.read_barrier().await?;
        let view = self.handle.inner.reads.db.view()?;
        auth::permit_lookup_role(&view, &self.caller, name)?;
        Ok(auth::role(&view, name)?.ok_or(AuthError::RoleNotFound)?)
    }

    /// All users.
    ///
    /// # Errors
    /// `Auth` for whoever is not the root.
    pub async fn auth_users(&self) -> Outcome<Vec<User>> {
        self.handle.read_barrier().await?;
        let view = self.handle.inner.reads.db.view()?;
        auth::permit_admin(&view, &self.caller)?;
        Ok(auth::users(&view)?)
    }

    /// All roles.
    ///
    /// # Errors
    /// `Auth` for whoever is not the root.
    pub async fn auth_roles(&self) -> Outcome<Vec<Role>> {
        self.handle.read_barrier().await?;
        let view = self.handle.inner.reads.db.view()?;
        auth::permit_admin(&view, &self.caller)?;
        Ok(auth::roles(&view)?)
    }

    /// Whether the caller is a root, or need not be: what administers the cluster asks this.
    ///
    /// # Errors
    /// `Auth` says why not.
    pub fn permit_admin(&self) -> Outcome<()> {
        if !self.handle.auth_status().enabled {
            return Ok(());
        }
        Ok(auth::permit_admin(&self.handle.inner.reads.db.view()?, &self.caller)?)
    }

    /// Whether the caller has a name, or needs none.
    ///
    /// # Errors
    /// `Auth` when not.
    pub fn require_user(&self) -> Outcome<()> {
        let nameless = self.handle.auth_status().enabled && self.caller.user.is_empty();
        if nameless { Err(AuthError::UserEmpty.into()) } else { Ok(()) }
    }
}
