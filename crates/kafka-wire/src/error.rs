//! The protocol's error codes.

use std::fmt;

use crate::generated::error::CODES;
pub use crate::generated::error::ErrorCode;

impl ErrorCode {
    /// The code with this number.
    #[must_use]
    pub fn from_i16(code: i16) -> Option<Self> {
        let at = CODES.binary_search_by_key(&code, |(known, ..)| *known as i16).ok()?;
        Some(CODES[at].0)
    }

    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Kafka's name of it, `UNKNOWN_TOPIC_OR_PARTITION`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Whether clients try again by themselves.
    #[must_use]
    pub fn is_retriable(self) -> bool {
        self.row().2
    }

    /// The text that clients print; empty for `NONE`.
    #[must_use]
    pub fn message(self) -> &'static str {
        self.row().3
    }

    /// Whether this is no error.
    #[must_use]
    pub const fn is_ok(self) -> bool {
        self as i16 == 0
    }

    fn row(self) -> &'static (Self, &'static str, bool, &'static str) {
        let at = CODES.binary_search_by_key(&(self as i16), |(known, ..)| *known as i16);
        &CODES[at.expect("every code has a row")]
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<ErrorCode> for i16 {
    fn from(code: ErrorCode) -> Self {
        code.code()
    }
}
