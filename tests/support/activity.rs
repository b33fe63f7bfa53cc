//! What the processes of a system do at their database, seen from another one of the same server.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use sqlx::{PgPool, postgres::PgPoolOptions};

use super::{TestSystem, frames::PATIENCE};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// Longer than everything that a busy process does again and again: leases are renewed three times
/// in 4 s, events are read every second, a lost connection is made again after 50 ms.
const WINDOW: Duration = Duration::from_secs(5);
/// What a process does at its start follows one upon the other.
const CALM: Duration = Duration::from_millis(300);

/// A connection of a process, and when it was last given something to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, sqlx::FromRow)]
pub(crate) struct Backend {
    pub(crate) pid: i32,
    since: String,
    busy_at: Option<String>,
    last: String,
}

/// Watches the connections of a system's processes.
#[derive(Debug)]
pub(crate) struct Activity {
    pool: PgPool,
}

impl Activity {
    /// Of a system on a server of its own.
    pub(crate) async fn of(system: &TestSystem) -> Self {
        let url = system.server().url("template1");
        let pool = PgPoolOptions::new().max_connections(2).connect(&url).await;
        Self {
            pool: pool.unwrap(),
        }
    }

    /// The connections that the processes have now.
    pub(crate) async fn backends(&self) -> BTreeSet<Backend> {
        let backends: Vec<Backend> = sqlx::query_as(
            "select pid, backend_start::text as since, state_change::text as busy_at, query as last
             from pg_stat_activity where application_name = 'growth-chat'",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap();
        backends.into_iter().collect()
    }

    /// The connections that listen.
    pub(crate) async fn listeners(&self) -> Vec<i32> {
        let backends = self.backends().await.into_iter();
        let listening = backends.filter(|backend| backend.last.starts_with("LISTEN"));
        listening.map(|backend| backend.pid).collect()
    }

    /// Waits until so many connections listen.
    pub(crate) async fn listening(&self, count: usize) -> Vec<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let listeners = self.listeners().await;
            if listeners.len() == count {
                return listeners;
            }
            assert!(
                Instant::now() < deadline,
                "{} listen and not {count}",
                listeners.len()
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether no process connects or runs a statement within a window of time.
    pub(crate) async fn rests(&self) -> bool {
        self.rests_for(WINDOW).await
    }

    async fn rests_for(&self, window: Duration) -> bool {
        let before = self.backends().await;
        let end = Instant::now() + window;
        while Instant::now() < end {
            if self.backends().await != before {
                return false;
            }
            tokio::time::sleep(LOOK).await;
        }
        true
    }

    /// Waits until so many processes have started: they listen, and have looked at everything once.
    pub(crate) async fn started(&self, count: usize) {
        self.listening(count).await;
        let deadline = Instant::now() + PATIENCE;
        while !self.rests_for(CALM).await {
            assert!(Instant::now() < deadline, "no calm");
        }
    }

    /// Waits until the processes leave the database alone.
    pub(crate) async fn comes_to_rest(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.rests().await {
            assert!(
                Instant::now() < deadline,
                "no rest: {:?}",
                self.backends().await
            );
        }
    }

    /// Cuts connections; returns once they are gone.
    pub(crate) async fn terminate(&self, pids: &[i32]) {
        sqlx::query("select pg_terminate_backend(pid) from unnest($1::int[]) as t (pid)")
            .bind(pids)
            .execute(&self.pool)
            .await
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        while self
            .backends()
            .await
            .iter()
            .any(|backend| pids.contains(&backend.pid))
        {
            assert!(Instant::now() < deadline, "they do not end");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Cuts all connections of the processes, as a host does that suspends the database.
    pub(crate) async fn cut_all(&self) {
        let backends = self.backends().await;
        let pids: Vec<i32> = backends.iter().map(|backend| backend.pid).collect();
        self.terminate(&pids).await;
    }
}
