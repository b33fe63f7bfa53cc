//! What was spent, for whoever scrapes the metrics, and a warning before a month becomes too dear.
//!
//! The sums are the database's, the same for all processes. They are read on a scrape, and while calls are
//! made once a minute, so that the warning needs no scrape; and only when turns have moved since the last
//! read: a Prometheus that asks every few seconds must not keep a serverless database awake. A month that
//! ends is known without asking.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use chrono::NaiveDate;
use futures::FutureExt;
use parking_lot::Mutex;
use sqlx::PgPool;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::{Spent, Usd, spent};
use crate::bus::{Bus, Subscription};

/// How long a scrape waits for a read. The read goes on, for the next scrape.
const ANSWER_LIMIT: Duration = Duration::from_millis(900);
/// How long a read may take.
const READ_LIMIT: Duration = Duration::from_secs(30);
/// The shortest time between two reads, however many scrape.
const SHORTEST_PAUSE: Duration = Duration::from_secs(2);
/// The shortest time between two reads that nobody scraped for.
const GLANCE_PAUSE: Duration = Duration::from_mins(1);
/// The percentage of the monthly cap from which on the month is near it.
const NEAR: i64 = 80;

/// Exports `growth_chat_llm_cost_month_usd`, and once the cap is known `growth_chat_llm_cost_cap_usd` and
/// `growth_chat_llm_cost_near_cap`. Clones share what was read.
#[derive(Debug, Clone)]
pub struct SpendFigures {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pool: PgPool,
    bus: Bus,
    cap: OnceLock<Usd>,
    state: Mutex<State>,
    read_ended: Notify,
}

#[derive(Debug)]
struct State {
    wakes: Subscription,
    /// Turns have moved since the last read began.
    changed: bool,
    under_way: bool,
    failed: bool,
    last: Option<(Instant, Spent)>,
    not_before: Option<Instant>,
    glanced: Option<Instant>,
    /// The month that was warned of.
    warned: Option<NaiveDate>,
}

impl SpendFigures {
    /// The figures of a database; nothing is read before the first scrape.
    pub fn new(pool: PgPool, bus: &Bus) -> Self {
        Self {
            inner: Arc::new(Inner {
                pool,
                bus: bus.clone(),
                cap: OnceLock::new(),
                state: Mutex::new(State::new(bus.subscribe())),
                read_ended: Notify::new(),
            }),
        }
    }

    /// What a month may cost. Said once.
    pub fn set_monthly_cap(&self, cap: Usd) {
        let _ = self.inner.cap.set(cap);
    }

    /// Brings the gauges up to date. Takes no longer than a second, whatever the database does: then the
    /// last known figures stay.
    pub async fn refresh(&self) {
        let inner = &self.inner;
        let ended = inner.read_ended.notified();
        tokio::pin!(ended);
        // From here on the end of a read is noticed, that of one which is under way too.
        ended.as_mut().enable();
        let asleep = !inner.bus.is_listening() && !inner.bus.is_awake();
        let (wait, read) = inner.state.lock().next(Instant::now(), asleep);
        if read {
            self.read();
        }
        if wait || read {
            // Too late is no failure: the read goes on.
            let _ = timeout(ANSWER_LIMIT, ended).await;
        }
        inner.export();
    }

    /// A call of the model is about to be made: looks after the month, seldom, and keeps nobody waiting.
    pub fn glance(&self) {
        let begins = self.inner.state.lock().glance(Instant::now());
        if begins {
            self.read();
        }
    }

    /// It outlives a scrape that was given up.
    fn read(&self) {
        tokio::spawn(Reading(Arc::clone(&self.inner)).run());
    }
}

impl State {
    fn new(wakes: Subscription) -> Self {
        Self {
            wakes,
            changed: true,
            under_way: false,
            failed: false,
            last: None,
            not_before: None,
            glanced: None,
            warned: None,
        }
    }

    /// Whether a scrape waits for a read that is under way, and whether it begins one.
    fn next(&mut self, now: Instant, asleep: bool) -> (bool, bool) {
        if let Some(wake) = self.wakes.wait().now_or_never() {
            self.changed |= wake.rescan || !wake.turns.is_empty();
        }
        if self.under_way {
            return (true, false);
        }
        // A scrape is no reason to wake a database that sleeps.
        let wanted = (self.changed || self.failed) && !(asleep && self.last.is_some());
        (false, wanted && self.begin(now))
    }

    /// Whether a call begins a read.
    fn glance(&mut self, now: Instant) -> bool {
        let due = self
            .glanced
            .is_none_or(|glanced| now.duration_since(glanced) >= GLANCE_PAUSE);
        if due {
            self.glanced = Some(now);
        }
        due && self.begin(now)
    }

    /// Begins a read, unless the last one is young.
    fn begin(&mut self, now: Instant) -> bool {
        if self.under_way || self.not_before.is_some_and(|not_before| now < not_before) {
            return false;
        }
        self.changed = false;
        self.under_way = true;
        true
    }

    /// Whether the month is near its cap; true once for a process and a month.
    fn becomes_near(&mut self, spent: Spent, cap: Usd) -> bool {
        let news = is_near(spent.month, cap) && self.warned != Some(spent.since);
        if news {
            self.warned = Some(spent.since);
        }
        news
    }

    /// What was spent in the month that is now; `None`: nobody knows.
    fn month(&self, now: Instant) -> Option<Usd> {
        let (read_at, spent) = self.last?;
        let ended = now.duration_since(read_at) >= spent.ends_in;
        Some(if ended { Usd::ZERO } else { spent.month })
    }
}

/// A read that is under way.
struct Reading(Arc<Inner>);

impl Reading {
    async fn run(self) {
        let inner = &self.0;
        let read = async { spent(&mut *inner.pool.acquire().await?).await };
        let read = timeout(READ_LIMIT, read).await;
        let mut state = inner.state.lock();
        let now = Instant::now();
        state.not_before = Some(now + SHORTEST_PAUSE);
        match read.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
            Ok(spent) => {
                state.failed = false;
                state.last = Some((now, spent));
                if let Some(cap) = inner.cap.get()
                    && state.becomes_near(spent, *cap)
                {
                    tracing::warn!(
                        spent = %spent.month,
                        cap = %cap,
                        "what the model cost this month is near MONTHLY_COST_CAP_USD"
                    );
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut state.failed, true) {
                    tracing::warn!(error = %error, "what the model cost could not be read");
                }
            }
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.state.lock().under_way = false;
        self.0.read_ended.notify_waiters();
    }
}

fn is_near(spent: Usd, cap: Usd) -> bool {
    let percent = |amount: Usd, of: i64| i128::from(amount.units()) * i128::from(of);
    percent(spent, 100) >= percent(cap, NEAR)
}

impl Inner {
    fn export(&self) {
        let Some(month) = self.state.lock().month(Instant::now()) else {
            return;
        };
        metrics::gauge!("growth_chat_llm_cost_month_usd").set(month.as_f64());
        if let Some(cap) = self.cap.get() {
            metrics::gauge!("growth_chat_llm_cost_cap_usd").set(cap.as_f64());
            let near = f64::from(u8::from(is_near(month, *cap)));
            metrics::gauge!("growth_chat_llm_cost_near_cap").set(near);
        }
    }
}

#[cfg(test)]
mod tests;
