//! A queue written by hand for nothing but speed: about as close to the limit as SQL through sqlx gets.
//!
//! It keeps what makes a queue safe: a lease with an end, a lease number that fences the completion, and
//! – in one of the two variants – a row of history for each job, written in the statement that ends it.
//! It has no retries, keys, priorities, pauses, cancellation, rescue, or renewal, and one kind of job.
//! Claims and completions are tasks of their own with batched autocommit statements.

use std::{str::FromStr, sync::Arc, time::Duration};

use anyhow::Context;
use sqlx::{
    AssertSqlSafe, PgPool, Row,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::{
    sync::{Notify, Semaphore, mpsc},
    task::JoinSet,
};

use super::{Producer, Queue, SETTLE, Seen};

/// Jobs in a statement.
const BATCH: usize = 500;
/// Jobs that are claimed and not completed.
const PREFETCH: usize = 2_000;
/// Tasks that record completions: while one waits for its commit, the next batch is on its way.
const COMPLETERS: usize = 2;
const CONNECTIONS: u32 = 10;
const CHANNEL: &str = "baseline";
/// How often an idle worker looks for work that no wake-up told of, as ours does by default.
const IDLE_POLL: Duration = Duration::from_secs(30);

const SCHEMA: &str = "
    create table live (
        id          bigint      generated always as identity primary key,
        run_at      timestamptz not null default now(),
        lease       integer     not null default 0,
        lease_until timestamptz,
        payload     jsonb       not null,
        created_at  timestamptz not null default now(),
        started_at  timestamptz
    ) with (fillfactor = 70);
    create index live_claimable on live (run_at, id) where lease_until is null;
    create table past (
        id          bigint      primary key,
        payload     jsonb       not null,
        created_at  timestamptz not null,
        started_at  timestamptz not null,
        finished_at timestamptz not null
    );";

const CLAIM: &str = "
    update live set lease = lease + 1, lease_until = clock_timestamp() + interval '4 seconds',
                    started_at = clock_timestamp()
    where id = any(array(
        select id from live where lease_until is null and run_at <= now()
        order by run_at, id limit $1 for update skip locked))
    returning id, lease, payload";

const COMPLETE: &str = "delete from live where id = any($1) and lease = $2";

const COMPLETE_WITH_HISTORY: &str = "
    with ended as (delete from live where id = any($1) and lease = $2 returning *)
    insert into past (id, payload, created_at, started_at, finished_at)
    select id, payload, created_at, started_at, clock_timestamp() from ended";

pub(super) struct Baseline {
    pool: PgPool,
    url: String,
    history: bool,
}

/// The tasks of a process, which end with this.
pub(super) struct Worker {
    _tasks: JoinSet<()>,
}

impl Baseline {
    pub(super) async fn open(url: &str, history: bool) -> anyhow::Result<Self> {
        Ok(Self {
            pool: open(url, CONNECTIONS).await?,
            url: url.to_owned(),
            history,
        })
    }
}

async fn open(url: &str, connections: u32) -> anyhow::Result<PgPool> {
    // A plan that was made while the table was empty is kept: it must not read the whole table.
    let options = PgConnectOptions::from_str(url)?.options([("enable_seqscan", "off")]);
    let pool = PgPoolOptions::new().max_connections(connections);
    pool.connect_with(options).await.context("connecting")
}

impl Queue for Baseline {
    type Worker = Worker;

    async fn install(&self) -> anyhow::Result<()> {
        sqlx::raw_sql(SCHEMA).execute(&self.pool).await?;
        Ok(())
    }

    async fn enqueue_bulk(&self, jobs: u32) -> anyhow::Result<()> {
        sqlx::query(
            "insert into live (payload)
             select jsonb_build_object('number', n) from generate_series(0, $1 - 1) n",
        )
        .bind(i32::try_from(jobs)?)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    async fn wake(&self) -> anyhow::Result<()> {
        notify(&self.pool).await
    }

    fn pool(&self) -> &PgPool {
        &self.pool
    }

    async fn start(&self, seen: Arc<Seen>) -> anyhow::Result<Worker> {
        let mut tasks = JoinSet::new();
        let wake = Arc::new(Notify::new());
        let mut listener = PgListener::connect_with(&self.pool).await?;
        listener.listen(CHANNEL).await?;
        tasks.spawn({
            let wake = Arc::clone(&wake);
            async move {
                while listener.recv().await.is_ok() {
                    wake.notify_one();
                }
            }
        });
        let free = Arc::new(Semaphore::new(PREFETCH));
        let (completed, completions) = mpsc::unbounded_channel();
        let completions = Arc::new(tokio::sync::Mutex::new(completions));
        for _ in 0..COMPLETERS {
            let sql = if self.history {
                COMPLETE_WITH_HISTORY
            } else {
                COMPLETE
            };
            let (pool, free) = (self.pool.clone(), Arc::clone(&free));
            let completions = Arc::clone(&completions);
            tasks.spawn(async move { report(complete(&pool, &free, &completions, sql).await) });
        }
        let pool = self.pool.clone();
        tasks.spawn(async move { report(claim(&pool, &free, &wake, &seen, &completed).await) });
        Ok(Worker { _tasks: tasks })
    }

    async fn ready(&self) -> anyhow::Result<()> {
        // It listens already, and polls once.
        tokio::time::sleep(SETTLE).await;
        Ok(())
    }

    async fn producer(&self, connections: u32) -> anyhow::Result<impl Producer + 'static> {
        let pool = open(&self.url, connections + 1).await?;
        let fresh = Arc::new(Notify::new());
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let (pool, fresh) = (pool.clone(), Arc::clone(&fresh));
            async move {
                loop {
                    // What was committed meanwhile goes with the next one.
                    fresh.notified().await;
                    report(notify(&pool).await);
                }
            }
        });
        Ok(Client {
            pool,
            fresh,
            _tasks: tasks,
        })
    }

    async fn counts(&self) -> anyhow::Result<(u64, u64)> {
        let done = if self.history {
            "select count(*) from past"
        } else {
            // What was enqueued and is not there any more.
            "select coalesce((select last_value from live_id_seq where is_called), 0) - (select count(*) from live)"
        };
        let done: i64 = sqlx::query_scalar(AssertSqlSafe(done))
            .fetch_one(&self.pool)
            .await?;
        let left: i64 = sqlx::query_scalar("select count(*) from live")
            .fetch_one(&self.pool)
            .await?;
        Ok((u64::try_from(done)?, u64::try_from(left)?))
    }
}

async fn notify(pool: &PgPool) -> anyhow::Result<()> {
    sqlx::query("select pg_notify($1, '')")
        .bind(CHANNEL)
        .execute(pool)
        .await?;
    Ok(())
}

fn report(ended: anyhow::Result<()>) {
    if let Err(error) = ended {
        tracing::error!(error = %error, "a task of the baseline ended");
    }
}

async fn claim(
    pool: &PgPool,
    free: &Semaphore,
    wake: &Notify,
    seen: &Seen,
    completed: &mpsc::UnboundedSender<(i64, i32)>,
) -> anyhow::Result<()> {
    loop {
        free.acquire().await?.forget();
        let more = free.available_permits().min(BATCH - 1);
        // Nobody else takes permits.
        free.acquire_many(u32::try_from(more)?).await?.forget();
        let asked = more + 1;
        let claimed = sqlx::query(CLAIM)
            .bind(i64::try_from(asked)?)
            .fetch_all(pool)
            .await?;
        free.add_permits(asked - claimed.len());
        for row in &claimed {
            let payload: serde_json::Value = row.try_get(2)?;
            let number = payload["number"].as_u64().context("the payload")?;
            seen.note(u32::try_from(number)?);
            completed.send((row.try_get(0)?, row.try_get(1)?))?;
        }
        if claimed.len() < asked {
            // Either there is more already, or somebody will tell.
            let _ = tokio::time::timeout(IDLE_POLL, wake.notified()).await;
        }
    }
}

async fn complete(
    pool: &PgPool,
    free: &Semaphore,
    completions: &tokio::sync::Mutex<mpsc::UnboundedReceiver<(i64, i32)>>,
    sql: &'static str,
) -> anyhow::Result<()> {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let count = completions.lock().await.recv_many(&mut batch, BATCH).await;
        if count == 0 {
            return Ok(());
        }
        // A statement for each lease number, which is nearly always the same: no join to plan.
        batch.sort_unstable_by_key(|(id, lease)| (*lease, *id));
        for same in batch.chunk_by(|(_, one), (_, other)| one == other) {
            let ids: Vec<i64> = same.iter().map(|(id, _)| *id).collect();
            sqlx::query(sql)
                .bind(ids)
                .bind(same.first().map(|(_, lease)| *lease))
                .execute(pool)
                .await?;
        }
        batch.clear();
        free.add_permits(count);
    }
}

/// Inserts in statements that commit by themselves.
struct Client {
    pool: PgPool,
    fresh: Arc<Notify>,
    _tasks: JoinSet<()>,
}

impl Producer for Client {
    async fn enqueue(&self, number: u32) -> anyhow::Result<()> {
        sqlx::query("insert into live (payload) values (jsonb_build_object('number', $1))")
            .bind(i64::from(number))
            .execute(&self.pool)
            .await?;
        self.fresh.notify_one();
        Ok(())
    }
}
