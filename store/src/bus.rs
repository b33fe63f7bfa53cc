//! The wake-up bus: tells this process and every other one that there is something to look at.
//!
//! A signal carries keys, never content, and is only a hint: whoever gets it reads the tables. It
//! is sent after the commit. Subscribers in the same process get it at once; for the others a task
//! of its own issues one NOTIFY, and what piles up while that is under way goes with the next one.
//! A second task keeps the process's one LISTEN connection; whenever that was lost and is back,
//! every subscriber is told to look at everything. A process in which nobody needs it lets a lost
//! connection be, until [`Bus::rouse`] or an [`Interest`] ([`demand`]).
//!
//! A pooler takes a LISTEN without an error and brings nothing. So the process notifies itself once,
//! whenever it listens anew: what does not come back is not hidden by the poll ([`Deaf`]).

mod demand;
mod listener;
mod wake;

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use sqlx::PgPool;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use self::demand::Demand;
pub use self::{demand::Interest, listener::Deaf, wake::Wake};
use crate::db::Database;

/// The NOTIFY channel.
const CHANNEL: &str = "growth_chat";
/// The shortest time between two NOTIFYs of a process: each takes a lock of the whole database.
const NOTIFY_SPACING: Duration = Duration::from_millis(4);

#[derive(Debug, Default)]
struct Mailbox {
    wake: Mutex<Wake>,
    arrived: Notify,
}

impl Mailbox {
    fn post(&self, wake: &Wake) {
        self.wake.lock().merge(wake);
        self.arrived.notify_one();
    }

    async fn take(&self) -> Wake {
        loop {
            let wake = std::mem::take(&mut *self.wake.lock());
            if !wake.is_empty() {
                return wake;
            }
            self.arrived.notified().await;
        }
    }
}

/// The bus of a process. Clones share it. Without [`Bus::run`] it reaches this process only.
#[derive(Debug, Clone)]
pub struct Bus {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Marks this process's own NOTIFYs: its subscribers have been told already.
    name: String,
    subscribers: Mutex<Vec<Weak<Mailbox>>>,
    outgoing: Mailbox,
    listening: AtomicBool,
    deaf: AtomicBool,
    deaf_from_the_start: CancellationToken,
    demand: Arc<Demand>,
    silence: Duration,
}

/// One subscriber's end of the bus.
#[derive(Debug)]
pub struct Subscription {
    mailbox: Arc<Mailbox>,
}

impl Subscription {
    /// Waits until there is something to look at, and takes all of it. May be dropped half-way.
    pub async fn wait(&mut self) -> Wake {
        self.mailbox.take().await
    }
}

impl Bus {
    /// A bus; `name` is unique among the processes of a database and has no line break.
    pub fn new(name: impl Into<String>) -> Self {
        Self::with_silence(name, listener::SILENCE)
    }

    /// The same, which asks a LISTEN connection that somebody waits at whether it is still there
    /// when it has been silent for this long.
    pub fn with_silence(name: impl Into<String>, silence: Duration) -> Self {
        let inner = Inner {
            name: name.into(),
            subscribers: Mutex::default(),
            outgoing: Mailbox::default(),
            listening: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
            deaf_from_the_start: CancellationToken::new(),
            demand: Arc::default(),
            silence,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Whether the LISTEN connection is up; while it is not, signals of other processes are missed
    /// and healed by a rescan when it is back.
    pub fn is_listening(&self) -> bool {
        self.inner.listening.load(Ordering::Relaxed)
    }

    /// Whether the LISTEN connection stood when it was last tried, and brought nothing.
    pub fn is_deaf(&self) -> bool {
        self.inner.deaf.load(Ordering::Relaxed)
    }

    /// Returns once it is known that notifications do not arrive, if none ever has: whoever started this
    /// process has to change its configuration. While the database is away nothing is known.
    pub async fn deaf_from_the_start(&self) -> Deaf {
        self.inner.deaf_from_the_start.cancelled().await;
        Deaf
    }

    /// Whether a LISTEN connection that is lost now would be made again at once.
    pub fn is_awake(&self) -> bool {
        self.inner.demand.exists()
    }

    /// This process waits for others for as long as the guard exists, and hears of them.
    pub fn interest(&self) -> Interest {
        Interest::new(&self.inner.demand)
    }

    /// From now on a lost LISTEN connection is always made again: for a process that polls, and so
    /// never lets the database sleep.
    pub fn stay_awake(&self) {
        self.inner.demand.be_constant();
    }

    /// The database is used, or is about to be: a LISTEN connection that was let be is made again.
    /// Cheap enough for every request.
    pub fn rouse(&self) {
        self.inner.demand.rouse();
    }

    /// Something was done here for somebody: a request was served, say.
    pub fn touch(&self) {
        self.inner.demand.touch();
    }

    /// Something is due here at this time, as far as is known.
    pub fn expect(&self, due: Option<Instant>) {
        self.inner.demand.expect(due);
    }

    /// Returns once this process has been idle for so long: there was no [`Interest`], nothing was done
    /// ([`Bus::touch`]), and nothing is expected within as long again.
    pub async fn idle_for(&self, window: Duration) {
        self.inner.demand.idle_for(window).await;
    }

    /// Somebody outside says that there is something to do: this process looks at everything.
    pub fn look_at_everything(&self) {
        self.touch();
        self.rouse();
        self.tell_subscribers(&Wake {
            rescan: true,
            ..Wake::default()
        });
    }

    /// Jobs may be ready in `queue`. Call it after the commit.
    pub fn jobs_ready(&self, queue: &str) {
        self.publish(&Wake {
            queues: [queue.to_owned()].into(),
            ..Wake::default()
        });
    }

    /// This process took leases: its peers watch their end.
    pub fn announce_leases(&self) {
        self.rouse();
        self.inner.outgoing.post(&Wake {
            leases: true,
            ..Wake::default()
        });
    }

    /// Tells everything in `wake` to this process and the others. Call it after the commit.
    pub fn publish(&self, wake: &Wake) {
        if !wake.is_empty() {
            self.rouse();
            self.tell_subscribers(wake);
            self.inner.outgoing.post(wake);
        }
    }

    /// A subscription to everything, from now on.
    pub fn subscribe(&self) -> Subscription {
        let mailbox = Arc::new(Mailbox::default());
        let mut subscribers = self.inner.subscribers.lock();
        subscribers.retain(|subscriber| subscriber.strong_count() > 0);
        subscribers.push(Arc::downgrade(&mailbox));
        Subscription { mailbox }
    }

    fn tell_subscribers(&self, wake: &Wake) {
        for subscriber in self
            .inner
            .subscribers
            .lock()
            .iter()
            .filter_map(Weak::upgrade)
        {
            subscriber.post(wake);
        }
    }

    /// Carries signals to and from other processes until `shutdown`; reconnects for ever. What was
    /// published before the shutdown is still sent: others wait for the work that was handed back.
    pub async fn run(&self, database: &Database, shutdown: CancellationToken) {
        let notifying = self.notify(database.hot(), &shutdown);
        let listening = shutdown.run_until_cancelled(self.listen(database));
        tokio::join!(notifying, listening);
    }

    async fn notify(&self, pool: &PgPool, shutdown: &CancellationToken) {
        let mut trouble = Trouble::default();
        while let Some(wake) = shutdown
            .run_until_cancelled(self.inner.outgoing.take())
            .await
        {
            let sent = tokio::select! {
                sent = self.send(pool, &wake) => sent,
                () = gave_up(shutdown) => return,
            };
            let pause = if let Err(error) = sent {
                trouble.add(&error);
                // Others find what they missed when they rescan; this one says so once it can.
                self.inner.outgoing.post(&Wake {
                    rescan: true,
                    leases: true,
                    ..Wake::default()
                });
                if error.as_database_error().is_some() {
                    make_room(pool).await;
                    // The database is there and takes no wake-up, so most likely from nobody: its
                    // queue is full. Until it takes one again, looking replaces being told.
                    self.tell_subscribers(&Wake {
                        rescan: true,
                        leases: true,
                        ..Wake::default()
                    });
                }
                RESEND_AFTER
            } else {
                trouble.end();
                NOTIFY_SPACING
            };
            shutdown
                .run_until_cancelled(tokio::time::sleep(pause))
                .await;
        }
        let last = std::mem::take(&mut *self.inner.outgoing.wake.lock());
        if !last.is_empty() {
            tokio::select! {
                sent = self.send(pool, &last) => if let Err(error) = sent {
                    tracing::warn!(error = %error, "the last wake-up was not sent");
                },
                () = gave_up(shutdown) => {}
            }
        }
    }

    async fn send(&self, pool: &PgPool, wake: &Wake) -> sqlx::Result<()> {
        for payload in wake.payloads(&self.inner.name) {
            sqlx::query!("select pg_notify($1, $2)", CHANNEL, payload)
                .fetch_one(pool)
                .await?;
        }
        Ok(())
    }
}

/// A full queue of notifications stays full when the session is gone that held it up: Postgres drops
/// what everybody has read only after a NOTIFY that succeeded, or when it is asked how full it is.
async fn make_room(pool: &PgPool) {
    let asked = sqlx::query_scalar!(r#"select pg_notification_queue_usage() as "full!""#);
    if let Err(error) = asked.fetch_one(pool).await {
        tracing::debug!(error = %error, "the queue of notifications is not known");
    }
}

/// How long the last wake-up may take after the shutdown.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// When a wake-up that the database did not take is sent again.
const RESEND_AFTER: Duration = Duration::from_millis(500);
/// The log says again after this long that wake-ups are not sent.
const SAY_AGAIN: Duration = Duration::from_secs(30);

/// Wake-ups that failed in a row: they are tried for ever, and must not fill the log.
#[derive(Debug, Default)]
struct Trouble {
    failures: u64,
    said: Option<Instant>,
}

impl Trouble {
    fn add(&mut self, error: &sqlx::Error) {
        self.failures += 1;
        metrics::counter!("growth_chat_wake_ups_failed_total").increment(1);
        if self.said.is_none_or(|at| at.elapsed() >= SAY_AGAIN) {
            tracing::warn!(error = %error, failures = self.failures, "wake-ups are not sent; others find their work by looking");
            self.said = Some(Instant::now());
        }
    }

    fn end(&mut self) {
        if self.failures > 0 {
            tracing::info!(failures = self.failures, "wake-ups are sent again");
            *self = Self::default();
        }
    }
}

async fn gave_up(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(LAST_WORDS).await;
}

#[cfg(test)]
mod tests {
    use super::{wake::MAX_KEYS, *};

    #[tokio::test]
    async fn a_flood_of_keys_becomes_one_look_at_everything() {
        let bus = Bus::new("me");
        let mut subscription = bus.subscribe();
        for id in 0..=i64::try_from(MAX_KEYS).unwrap() {
            bus.publish(&Wake {
                cancelled_jobs: [id].into(),
                ..Wake::default()
            });
        }
        let wake = subscription.wait().await;
        assert!(wake.rescan && wake.cancelled_jobs.is_empty());
    }
}
