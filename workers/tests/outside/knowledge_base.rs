//! A knowledge base over a real database, with embeddings that a test can foresee.

use std::fs;

use jobs::{JobKind, catalog::KnowledgeIndexDocument};
use sandbox::postgres::TestDatabase;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use store::bus::Bus;
use tempfile::TempDir;
use workers::{
    clients::embeddings::Embedder,
    config::{EmbeddingsConfig, KnowledgeConfig},
    handlers::index_document::{IndexOutcome, index_document},
    knowledge::{
        KnowledgeDeps, Passage,
        ingest::{StageSummary, stage_paths},
        retrieve,
    },
};

use crate::support::{Provider, Received, http, plain};

pub(crate) const DIMENSIONS: u16 = 64;
pub(crate) const MODEL: &str = "text-embedding-3-small";

/// A knowledge base with a folder to index.
pub(crate) struct World {
    pub(crate) deps: KnowledgeDeps,
    pub(crate) provider: Provider,
    place: TempDir,
    // Dropped last: the pool above must be unused by then.
    _database: TestDatabase,
}

pub(crate) fn embedder(provider: &Provider, model: &str, dimensions: u16) -> Embedder {
    let config = EmbeddingsConfig {
        api_key: "sk-test".into(),
        base_url: provider.url(),
        model: model.into(),
        dimensions,
    };
    Embedder::new(config, http())
}

/// Each word adds to one dimension: texts that share words are near.
pub(crate) fn embed(text: &str) -> Vec<f32> {
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

pub(crate) fn embeddings(received: &Received) -> Value {
    let inputs = received.body["input"].as_array().unwrap();
    let data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, input)| json!({"index": index, "embedding": embed(input.as_str().unwrap())}))
        .collect();
    json!({"data": data, "usage": {"total_tokens": inputs.len()}})
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|received| plain(200, &[], embeddings(received).to_string())).await
    }

    pub(crate) async fn with(
        answer: impl Fn(&Received) -> axum::response::Response + Send + Sync + 'static,
    ) -> Self {
        let database = TestDatabase::create().await.unwrap();
        let provider = Provider::start(answer).await;
        let deps = KnowledgeDeps {
            pool: database.pool().await.unwrap(),
            embedder: embedder(&provider, MODEL, DIMENSIONS),
            config: KnowledgeConfig {
                relevance_threshold: 0.2,
                proactive_threshold: 0.3,
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
    pub(crate) fn with_embedder(&self, provider: Provider) -> (KnowledgeDeps, Provider) {
        let deps = KnowledgeDeps {
            embedder: embedder(&provider, MODEL, DIMENSIONS),
            ..self.deps.clone()
        };
        (deps, provider)
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.deps.pool
    }

    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.place.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn remove(&self, path: &str) {
        fs::remove_file(self.place.path().join(path)).unwrap();
    }

    pub(crate) async fn stage(&self, roots: &[&str]) -> StageSummary {
        let paths: Vec<_> = roots
            .iter()
            .map(|root| self.place.path().join(root))
            .collect();
        let bus = Bus::new("test");
        stage_paths(self.pool(), &bus, &self.deps.profile(), &paths)
            .await
            .unwrap()
    }

    /// Takes the waiting jobs out of the queue, in the order of their documents' sources.
    pub(crate) async fn take_jobs(&self) -> Vec<KnowledgeIndexDocument> {
        let payloads: Vec<Value> = sqlx::query_scalar(
            "with taken as (delete from queue.jobs where kind = $1 returning id, payload)
             select payload from taken
             left join knowledge_documents on document_id = (payload ->> 'document_id')::bigint
             order by source, id",
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

    pub(crate) async fn run_jobs(&self) -> Vec<IndexOutcome> {
        let mut outcomes = Vec::new();
        for job in self.take_jobs().await {
            outcomes.push(index_document(&self.deps, &job).await.unwrap());
        }
        outcomes
    }

    pub(crate) async fn index(&self, roots: &[&str]) -> Vec<IndexOutcome> {
        let summary = self.stage(roots).await;
        assert_eq!(summary.skipped, []);
        self.run_jobs().await
    }

    pub(crate) async fn ask(&self, question: &str) -> Vec<Passage> {
        let retrieved = retrieve(&self.deps, question, None).await.unwrap();
        retrieved.passages
    }

    /// Every text that was sent to be embedded.
    pub(crate) fn embedded(&self) -> Vec<String> {
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
    pub(crate) async fn chunks(&self, source: &str) -> Vec<(i32, String)> {
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

    pub(crate) async fn sources(&self) -> Vec<String> {
        sqlx::query_scalar("select source from knowledge_documents order by source")
            .fetch_all(self.pool())
            .await
            .unwrap()
    }
}

pub(crate) fn indexed(chunks: usize, embedded: usize) -> IndexOutcome {
    IndexOutcome::Indexed {
        chunks,
        embedded,
        tokens: embedded as u64,
    }
}
