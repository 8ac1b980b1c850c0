//! Who is calling: users, service-account tokens, certificates.
//!
//! ```text
//! bearer token ── token::Verifier(keys, now) ──▶ Claims ──▶ UserInfo
//! client certificate ── x509::principal ───────────────────▶ UserInfo
//! ```
//!
//! No I/O and no clock: keys and `now` are arguments.

pub mod jwt;
pub mod token;
mod user;
pub mod x509;

pub use user::{UserInfo, groups};

/// Compares secrets in time that depends on their lengths only.
#[must_use]
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0u8, |diff, (x, y)| diff | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::constant_time_eq;

    #[test]
    fn equal_means_equal() {
        assert!(constant_time_eq(b"secret", b"secret"));
        assert!(!constant_time_eq(b"secret", b"secreT"));
        assert!(!constant_time_eq(b"secret", b"secre"));
    }
}
