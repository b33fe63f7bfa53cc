//! How far back a claim has to look.
//!
//! A job leaves dead entries behind in the indexes of the hot table. Usually the next scan clears them
//! away; while any transaction of the database holds an old snapshot – a backup, a report – nothing can,
//! and a scan from the beginning visits every job that was done since. So a claimer remembers up to
//! when there was nothing left, and starts there. That is a hint: now and then it looks at
//! everything, and finds what appeared before the place it remembered.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

/// A job's `run_at` is the beginning of the transaction that enqueued it: one that takes no longer
/// appears behind the horizon. What took longer is found by the next look at everything.
const LONGEST_ENQUEUE: TimeDelta = TimeDelta::seconds(2);
/// The shortest time between two looks at everything …
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// … how many times as long as it took, because the job that comes meanwhile waits for it: of jobs that
/// come all the time less than one in a hundred shall …
const PAUSE_FACTOR: u32 = 400;
/// … and the longest, which is how long a job may wait whose transaction took very long.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What a claimer remembers of its last look at everything.
#[derive(Debug, Default)]
pub(crate) struct Horizon {
    /// No job of the queue was due before.
    floors: BTreeMap<Arc<str>, DateTime<Utc>>,
    /// No lease ended before that was not seen.
    leases: Option<DateTime<Utc>>,
    /// When a look at everything is affordable again; none: at once.
    next: Option<Instant>,
    /// Whether there was another look, or a claim, after the last look at everything.
    stale: bool,
}

impl Horizon {
    /// Whether the next look is one at everything.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| next <= now)
    }

    /// When a look at everything has to follow; none: nothing has happened since the last.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        self.next.filter(|_| self.stale)
    }

    /// Anything may have happened: the next look is one at everything, and so is every claim before it.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// What is behind the horizon was looked at, in a look that saw the database at `at`. There is
    /// nothing between it and the times given, so that it moves on; how far back leases are to be looked for
    /// stays.
    pub(crate) fn looked_behind(
        &mut self,
        at: DateTime<Utc>,
        queues: impl IntoIterator<Item = (Arc<str>, DateTime<Utc>)>,
    ) {
        let seen = at - LONGEST_ENQUEUE;
        for (queue, nothing_before) in queues {
            if let Some(floor) = self.floors.get_mut(&queue) {
                *floor = nothing_before.min(seen).max(*floor);
            }
        }
        self.stale = true;
    }

    /// Everything was looked at, which took `took` and saw the database at `at`: the queues that are known
    /// to have nothing before a time.
    pub(crate) fn looked_at_everything(
        &mut self,
        at: DateTime<Utc>,
        took: Duration,
        queues: impl IntoIterator<Item = (Arc<str>, DateTime<Utc>)>,
    ) {
        let seen = at - LONGEST_ENQUEUE;
        self.floors = queues
            .into_iter()
            .map(|(queue, nothing_before)| (queue, nothing_before.min(seen)))
            .collect();
        self.leases = Some(at);
        self.next =
            Some(Instant::now() + (took * PAUSE_FACTOR).clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
        self.stale = false;
    }

    /// From where on to look for jobs of a queue; none: from the beginning.
    pub(crate) fn floor(&self, queue: &str) -> Option<DateTime<Utc>> {
        self.floors.get(queue).copied()
    }

    /// From where on to look for the ends of leases.
    pub(crate) fn leases(&self) -> Option<DateTime<Utc>> {
        self.leases
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_floor_is_where_the_queue_began_and_never_in_reach_of_a_transaction_under_way() {
        let mut horizon = Horizon::default();
        assert!(horizon.is_due(Instant::now()));
        let queues = [("empty".into(), at(100)), ("backlog".into(), at(50))];
        horizon.looked_at_everything(at(100), Duration::ZERO, queues);
        assert_eq!(horizon.floor("empty"), Some(at(98)));
        assert_eq!(horizon.floor("backlog"), Some(at(50)));
        assert_eq!(horizon.floor("unknown"), None);
        assert_eq!(horizon.leases(), Some(at(100)));
        horizon.looked_at_everything(at(200), Duration::ZERO, [("empty".into(), at(200))]);
        assert_eq!(horizon.floor("backlog"), None);
        horizon.forget();
        assert_eq!((horizon.floor("empty"), horizon.leases()), (None, None));
        assert!(horizon.is_due(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_floor_moves_on_by_looks_behind_it_and_never_back() {
        let mut horizon = Horizon::default();
        horizon.looked_behind(at(90), [("queue".into(), at(90))]);
        assert_eq!(horizon.floor("queue"), None, "what is before is not known");
        horizon.looked_at_everything(at(100), Duration::ZERO, [("queue".into(), at(100))]);
        for (looked, nothing_before, floor) in [(101, 101, 99), (110, 104, 104), (111, 103, 104)] {
            horizon.looked_behind(at(looked), [("queue".into(), at(nothing_before))]);
            assert_eq!(horizon.floor("queue"), Some(at(floor)));
        }
        assert_eq!(horizon.leases(), Some(at(100)));
    }

    #[tokio::test(start_paused = true)]
    async fn looks_at_everything_are_as_rare_as_they_are_slow_and_stop_when_nothing_happens() {
        let mut horizon = Horizon::default();
        horizon.looked_at_everything(at(0), Duration::from_millis(20), []);
        assert_eq!(horizon.due_at(), None);
        horizon.looked_behind(at(0), []);
        let due_at = horizon.due_at().unwrap();
        assert_eq!(due_at, Instant::now() + Duration::from_secs(8));
        assert!(!horizon.is_due(Instant::now()) && horizon.is_due(due_at));
        for (took, seconds) in [(1, 1), (500, 30)] {
            horizon.looked_at_everything(at(10), Duration::from_millis(took), []);
            horizon.looked_behind(at(10), []);
            assert_eq!(
                horizon.due_at(),
                Some(Instant::now() + Duration::from_secs(seconds))
            );
        }
    }
}
