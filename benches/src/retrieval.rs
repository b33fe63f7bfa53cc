//! The search among 100,000 chunks: how much of the truth the vector index finds, and how long a
//! search takes, by the vector alone and as a turn does it.

pub(crate) mod corpus;
mod exact;

use std::{sync::Arc, time::Instant};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use sandbox::postgres::{MIGRATOR, Server, ServerOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use store::{
    db::DatabaseConfig,
    knowledge::{
        ChunkEmbedding, ChunkToStore, KnowledgeTable, Search, refresh_terms, replace_chunks, search,
    },
};
use workers::{
    clients::{embeddings::Embedder, http_client},
    config::{EmbeddingsConfig, KnowledgeConfig},
    knowledge::{KnowledgeDeps, nearest},
};

use self::corpus::{Corpus, DIMENSIONS, Random};
use crate::{
    bench::Bench,
    progress::progress,
    report::{Report, median, milliseconds, percentile},
};

/// The nearest chunks that are compared with the true ones.
const K: usize = 5;
/// The aims: the percentage of the truth that is found, and the 99th percentile in milliseconds.
const AIMS: (f64, f64) = (98.0, 15.0);
const MODEL: &str = "text-embedding-3-small";
/// Chunks of a document.
const DOCUMENT: u32 = 100;
/// Documents that are stored at once.
const AT_ONCE: usize = 4;
/// Questions that are asked before it counts.
const WARM_UP: u32 = 50;
/// The product's defaults.
const TOP_K: u16 = 5;
const CANDIDATES: u16 = 40;
const EF_SEARCH: u16 = 40;
/// A wider search, for comparison.
const WIDE_EF_SEARCH: u16 = 200;

/// What was asked, and for which chunk.
struct Question {
    text: String,
    vector: Vec<f32>,
}

/// Times in milliseconds, the medians of all runs.
struct Taken {
    half: f64,
    nearly_all: f64,
}

pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let chunks = bench.scale.searched_chunks;
    let server = server().await?;
    let deps = deps(&server.url("postgres")).await?;
    let corpus = Arc::new(Corpus::new(chunks));
    fill(&deps, &corpus, chunks).await?;
    let questions = questions(&corpus, chunks, bench.scale.questions + WARM_UP);
    let (warm_up, questions) = questions.split_at(WARM_UP as usize);
    progress("  the exact answers");
    let asked: Vec<Vec<f32>> = questions.iter().map(|one| one.vector.clone()).collect();
    let truth =
        tokio::task::spawn_blocking(move || exact::nearest(&corpus, chunks, &asked, K)).await?;

    for ef_search in [EF_SEARCH, WIDE_EF_SEARCH] {
        let mut found = Vec::new();
        let mut conn = deps.pool.acquire().await?;
        let taken = take(bench, warm_up, questions, async |question| {
            found.push(by_vector(&mut conn, &deps, question, ef_search).await?);
            Ok(())
        })
        .await?;
        let last_run = found.split_off(found.len() - questions.len());
        let recall = 100.0 * share_found(&last_run, &truth);
        let what = format!("vectors only, `RAG_HNSW_EF_SEARCH` = {ef_search}");
        let (share, slowest) = (format!("{what}: recall@{K}"), format!("{what}: p99"));
        if ef_search == EF_SEARCH {
            report.at_least(share, recall, AIMS.0, "%");
            report.at_most(slowest, taken.nearly_all, AIMS.1, "ms");
        } else {
            report.reference(share, recall, "%");
            report.reference(slowest, taken.nearly_all, "ms");
        }
        report.reference(format!("{what}: p50"), taken.half, "ms");
    }

    let mut passages = 0;
    let taken = take(bench, warm_up, questions, async |question| {
        let vector = question.vector.clone();
        let retrieved = nearest(&deps, vector, &question.text, Some("en")).await?;
        passages += retrieved.passages.len();
        Ok(())
    })
    .await?;
    ensure!(passages > 0, "no passage reaches the threshold");
    report.at_most("the search of a turn: p99", taken.nearly_all, AIMS.1, "ms");
    report.reference("the search of a turn: p50", taken.half, "ms");
    report.note(format!(
        "Retrieval: {chunks} chunks of {DIMENSIONS} dimensions in clusters, with texts by Zipf's law; {} questions one \
         after the other, each tenth with a word that one chunk alone has. Recall is against a comparison of every \
         chunk with every question. `shared_buffers` = 2 GB, so that the vector index stays in memory. Each side of a \
         turn's search gives {CANDIDATES} candidates, and the vector index looks at twice as many at least.",
        questions.len()
    ));
    deps.pool.close().await;
    server.stop().await?;
    Ok(())
}

/// Asks all questions, after those that don't count.
async fn take(
    bench: &Bench,
    warm_up: &[Question],
    questions: &[Question],
    mut ask: impl AsyncFnMut(&Question) -> anyhow::Result<()>,
) -> anyhow::Result<Taken> {
    for question in warm_up {
        ask(question).await?;
    }
    let (mut halves, mut nearly_all) = (Vec::new(), Vec::new());
    for _ in 0..bench.scale.runs {
        let mut times = Vec::new();
        for question in questions {
            let begun = Instant::now();
            ask(question).await?;
            times.push(milliseconds(begun.elapsed()));
        }
        halves.push(percentile(&mut times, 0.5));
        nearly_all.push(percentile(&mut times, 0.99));
    }
    Ok(Taken {
        half: median(&mut halves),
        nearly_all: median(&mut nearly_all),
    })
}

/// How much of the truth was found, 0 to 1.
#[expect(clippy::cast_precision_loss, reason = "thousands")]
fn share_found(found: &[Vec<u32>], truth: &[Vec<u32>]) -> f64 {
    let true_ones = |(found, truth): (&Vec<u32>, &Vec<u32>)| {
        found.iter().filter(|chunk| truth.contains(chunk)).count()
    };
    let all: usize = truth.iter().map(Vec::len).sum();
    found.iter().zip(truth).map(true_ones).sum::<usize>() as f64 / all as f64
}

/// A migrated database whose indexes stay in memory.
async fn server() -> anyhow::Result<Server> {
    let settings = [
        ("shared_buffers", "2GB"),
        ("maintenance_work_mem", "2GB"),
        // A container's /dev/shm may be too small for a parallel build.
        ("dynamic_shared_memory_type", "mmap"),
        ("max_wal_size", "8GB"),
        ("checkpoint_timeout", "1d"),
    ];
    let server = Server::start(ServerOptions {
        durable: true,
        settings: settings
            .map(|(name, value)| (name.into(), value.into()))
            .into(),
        ..ServerOptions::default()
    })
    .await?;
    let mut connection = PgConnection::connect(&server.url("postgres")).await?;
    MIGRATOR.run(&mut connection).await?;
    connection.close().await?;
    Ok(server)
}

async fn deps(url: &str) -> anyhow::Result<KnowledgeDeps> {
    let embeddings = EmbeddingsConfig {
        api_key: "bench".into(),
        // The vectors are made here: nobody is called.
        base_url: "http://127.0.0.1:9".into(),
        model: MODEL.into(),
        dimensions: u16::try_from(DIMENSIONS)?,
    };
    let deps = KnowledgeDeps {
        pool: DatabaseConfig::new(url, 8).open()?.pool().clone(),
        embedder: Embedder::new(embeddings, http_client()?),
        config: KnowledgeConfig {
            relevance_threshold: 0.3,
            proactive_threshold: 0.4,
            top_k: TOP_K,
            ef_search: EF_SEARCH,
            chunk_size: 512,
            chunk_overlap: 64,
            table: KnowledgeTable::default(),
        },
    };
    deps.prepare().await?;
    Ok(deps)
}

/// The nearest chunks by the index, as their numbers.
async fn by_vector(
    conn: &mut PgConnection,
    deps: &KnowledgeDeps,
    question: &Question,
    ef_search: u16,
) -> anyhow::Result<Vec<u32>> {
    let wanted = Search {
        embedding: question.vector.clone(),
        model: MODEL,
        question: "",
        locale: None,
        nearest: CANDIDATES,
        texts: 0,
        least_cosine: 0.0,
        ef_search,
        explain: false,
    };
    let mut found = search(conn, &deps.config.table, wanted).await?;
    found.sort_by_key(|one| one.vector_rank);
    found
        .iter()
        .take(K)
        .map(|one| {
            // The title is the chunk's number.
            let number = one.heading_path.first().context("a chunk has no number")?;
            Ok(number.parse()?)
        })
        .collect()
}

fn questions(corpus: &Corpus, chunks: u32, count: u32) -> Vec<Question> {
    let mut random = Random::of(8, 0);
    (0..count)
        .map(|question| {
            let chunk = random.below(chunks);
            Question {
                text: corpus.question(question, chunk),
                vector: corpus.question_vector(question, chunk),
            }
        })
        .collect()
}

/// Stores the chunks as the product does, but for the order: the indexes are built when all are there.
async fn fill(deps: &KnowledgeDeps, corpus: &Arc<Corpus>, chunks: u32) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut conn = deps.pool.acquire().await?;
    let indexes: Vec<(String, String)> = sqlx::query_as(
        "select indexrelid::regclass::text, pg_get_indexdef(indexrelid) from pg_index
         where indrelid = 'knowledge_chunks'::regclass and not indisunique",
    )
    .fetch_all(&mut *conn)
    .await?;
    for (name, _) in &indexes {
        sqlx::query(AssertSqlSafe(format!("drop index {name}")))
            .execute(&mut *conn)
            .await?;
    }
    progress(&format!("  {chunks} chunks"));
    stream::iter(0..chunks.div_ceil(DOCUMENT))
        .map(|document| {
            let (pool, corpus) = (deps.pool.clone(), Arc::clone(corpus));
            async move {
                let stored = tokio::spawn(async move {
                    let last = ((document + 1) * DOCUMENT).min(chunks);
                    store(&pool, &corpus, document, document * DOCUMENT..last).await
                });
                stored.await?
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    progress(&format!(
        "  the indexes, after {:.0} s",
        begun.elapsed().as_secs_f64()
    ));
    for (_, definition) in indexes {
        sqlx::query(AssertSqlSafe(definition))
            .execute(&mut *conn)
            .await?;
    }
    refresh_terms(&mut conn, &deps.config.table).await?;
    sqlx::query("vacuum analyze").execute(&mut *conn).await?;
    sqlx::query("checkpoint").execute(&mut *conn).await?;
    progress(&format!(
        "  all is there after {:.0} s",
        begun.elapsed().as_secs_f64()
    ));
    Ok(())
}

async fn store(
    pool: &PgPool,
    corpus: &Corpus,
    document: u32,
    chunks: std::ops::Range<u32>,
) -> anyhow::Result<()> {
    let to_store: Vec<ChunkToStore> = chunks
        .map(|chunk| ChunkToStore {
            heading_path: vec![chunk.to_string()],
            content: corpus.text(chunk),
            token_count: 500,
            content_hash: chunk.to_be_bytes().to_vec(),
            embedding: ChunkEmbedding::New(corpus.vector(chunk)),
        })
        .collect();
    let mut conn = pool.acquire().await?;
    let document_id: i64 = sqlx::query_scalar(
        "insert into knowledge_documents (source, url, title, content, content_hash, language)
         values ($1, $1, $1, '', '', 'en') returning document_id",
    )
    .bind(format!("Document {document}"))
    .fetch_one(&mut *conn)
    .await?;
    let table = KnowledgeTable::default();
    replace_chunks(&mut conn, &table, document_id, b"", b"", MODEL, &to_store).await?;
    Ok(())
}
