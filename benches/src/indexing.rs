//! Chunks a second of `growth-chat index`: cut, embedded by the stand-in, inserted by the product's own
//! jobs into a table with both of its indexes.

use std::{fmt::Write as _, fs, path::Path, time::Instant};

use anyhow::{Context, ensure};
use sqlx::{Connection, PgConnection};

use crate::{
    bench::Bench,
    progress::progress,
    report::{Report, median},
    retrieval::corpus::Corpus,
};

/// Sections of a document; each is a chunk, or two.
const SECTIONS: u32 = 100;
/// The aim, in chunks a second.
const AIM: f64 = 2_000.0;

pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let documents = bench.scale.indexed_documents;
    let folder = tempfile::tempdir()?;
    write(folder.path(), documents)?;
    let arena = bench.arena().await?;
    let system = bench.system().await?;
    let least = i64::from(documents * SECTIONS);
    let mut rates = Vec::new();
    for _ in 0..bench.scale.runs {
        let ground = arena.migrated().await?;
        let path = folder.path().to_str().context("a folder has no name")?;
        let program = system.program(&["index", path], &ground.url, &[]);
        let begun = Instant::now();
        let mut process = system.start_program(&program)?;
        let ended = process.wait().await?;
        let took = begun.elapsed();
        ensure!(ended.success(), "it failed and said: {}", process.log());
        let mut connection = PgConnection::connect(&ground.url).await?;
        let chunks: i64 =
            sqlx::query_scalar("select count(*) from knowledge_chunks where search is not null")
                .fetch_one(&mut connection)
                .await?;
        connection.close().await?;
        ensure!(chunks >= least, "{chunks} chunks of {least} sections");
        let rate = f64::from(i32::try_from(chunks)?) / took.as_secs_f64();
        progress(&format!("  {rate:.0} chunks/s"));
        rates.push(rate);
        arena.clear(ground).await?;
    }
    report.at_least(
        "`growth-chat index`, from its start to its end",
        median(&mut rates),
        AIM,
        "chunks/s",
    );
    report.note(format!(
        "Indexing: {documents} Markdown documents of {SECTIONS} sections of about 500 tokens, into an empty database; \
         1,536 dimensions, m = 16, ef_construction = 64. The stand-in for the embeddings and Postgres run on the same \
         cores."
    ));
    Ok(())
}

/// The documents as files.
fn write(folder: &Path, documents: u32) -> anyhow::Result<()> {
    let corpus = Corpus::new(documents * SECTIONS);
    for document in 0..documents {
        let mut text = format!("---\ntitle: Document {document}\n---\n");
        for section in 0..SECTIONS {
            let chunk = document * SECTIONS + section;
            let _ = write!(text, "\n## Section {chunk}\n\n{}\n", corpus.text(chunk));
        }
        fs::write(folder.join(format!("{document}.md")), text)?;
    }
    Ok(())
}
