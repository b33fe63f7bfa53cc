//! Whether the queue stays as fast after ten million jobs, and while somebody holds a transaction open.
//!
//! A transaction that is held open keeps vacuum from removing what was deleted since: the hot table and
//! its indexes fill with dead entries, over which a claim has to get.

use std::time::Duration;

use anyhow::Context;
use sqlx::{Connection, PgConnection};

use crate::{
    arena::{Arena, Ground},
    bench::Bench,
    contender::{Contender, OURS},
    measure::{Drained, Latencies, Measure},
    progress::progress,
    report::{Report, median, percentile},
};

/// The aim for everything here: this many times worse than on an empty system at most.
const AIM: f64 = 1.2;
const DEADLINE: Duration = Duration::from_mins(10);
/// Rows of history in a statement.
const CHUNK: i64 = 1_000_000;

/// Seconds a job of the drain, and the percentiles of enqueue → start, in milliseconds.
#[derive(Default)]
struct Taken {
    drains: Vec<f64>,
    halves: Vec<f64>,
    nearly_all: Vec<f64>,
}

pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let arena = bench.arena().await?;
    let (contenders, _) = bench.contenders().await?;
    let ours = contenders.iter().find(|contender| contender.name == OURS);
    let ours = ours.context("our own driver is missing")?;
    let rows = bench.scale.history_rows;
    let grown = grown(arena, rows).await?;
    let (mut on_empty, mut on_grown) = (Taken::default(), Taken::default());
    for _ in 0..bench.scale.runs {
        let empty = arena.migrated().await?;
        take(bench, ours, &empty, &mut on_empty).await?;
        arena.clear(empty).await?;

        let mut holder = PgConnection::connect(&grown.url).await?;
        let mut held = holder
            .begin_with("begin isolation level repeatable read")
            .await?;
        // The snapshot is taken by the first statement.
        sqlx::query("select from queue.jobs limit 1")
            .fetch_optional(&mut *held)
            .await?;
        take(bench, ours, &grown, &mut on_grown).await?;
        held.rollback().await?;
        vacuum(&grown).await?;
    }
    arena.clear(grown).await?;
    for (what, empty, grown) in [
        ("drain, seconds a job", on_empty.drains, on_grown.drains),
        ("enqueue → start, p50", on_empty.halves, on_grown.halves),
        (
            "enqueue → start, p99",
            on_empty.nearly_all,
            on_grown.nearly_all,
        ),
    ] {
        let [empty, grown] = [empty, grown].map(|mut runs| median(&mut runs));
        let what = format!("growth, {what}: times that of an empty system");
        report.at_most(what, Some(grown / empty), AIM, "×");
    }
    report.note(format!(
        "Growth: {rows} finished jobs in the history, and a transaction (repeatable read) held open from before the \
         first job; {} jobs are drained, the table is vacuumed as far as that transaction lets it be, and then {} jobs are \
         enqueued one by one. Against the same on an empty system in the same run.",
        bench.scale.drain_jobs, bench.scale.latency_jobs
    ));
    Ok(())
}

async fn take(
    bench: &Bench,
    ours: &Contender,
    ground: &Ground,
    taken: &mut Taken,
) -> anyhow::Result<()> {
    let drain = Measure::Drain {
        jobs: bench.scale.drain_jobs,
        analyze: false,
    };
    let drained: Option<Drained> = ours
        .measure(&bench.watchdog, drain, &ground.url, DEADLINE)
        .await?;
    let drained = drained.context("the drain took too long")?;
    vacuum(ground).await?;
    let latency = Measure::Latency {
        jobs: bench.scale.latency_jobs,
    };
    let latencies: Option<Latencies> = ours
        .measure(&bench.watchdog, latency, &ground.url, DEADLINE)
        .await?;
    let mut latencies = latencies.context("the jobs took too long")?.latencies_ms;
    let per_job = drained.seconds / f64::from(drained.jobs);
    let (p50, p99) = (
        percentile(&mut latencies, 0.5),
        percentile(&mut latencies, 0.99),
    );
    progress(&format!(
        "  {:.0} jobs/s, p50 {p50:.2} ms, p99 {p99:.2} ms",
        1.0 / per_job
    ));
    taken.drains.push(per_job);
    taken.halves.push(p50);
    taken.nearly_all.push(p99);
    Ok(())
}

async fn vacuum(ground: &Ground) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(&ground.url).await?;
    // As autovacuum would.
    sqlx::query("vacuum (analyze) queue.jobs")
        .execute(&mut connection)
        .await?;
    Ok(())
}

/// A database with a long history.
async fn grown(arena: &Arena, rows: i64) -> anyhow::Result<Ground> {
    let ground = arena.migrated().await?;
    let mut connection = PgConnection::connect(&ground.url).await?;
    let mut first = 1;
    while first <= rows {
        let last = rows.min(first + CHUNK - 1);
        progress(&format!("  history: {last} of {rows} rows"));
        // Finished evenly over the seven days for which the history is kept.
        sqlx::query(
            "insert into queue.history (id, queue, kind, outcome, priority, attempt, max_attempts, retry_waits,
                                        worker, payload, errors, created_at, started_at, finished_at)
             select n, 'bench', 'bench.no_op', 'done', 0, 1, 4, '{1,3,9}', gen_random_uuid(),
                    jsonb_build_object('number', n), '[]', at, at, at
             from (select n, now() - interval '7 days' * (1 - n / $3::float8) as at
                   from generate_series($1::bigint, $2::bigint) n)",
        )
        .bind(first)
        .bind(last)
        .bind(rows)
        .execute(&mut connection)
        .await?;
        first = last + 1;
    }
    sqlx::query("select setval(pg_get_serial_sequence('queue.jobs', 'id'), $1)")
        .bind(rows.max(1))
        .execute(&mut connection)
        .await?;
    sqlx::query("vacuum (analyze) queue.history")
        .execute(&mut connection)
        .await?;
    arena.checkpoint().await?;
    Ok(ground)
}
