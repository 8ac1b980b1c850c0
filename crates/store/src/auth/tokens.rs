//! Tokens: random ones that members remember for a while, or signed ones that say all themselves.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use base::clock::SharedClock;
use identity::jwt;
use mvcc::auth::Caller;
use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;
use store_api::{AuthError, Error};
use tokio::sync::watch;

use super::Options;

const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// Letters of a simple token: 91 bits.
const PREFIX_LETTERS: usize = 16;
/// Simple tokens remembered at once; beyond it those go that have the least time left.
const TOKENS_MAX: usize = 100_000;
/// How long a request waits for a token that another member handed out and this one has not heard of yet.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a signed token is valid unless told otherwise.
const JWT_TTL: Duration = Duration::from_secs(300);
const INVALID_OPTIONS: &str = "auth: invalid auth options";

#[derive(Debug)]
struct Known {
    user: String,
    /// On the monotonic clock.
    deadline: Duration,
}

/// Tokens of random letters.
pub(crate) struct Simple {
    known: Mutex<BTreeMap<String, Known>>,
    /// The entry that gave the last token.
    heard: watch::Sender<u64>,
    ttl: Duration,
    clock: SharedClock,
}

/// Hands out tokens and knows them again.
pub(crate) enum Provider {
    Simple(Simple),
    Jwt { key: Box<jwt::Key>, ttl: Duration, clock: SharedClock },
}

impl Provider {
    pub(super) fn new(options: &Options, clock: SharedClock) -> Result<Self, crate::Error> {
        let (kind, settings) = split_options(&options.token).map_err(crate::Error::Auth)?;
        match kind {
            "simple" => Ok(Self::Simple(Simple {
                known: Mutex::default(),
                heard: watch::Sender::new(0),
                ttl: options.token_ttl,
                clock,
            })),
            "jwt" => Self::signed(&settings, clock),
            _ => Err(crate::Error::Auth(INVALID_OPTIONS.to_owned())),
        }
    }

    fn signed(settings: &BTreeMap<&str, &str>, clock: SharedClock) -> Result<Self, crate::Error> {
        let file = |name: &str| {
            let path = settings.get(name).filter(|path| !path.is_empty());
            path.map(|path| std::fs::read(path).map_err(crate::Error::io(Path::new(path)))).transpose()
        };
        let (private, public) = (file("priv-key")?, file("pub-key")?);
        let ttl = match settings.get("ttl").filter(|ttl| !ttl.is_empty()) {
            Some(ttl) => go_duration(ttl).ok_or_else(|| crate::Error::Auth(INVALID_OPTIONS.to_owned()))?,
            None => JWT_TTL,
        };
        let method = settings.get("sign-method").copied().unwrap_or_default();
        let key = jwt::Key::new(method, private.as_deref(), public.as_deref());
        let key = key.map_err(|error| crate::Error::Auth(format!("auth: {error}")))?;
        Ok(Self::Jwt { key: Box::new(key), ttl, clock })
    }

    /// What a new token begins with; nothing for a signed one.
    pub(super) fn prefix(&self) -> Result<String, Error> {
        match self {
            Self::Simple(_) => letters(),
            Self::Jwt { .. } => Ok(String::new()),
        }
    }

    /// The token that was given to a user, as the user gets it.
    pub(super) fn token(&self, user: &str, auth_revision: u64, prefix: &str) -> Result<String, Error> {
        match self {
            Self::Simple(simple) => Ok(format!("{prefix}.{}", *simple.heard.borrow())),
            Self::Jwt { key, ttl, clock } => {
                let exp = clock.unix_ms() / 1000 + ttl.as_secs().cast_signed();
                let claims = json!({ "username": user, "revision": auth_revision, "exp": exp });
                key.sign(&claims).map_err(|error| {
                    tracing::debug!(%error, "a token was not signed");
                    AuthError::VerifyOnly.into()
                })
            }
        }
    }

    /// Every member hears of a token when its entry is applied.
    pub(super) fn assign(&self, user: String, token: String, index: u64) {
        let Self::Simple(simple) = self else { return };
        let now = simple.clock.monotonic();
        let mut known = simple.known.lock();
        if known.len() >= TOKENS_MAX {
            make_room(&mut known, now);
        }
        known.insert(token, Known { user, deadline: now + simple.ttl });
        drop(known);
        simple.heard.send_replace(index);
    }

    pub(super) fn forget(&self, user: &str) {
        if let Self::Simple(simple) = self {
            simple.known.lock().retain(|_, known| known.user != user);
        }
    }

    pub(super) fn clear(&self) {
        if let Self::Simple(simple) = self {
            simple.known.lock().clear();
        }
    }

    /// Whose token it is; a simple one lives on from now.
    pub(super) async fn find(&self, token: &str, auth_revision: u64) -> Option<Caller> {
        match self {
            Self::Simple(simple) => simple.find(token, auth_revision).await,
            Self::Jwt { key, clock, .. } => {
                let now_s = clock.unix_ms() / 1000;
                let claims = key.verify(token, now_s).ok()?;
                let user = claims.get("username")?.as_str()?.to_owned();
                let auth_revision = claims.get("revision")?.as_f64()? as u64;
                Some(Caller { user, auth_revision })
            }
        }
    }
}

impl Simple {
    async fn find(&self, token: &str, auth_revision: u64) -> Option<Caller> {
        let (prefix, index) = token.split_once('.')?;
        let index: u64 = index.parse().ok()?;
        if let Some(user) = self.user(prefix) {
            return Some(Caller { user, auth_revision });
        }
        let mut heard = self.heard.subscribe();
        if *heard.borrow() >= index {
            return None;
        }
        let waited = tokio::time::timeout(PATIENCE, heard.wait_for(|heard| *heard >= index)).await;
        waited.ok()?.ok()?;
        self.user(prefix).map(|user| Caller { user, auth_revision })
    }

    fn user(&self, prefix: &str) -> Option<String> {
        let now = self.clock.monotonic();
        let mut all = self.known.lock();
        let known = all.get_mut(prefix)?;
        if known.deadline <= now {
            all.remove(prefix);
            return None;
        }
        known.deadline = now + self.ttl;
        Some(known.user.clone())
    }
}

/// Drops tokens that are over, and the half with the least time left when none is.
fn make_room(known: &mut BTreeMap<String, Known>, now: Duration) {
    known.retain(|_, token| token.deadline > now);
    if known.len() >= TOKENS_MAX {
        let mut deadlines: Vec<_> = known.values().map(|token| token.deadline).collect();
        let (_, middle, _) = deadlines.select_nth_unstable(TOKENS_MAX / 2);
        let middle = *middle;
        known.retain(|_, token| token.deadline > middle);
    }
}

fn letters() -> Result<String, Error> {
    let random = SystemRandom::new();
    let mut out = String::with_capacity(PREFIX_LETTERS);
    let mut bytes = [0; 2 * PREFIX_LETTERS];
    while out.len() < PREFIX_LETTERS {
        random.fill(&mut bytes).map_err(|_| Error::Unavailable("no randomness".to_owned()))?;
        // Of the 256 values 208 are four times the alphabet; the others would favour its beginning.
        let fair = bytes.iter().filter(|byte| usize::from(**byte) < 4 * LETTERS.len());
        let fair = fair.map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]));
        out.extend(fair.take(PREFIX_LETTERS - out.len()));
    }
    Ok(out)
}

/// `kind,name=value,...`
fn split_options(text: &str) -> Result<(&str, BTreeMap<&str, &str>), String> {
    let mut parts = text.split(',');
    let kind = parts.next().unwrap_or_default();
    let mut settings = BTreeMap::new();
    for part in parts {
        let pair = part.split_once('=').filter(|(_, value)| !value.contains('='));
        let (name, value) = pair.ok_or_else(|| INVALID_OPTIONS.to_owned())?;
        if settings.insert(name, value).is_some() {
            return Err(INVALID_OPTIONS.to_owned());
        }
    }
    Ok((kind, settings))
}

/// A duration as Go writes it: `5m`, `1h30m`, `1.5s`.
fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit() || c == '.');
        let unit_end = unit_end.map_or(rest.len(), |end| digits + end);
        seconds += number
            * match &rest[digits..unit_end] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[unit_end..];
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|_| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_etcd_reads_them() {
        let (kind, settings) = split_options("jwt,sign-method=RS256,ttl=10m").unwrap();
        assert_eq!((kind, settings["sign-method"], settings["ttl"]), ("jwt", "RS256", "10m"));
        for wrong in ["jwt,ttl", "jwt,ttl=1=2", "jwt,ttl=1,ttl=2"] {
            assert!(split_options(wrong).is_err(), "{wrong}");
        }
        assert_eq!(go_duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(go_duration("1.5s"), Some(Duration::from_millis(1500)));
        assert!(go_duration("5").is_none() && go_duration("x").is_none() && go_duration("").is_none());
    }

    #[test]
    fn letters_are_letters() {
        let (one, two) = (letters().unwrap(), letters().unwrap());
        assert!(one != two && one.len() == PREFIX_LETTERS && one.bytes().all(|b| b.is_ascii_alphabetic()));
    }
}
