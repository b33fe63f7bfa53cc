use sandbox::{
    openai::{Failure, OpenAi},
    outside::OutsideWorld,
    postgres::TestDatabase,
};
use store::knowledge::{
    ChunkEmbedding, ChunkToStore, DocumentKind, IndexProfile, NewDocument, TextFormat,
    replace_chunks, stage_document,
};
use workers::{
    clients::{embeddings::Embedder, http_client},
    config::{EmbeddingsConfig, KnowledgeConfig},
};

use super::*;

struct World {
    deps: KnowledgeDeps,
    openai: OpenAi,
    // Dropped last: the pool above must be unused by then.
    _database: TestDatabase,
}

impl World {
    async fn new() -> Self {
        // Another test may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let database = TestDatabase::create().await.unwrap();
        let openai = OpenAi::start(OutsideWorld::default(), 0).await.unwrap();
        let embeddings = EmbeddingsConfig {
            api_key: "sk-test".into(),
            base_url: openai.url(),
            model: "text-embedding-3-small".into(),
            dimensions: 64,
        };
        let deps = KnowledgeDeps {
            pool: database.pool().await.unwrap(),
            embedder: Embedder::new(embeddings, http_client().unwrap()),
            config: KnowledgeConfig {
                relevance_threshold: 0.2,
                proactive_threshold: 0.3,
                top_k: 5,
                ef_search: 40,
                chunk_size: 512,
                chunk_overlap: 64,
                table: "chunks".parse().unwrap(),
            },
        };
        deps.prepare().await.unwrap();
        Self {
            deps,
            openai,
            _database: database,
        }
    }

    /// Puts one document of one chunk into the knowledge base.
    async fn add(&self, source: &str, heading: &str, content: &str) {
        let document = NewDocument {
            source: source.into(),
            url: format!("https://example.org/{source}"),
            title: "Handbook".into(),
            kind: DocumentKind::Page,
            language: Some("en".into()),
            format: TextFormat::Text,
            content: content.into(),
        };
        let profile: IndexProfile = self.deps.profile();
        let mut conn = self.deps.pool.acquire().await.unwrap();
        let staged = stage_document(&mut conn, &document, &profile)
            .await
            .unwrap();
        let embedded = self.deps.embedder.embed(&[content]).await.unwrap();
        let chunk = ChunkToStore {
            heading_path: vec![heading.into()],
            content: content.into(),
            token_count: 1,
            content_hash: document.content_hash(),
            embedding: ChunkEmbedding::New(embedded.vectors[0].clone()),
        };
        replace_chunks(
            &mut conn,
            &self.deps.config.table,
            staged.document_id,
            &staged.content_hash,
            &staged.content_hash,
            self.deps.embedder.model(),
            &[chunk],
        )
        .await
        .unwrap();
    }

    async fn search(&self, line: &str) -> anyhow::Result<String> {
        let args = <Line as clap::Parser>::parse_from(
            ["search"].into_iter().chain(line.split_whitespace()),
        );
        let mut out = Vec::new();
        run(&args.search, self.deps.clone(), &mut out).await?;
        Ok(String::from_utf8(out).unwrap())
    }
}

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    search: SearchArgs,
}

#[tokio::test]
async fn the_ranking_is_told_with_its_reasons() {
    let world = World::new().await;
    let backups = "A backup of the database runs every night in Frankfurt.";
    world.add("backups.md", "Nightly \u{1b}[2J", backups).await;
    world.add("copy.md", "Again", backups).await;
    world
        .add("penguins.md", "Birds", "Penguins swim in cold water.")
        .await;
    world.deps.refresh_terms().await.unwrap();
    let told = world.search("when does the backup run").await.unwrap();
    assert!(
        told.starts_with("1 of 3 candidates chosen: cosine at least 0.2, at most 5"),
        "{told}"
    );
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines[3].contains("  1  chosen "), "{told}");
    assert!(
        lines[3].ends_with("backups.md > Nightly \\u{1b}[2J"),
        "{told}"
    );
    assert!(
        told.contains("https://example.org/backups.md#nightly"),
        "{told}"
    );
    assert!(told.contains("words: backup, run"), "{told}");
    assert!(told.contains("near_duplicate"), "{told}");
    assert!(told.contains("says what number 1 says"), "{told}");
    assert!(told.contains("  3  below_threshold "), "{told}");

    let json: Value = serde_json::from_str(
        &world
            .search("frankfurt --json -k 2 --mode text")
            .await
            .unwrap(),
    )
    .unwrap();
    assert_eq!(json["question"], "frankfurt");
    assert_eq!(json["top_k"], 2);
    let results = json["results"].as_array().unwrap();
    assert_eq!(results.len(), 2, "{json}");
    assert_eq!(results[0]["matched_terms"], json!(["frankfurt"]));
    assert_eq!(results[0]["vector_rank"], Value::Null);
    assert_eq!(results[1]["duplicate_of"], results[0]["chunk_id"]);
}

#[tokio::test]
async fn an_empty_knowledge_base_and_another_model_are_named_before_the_provider_is_asked() {
    let mut world = World::new().await;
    let error = world.search("anything").await.unwrap_err();
    assert!(
        error.to_string().contains("growth-chat index PATH"),
        "{error}"
    );
    world.add("a.md", "A", "Some text.").await;
    let calls = world.openai.calls();
    let other = EmbeddingsConfig {
        api_key: "sk-test".into(),
        base_url: world.openai.url(),
        model: "text-embedding-3-large".into(),
        dimensions: 64,
    };
    world.deps.embedder = Embedder::new(other, http_client().unwrap());
    let error = world.search("anything").await.unwrap_err();
    assert!(
        error.to_string().contains("text-embedding-3-small only"),
        "{error}"
    );
    assert_eq!(world.openai.calls(), calls);
}

#[tokio::test]
async fn a_provider_that_fails_and_a_blank_question_are_errors_and_nothing_found_is_none() {
    let world = World::new().await;
    world.add("a.md", "A", "Some text.").await;
    world.openai.fail_next(Failure {
        status: 401,
        code: "invalid_api_key",
        retry_after: None,
        after: std::time::Duration::ZERO,
    });
    let error = world.search("anything").await.unwrap_err();
    assert_eq!(error.to_string(), "the question could not be embedded");
    assert!(format!("{error:#}").contains("401"), "{error:#}");

    let blank = SearchArgs {
        words: vec![" ".into()],
        mode: Mode::Hybrid,
        locale: None,
        top_k: None,
        json: false,
    };
    let error = run(&blank, world.deps.clone(), &mut Vec::new())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "the question is blank");

    let told = world.search("zebra --mode text").await.unwrap();
    assert_eq!(
        told,
        "0 of 0 candidates chosen: cosine at least 0.2, at most 5\n"
    );
}
