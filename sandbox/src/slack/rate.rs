//! How fast messages may come in one channel. A pure function of the times at which they come, so
//! that it can be tried without waiting.

use std::time::Duration;

/// The rule: one message each so often, and some ahead of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PostRate {
    /// One message in this time. Slack: about a second.
    pub each: Duration,
    /// So many may come at once after a pause, at least 1. Slack allows short bursts.
    pub burst: u32,
    /// Whether what comes too fast is refused with 429; otherwise it is only counted.
    pub refuses: bool,
}

impl Default for PostRate {
    /// What Slack documents, counted and not refused.
    fn default() -> Self {
        Self {
            each: Duration::from_secs(1),
            burst: 3,
            refuses: false,
        }
    }
}

/// What is remembered of a channel: until when the messages so far fill the rate (GCRA).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Meter {
    full_until: Duration,
}

impl Meter {
    /// Counts a message at `now` (since whatever beginning), if it is not too early. If it is: how long
    /// until it would not be.
    pub(super) fn take(&mut self, now: Duration, rate: PostRate) -> Result<(), Duration> {
        let ahead = self.full_until.saturating_sub(now);
        let allowed = rate.each * rate.burst.saturating_sub(1);
        let early = ahead.saturating_sub(allowed);
        if !early.is_zero() {
            return Err(early);
        }
        self.full_until = self.full_until.max(now) + rate.each;
        Ok(())
    }

    /// Counts a message that is taken although it is too early.
    pub(super) fn take_early(&mut self, rate: PostRate) {
        self.full_until += rate.each;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_taken_and_then_one_message_each_second() {
        let rate = PostRate {
            burst: 2,
            ..PostRate::default()
        };
        let mut meter = Meter::default();
        let at = Duration::from_millis;
        assert_eq!(meter.take(at(10_000), rate), Ok(()));
        assert_eq!(meter.take(at(10_000), rate), Ok(()));
        assert_eq!(meter.take(at(10_000), rate), Err(at(1_000)));
        assert_eq!(meter.take(at(10_400), rate), Err(at(600)));
        assert_eq!(meter.take(at(11_000), rate), Ok(()));
        assert_eq!(meter.take(at(60_000), rate), Ok(()));
    }
}
