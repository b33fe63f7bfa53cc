//! Whether anybody in this process needs to hear of other processes.
//!
//! A database that nobody uses may be suspended by its host, which cuts the LISTEN connection. To
//! reconnect would wake it, and again after every suspension. So a connection that is lost while
//! there is no demand stays lost until there is: that is the *dormant* state.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

/// Whoever knew of what is due has had the time to see to it.
const MARGIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Demand {
    /// The process polls anyway: it keeps the database awake, and hears of others at once for it.
    always: AtomicBool,
    interests: AtomicUsize,
    /// Something has happened since LISTEN was last known to stand.
    roused: AtomicBool,
    changed: Notify,
    /// When something was last done here, and when something is due next.
    activity: Mutex<Activity>,
}

#[derive(Debug, Clone, Copy)]
struct Activity {
    last: Instant,
    due: Option<Instant>,
}

impl Default for Demand {
    fn default() -> Self {
        Self {
            always: AtomicBool::new(false),
            interests: AtomicUsize::new(0),
            // A process that starts wants to hear of the others.
            roused: AtomicBool::new(true),
            changed: Notify::new(),
            activity: Mutex::new(Activity {
                last: Instant::now(),
                due: None,
            }),
        }
    }
}

impl Demand {
    pub(super) fn be_constant(&self) {
        self.always.store(true, SeqCst);
        self.changed.notify_waiters();
    }

    pub(super) fn rouse(&self) {
        if !self.roused.swap(true, SeqCst) {
            self.changed.notify_waiters();
        }
    }

    /// LISTEN stands: what roused is done with.
    pub(super) fn is_met(&self) {
        self.roused.store(false, SeqCst);
    }

    pub(super) fn exists(&self) -> bool {
        self.always.load(SeqCst) || self.is_busy() || self.is_roused()
    }

    fn is_busy(&self) -> bool {
        self.interests.load(SeqCst) > 0
    }

    fn is_roused(&self) -> bool {
        self.roused.load(SeqCst)
    }

    /// Waits until LISTEN is needed.
    pub(super) async fn awaken(&self) {
        self.until(Self::exists).await;
    }

    /// Waits for [`Self::rouse`].
    pub(super) async fn roused(&self) {
        self.until(Self::is_roused).await;
    }

    /// Waits for an [`Interest`].
    pub(super) async fn busy(&self) {
        self.until(Self::is_busy).await;
    }

    /// Something was done here.
    pub(super) fn touch(&self) {
        self.activity.lock().last = Instant::now();
    }

    /// Something is due here at this time, as far as is known.
    pub(super) fn expect(&self, due: Option<Instant>) {
        self.activity.lock().due = due;
    }

    /// Returns once nothing was done for so long, and nothing is due within as long.
    pub(super) async fn idle_for(&self, window: Duration) {
        while let Some(until) = self.active_until(window, Instant::now()) {
            tokio::time::sleep_until(until).await;
        }
    }

    fn active_until(&self, window: Duration, now: Instant) -> Option<Instant> {
        let Activity { last, due } = *self.activity.lock();
        if self.is_busy() {
            return Some(now + window);
        }
        let rested = last + window;
        if rested > now {
            return Some(rested);
        }
        let seen_to = due? + MARGIN;
        (seen_to > now && seen_to <= now + window + MARGIN).then_some(seen_to)
    }

    async fn until(&self, condition: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            if condition(self) {
                return;
            }
            changed.await;
        }
    }
}

/// Says, for as long as it exists, that this process waits for others: its LISTEN connection is
/// made again whenever it is lost, and looked after when it is silent.
#[derive(Debug)]
#[must_use = "the interest ends when it is dropped"]
pub struct Interest(Arc<Demand>);

impl Interest {
    pub(super) fn new(demand: &Arc<Demand>) -> Self {
        demand.interests.fetch_add(1, SeqCst);
        demand.changed.notify_waiters();
        Self(Arc::clone(demand))
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        self.0.touch();
        self.0.interests.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn there_is_demand_at_the_start_and_afterwards_only_with_a_reason() {
        let demand = Arc::new(Demand::default());
        assert!(demand.exists());
        demand.is_met();
        assert!(!demand.exists());
        let (one, two) = (Interest::new(&demand), Interest::new(&demand));
        drop(one);
        assert!(demand.exists());
        drop(two);
        assert!(!demand.exists());
        demand.rouse();
        assert!(demand.exists());
        demand.is_met();
        demand.be_constant();
        assert!(demand.exists());
    }

    const WINDOW: Duration = Duration::from_mins(5);

    /// How long it takes until it has been idle for the window.
    async fn idle_after(demand: &Demand) -> Duration {
        let begun = Instant::now();
        demand.idle_for(WINDOW).await;
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_idle_when_nothing_was_done_for_long() {
        let demand = Arc::new(Demand::default());
        tokio::time::sleep(Duration::from_secs(100)).await;
        demand.touch();
        assert_eq!(idle_after(&demand).await, WINDOW);
        assert_eq!(idle_after(&demand).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_not_idle_while_somebody_waits_and_for_long_afterwards() {
        let demand = Arc::new(Demand::default());
        let interest = Interest::new(&demand);
        let lasts = Duration::from_secs(1_000);
        tokio::spawn(async move {
            tokio::time::sleep(lasts).await;
            drop(interest);
        });
        assert_eq!(idle_after(&demand).await, lasts + WINDOW);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_soon_is_waited_for_and_what_is_due_late_is_not() {
        for (due, expected) in [
            (Duration::from_secs(299), WINDOW),
            (
                WINDOW + Duration::from_secs(10),
                WINDOW + Duration::from_secs(10) + MARGIN,
            ),
            (WINDOW * 2, WINDOW * 2 + MARGIN),
            (WINDOW * 2 + MARGIN, WINDOW),
        ] {
            let demand = Arc::new(Demand::default());
            demand.expect(Some(Instant::now() + due));
            assert_eq!(idle_after(&demand).await, expected, "{due:?}");
        }
    }

    #[test]
    fn whoever_waits_for_demand_is_told() {
        for reason in 0..3 {
            let demand = Arc::new(Demand::default());
            demand.is_met();
            let waiting = demand.awaken();
            tokio::pin!(waiting);
            assert!(waiting.as_mut().now_or_never().is_none());
            let _interest = match reason {
                0 => Some(Interest::new(&demand)),
                1 => {
                    demand.rouse();
                    None
                }
                _ => {
                    demand.be_constant();
                    None
                }
            };
            assert!(waiting.now_or_never().is_some());
        }
    }
}
