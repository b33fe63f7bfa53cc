//! A database of a gigabyte into a bucket: `growth-chat backup` from its start to its end, proof and
//! manifest included, against `pg_dump | gzip -6 | upload` to the same store; and what it takes of memory.

use std::{
    io::Read,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use sandbox::{
    postgres::{Installation, Places, Progress},
    s3::S3,
};
use sqlx::{Connection, PgConnection};
use store::settings::Settings;
use workers::{
    clients::bucket::{Bucket, Patience},
    config::BucketConfig,
};

use crate::{
    arena::Ground,
    bench::Bench,
    procfs::peak_megabytes,
    progress::progress,
    report::{Report, median},
    retrieval::corpus::Corpus,
};

/// The size of the database.
const MEGABYTES: usize = 1_024;
/// Different texts and embeddings, far more of them than gzip's window of 32 kB holds.
const TEXTS: u32 = 2_000;
/// Bytes of a part of the peer's upload.
const PART: usize = 8 * 1024 * 1024;
/// Between two looks at the memory.
const LOOK: Duration = Duration::from_millis(20);
/// How many times as fast as the peer it should be.
const RATIO_AIM: f64 = 2.0;
/// Megabytes of memory, besides `pg_dump`'s.
const MEMORY_AIM: f64 = 64.0;

pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let megabytes = MEGABYTES / bench.scale.divisor;
    let arena = bench.arena().await?;
    let system = bench.system().await?;
    let ground = arena.migrated().await?;
    let size = fill(&ground, megabytes).await?;
    arena.checkpoint().await?;
    progress(&format!("  a database of {size:.0} MB"));
    let s3 = S3::start(None, 0).await?;
    let find = || Installation::find(&Places::from_environment(), &Progress::silent());
    let programs = tokio::task::spawn_blocking(find)
        .await??
        .client_environment();
    let own = s3.environment().into_iter().chain(programs.clone());
    let own: Vec<(&str, String)> = own.collect();
    let variables: Vec<(&str, &str)> = own
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();

    let (mut ours, mut peers, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut peaks, mut proofs) = (Vec::new(), Vec::new());
    for run in 0..bench.scale.runs {
        let begun = Instant::now();
        let program = system.program(&["backup"], &ground.url, &variables);
        let mut process = system.start_program(&program)?;
        let pid = process.pid();
        let watching = tokio::spawn(async move {
            let mut peak: f64 = 0.0;
            // Until it has ended.
            while let Ok(now) = peak_megabytes(pid) {
                peak = peak.max(now);
                tokio::time::sleep(LOOK).await;
            }
            peak
        });
        let ended = process.wait().await?;
        let our_time = begun.elapsed().as_secs_f64();
        ensure!(ended.success(), "it failed and said: {}", process.log());
        peaks.push(watching.await?);

        let begun = Instant::now();
        pipeline(&ground, &s3, &programs, &format!("peer/{run}.sql.gz")).await?;
        let peer_time = begun.elapsed().as_secs_f64();

        let begun = Instant::now();
        let program = system.program(&["backup", "verify"], &ground.url, &variables);
        let mut process = system.start_program(&program)?;
        let ended = process.wait().await?;
        ensure!(ended.success(), "the verify failed: {}", process.log());
        proofs.push(begun.elapsed().as_secs_f64());

        progress(&format!("  {our_time:.1} s, the peer {peer_time:.1} s"));
        ours.push(our_time);
        peers.push(peer_time);
        ratios.push(peer_time / our_time);
    }
    arena.clear(ground).await?;
    report.at_least(
        "wall time of `pg_dump \\| gzip -6 \\| upload` to ours",
        median(&mut ratios),
        RATIO_AIM,
        "×",
    );
    report.at_most(
        "peak resident memory, besides pg_dump",
        median(&mut peaks),
        MEMORY_AIM,
        "MB",
    );
    report.reference("`growth-chat backup`", median(&mut ours), "s");
    report.reference("`pg_dump \\| gzip -6 \\| upload`", median(&mut peers), "s");
    report.reference(
        "`growth-chat backup verify`, each run's restored and compared",
        median(&mut proofs),
        "s",
    );
    report.note(format!(
        "Backup: a database of {size:.0} MB, half of it texts, half embeddings of 1,536 dimensions. Ours is from exec to \
         exit, with counts, proofs and manifest. Store, Postgres and pg_dump run on the same cores."
    ));
    Ok(())
}

/// Fills a database with texts and embeddings, and says how large it is.
async fn fill(ground: &Ground, megabytes: usize) -> anyhow::Result<f64> {
    let mut connection = PgConnection::connect(&ground.url).await?;
    sqlx::raw_sql(
        "create table bench_pool (id integer primary key, text text not null, embedding vector(1536) not null);
         create table bench_texts (id bigint primary key, text text not null, at timestamptz not null);
         create table bench_embeddings (id bigint primary key, embedding vector(1536) not null)",
    )
    .execute(&mut connection)
    .await?;
    let corpus = Corpus::new(TEXTS);
    let ids: Vec<i32> = (0..TEXTS.cast_signed()).collect();
    let texts: Vec<String> = (0..TEXTS).map(|id| corpus.text(id)).collect();
    let length = texts.iter().map(String::len).sum::<usize>() / texts.len();
    sqlx::query(
        "insert into bench_pool
         select id, text, (select array_agg((random() - 0.5)::real) from generate_series(id, id + 1535))::vector
         from unnest($1::integer[], $2::text[]) pool (id, text)",
    )
    .bind(&ids)
    .bind(&texts)
    .execute(&mut connection)
    .await?;
    let half = megabytes * 1_000_000 / 2;
    let rows = |bytes: usize| i64::try_from(half / bytes);
    for (sql, count) in [
        (
            "insert into bench_texts
             select n, p.text || n, now() from generate_series(1, $1) n join bench_pool p on p.id = n * 7919 % $2",
            rows(length)?,
        ),
        (
            "insert into bench_embeddings
             select n, p.embedding from generate_series(1, $1) n join bench_pool p on p.id = n * 7919 % $2",
            rows(1_536 * 4)?,
        ),
    ] {
        sqlx::query(sql)
            .bind(count)
            .bind(i64::from(TEXTS))
            .execute(&mut connection)
            .await?;
    }
    let bytes: i64 = sqlx::query_scalar("select pg_database_size(current_database())")
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    Ok(f64::from(i32::try_from(bytes / 1_000_000)?))
}

/// What people do: dump, zip and upload in a pipe, with nothing to say whether it is whole.
async fn pipeline(
    ground: &Ground,
    s3: &S3,
    programs: &[(&'static str, String)],
    key: &str,
) -> anyhow::Result<()> {
    let variables = s3.environment();
    let variables = variables.map(|(name, value)| (name.to_owned(), value));
    let mut settings = Settings::new(variables);
    let config = BucketConfig::read(&mut settings);
    let bucket = Bucket::new(&settings.finish(config)?, Patience::default());
    let folder = programs
        .iter()
        .find(|(name, _)| *name == "PG_BIN_DIR")
        .map(|(_, folder)| folder.clone())
        .context("where pg_dump is is not known")?;
    let mut child = Command::new("sh")
        .args(["-c", "\"$PG_BIN_DIR/pg_dump\" \"$URL\" | gzip -6"])
        .envs(programs.iter().cloned())
        .env("PG_BIN_DIR", folder)
        .env("URL", &ground.url)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut output = child.stdout.take().context("no output")?;
    let (parts, mut to_send) = tokio::sync::mpsc::channel(1);
    let reading = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
        loop {
            let mut part = Vec::with_capacity(PART);
            output.by_ref().take(PART as u64).read_to_end(&mut part)?;
            if part.is_empty() || parts.blocking_send(part).is_err() {
                return Ok(());
            }
        }
    });
    let upload = bucket.begin_upload(key, "application/gzip", "peer").await?;
    let mut sent = Vec::new();
    let mut number = 0;
    while let Some(part) = to_send.recv().await {
        number += 1;
        sent.push(bucket.send_part(key, &upload, number, part.into()).await?);
    }
    reading.await??;
    ensure!(child.wait()?.success(), "the pipe failed");
    ensure!(
        bucket.complete(key, &upload, &sent).await?,
        "the key is taken"
    );
    Ok(())
}
