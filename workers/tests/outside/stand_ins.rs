//! The whole way of a question against the stand-ins that `dev` uses, with their checks of every
//! request: files, embeddings, passages, and an answer that cites one.

use std::{path::Path, time::Duration};

use futures::TryStreamExt;
use jobs::{JobKind, catalog::KnowledgeIndexDocument};
use sandbox::{
    anthropic::{Anthropic as AnthropicStandIn, Reply},
    openai::{OpenAi, RELEVANCE_THRESHOLD},
    outside::OutsideWorld,
    postgres::TestDatabase,
};
use store::bus::Bus;
use workers::{
    clients::{
        anthropic::{
            Anthropic, ContentBlock, Message, MessageRequest, ModelEvent, Role, SearchResult,
            StopReason,
        },
        embeddings::Embedder,
    },
    config::{EmbeddingsConfig, KnowledgeConfig, ModelConfig},
    handlers::index_document::index_document,
    knowledge::{KnowledgeDeps, Passage, ingest::stage_paths, retrieve},
};

use crate::support::http;

const MODEL: &str = "claude-haiku-4-5";

fn knowledge(pool: sqlx::PgPool, provider: &OpenAi) -> KnowledgeDeps {
    let config = EmbeddingsConfig {
        api_key: "sk-test".into(),
        base_url: provider.url(),
        model: "text-embedding-3-small".into(),
        dimensions: 1_536,
    };
    KnowledgeDeps {
        pool,
        embedder: Embedder::new(config, http()),
        config: KnowledgeConfig {
            relevance_threshold: RELEVANCE_THRESHOLD.into(),
            proactive_threshold: f64::from(RELEVANCE_THRESHOLD) + 0.1,
            top_k: 5,
            ef_search: 40,
            chunk_size: 512,
            chunk_overlap: 64,
            table: store::knowledge::KnowledgeTable::default(),
        },
    }
}

async fn index(deps: &KnowledgeDeps, folder: &Path) {
    deps.prepare().await.unwrap();
    let bus = Bus::new("test");
    let staged = stage_paths(&deps.pool, &bus, &deps.profile(), &[folder.to_owned()])
        .await
        .unwrap();
    assert!(!staged.has_errors(), "{:?}", staged.skipped);
    let payloads: Vec<serde_json::Value> =
        sqlx::query_scalar("select payload from queue.jobs where kind = $1 order by id")
            .bind(KnowledgeIndexDocument::KIND)
            .fetch_all(&deps.pool)
            .await
            .unwrap();
    for payload in payloads {
        let job = serde_json::from_value(payload).unwrap();
        index_document(deps, &job).await.unwrap();
    }
}

fn model(provider: &AnthropicStandIn) -> Anthropic {
    let config = ModelConfig {
        api_key: "sk-ant-test".into(),
        base_url: provider.url(),
        model: MODEL.into(),
        max_output_tokens: 1_024,
        stream_timeout: Duration::from_secs(8),
    };
    Anthropic::new(config, http())
}

fn request(question: &str, passages: &[Passage]) -> MessageRequest {
    let mut content: Vec<ContentBlock> = passages
        .iter()
        .map(|passage| {
            let result = SearchResult::new(&passage.url, &passage.title, &passage.content);
            ContentBlock::SearchResult(result)
        })
        .collect();
    content.push(ContentBlock::text(question));
    MessageRequest {
        model: MODEL.into(),
        max_tokens: 1_024,
        system: Vec::new(),
        messages: vec![Message {
            role: Role::User,
            content,
        }],
        tools: Vec::new(),
        tool_choice: None,
    }
}

#[tokio::test]
async fn a_question_about_the_sample_knowledge_is_answered_with_its_source() {
    let database = TestDatabase::create().await.unwrap();
    let world = OutsideWorld::default();
    let openai = OpenAi::start(world.clone(), 0).await.unwrap();
    let anthropic = AnthropicStandIn::start(world, 0).await.unwrap();
    let deps = knowledge(database.pool().await.unwrap(), &openai);
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../knowledge");
    index(&deps, &sample).await;

    let question = "What does a discovery sprint cost?";
    let passages = retrieve(&deps, question, None).await.unwrap().passages;
    assert!(!passages.is_empty());
    let events: Vec<ModelEvent> = model(&anthropic)
        .stream(&request(question, &passages))
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let cited = events.iter().find_map(|event| match event {
        ModelEvent::Citation {
            source,
            search_result_index,
            ..
        } => Some((source, *search_result_index)),
        _ => None,
    });
    let (source, index) = cited.expect("the answer cites a passage");
    assert_eq!(*source, passages[usize::try_from(index).unwrap()].url);
    assert!(
        source.contains("discovery-sprint") || source.contains("pricing"),
        "{source}"
    );
    let Some(ModelEvent::Finished { stop_reason, usage }) = events.last() else {
        panic!("{events:?}");
    };
    assert_eq!(*stop_reason, StopReason::EndTurn);
    assert!(usage.output_tokens > 0 && usage.total_input() > 0);
}

#[tokio::test]
async fn a_long_document_is_embedded_within_the_providers_limits() {
    let database = TestDatabase::create().await.unwrap();
    let openai = OpenAi::start(OutsideWorld::default(), 0).await.unwrap();
    let mut deps = knowledge(database.pool().await.unwrap(), &openai);
    deps.config.chunk_size = 4_096;
    let place = tempfile::tempdir().unwrap();
    // Sentences, a word without end and signs of many tokens each.
    let body = format!(
        "# Long\n\n{}\n\n{}\n\n{}\n",
        "All work and no play makes a dull day. ".repeat(8_000),
        "x".repeat(30_000),
        "𓀀𓁐𓂀 ".repeat(3_000)
    );
    std::fs::write(place.path().join("long.md"), body).unwrap();
    index(&deps, place.path()).await;
    assert!(
        !retrieve(&deps, "a dull day of work", None)
            .await
            .unwrap()
            .passages
            .is_empty()
    );
}

#[tokio::test]
async fn a_scripted_tool_call_arrives_whole() {
    let anthropic = AnthropicStandIn::start(OutsideWorld::default(), 0)
        .await
        .unwrap();
    let input = serde_json::json!({"query": "Größe \"quoted\"", "nested": {"list": [1, null]}});
    anthropic.push(Reply::tool_call("find", input.clone()));
    let mut request = request("Find it.", &[]);
    request.tools.push(workers::clients::anthropic::Tool {
        name: "find".into(),
        description: "Finds.".into(),
        input_schema: serde_json::json!({"type": "object"}),
        cache_control: None,
    });
    let events: Vec<ModelEvent> = model(&anthropic)
        .stream(&request)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let called = events.iter().find_map(|event| match event {
        ModelEvent::ToolUse { name, input, .. } => Some((name.as_str(), input)),
        _ => None,
    });
    assert_eq!(called, Some(("find", &input)));
}
