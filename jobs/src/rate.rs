//! How often jobs may start that share a key: a token bucket, kept as two times.
//!
//! The generic cell rate algorithm: instead of a count that has to be topped up, the time at which
//! the bucket will be full again says how many tokens are in it now.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// Whoever comes too early by less than this part of the interval waits where they are.
const A_MOMENT: i32 = 4;

/// A rate, as a token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// A token comes back each time this has passed.
    pub every: Duration,
    /// Tokens of a full bucket: starts at once after a pause. At least 1.
    pub burst: u32,
}

/// The state of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// When it will be full again.
    pub(crate) full_at: DateTime<Utc>,
    /// The last time that a job was told to come again at: the next is sent behind it.
    pub(crate) deferred_until: DateTime<Utc>,
}

/// Whether a job may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It has taken a token.
    Run,
    /// It may ask again at this time. Nothing is reserved for it: what started late must not make
    /// others start too close to it.
    Wait(DateTime<Utc>),
}

impl Bucket {
    pub(crate) fn full(now: DateTime<Utc>) -> Self {
        Self {
            full_at: now,
            deferred_until: now,
        }
    }
}

impl Rate {
    /// One start each `every`, and no bursts.
    pub const fn one_each(every: Duration) -> Self {
        Self { every, burst: 1 }
    }

    /// Takes a token at `now`, if there is one.
    pub(crate) fn take(self, bucket: &mut Bucket, now: DateTime<Utc>) -> Decision {
        let every = TimeDelta::from_std(self.every).unwrap_or(TimeDelta::MAX);
        let spare = every
            .checked_mul(i32::try_from(self.burst.saturating_sub(1)).unwrap_or(i32::MAX))
            .unwrap_or(TimeDelta::MAX);
        // The bucket has a token from here on.
        let free_at = bucket
            .full_at
            .checked_sub_signed(spare)
            .unwrap_or(DateTime::<Utc>::MIN_UTC);
        let after = |time: DateTime<Utc>| {
            time.checked_add_signed(every)
                .unwrap_or(DateTime::<Utc>::MAX_UTC)
        };
        if free_at <= now {
            bucket.full_at = after(bucket.full_at.max(now));
            return Decision::Run;
        }
        // It came when it was told to, and the start before it was a moment late: it keeps its place. At
        // the end of a long line it would leave its token to nobody.
        if free_at - now <= every / A_MOMENT {
            bucket.deferred_until = bucket.deferred_until.max(free_at);
            return Decision::Wait(free_at);
        }
        let at = if bucket.deferred_until > now {
            free_at.max(after(bucket.deferred_until))
        } else {
            free_at
        };
        bucket.deferred_until = at;
        Decision::Wait(at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn at(milliseconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_700_000_000_000 + milliseconds).unwrap()
    }

    #[test]
    fn a_full_bucket_gives_its_burst_at_once_and_then_one_token_each_interval() {
        let rate = Rate {
            every: Duration::from_secs(1),
            burst: 2,
        };
        let mut bucket = Bucket::full(at(0));
        let decisions: Vec<_> = (0..4).map(|_| rate.take(&mut bucket, at(0))).collect();
        assert_eq!(
            decisions,
            [
                Decision::Run,
                Decision::Run,
                Decision::Wait(at(1_000)),
                Decision::Wait(at(2_000)),
            ]
        );
        assert_eq!(rate.take(&mut bucket, at(1_000)), Decision::Run);
        assert_eq!(rate.take(&mut bucket, at(1_000)), Decision::Wait(at(3_000)));
    }

    #[test]
    fn figures_without_end_neither_panic_nor_let_everything_through() {
        let rate = Rate {
            every: Duration::MAX,
            burst: u32::MAX,
        };
        let mut bucket = Bucket::full(DateTime::<Utc>::MAX_UTC);
        rate.take(&mut bucket, at(0));
        let rate = Rate::one_each(Duration::MAX);
        let mut bucket = Bucket::full(at(0));
        assert_eq!(rate.take(&mut bucket, at(0)), Decision::Run);
        assert!(matches!(rate.take(&mut bucket, at(1)), Decision::Wait(_)));
    }

    proptest! {
        /// Wake-ups and claims take their time: a start is late, and those behind it come too early.
        #[test]
        fn a_long_line_is_worked_off_at_the_rate_although_each_start_is_a_little_late(
            burst in 1..3_u32,
            late in vec(0..10_i64, 400),
        ) {
            let rate = Rate { every: Duration::from_secs(1), burst };
            let mut bucket = Bucket::full(at(0));
            let mut waiting: Vec<DateTime<Utc>> = vec![at(0); 200];
            let mut late = late.into_iter().cycle().map(TimeDelta::milliseconds);
            let mut last = at(0);
            while let Some(next) = waiting.iter().min().copied() {
                let place = waiting.iter().position(|time| *time == next).unwrap();
                last = last.max(next + late.next().unwrap());
                match rate.take(&mut bucket, last) {
                    Decision::Run => {
                        waiting.swap_remove(place);
                    }
                    Decision::Wait(until) => waiting[place] = until,
                }
            }
            let seconds = (last - at(0)).num_seconds();
            prop_assert!(seconds <= 210, "{seconds} s for 200 jobs, one a second");
        }

        #[test]
        fn no_window_has_more_starts_than_its_length_and_the_burst_allow(
            every in 1..500_i64,
            burst in 1..5_u32,
            pauses in vec(0..400_i64, 1..60),
        ) {
            let rate = Rate { every: Duration::from_millis(u64::try_from(every).unwrap()), burst };
            let mut bucket = Bucket::full(at(0));
            let (mut now, mut starts) = (0, Vec::new());
            for pause in pauses {
                now += pause;
                match rate.take(&mut bucket, at(now)) {
                    Decision::Run => starts.push(now),
                    Decision::Wait(until) => prop_assert!(until > at(now)),
                }
            }
            for (i, from) in starts.iter().enumerate() {
                for (count, to) in (1_i64..).zip(&starts[i..]) {
                    prop_assert!(count <= i64::from(burst) + (to - from) / every);
                }
            }
        }

        #[test]
        fn jobs_that_come_again_when_they_were_told_to_all_start_and_none_twice_as_late(
            every in 1..500_i64,
            burst in 1..5_u32,
            jobs in 1..40_i64,
        ) {
            let rate = Rate { every: Duration::from_millis(u64::try_from(every).unwrap()), burst };
            let mut bucket = Bucket::full(at(0));
            let mut waiting: Vec<DateTime<Utc>> = (0..jobs).map(|_| at(0)).collect();
            let mut last = at(0);
            while let Some(next) = waiting.iter().min().copied() {
                let place = waiting.iter().position(|time| *time == next).unwrap();
                match rate.take(&mut bucket, next) {
                    Decision::Run => {
                        waiting.swap_remove(place);
                        last = next;
                    }
                    Decision::Wait(until) => waiting[place] = until,
                }
            }
            let behind_the_burst = (jobs - i64::from(burst)).max(0);
            prop_assert_eq!(last, at(behind_the_burst * every));
        }
    }
}
