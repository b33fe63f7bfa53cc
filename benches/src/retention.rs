//! What retention costs while visitors talk: 5 million messages of sessions that were closed long ago.

use std::time::{Duration, Instant};

use anyhow::Context;
use sandbox::anthropic::{Pace, Reply};
use sqlx::PgPool;
use store::retention;
use tokio::time::sleep;

use crate::{
    bench::Bench,
    progress::progress,
    proxy,
    report::{Report, percentile},
    turn_overhead::turns,
};

/// Messages of one session.
const PER_SESSION: i64 = 100;
const DAYS: i32 = 90;
/// No lock may be held longer, in milliseconds.
const LONGEST: f64 = 100.0;
/// How much slower turns may get.
const SLOWER: f64 = 1.2;
/// Turns of each measurement, and how many run at once.
const TURNS: usize = 300;
const AT_ONCE: usize = 10;
const MARKER: &str = "benchmark";

pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let system = bench.another_system().await?;
    let pace = Pace {
        before_headers: Duration::from_millis(50),
        first_token: Duration::ZERO,
        between_tokens: Duration::from_millis(20),
    };
    system.anthropic.on(MARKER, Reply::words(20).paced(pace));
    let pool = PgPool::connect(&system.database_url()).await?;
    let sessions = bench.scale.old_sessions;
    progress(&format!("{} messages", sessions * PER_SESSION));
    fill(&pool, sessions).await?;
    let (mut process, listening) = system.role("serve").await?;
    let url = proxy::chat_url(listening.http.context("serve has no HTTP address")?);
    let client = reqwest::Client::new();
    turns(&client, &url, "warm", AT_ONCE, 50).await?;
    let mut alone = turns(&client, &url, "alone", AT_ONCE, TURNS).await?;

    let sweeping = tokio::spawn(sweep(pool.clone()));
    let mut meanwhile = Vec::new();
    let mut round = 0;
    while !sweeping.is_finished() || round == 0 {
        let name = format!("meanwhile-{round}");
        meanwhile.extend(turns(&client, &url, &name, AT_ONCE, TURNS).await?);
        round += 1;
    }
    let (seconds, mut batches, deleted) = sweeping.await??;
    let before = percentile(&mut alone, 0.95);
    let during = percentile(&mut meanwhile, 0.95);
    let longest = batches.iter().copied().fold(0.0, f64::max);
    report.at_most("retention: longest transaction", longest, LONGEST, "ms");
    report.reference(
        "retention: transaction p50",
        percentile(&mut batches, 0.5),
        "ms",
    );
    report.reference("turn overhead p95, alone", before, "ms");
    report.reference("turn overhead p95, while retention runs", during, "ms");
    report.at_most(
        "turn overhead p95, while retention runs: times that alone",
        during / before,
        SLOWER,
        "×",
    );
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    report.reference(
        "retention: messages deleted",
        deleted as f64 / seconds,
        "/s",
    );
    report.note(format!(
        "Retention: {} messages of {sessions} sessions that were closed more than {DAYS} days ago; {AT_ONCE} turns at \
         once meanwhile. A lock is held for a transaction at most.",
        sessions * PER_SESSION
    ));
    process.stop(Duration::from_secs(30)).await?;
    Ok(())
}

/// Forgets as the handler does, and times each transaction in milliseconds.
async fn sweep(pool: PgPool) -> anyhow::Result<(f64, Vec<f64>, i64)> {
    let start = Instant::now();
    let mut batches = Vec::new();
    let mut deleted = 0;
    loop {
        let began = Instant::now();
        let batch = retention::forget_batch(
            &pool,
            DAYS,
            retention::BATCH_SESSIONS,
            retention::BATCH_TURNS,
        )
        .await?;
        if batch.sessions == 0 {
            return Ok((start.elapsed().as_secs_f64(), batches, deleted));
        }
        deleted += batch.messages;
        batches.push(began.elapsed().as_secs_f64() * 1_000.0);
        sleep(began.elapsed() * retention::REST).await;
    }
}

async fn fill(pool: &PgPool, sessions: i64) -> sqlx::Result<()> {
    sqlx::query(
        "insert into sessions (session_id, status, closed_at, termination_type, last_turn)
         select 'old-' || n, 'closed', now() - make_interval(days => 91, secs => n), 'visitor_closed', $2 / 2
         from generate_series(1, $1) n",
    )
    .bind(sessions)
    .bind(PER_SESSION)
    .execute(pool)
    .await?;
    sqlx::query(
        "insert into messages (session_id, message_id, turn, role, body)
         select 'old-' || n, 'm' || m, (m + 1) / 2, case m % 2 when 1 then 'user' else 'assistant' end,
                repeat('some words of a conversation ', 8)
         from generate_series(1, $1) n, generate_series(1, $2) m",
    )
    .bind(sessions)
    .bind(PER_SESSION)
    .execute(pool)
    .await?;
    sqlx::query("vacuum analyze messages").execute(pool).await?;
    sqlx::query("vacuum analyze sessions").execute(pool).await?;
    Ok(())
}
