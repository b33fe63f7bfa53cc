//! The wake-up bus: tells this process and every other one that there is something to look at.
//!
//! A signal carries keys, never content, and is only a hint: whoever gets it reads the tables. It
//! is sent after the commit. Subscribers in the same process get it at once; for the others a task
//! of its own issues one NOTIFY, and what piles up while that is under way goes with the next one.
//! A second task keeps the process's one LISTEN connection; whenever that was lost and is back,
//! every subscriber is told to look at everything.

mod wake;

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use sqlx::{PgPool, postgres::PgListener};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use self::wake::Wake;
use crate::db::{Database, MAX_RECONNECT_WAIT, ReconnectWaits, reconnect_waits};

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
        let inner = Inner {
            name: name.into(),
            subscribers: Mutex::default(),
            outgoing: Mailbox::default(),
            listening: AtomicBool::new(false),
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

    /// Jobs may be ready in `queue`. Call it after the commit.
    pub fn jobs_ready(&self, queue: &str) {
        self.publish(&Wake {
            queues: [queue.to_owned()].into(),
            ..Wake::default()
        });
    }

    /// This process took leases: its peers watch their end.
    pub fn announce_leases(&self) {
        self.inner.outgoing.post(&Wake {
            leases: true,
            ..Wake::default()
        });
    }

    /// Tells everything in `wake` to this process and the others. Call it after the commit.
    pub fn publish(&self, wake: &Wake) {
        if !wake.is_empty() {
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
        while let Some(wake) = shutdown
            .run_until_cancelled(self.inner.outgoing.take())
            .await
        {
            let sent = tokio::select! {
                sent = self.send(pool, &wake) => sent,
                () = gave_up(shutdown) => return,
            };
            let pause = if let Err(error) = sent {
                tracing::warn!(error = %error, "a wake-up was not sent");
                // Others find what they missed when they rescan; this one says so once it can.
                self.inner.outgoing.post(&Wake {
                    rescan: true,
                    leases: true,
                    ..Wake::default()
                });
                RESEND_AFTER
            } else {
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

    async fn listen(&self, database: &Database) {
        let pool = database.own_connection();
        let mut waits = reconnect_waits();
        let mut outage = false;
        loop {
            let listened = self.listen_once(&pool, &mut waits, outage).await;
            outage = true;
            match listened {
                Ok(()) => tracing::info!("the LISTEN connection was lost"),
                Err(error) => tracing::warn!(error = %error, "listening failed"),
            }
            self.inner.listening.store(false, Ordering::Relaxed);
            tokio::time::sleep(waits.next().unwrap_or(MAX_RECONNECT_WAIT)).await;
        }
    }

    /// Listens until the connection is lost.
    async fn listen_once(
        &self,
        pool: &PgPool,
        waits: &mut ReconnectWaits,
        outage: bool,
    ) -> sqlx::Result<()> {
        let mut listener = PgListener::connect_with(pool).await?;
        // We reconnect ourselves: what was missed meanwhile is only found by a rescan after LISTEN.
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        *waits = reconnect_waits();
        self.inner.listening.store(true, Ordering::Relaxed);
        self.tell_subscribers(&Wake {
            rescan: true,
            outage,
            leases: true,
            ..Wake::default()
        });
        while let Some(notification) = listener.try_recv().await? {
            let (sender, wake) = Wake::parse(notification.payload());
            if sender != self.inner.name {
                self.tell_subscribers(&wake);
            }
        }
        Ok(())
    }
}

/// How long the last wake-up may take after the shutdown.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// When a wake-up that the database did not take is sent again.
const RESEND_AFTER: Duration = Duration::from_millis(250);

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
