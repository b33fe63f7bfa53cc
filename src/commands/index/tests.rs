use sandbox::postgres::TestDatabase;
use store::bus::Bus;
use workers::{
    clients::{embeddings::Embedder, guarded::AddressRules, http_client},
    config::{EmbeddingsConfig, KnowledgeConfig},
    knowledge::extract::Extractor,
};

use super::*;

/// A knowledge base whose provider is never called: the jobs are ended by hand.
async fn deps(database: &TestDatabase) -> KnowledgeDeps {
    // Another test may have installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let embeddings = EmbeddingsConfig {
        api_key: "sk-test".into(),
        base_url: "http://127.0.0.1:9".into(),
        model: "m".into(),
        dimensions: 3,
    };
    KnowledgeDeps {
        pool: database.pool().await.unwrap(),
        embedder: Embedder::new(embeddings, http_client().unwrap()),
        config: KnowledgeConfig {
            relevance_threshold: 0.5,
            proactive_threshold: 0.6,
            top_k: 5,
            ef_search: 40,
            chunk_size: 512,
            chunk_overlap: 64,
            table: "chunks".parse().unwrap(),
        },
    }
}

/// Ends every live job with an outcome that its source asks for, until it is stopped.
async fn end_jobs(pool: PgPool, stop: CancellationToken) -> anyhow::Result<()> {
    while !stop.is_cancelled() {
        sqlx::query(
            "with ended as (delete from queue.jobs returning *)
             insert into queue.history (id, queue, kind, outcome, priority, attempt, max_attempts,
                                        retry_waits, payload, errors, created_at)
             select e.id, queue, e.kind, case when source like '%bad%' then 'dead' else 'done' end,
                    priority, 1, max_attempts, retry_waits, payload,
                    jsonb_build_array(jsonb_build_object('error', 'it broke')), created_at
             from ended e
             join knowledge_documents on document_id = (payload ->> 'document_id')::bigint",
        )
        .execute(&pool)
        .await?;
        let _ = tokio::time::timeout(POLL, stop.cancelled()).await;
    }
    Ok(())
}

/// Runs the command over some targets.
async fn run_over<W>(
    targets: Vec<Target>,
    work: impl FnOnce(PgPool, CancellationToken) -> W,
) -> anyhow::Result<(bool, String)>
where
    W: Future<Output = anyhow::Result<()>>,
{
    let database = TestDatabase::create().await.unwrap();
    let deps = deps(&database).await;
    let args = IndexArgs {
        targets,
        max_pages: 10,
        max_depth: 1,
        rate: 100.0,
    };
    let ingest = Ingest::new(
        deps.pool.clone(),
        Bus::new("test"),
        deps.profile(),
        Extractor::of_threads(),
    );
    let client = GuardedClient::new(AddressRules::default()).unwrap();
    let mut out = Vec::new();
    let pool = deps.pool.clone();
    let indexing = Indexing {
        args: &args,
        deps: &deps,
        ingest,
        client: &client,
        shutdown: CancellationToken::new(),
        is_terminal: false,
    };
    let code = run(indexing, |stop| work(pool, stop), &mut out).await?;
    Ok((code == ExitCode::SUCCESS, String::from_utf8(out).unwrap()))
}

async fn index(files: &[(&str, &str)]) -> (bool, String) {
    let place = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(place.path().join(name), content).unwrap();
    }
    let targets = vec![Target::Path(place.path().to_owned())];
    run_over(targets, end_jobs).await.unwrap()
}

#[tokio::test]
async fn documents_that_are_indexed_are_counted() {
    let (success, told) = index(&[("a.md", "# A"), ("b.md", "# B"), ("c.txt", " ")]).await;
    assert!(success, "{told}");
    assert!(told.contains("indexed            2"), "{told}");
    assert!(told.contains("c.txt is empty"), "{told}");
}

#[tokio::test]
async fn a_document_that_fails_is_named_and_fails_the_command() {
    let (success, told) = index(&[("a.md", "# A"), ("bad.md", "# B")]).await;
    assert!(!success);
    assert!(told.contains("indexed            1"), "{told}");
    assert!(told.contains("bad.md: it broke"), "{told}");
}

#[tokio::test]
async fn nothing_to_index_fails_the_command() {
    let (success, told) = index(&[]).await;
    assert!(!success);
    assert!(told.contains("has no document in it"), "{told}");
}

#[tokio::test]
async fn a_site_that_must_not_be_reached_is_named_and_fails_the_command() {
    let site = Target::Site("http://169.254.169.254/latest".parse().unwrap());
    let (success, told) = run_over(vec![site], end_jobs).await.unwrap();
    assert!(!success);
    assert!(told.contains("leads to a private address"), "{told}");
}

#[tokio::test]
async fn a_worker_that_can_not_work_ends_the_command() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("a.md"), "# A").unwrap();
    let targets = vec![Target::Path(place.path().to_owned())];
    let broken = |_, _| async { Err(anyhow::anyhow!("no database")) };
    assert!(run_over(targets, broken).await.is_err());
}
