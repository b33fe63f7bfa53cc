//! Whether the machine itself stood still: what a failed promise about time is to be judged by.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const TICK: Duration = Duration::from_millis(20);

/// A thread that does nothing but look at the clock, until it is dropped.
pub(crate) struct Stillness {
    longest: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl Stillness {
    pub(crate) fn watch() -> Self {
        let longest = Arc::new(AtomicU64::new(0));
        let ended = Arc::new(AtomicBool::new(false));
        let (seen, end) = (Arc::clone(&longest), Arc::clone(&ended));
        thread::spawn(move || {
            let mut last = Instant::now();
            while !end.load(Ordering::Relaxed) {
                thread::sleep(TICK);
                let late = last.elapsed().saturating_sub(TICK);
                last = Instant::now();
                seen.fetch_max(
                    u64::try_from(late.as_millis()).unwrap_or(u64::MAX),
                    Ordering::Relaxed,
                );
            }
        });
        Self { longest, ended }
    }

    /// The longest time in which a thread that wanted to run did not.
    pub(crate) fn longest(&self) -> Duration {
        Duration::from_millis(self.longest.load(Ordering::Relaxed))
    }
}

impl Drop for Stillness {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}
