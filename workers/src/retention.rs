//! Forgets what is old enough (docs/decisions/0023): every week by the worker, at once by
//! `growth-chat retention`, and in a database that was just restored.

use sqlx::PgPool;
use store::retention::{self, BATCH_SESSIONS, BATCH_TURNS, Gone, REST};
use tokio::time::{Instant, sleep};

/// What retention works with.
#[derive(Debug, Clone)]
pub struct RetentionDeps {
    /// The database.
    pub pool: PgPool,
    /// `RETENTION_DAYS`.
    pub days: i32,
}

/// How a database is swept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Beside turns: rests for [`REST`] times as long as it works, and counts what goes in the metrics of
    /// this process.
    BesideTurns,
    /// In a database that nobody uses yet: neither rests nor counts.
    Alone,
}

impl Pace {
    fn rest(self) -> u32 {
        match self {
            Self::BesideTurns => REST,
            Self::Alone => 0,
        }
    }

    fn count(self, gone: &Gone) {
        if self == Self::Alone {
            return;
        }
        for (table, rows) in gone.tables() {
            if rows > 0 {
                metrics::counter!("growth_chat_retention_deleted_total", "table" => table)
                    .increment(rows.unsigned_abs());
            }
        }
    }
}

impl RetentionDeps {
    /// Keeps the days in the database, so that a backup of it has them.
    pub async fn tell_days(&self) -> sqlx::Result<()> {
        retention::save_days(&self.pool, self.days).await
    }

    /// Forgets until nothing is left that is old enough, or the time is over; says what went, and whether
    /// it came to the end.
    pub async fn sweep(&self, until: Option<Instant>, pace: Pace) -> sqlx::Result<(Gone, bool)> {
        let mut gone = Gone::default();
        let over = || until.is_some_and(|until| Instant::now() >= until);
        loop {
            let began = Instant::now();
            let batch =
                retention::forget_batch(&self.pool, self.days, BATCH_SESSIONS, BATCH_TURNS).await?;
            pace.count(&batch);
            gone += batch;
            if batch.sessions == 0 {
                break;
            }
            if over() {
                return Ok((gone, false));
            }
            sleep(began.elapsed() * pace.rest()).await;
        }
        let told = |turn_events| {
            let batch = Gone {
                turn_events,
                ..Gone::default()
            };
            pace.count(&batch);
            gone += batch;
        };
        let finished = retention::forget_old_events(&self.pool, until, pace.rest(), told).await?;
        Ok((gone, finished))
    }
}
