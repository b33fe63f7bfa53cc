//! From files to passages, over a real database and embeddings that a test can foresee.

use std::{fs, sync::Arc, time::Duration};

use jobs::{JobKind, catalog::KnowledgeIndexDocument};
use sandbox::postgres::TestDatabase;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool, postgres::PgPoolOptions};
use store::{
    bus::Bus,
    knowledge::{KnowledgeError, KnowledgeTable},
};
use tempfile::TempDir;
use tokio::sync::{Notify, mpsc};
use workers::{
    clients::{RetryClass, embeddings::Embedder},
    config::{EmbeddingsConfig, KnowledgeConfig},
    handlers::index_document::{IndexError, IndexOutcome, index_document},
    knowledge::{
        KnowledgeDeps, Passage,
        ingest::{SkipReason, StageSummary, stage_paths},
        retrieve,
    },
};

use crate::support::{Provider, Received, http, plain};

const DIMENSIONS: u16 = 64;
const MODEL: &str = "text-embedding-3-small";

/// A knowledge base with a folder to index.
struct World {
    deps: KnowledgeDeps,
    provider: Provider,
    place: TempDir,
    // Dropped last: the pool above must be unused by then.
    _database: TestDatabase,
}

fn embedder(provider: &Provider, model: &str, dimensions: u16) -> Embedder {
    let config = EmbeddingsConfig {
        api_key: "sk-test".into(),
        base_url: provider.url(),
        model: model.into(),
        dimensions,
    };
    Embedder::new(config, http())
}

/// Each word adds to one dimension: texts that share words are near.
fn embed(text: &str) -> Vec<f32> {
    let mut vector = vec![0.0; DIMENSIONS.into()];
    for word in text
        .split(|sign: char| !sign.is_alphanumeric())
        .filter(|word| !word.is_empty())
    {
        let hash = word.to_lowercase().bytes().fold(5_381_u32, |hash, byte| {
            hash.wrapping_mul(33) ^ u32::from(byte)
        });
        vector[usize::try_from(hash % u32::from(DIMENSIONS)).unwrap()] += 1.0;
    }
    vector
}

fn embeddings(received: &Received) -> Value {
    let inputs = received.body["input"].as_array().unwrap();
    let data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, input)| json!({"index": index, "embedding": embed(input.as_str().unwrap())}))
        .collect();
    json!({"data": data, "usage": {"total_tokens": inputs.len()}})
}

impl World {
    async fn new() -> Self {
        Self::with(|received| plain(200, &[], embeddings(received).to_string())).await
    }

    async fn with(
        answer: impl Fn(&Received) -> axum::response::Response + Send + Sync + 'static,
    ) -> Self {
        let database = TestDatabase::create().await.unwrap();
        let provider = Provider::start(answer).await;
        let deps = KnowledgeDeps {
            pool: database.pool().await.unwrap(),
            embedder: embedder(&provider, MODEL, DIMENSIONS),
            config: KnowledgeConfig {
                relevance_threshold: 0.2,
                top_k: 5,
                ef_search: 40,
                chunk_size: 64,
                chunk_overlap: 8,
                table: "chunks_of_the_test".parse().unwrap(),
            },
        };
        deps.prepare().await.unwrap();
        Self {
            deps,
            provider,
            place: tempfile::tempdir().unwrap(),
            _database: database,
        }
    }

    /// The same knowledge base with another provider, which the caller keeps alive.
    fn with_embedder(&self, provider: Provider) -> (KnowledgeDeps, Provider) {
        let deps = KnowledgeDeps {
            embedder: embedder(&provider, MODEL, DIMENSIONS),
            ..self.deps.clone()
        };
        (deps, provider)
    }

    fn pool(&self) -> &PgPool {
        &self.deps.pool
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.place.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.place.path().join(path)).unwrap();
    }

    async fn stage(&self, roots: &[&str]) -> StageSummary {
        let paths: Vec<_> = roots
            .iter()
            .map(|root| self.place.path().join(root))
            .collect();
        let bus = Bus::new("test");
        stage_paths(self.pool(), &bus, &self.deps.profile(), &paths)
            .await
            .unwrap()
    }

    /// Takes the waiting jobs out of the queue.
    async fn take_jobs(&self) -> Vec<KnowledgeIndexDocument> {
        let payloads: Vec<Value> = sqlx::query_scalar(
            "with taken as (delete from queue.jobs where kind = $1 returning id, payload)
                                select payload from taken order by id",
        )
        .bind(KnowledgeIndexDocument::KIND)
        .fetch_all(self.pool())
        .await
        .unwrap();
        payloads
            .into_iter()
            .map(|payload| serde_json::from_value(payload).unwrap())
            .collect()
    }

    async fn run_jobs(&self) -> Vec<IndexOutcome> {
        let mut outcomes = Vec::new();
        for job in self.take_jobs().await {
            outcomes.push(index_document(&self.deps, &job).await.unwrap());
        }
        outcomes
    }

    async fn index(&self, roots: &[&str]) -> Vec<IndexOutcome> {
        let summary = self.stage(roots).await;
        assert_eq!(summary.skipped, []);
        self.run_jobs().await
    }

    async fn ask(&self, question: &str) -> Vec<Passage> {
        retrieve(&self.deps, question).await.unwrap()
    }

    /// Every text that was sent to be embedded.
    fn embedded(&self) -> Vec<String> {
        let texts = |received: Received| {
            let inputs = received.body["input"].as_array().unwrap().clone();
            inputs
                .into_iter()
                .map(|input| input.as_str().unwrap().to_owned())
        };
        self.provider
            .received()
            .into_iter()
            .flat_map(texts)
            .collect()
    }

    /// `(ordinal, content)` of a document's chunks.
    async fn chunks(&self, source: &str) -> Vec<(i32, String)> {
        let sql = format!(
            "select ordinal, c.content from {} c join knowledge_documents using (document_id)
             where source = $1 order by ordinal",
            self.deps.config.table
        );
        sqlx::query_as(AssertSqlSafe(sql))
            .bind(source)
            .fetch_all(self.pool())
            .await
            .unwrap()
    }

    async fn sources(&self) -> Vec<String> {
        sqlx::query_scalar("select source from knowledge_documents order by source")
            .fetch_all(self.pool())
            .await
            .unwrap()
    }
}

fn indexed(chunks: usize, embedded: usize) -> IndexOutcome {
    IndexOutcome::Indexed {
        chunks,
        embedded,
        tokens: embedded as u64,
    }
}

#[tokio::test]
async fn a_question_finds_the_passage_and_where_it_is_from() {
    let world = World::new().await;
    world.write(
        "handbook/03-operations.md",
        "# Operations\n\n## Backups\n\nA backup of the database runs every night at two.\n\n\
         ## Deployment\n\nMachines are replaced one after another.\n",
    );
    world.write(
        "handbook/faq/prices.md",
        "---\nurl: https://example.org/prices\n---\n# Prices\n\nA workshop costs money.\n",
    );
    world.write("handbook/notes.txt", "Penguins swim in cold water.");
    assert_eq!(
        world.index(&["handbook"]).await,
        [indexed(2, 2), indexed(1, 1), indexed(1, 1)]
    );
    let passages = world.ask("when does the backup of the database run").await;
    assert_eq!(passages[0].url, "03-operations.md#backups");
    assert_eq!(passages[0].title, "Operations");
    assert_eq!(passages[0].heading_path, ["Backups"]);
    assert!(passages[0].content.contains("every night"));
    assert!(passages[0].score > passages.get(1).map_or(0.2, |next| next.score));

    let prices = &world.ask("prices workshop costs").await[0];
    assert_eq!(prices.url, "https://example.org/prices");
    assert_eq!(prices.kind.as_str(), "faq");
    assert_eq!(world.ask("penguins swim").await[0].url, "notes.txt");
}

#[tokio::test]
async fn nothing_is_found_below_the_threshold_and_at_most_top_k_above_it() {
    let mut world = World::new().await;
    for number in 0..8 {
        world.write(
            &format!("k/{number}.md"),
            format!("# T\n\nRed apples number {number}.\n"),
        );
    }
    world.index(&["k"]).await;
    assert_eq!(world.ask("red apples").await.len(), 5);
    world.deps.config.top_k = 8;
    world.deps.config.ef_search = 1;
    assert_eq!(
        world.ask("red apples").await.len(),
        8,
        "ef_search is at least top_k"
    );
    world.deps.config.relevance_threshold = 1.0;
    assert_eq!(world.ask("red apples").await, []);
    world.deps.config.relevance_threshold = 0.0;
    assert_eq!(
        world.ask("???").await,
        [],
        "a vector of zeros is near to nothing"
    );
    let calls = world.provider.received().len();
    assert_eq!(world.ask(" \n").await, []);
    assert_eq!(
        world.provider.received().len(),
        calls,
        "a blank question needs no call"
    );
}

#[tokio::test]
async fn the_longest_message_can_be_searched_for() {
    let world = World::new().await;
    world.write("k/a.md", "# T\n\nText.\n");
    world.index(&["k"]).await;
    world.ask(&"𓀀".repeat(4_000)).await;
    let sent = world.embedded().pop().unwrap();
    assert!(sent.len() <= 8_192 && sent.len() > 8_180);
}

#[tokio::test]
async fn only_what_changed_is_embedded_again() {
    let world = World::new().await;
    world.write(
        "k/a.md",
        "# T\n\nIntro.\n\n## One\n\nFirst.\n\n## Two\n\nSecond.\n\n## Three\n\nThird.\n",
    );
    world.write("k/b.md", "# B\n\nOther.\n");
    world.index(&["k"]).await;
    let again = world.stage(&["k"]).await;
    assert_eq!((again.unchanged, again.staged.len()), (2, 0));

    // One is new, one changed, two changed places.
    world.write(
        "k/a.md",
        "# T\n\nIntro.\n\n## Zero\n\nNew.\n\n## Three\n\nThird.\n\n## One\n\nFirst.\n\n## Two\n\nSecond, better.\n",
    );
    let before = world.embedded().len();
    assert_eq!(world.index(&["k"]).await, [indexed(5, 2)]);
    let embedded = world.embedded().split_off(before);
    assert_eq!(
        embedded,
        [
            "T > Zero\n\n## Zero\n\nNew.",
            "T > Two\n\n## Two\n\nSecond, better."
        ]
    );
    let (ordinals, contents): (Vec<_>, Vec<_>) = world.chunks("k/a.md").await.into_iter().unzip();
    assert_eq!(ordinals, [0, 1, 2, 3, 4]);
    assert_eq!(
        contents,
        [
            "# T\n\nIntro.",
            "## Zero\n\nNew.",
            "## Three\n\nThird.",
            "## One\n\nFirst.",
            "## Two\n\nSecond, better."
        ]
    );
}

#[tokio::test]
async fn another_model_or_chunk_size_asks_for_a_new_index() {
    let mut world = World::new().await;
    world.write("k/a.md", "# T\n\nText.\n");
    world.index(&["k"]).await;
    world.deps.config.chunk_size = 128;
    assert_eq!(
        world.index(&["k"]).await,
        [indexed(1, 0)],
        "the same chunk keeps its embedding"
    );
    world.deps.embedder = embedder(&world.provider, "text-embedding-3-large", DIMENSIONS);
    assert_eq!(
        world.ask("text").await,
        [],
        "vectors of two models are not compared"
    );
    assert_eq!(world.index(&["k"]).await, [indexed(1, 1)]);
    assert_eq!(world.ask("text").await.len(), 1);
}

#[tokio::test]
async fn a_job_run_twice_finds_its_work_done() {
    let world = World::new().await;
    world.write("k/a.md", "# T\n\nText.\n");
    world.stage(&["k"]).await;
    let job = world.take_jobs().await.remove(0);
    assert_eq!(
        index_document(&world.deps, &job).await.unwrap(),
        indexed(1, 1)
    );
    assert_eq!(
        index_document(&world.deps, &job).await.unwrap(),
        IndexOutcome::Unchanged
    );
    assert_eq!(world.embedded().len(), 1);
}

#[tokio::test]
async fn a_job_of_older_text_leaves_the_document_alone() {
    let world = World::new().await;
    world.write("k/a.md", "# T\n\nOld.\n");
    world.stage(&["k"]).await;
    let old = world.take_jobs().await.remove(0);
    world.write("k/a.md", "# T\n\nNew.\n");
    world.stage(&["k"]).await;
    assert_eq!(
        index_document(&world.deps, &old).await.unwrap(),
        IndexOutcome::Superseded
    );
    assert_eq!(world.run_jobs().await, [indexed(1, 1)]);

    world.remove("k/a.md");
    world.write("k/b.md", "# B\n\nOther.\n");
    world.stage(&["k"]).await;
    assert_eq!(
        index_document(&world.deps, &old).await.unwrap(),
        IndexOutcome::Superseded
    );
}

#[tokio::test]
async fn text_that_changes_while_it_is_embedded_is_not_marked_as_indexed() {
    let world = World::new().await;
    world.write("k/a.md", "# T\n\nOld.\n");
    world.stage(&["k"]).await;
    let job = world.take_jobs().await.remove(0);
    // The provider answers as soon as the text has changed.
    let (asked, mut was_asked) = mpsc::unbounded_channel();
    let changed = Arc::new(Notify::new());
    let (deps, _provider) = world.with_embedder(
        Provider::start_async({
            let changed = changed.clone();
            move |received| {
                let (asked, changed) = (asked.clone(), changed.clone());
                async move {
                    asked.send(()).unwrap();
                    changed.notified().await;
                    plain(200, &[], embeddings(&received).to_string())
                }
            }
        })
        .await,
    );
    let (outcome, ()) = tokio::join!(index_document(&deps, &job), async {
        was_asked.recv().await.unwrap();
        world.write("k/a.md", "# T\n\nNew.\n");
        world.stage(&["k"]).await;
        changed.notify_one();
    });
    assert_eq!(outcome.unwrap(), IndexOutcome::Superseded);
    assert_eq!(world.chunks("k/a.md").await, []);
    assert_eq!(world.run_jobs().await, [indexed(1, 1)]);
    assert_eq!(world.chunks("k/a.md").await[0].1, "# T\n\nNew.");
}

#[tokio::test]
async fn no_connection_is_held_while_the_provider_is_called() {
    let world = World::new().await;
    world.write("k/a.md", "# T\n\nText.\n");
    world.stage(&["k"]).await;
    let job = world.take_jobs().await.remove(0);
    // A pool of one connection, which the provider has to get before it answers.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(Duration::from_secs(5))
        .connect_with((*world.pool().connect_options()).clone())
        .await
        .unwrap();
    let provider = Provider::start_async({
        let pool = pool.clone();
        move |received| {
            let pool = pool.clone();
            async move {
                match pool.acquire().await {
                    Ok(_) => plain(200, &[], embeddings(&received).to_string()),
                    Err(_) => plain(400, &[], "the connection is held"),
                }
            }
        }
    })
    .await;
    let (mut deps, _provider) = world.with_embedder(provider);
    deps.pool = pool;
    assert_eq!(index_document(&deps, &job).await.unwrap(), indexed(1, 1));
    assert_eq!(retrieve(&deps, "text").await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_failed_embedding_leaves_the_old_chunks_and_says_when_to_retry() {
    let world = World::with(|received| {
        if received.body["input"][0]
            .as_str()
            .unwrap()
            .contains("Broken")
        {
            plain(503, &[("retry-after", "2")], "")
        } else {
            plain(200, &[], embeddings(received).to_string())
        }
    })
    .await;
    world.write("k/a.md", "# T\n\nGood.\n");
    world.index(&["k"]).await;
    world.write("k/a.md", "# T\n\nBroken.\n");
    world.stage(&["k"]).await;
    let job = world.take_jobs().await.remove(0);
    let error = index_document(&world.deps, &job).await.unwrap_err();
    assert!(matches!(error, IndexError::Embedding(_)), "{error:?}");
    let after = Some(Duration::from_secs(2));
    assert_eq!(error.retry(), RetryClass::Retry { after });
    assert_eq!(world.chunks("k/a.md").await[0].1, "# T\n\nGood.");
    assert_eq!(
        world.stage(&["k"]).await.staged.len(),
        1,
        "it is still to be indexed"
    );
}

#[tokio::test]
async fn documents_that_are_gone_are_removed_with_their_chunks() {
    let world = World::new().await;
    for path in ["a/x.md", "a/y.md", "ab/z.md"] {
        world.write(path, "# T\n\nText.\n");
    }
    world.index(&["a", "ab"]).await;
    world.remove("a/x.md");
    let summary = world.stage(&["a"]).await;
    assert_eq!(summary.removed, ["a/x.md"]);
    assert_eq!(world.sources().await, ["a/y.md", "ab/z.md"]);
    assert_eq!(world.chunks("a/x.md").await, []);
    assert_eq!(world.ask("text").await.len(), 2);

    world.remove("a/y.md");
    let summary = world.stage(&["a"]).await;
    assert_eq!(summary.skipped[0].reason, SkipReason::NoDocuments);
    assert_eq!(
        world.sources().await,
        ["a/y.md", "ab/z.md"],
        "an empty folder may be a mistake"
    );
}

#[tokio::test]
async fn one_file_by_itself_leaves_its_neighbours_alone() {
    let world = World::new().await;
    world.write("k/a.md", "# T\n\nText.\n");
    world.write("k/b.md", "# T\n\nText.\n");
    world.index(&["k"]).await;
    world.write("k/a.md", "# T\n\nNew text.\n");
    let summary = world.stage(&["k/a.md"]).await;
    assert_eq!(summary.staged.len(), 1);
    assert_eq!(
        (summary.staged[0].source.as_str(), summary.removed.len()),
        ("k/a.md", 0)
    );
    assert_eq!(world.sources().await, ["k/a.md", "k/b.md"]);
}

#[tokio::test]
async fn what_is_left_out_is_told_and_keeps_its_document() {
    let world = World::new().await;
    world.write("k/a.md", "# T\n\nText.\n");
    world.write("k/b.md", "# T\n\nText.\n");
    world.index(&["k"]).await;
    world.write("k/a.md", b"\xff\xfe");
    world.write("x/k/c.md", "# T\n\nText.\n");
    let summary = world.stage(&["k", "nowhere", "x/k"]).await;
    let told: Vec<_> = summary
        .skipped
        .iter()
        .map(|skipped| {
            (
                skipped
                    .path
                    .file_name()
                    .and_then(|name| name.to_str())
                    .unwrap(),
                skipped.reason,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("nowhere", SkipReason::NotFound),
            ("k", SkipReason::SameName),
            ("a.md", SkipReason::NotUtf8)
        ]
    );
    assert!(summary.has_errors());
    assert_eq!(world.sources().await, ["k/a.md", "k/b.md"]);
}

#[tokio::test]
async fn staging_twice_makes_one_job() {
    let world = World::new().await;
    world.write("k/a.md", "# T\n\nText.\n");
    let first = world.stage(&["k"]).await;
    let second = world.stage(&["k"]).await;
    assert_eq!(first.staged, second.staged);
    assert_eq!(world.take_jobs().await.len(), 1);
}

#[tokio::test]
async fn the_table_must_fit_the_embeddings() {
    let world = World::new().await;
    let prepare = async |table: &str, dimensions: u16| {
        let mut deps = world.deps.clone();
        deps.embedder = embedder(&world.provider, MODEL, dimensions);
        deps.config.table = table.parse::<KnowledgeTable>().unwrap();
        deps.prepare().await
    };
    prepare("knowledge_chunks", 1_536).await.unwrap();
    prepare("user", 3)
        .await
        .expect("a reserved word is a name as well");
    prepare("user", 3).await.unwrap();
    assert!(matches!(
        prepare("user", 2_001).await,
        Err(KnowledgeError::TooManyDimensions(2_001))
    ));
    assert!(matches!(
        prepare("messages", 3).await,
        Err(KnowledgeError::NotAKnowledgeTable(_))
    ));

    prepare("chunks_of_the_test", 3)
        .await
        .expect("an empty table takes any length");
    prepare("chunks_of_the_test", DIMENSIONS).await.unwrap();
    world.write("k/a.md", "# T\n\nText.\n");
    world.index(&["k"]).await;
    let error = prepare("chunks_of_the_test", 3).await.unwrap_err();
    assert!(
        matches!(
            error,
            KnowledgeError::Dimensions {
                found: 64,
                wanted: 3,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(world.ask("text").await.len(), 1);
}

#[tokio::test]
async fn a_table_may_be_made_by_many_at_once() {
    let world = World::new().await;
    let mut deps = world.deps.clone();
    deps.config.table = "made_by_many".parse().unwrap();
    let made = futures::future::join_all((0..8).map(|_| deps.prepare())).await;
    assert!(made.iter().all(Result::is_ok), "{made:?}");
}

#[tokio::test]
async fn the_search_uses_the_index_with_its_settings_and_leaves_none_behind() {
    let world = World::new().await;
    for number in 0..30 {
        world.write(
            &format!("k/{number}.md"),
            format!("# T\n\nRed apples number {number}.\n"),
        );
    }
    world.index(&["k"]).await;
    let mut conn = world.pool().acquire().await.unwrap();
    sqlx::query("set enable_seqscan = off")
        .execute(&mut *conn)
        .await
        .unwrap();
    let search = |top_k| store::knowledge::Search {
        embedding: embed("red apples"),
        model: MODEL,
        top_k,
        threshold: 0.1,
        ef_search: 1,
    };
    let table = &world.deps.config.table;
    let found = store::knowledge::search(&mut conn, table, search(20))
        .await
        .unwrap();
    assert_eq!(found.len(), 20);
    assert!(found.is_sorted_by(|a, b| a.cosine >= b.cosine));
    let left: String = sqlx::query_scalar("select current_setting('hnsw.iterative_scan')")
        .fetch_one(&mut *conn)
        .await
        .unwrap();
    assert_eq!(left, "off");
}
