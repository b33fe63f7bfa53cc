//! The process's LISTEN connection.
//!
//! ```text
//! connecting ──▶ listening ──(lost)──▶ demand? ── yes ──▶ connecting, with backoff, for ever
//!     ▲                                  └─────── no ───▶ dormant: no SQL and no connection
//!     └──────────────(demand)────────────────────────────────┘
//! ```

use std::{io, sync::atomic::Ordering, time::Duration};

use sqlx::{Acquire, Connection, postgres::PgListener};
use tokio::time::{Instant, sleep_until, timeout};

use super::{Bus, CHANNEL, Wake};
use crate::db::{Database, MAX_RECONNECT_WAIT, ReconnectWaits, reconnect_waits};

/// A connection that has brought nothing for this long may be one whose other end is gone without a
/// word. Somebody who waits hears of others far more often.
pub(super) const SILENCE: Duration = Duration::from_secs(30);
/// How long the other end may take to say that it is there.
const ECHO_LIMIT: Duration = Duration::from_secs(5);

impl Bus {
    /// Listens for as long as there is demand.
    pub(super) async fn listen(&self, database: &Database) {
        let demand = &self.inner.demand;
        let mut waits = reconnect_waits();
        let mut outage = false;
        loop {
            let listened = self.listen_once(database, &mut waits, outage).await;
            outage = true;
            self.inner.listening.store(false, Ordering::Relaxed);
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
    ) -> sqlx::Result<()> {
        // Each time another one: a connection that hangs keeps its place in its pool.
        let pool = database.own_connection();
        let mut listener = PgListener::connect_with(&pool).await?;
        // We reconnect ourselves: what was missed meanwhile is only found by a rescan after LISTEN.
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        *waits = reconnect_waits();
        let demand = &self.inner.demand;
        demand.is_met();
        self.inner.listening.store(true, Ordering::Relaxed);
        self.tell_subscribers(&Wake {
            rescan: true,
            outage,
            leases: true,
            ..Wake::default()
        });
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
            let (sender, wake) = Wake::parse(notification.payload());
            if sender != self.inner.name {
                self.tell_subscribers(&wake);
            }
        }
    }
}

/// Returns once the other end has answered; no statement is run. What is notified meanwhile is kept.
async fn echo(listener: &mut PgListener) -> sqlx::Result<()> {
    let asked = async { listener.acquire().await?.ping().await };
    timeout(ECHO_LIMIT, asked)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
