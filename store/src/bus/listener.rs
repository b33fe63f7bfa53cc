//! The process's LISTEN connection.
//!
//! A connection counts as listening once the process has heard itself, or could not try to.
//!
//! ```text
//! connecting ──▶ listening ──(lost)──▶ demand? ── yes ──▶ connecting, with backoff, for ever
//!     ▲                                  └─────── no ───▶ dormant: no SQL and no connection
//!     └──────────────(demand)────────────────────────────────┘
//! ```

use std::{io, sync::atomic::Ordering::Relaxed, time::Duration};

use sqlx::{
    Acquire, Connection,
    postgres::{PgListener, PgNotification},
};
use tokio::time::{Instant, sleep_until, timeout};

use super::{Bus, CHANNEL, Wake};
use crate::db::{Database, MAX_RECONNECT_WAIT, ReconnectWaits, reconnect_waits};

/// A connection that has brought nothing for this long may be one whose other end is gone without a
/// word. Somebody who waits hears of others far more often.
pub(super) const SILENCE: Duration = Duration::from_secs(30);
/// How long the other end may take to say that it is there.
const ECHO_LIMIT: Duration = Duration::from_secs(5);
/// How long it may take to connect once more and to notify.
const NOTIFY_LIMIT: Duration = Duration::from_secs(5);
/// How long a notification may take after a question that was asked later has been answered. PostgreSQL
/// sends it before that answer; whatever stands between may be slower.
const LATE: Duration = Duration::from_secs(3);

/// LISTEN stands, and notifications do not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("notifications do not arrive: the database's URL leads to a pooler; give the direct one")]
pub struct Deaf;

impl Bus {
    /// Listens for as long as there is demand.
    pub(super) async fn listen(&self, database: &Database) {
        let demand = &self.inner.demand;
        let mut waits = reconnect_waits();
        let mut outage = false;
        let mut ever_heard = false;
        loop {
            let listened = self
                .listen_once(database, &mut waits, outage, &mut ever_heard)
                .await;
            outage = true;
            self.inner.listening.store(false, Relaxed);
            match listened {
                Ok(()) => tracing::info!("the LISTEN connection was lost"),
                Err(error) => tracing::warn!(error = %error, "listening failed"),
            }
            if demand.exists() {
                tokio::time::sleep(waits.next().unwrap_or(MAX_RECONNECT_WAIT)).await;
            } else {
                tracing::info!("nobody waits for wake-ups: the database is left alone");
                demand.awaken().await;
                tracing::info!("wake-ups are waited for again");
            }
        }
    }

    /// Listens until the connection is lost.
    async fn listen_once(
        &self,
        database: &Database,
        waits: &mut ReconnectWaits,
        outage: bool,
        ever_heard: &mut bool,
    ) -> sqlx::Result<()> {
        // Each time another one: a connection that hangs keeps its place in its pool.
        let pool = database.own_connection();
        let mut listener = PgListener::connect_with(&pool).await?;
        // We reconnect ourselves: what was missed meanwhile is only found by a rescan after LISTEN.
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        *waits = reconnect_waits();
        self.tell_subscribers(&Wake {
            rescan: true,
            outage,
            leases: true,
            ..Wake::default()
        });
        // It is large, and over soon.
        match Box::pin(self.notify_myself(database)).await {
            Ok(()) => {
                let hears = self.hears_itself(&mut listener).await?;
                *ever_heard |= hears;
                self.inner.deaf.store(!hears, Relaxed);
                if !*ever_heard {
                    self.inner.deaf_from_the_start.cancel();
                } else if !hears {
                    tracing::error!(error = %Deaf, "listening is in vain");
                }
            }
            // Nothing is known. The database may have no room for another connection.
            Err(error) => {
                tracing::debug!(error = %error, "whether notifications arrive could not be tried");
            }
        }
        let demand = &self.inner.demand;
        demand.is_met();
        self.inner.listening.store(true, Relaxed);
        let mut heard = Instant::now();
        loop {
            let silence = async {
                sleep_until(heard + self.inner.silence).await;
                // Nobody is hurt by a connection that nobody needs: an idle process says nothing.
                demand.busy().await;
            };
            let received = tokio::select! {
                biased;
                received = listener.try_recv() => received?,
                () = demand.roused() => {
                    demand.is_met();
                    if heard.elapsed() >= self.inner.silence {
                        echo(&mut listener).await?;
                        heard = Instant::now();
                    }
                    continue;
                }
                () = silence => {
                    echo(&mut listener).await?;
                    heard = Instant::now();
                    continue;
                }
            };
            let Some(notification) = received else {
                return Ok(());
            };
            heard = Instant::now();
            self.hear(&notification);
        }
    }

    /// Passes on what another process says; whether it was this one.
    fn hear(&self, notification: &PgNotification) -> bool {
        let (sender, wake) = Wake::parse(notification.payload());
        let mine = sender == self.inner.name;
        if !mine {
            self.tell_subscribers(&wake);
        }
        mine
    }

    /// Says nothing, to everybody. Along another connection: what a session tells itself arrives through
    /// a pooler as well.
    async fn notify_myself(&self, database: &Database) -> sqlx::Result<()> {
        let said = async {
            let mut connection = database.connect().await?;
            for payload in Wake::default().payloads(&self.inner.name) {
                sqlx::query!("select pg_notify($1, $2)", CHANNEL, payload)
                    .fetch_one(&mut connection)
                    .await?;
            }
            connection.close().await
        };
        in_time(NOTIFY_LIMIT, said).await
    }

    /// Whether what this process has said arrives.
    async fn hears_itself(&self, listener: &mut PgListener) -> sqlx::Result<bool> {
        // A connection that is lost or slow is not taken for one that brings nothing.
        echo(listener).await?;
        let heard = async {
            while let Some(notification) = listener.try_recv().await? {
                if self.hear(&notification) {
                    return Ok(true);
                }
            }
            Err(io::Error::from(io::ErrorKind::ConnectionAborted).into())
        };
        timeout(LATE, heard).await.unwrap_or(Ok(false))
    }
}

/// Returns once the other end has answered; no statement is run. What is notified meanwhile is kept.
async fn echo(listener: &mut PgListener) -> sqlx::Result<()> {
    in_time(ECHO_LIMIT, async { listener.acquire().await?.ping().await }).await
}

async fn in_time<T>(
    limit: Duration,
    work: impl Future<Output = sqlx::Result<T>>,
) -> sqlx::Result<T> {
    timeout(limit, work)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
