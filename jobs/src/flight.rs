//! The jobs that this process has claimed and not yet settled.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::{fence::Fence, outcome::Stop};

#[derive(Debug)]
struct Entry {
    queue: Arc<str>,
    stop: Arc<watch::Sender<Option<Stop>>>,
}

#[derive(Debug, Default)]
struct Jobs {
    by_fence: HashMap<Fence, Entry>,
    /// How many there are of each queue: asked for at every wake-up.
    by_queue: HashMap<Arc<str>, usize>,
}

/// Shared by the claimer (adds), the settler (removes) and the renewer (renews and stops).
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    jobs: Mutex<Jobs>,
    /// Told whenever jobs are added or removed.
    pub(crate) changed: Notify,
}

impl InFlight {
    /// Adds a claimed job; returns its stop signal.
    pub(crate) fn add(&self, fence: Fence, queue: &Arc<str>) -> Arc<watch::Sender<Option<Stop>>> {
        let stop = Arc::new(watch::Sender::new(None));
        let entry = Entry {
            queue: Arc::clone(queue),
            stop: Arc::clone(&stop),
        };
        let mut jobs = self.jobs.lock();
        if jobs.by_fence.insert(fence, entry).is_none() {
            *jobs.by_queue.entry(Arc::clone(queue)).or_default() += 1;
        }
        drop(jobs);
        self.changed.notify_waiters();
        stop
    }

    /// Removes settled jobs, all before anybody is told: whoever waits for room finds all of it.
    pub(crate) fn remove(&self, fences: impl IntoIterator<Item = Fence>) {
        let mut jobs = self.jobs.lock();
        for fence in fences {
            if let Some(entry) = jobs.by_fence.remove(&fence)
                && let Some(count) = jobs.by_queue.get_mut(&entry.queue)
            {
                *count -= 1;
            }
        }
        drop(jobs);
        self.changed.notify_waiters();
    }

    pub(crate) fn len(&self) -> usize {
        self.jobs.lock().by_fence.len()
    }

    /// How many jobs are in flight of each queue that ever had one here.
    pub(crate) fn counts(&self) -> Vec<(Arc<str>, usize)> {
        let jobs = self.jobs.lock();
        let counts = jobs.by_queue.iter();
        counts
            .map(|(queue, count)| (Arc::clone(queue), *count))
            .collect()
    }

    /// How many jobs of a queue are in flight.
    pub(crate) fn of_queue(&self, queue: &str) -> usize {
        self.jobs.lock().by_queue.get(queue).copied().unwrap_or(0)
    }

    pub(crate) fn fences(&self) -> Vec<Fence> {
        self.jobs.lock().by_fence.keys().copied().collect()
    }

    /// Tells the handler of one job to stop. The first reason stays, but for a lost lease: nothing
    /// matters more than that.
    pub(crate) fn stop(&self, fence: Fence, reason: Stop) {
        if let Some(entry) = self.jobs.lock().by_fence.get(&fence) {
            send(&entry.stop, reason);
        }
    }

    /// Tells the handler of a job, under whatever lease this process has it, that it was cancelled.
    pub(crate) fn cancel(&self, id: i64) {
        for (fence, entry) in &self.jobs.lock().by_fence {
            if fence.id.0 == id {
                send(&entry.stop, Stop::Cancelled);
            }
        }
    }

    /// Tells every handler to stop.
    pub(crate) fn stop_all(&self, reason: Stop) {
        for entry in self.jobs.lock().by_fence.values() {
            send(&entry.stop, reason);
        }
    }

    /// Returns when nothing is in flight.
    pub(crate) async fn empty(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.len() == 0 {
                return;
            }
            changed.await;
        }
    }
}

fn send(stop: &watch::Sender<Option<Stop>>, reason: Stop) {
    stop.send_if_modified(|current| {
        let stronger =
            current.is_none() || (reason != Stop::Cancelled && *current == Some(Stop::Cancelled));
        if stronger {
            *current = Some(reason);
        }
        stronger
    });
}
