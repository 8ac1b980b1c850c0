//! How much was used a second, over the last windows (`Rate` and `SampledStat` of Kafka's metrics).

use std::collections::VecDeque;

/// `quota.window.num` and `quota.window.size.seconds`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Windows {
    pub count: i64,
    pub size_ms: i64,
}

#[derive(Debug)]
struct Sample {
    start_ms: i64,
    value: f64,
}

/// What was used lately. Times are of a clock that nobody sets.
#[derive(Debug)]
pub(crate) struct Rate {
    windows: Windows,
    samples: VecDeque<Sample>,
}

impl Rate {
    pub(crate) fn new(windows: Windows) -> Self {
        Self { windows, samples: VecDeque::new() }
    }

    /// Counts a use, or takes one back that was not to be.
    pub(crate) fn record(&mut self, value: f64, now_ms: i64) {
        self.expire(now_ms);
        match self.samples.back_mut().filter(|last| now_ms - last.start_ms < self.windows.size_ms) {
            Some(last) => last.value += value,
            None => self.samples.push_back(Sample { start_ms: now_ms, value }),
        }
    }

    /// How long the user must pause for the use to come down to `limit` a second, milliseconds; 0 where it is within.
    pub(crate) fn pause_ms(&mut self, limit: f64, now_ms: i64) -> i64 {
        self.expire(now_ms);
        let total: f64 = self.samples.iter().map(|sample| sample.value).sum();
        let span_ms = self.span_ms(now_ms);
        let rate = total / (span_ms as f64 / 1000.0);
        if rate <= limit {
            return 0;
        }
        // A whole answer to an absurd excess: the cast saturates.
        ((rate - limit) / limit * span_ms as f64).round() as i64
    }

    /// Whether nothing of what was used counts any more.
    pub(crate) fn is_idle(&mut self, now_ms: i64) -> bool {
        self.expire(now_ms);
        self.samples.is_empty()
    }

    /// The time that the samples stand for: all windows but the one under way at least.
    fn span_ms(&self, now_ms: i64) -> i64 {
        let Windows { count, size_ms } = self.windows;
        let passed = self.samples.front().map_or(0, |first| now_ms - first.start_ms);
        let missing = (count - 1 - passed / size_ms).max(0);
        (passed + missing * size_ms).max(size_ms)
    }

    fn expire(&mut self, now_ms: i64) {
        let old = self.windows.count * self.windows.size_ms;
        while self.samples.front().is_some_and(|first| now_ms - first.start_ms >= old) {
            self.samples.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOWS: Windows = Windows { count: 11, size_ms: 1000 };

    #[test]
    fn pauses_bring_the_rate_down() {
        let mut rate = Rate::new(WINDOWS);
        assert_eq!(rate.pause_ms(100.0, 0), 0);
        // Ten seconds' worth at once is within; twice that takes another ten seconds.
        rate.record(1000.0, 0);
        assert_eq!(rate.pause_ms(100.0, 0), 0);
        rate.record(1000.0, 0);
        assert_eq!(rate.pause_ms(100.0, 0), 10_000);
        // Taken back it counts no more.
        rate.record(-1000.0, 10);
        assert_eq!(rate.pause_ms(100.0, 10), 0);
        // A steady user of twice the limit is slowed by as much as it was too fast.
        let mut rate = Rate::new(WINDOWS);
        (0..100).for_each(|tenth| rate.record(20.0, tenth * 100));
        let pause = rate.pause_ms(100.0, 9_900);
        assert!((9_000..=11_000).contains(&pause), "{pause}");
        // After a rest there is nothing to make good for.
        assert_eq!(rate.pause_ms(100.0, 30_000), 0);
        assert!(rate.is_idle(30_000));
    }
}
