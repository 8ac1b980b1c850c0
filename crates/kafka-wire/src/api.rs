//! API keys and the versions of each.

pub use crate::generated::api::ApiKey;
use crate::generated::api::KEYS;

/// The versions of an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// First version.
    pub min: i16,
    /// Last version.
    pub max: i16,
    /// Last version that is not marked unstable: what a broker announces.
    pub stable_max: i16,
    /// First version with compact lengths and tagged fields; `i16::MAX` where none has them.
    pub flexible_from: i16,
}

impl Versions {
    /// Whether `version` can be read.
    #[must_use]
    pub fn contains(&self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }
}

impl ApiKey {
    /// The key with this number, None for those that only controllers serve or nobody knows.
    #[must_use]
    pub fn from_i16(key: i16) -> Option<Self> {
        let at = KEYS.binary_search_by_key(&key, |(known, ..)| *known as i16).ok()?;
        Some(KEYS[at].0)
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> i16 {
        self as i16
    }

    /// Kafka's name of it, `Produce`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The versions whose messages can be read and written.
    #[must_use]
    pub fn versions(self) -> Versions {
        self.row().2
    }

    /// The version of the request's header (KIP-482): 2 from the first flexible version on, else 1.
    #[must_use]
    pub fn request_header_version(self, version: i16) -> i16 {
        1 + i16::from(version >= self.versions().flexible_from)
    }

    /// The version of the response's header: that of ApiVersions is 0 always, so that any client can read it (KIP-511).
    #[must_use]
    pub fn response_header_version(self, version: i16) -> i16 {
        i16::from(self != Self::ApiVersions && version >= self.versions().flexible_from)
    }

    /// Every key, in the order of the numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        KEYS.iter().map(|(key, ..)| *key)
    }

    fn row(self) -> &'static (Self, &'static str, Versions) {
        let at = KEYS.binary_search_by_key(&(self as i16), |(known, ..)| *known as i16);
        &KEYS[at.expect("every key has a row")]
    }
}
