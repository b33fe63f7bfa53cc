//! Wakes the workers while clients wait for a turn that is silent.
//!
//! The wake-up of a turn's job may have been lost, or its worker died before any other one knew of
//! it. A worker without a fallback poll would find neither by itself; the one who surely knows that
//! something is missing is the client, and so its hub.

use std::time::Duration;

use jobs::{JobKind as _, catalog::TurnProcess};
use parking_lot::Mutex;
use store::bus::Bus;
use tokio::time::Instant;

/// Workers are woken at most this often by a process, however many clients wait.
const SPACING: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Nudge {
    bus: Bus,
    last: Mutex<Option<Instant>>,
}

impl Nudge {
    pub(super) fn new(bus: Bus) -> Self {
        Self {
            bus,
            last: Mutex::default(),
        }
    }

    /// Wakes the workers of turns, unless that was just done.
    pub(super) fn workers(&self) {
        let now = Instant::now();
        let mut last = self.last.lock();
        if last.is_none_or(|last| now.duration_since(last) >= SPACING) {
            *last = Some(now);
            self.bus.jobs_ready(TurnProcess::QUEUE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn workers_are_woken_once_a_second_however_often_it_is_wanted() {
        let bus = Bus::new("test");
        let mut subscription = bus.subscribe();
        let nudge = Nudge::new(bus);
        let mut woken = 0;
        for _ in 0..30 {
            nudge.workers();
            if tokio::time::timeout(Duration::from_millis(99), subscription.wait())
                .await
                .is_ok()
            {
                woken += 1;
                tokio::time::sleep(Duration::from_millis(99)).await;
            }
        }
        // In the first moment, and in each of the 2.97 s behind it.
        assert_eq!(woken, 3);
    }
}
