//! How many partitions a client may have made and removed (`controller_mutation_rate`, KIP-599): a bucket of credits that
//! fills evenly, which a single large request may empty and overdraw.

use std::sync::Arc;

use kafka_wire::ErrorCode;

use super::rate::Windows;
use super::{Quotas, Who};
use crate::catalog::Refusal;

/// Credits, as `TokenBucket` of Kafka's metrics counts them. Times are of a clock that nobody sets.
#[derive(Debug)]
pub(super) struct Bucket {
    windows: Windows,
    /// What is left; None before the first use, when it is full. Below zero it is overdrawn.
    left: Option<f64>,
    filled_ms: i64,
    /// What came in a second when it was last filled.
    rate: f64,
}

impl Bucket {
    pub(super) fn new(windows: Windows) -> Self {
        Self { windows, left: None, filled_ms: 0, rate: 0.0 }
    }

    /// The most that it holds: what comes in all windows.
    fn most(&self, rate: f64) -> f64 {
        self.windows.count.saturating_mul(self.windows.size_ms) as f64 / 1000.0 * rate
    }

    fn fill(&mut self, rate: f64, now_ms: i64) -> f64 {
        let most = self.most(rate);
        let passed_seconds = (now_ms - self.filled_ms) as f64 / 1000.0;
        let left = self.left.map_or(most, |left| most.min(left + rate * passed_seconds));
        (self.left, self.filled_ms, self.rate) = (Some(left), now_ms, rate);
        left
    }

    /// Takes credits at `rate` a second. How long it is until an overdrawn bucket is filled to zero, milliseconds: where it
    /// was so before and the use is `strict`, nothing is taken; where it is so now and the use is not, it is taken.
    pub(super) fn take(&mut self, credits: f64, rate: f64, strict: bool, now_ms: i64) -> i64 {
        let left = self.fill(rate, now_ms);
        if strict && left < 0.0 {
            return pause_ms(left, rate);
        }
        let left = left - credits;
        self.left = Some(left);
        if strict { 0 } else { pause_ms(left, rate) }
    }

    /// Whether it is as full as a new one.
    pub(super) fn is_full(&mut self, now_ms: i64) -> bool {
        let rate = self.rate;
        self.left.is_none() || self.fill(rate, now_ms) >= self.most(rate)
    }
}

fn pause_ms(left: f64, rate: f64) -> i64 {
    // A whole answer to an absurd debt: the cast saturates.
    if left < 0.0 { (-left / rate * 1000.0).round() as i64 } else { 0 }
}

/// What a request may change, of those whose client is limited.
struct Limited {
    quotas: Arc<Quotas>,
    who: Who,
    /// Refuses what goes beyond the quota, as those versions do whose clients know the error; else the client only pauses.
    strict: bool,
    pause_ms: i64,
    paused_ms: i64,
}

/// What one request may change.
pub(crate) struct Mutations(Option<Limited>);

impl Mutations {
    /// As much as it likes, as the broker itself.
    pub(crate) fn unlimited() -> Self {
        Self(None)
    }

    pub(super) fn limited(quotas: Arc<Quotas>, who: Who, strict: bool) -> Self {
        Self(Some(Limited { quotas, who, strict, pause_ms: 0, paused_ms: 0 }))
    }

    /// Counts so many partitions that are to be made or removed.
    ///
    /// # Errors
    /// THROTTLING_QUOTA_EXCEEDED, where they must not be.
    pub(crate) fn take(&mut self, partitions: usize, now_ms: i64) -> Result<(), Refusal> {
        let Some(limited) = &mut self.0 else { return Ok(()) };
        let pause_ms = limited.quotas.mutate(&limited.who, partitions as f64, limited.strict, now_ms);
        if pause_ms > 0 {
            (limited.pause_ms, limited.paused_ms) = (pause_ms, now_ms);
        }
        match pause_ms > 0 && limited.strict {
            true => {
                let code = ErrorCode::ThrottlingQuotaExceeded;
                Err(Refusal::new(code, code.message()))
            }
            false => Ok(()),
        }
    }

    /// How long the client is to pause from now on, milliseconds.
    pub(crate) fn pause_ms(&self, now_ms: i64) -> i64 {
        self.0.as_ref().map_or(0, |limited| (limited.pause_ms - (now_ms - limited.paused_ms)).max(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOWS: Windows = Windows { count: 10, size_ms: 1000 };
    const RATE: f64 = 5.0;

    /// The example of `TokenBucket`'s documentation in small: five a second, fifty at most.
    #[test]
    fn a_bucket_fills_evenly() {
        let mut bucket = Bucket::new(WINDOWS);
        assert!(bucket.is_full(1_000_000));
        // A burst of more than it holds is let in, and made up for.
        assert_eq!(bucket.take(110.0, RATE, true, 1_000_000), 0);
        assert!(!bucket.is_full(1_000_000));
        assert_eq!(bucket.take(1.0, RATE, true, 1_000_000), 12_000);
        assert_eq!(bucket.take(1.0, RATE, true, 1_011_999), 1);
        // At zero it is not overdrawn; one credit below it is, by a fifth of a second.
        assert_eq!(bucket.take(1.0, RATE, true, 1_012_000), 0);
        assert_eq!(bucket.take(1.0, RATE, true, 1_012_000), 200);
        // What was refused was not taken.
        assert_eq!(bucket.take(0.0, RATE, true, 1_012_200), 0);
        // However long it fills, there is no more than fits.
        assert!(!bucket.is_full(1_022_199) && bucket.is_full(1_022_200));
        assert_eq!(bucket.take(51.0, RATE, true, 9_000_000), 0);
        assert_eq!(bucket.take(0.0, RATE, true, 9_000_000), 200);
    }

    #[test]
    fn who_does_not_know_the_error_pauses() {
        let mut bucket = Bucket::new(WINDOWS);
        assert_eq!(bucket.take(50.0, RATE, false, 0), 0);
        assert_eq!(bucket.take(10.0, RATE, false, 0), 2_000);
        assert_eq!(bucket.take(10.0, RATE, false, 1_000), 3_000);
        // Both draw on the same.
        assert_eq!(bucket.take(1.0, RATE, true, 3_999), 1);
        assert_eq!(bucket.take(1.0, RATE, true, 4_000), 0);
    }

    #[test]
    fn another_rate() {
        let mut bucket = Bucket::new(WINDOWS);
        assert_eq!(bucket.take(30.0, RATE, true, 0), 0);
        // Twenty are left, of which a bucket of a fifth of the rate holds ten.
        assert_eq!(bucket.take(11.0, 1.0, true, 0), 0);
        assert_eq!(bucket.take(1.0, 1.0, true, 0), 1_000);
        // Ten times as much a second makes up for it as much earlier.
        assert_eq!(bucket.take(1.0, 10.0, true, 0), 100);
        // Absurd numbers saturate.
        assert_eq!(bucket.take(1e300, 1e-300, false, 0), i64::MAX);
        assert_eq!(bucket.take(1.0, f64::MAX, true, i64::MAX), 0);
    }
}
