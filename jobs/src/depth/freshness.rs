//! When the figures of the queue are read again.

use std::time::Duration;

use tokio::time::Instant;

use crate::sql::Depth;

/// The shortest time between two reads, however many scrape …
const SHORTEST_PAUSE: Duration = Duration::from_secs(2);
/// … and how many times as long as the last one took: counting a long queue costs no more than 5 % of
/// the time.
const PAUSE_FACTOR: u32 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The last figures still hold, or are young enough.
    Nothing,
    /// A read is under way.
    Wait,
    Read,
}

/// What the last read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// Nothing that changes by itself.
    Resting,
    /// Jobs that run or are due.
    Moving,
    /// No database.
    Failed,
}

/// Decides when the figures are read again.
#[derive(Debug)]
pub(super) struct Freshness {
    /// Something happened since the last read began.
    pub(super) changed: bool,
    pub(super) last: Last,
    /// When the first of the scheduled jobs that were seen is due.
    due_at: Option<Instant>,
    not_before: Option<Instant>,
    pub(super) under_way: bool,
}

impl Default for Freshness {
    fn default() -> Self {
        Self {
            changed: true,
            last: Last::Resting,
            due_at: None,
            not_before: None,
            under_way: false,
        }
    }
}

impl Freshness {
    /// What a scrape has to do; the caller does it.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        if self.under_way {
            return Next::Wait;
        }
        let became_due = self.due_at.is_some_and(|due_at| due_at <= now);
        let rests = self.not_before.is_some_and(|not_before| now < not_before);
        if rests || !(self.changed || self.last == Last::Moving || became_due) {
            return Next::Nothing;
        }
        self.changed = false;
        self.under_way = true;
        Next::Read
    }

    pub(super) fn succeeded(&mut self, begun: Instant, depths: &[Depth]) {
        let now = Instant::now();
        self.last = if depths.iter().any(Depth::is_moving) {
            Last::Moving
        } else {
            Last::Resting
        };
        let due_in = depths.iter().filter_map(|depth| depth.due_in).min();
        self.due_at = due_in.and_then(|wait| now.checked_add(wait));
        self.not_before = Some(now + SHORTEST_PAUSE.max((now - begun) * PAUSE_FACTOR));
    }

    pub(super) fn failed(&mut self) {
        self.changed = true;
        self.last = Last::Failed;
        self.not_before = Some(Instant::now() + SHORTEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depth(queue: &str) -> Depth {
        Depth {
            queue: queue.to_owned(),
            paused: false,
            ready: 0.0,
            scheduled: 0.0,
            blocked: 0.0,
            running: 0.0,
            oldest: Duration::ZERO,
            due_in: None,
        }
    }

    async fn read(freshness: &mut Freshness, depths: &[Depth]) {
        assert_eq!(freshness.next(Instant::now()), Next::Read);
        freshness.succeeded(Instant::now(), depths);
        freshness.under_way = false;
        tokio::time::advance(SHORTEST_PAUSE).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_rests_is_read_once_and_again_after_something_happened() {
        let mut freshness = Freshness::default();
        let blocked = Depth {
            blocked: 3.0,
            ..depth("a")
        };
        read(&mut freshness, &[blocked]).await;
        assert_eq!(freshness.next(Instant::now()), Next::Nothing);
        freshness.changed = true;
        read(&mut freshness, &[]).await;
        assert_eq!(freshness.next(Instant::now()), Next::Nothing);
    }

    #[tokio::test(start_paused = true)]
    async fn due_and_running_jobs_are_watched_but_not_the_due_ones_of_a_paused_queue() {
        let ready = Depth {
            ready: 1.0,
            ..depth("a")
        };
        let overdue = Depth {
            oldest: Duration::from_secs(1),
            ..depth("a")
        };
        let running = Depth {
            running: 1.0,
            paused: true,
            ..depth("a")
        };
        for moving in [ready.clone(), overdue, running] {
            let mut freshness = Freshness::default();
            read(&mut freshness, &[depth("b"), moving]).await;
            assert_eq!(freshness.next(Instant::now()), Next::Read);
        }
        let mut freshness = Freshness::default();
        read(
            &mut freshness,
            &[Depth {
                paused: true,
                ..ready
            }],
        )
        .await;
        assert_eq!(freshness.next(Instant::now()), Next::Nothing);
    }

    #[tokio::test(start_paused = true)]
    async fn a_scheduled_job_is_looked_at_when_it_has_become_due() {
        let later = |seconds| Depth {
            scheduled: 1.0,
            due_in: Some(Duration::from_secs(seconds)),
            ..depth("a")
        };
        let mut freshness = Freshness::default();
        read(&mut freshness, &[later(3600), later(60)]).await;
        assert_eq!(freshness.next(Instant::now()), Next::Nothing);
        tokio::time::advance(Duration::from_mins(1)).await;
        read(&mut freshness, &[]).await;
        assert_eq!(freshness.next(Instant::now()), Next::Nothing);
    }

    #[tokio::test(start_paused = true)]
    async fn many_scrapes_cost_one_read_and_a_slow_read_is_a_rare_one() {
        let mut freshness = Freshness::default();
        assert_eq!(freshness.next(Instant::now()), Next::Read);
        assert_eq!(freshness.next(Instant::now()), Next::Wait);
        let begun = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        freshness.succeeded(
            begun,
            &[Depth {
                ready: 1.0,
                ..depth("a")
            }],
        );
        freshness.under_way = false;
        tokio::time::advance(Duration::from_secs(19)).await;
        assert_eq!(freshness.next(Instant::now()), Next::Nothing);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(freshness.next(Instant::now()), Next::Read);
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_failed_is_repeated_after_a_pause() {
        let mut freshness = Freshness::default();
        assert_eq!(freshness.next(Instant::now()), Next::Read);
        freshness.failed();
        freshness.under_way = false;
        assert_eq!(freshness.next(Instant::now()), Next::Nothing);
        tokio::time::advance(SHORTEST_PAUSE).await;
        assert_eq!(freshness.next(Instant::now()), Next::Read);
    }
}
