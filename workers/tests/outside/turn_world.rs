//! A worker's side of the system over a real database and the stand-ins: the test accepts messages
//! as the API does, and claims jobs as the queue does.

use std::time::Duration;

use jobs::{Fence, HandlerResult, JobId, catalog::TurnProcess};
use sandbox::{
    anthropic::Anthropic as AnthropicStandIn,
    openai::{OpenAi, RELEVANCE_THRESHOLD},
    outside::{OutsideWorld, Service},
    postgres::TestDatabase,
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use store::{
    bus::Bus,
    chat::{self, NewTurn},
    db::{Database, DatabaseConfig},
    ids::{MessageId, TurnKey},
    spend::Usd,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use workers::{
    Deps, WorkerConfig,
    budget::Budget,
    config::{
        ConversationConfig, EmbeddingsConfig, KnowledgeConfig, LinkHosts, ModelConfig,
        NoticeConfig, SpendConfig,
    },
    handlers::index_document::index_document,
    knowledge::ingest::stage_paths,
    turn,
};

const PRICING: &str = "---\ntitle: Pricing\nurl: /pricing\n---\n\n# Pricing\n\n## Audits\n\n\
    An audit costs 9,000 euros and takes two weeks.\n\n## Workshops\n\n\
    A workshop lasts one day and has at most twelve participants.\n";

/// How long a condition may take to hold on a machine under load.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct TurnWorld {
    pub(crate) deps: Deps,
    pub(crate) anthropic: AnthropicStandIn,
    pub(crate) openai: OpenAi,
    pub(crate) outside: OutsideWorld,
    pub(crate) bus: Bus,
    model: ModelConfig,
    pub(crate) database: Database,
    _writer: DropGuard,
    // Dropped last.
    _test_database: TestDatabase,
}

impl TurnWorld {
    /// With one document in the knowledge base.
    pub(crate) async fn new() -> Self {
        crate::support::http();
        let test_database = TestDatabase::create().await.unwrap();
        let database = DatabaseConfig::new(test_database.url().to_owned(), 10)
            .open()
            .unwrap();
        let outside = OutsideWorld::default();
        let anthropic = AnthropicStandIn::start(outside.clone(), 0).await.unwrap();
        let openai = OpenAi::start(outside.clone(), 0).await.unwrap();
        let bus = Bus::new("test");
        let config = WorkerConfig {
            model: ModelConfig {
                api_key: "sk-ant-test".into(),
                base_url: anthropic.url(),
                model: "claude-haiku-4-5".into(),
                fallback_model: None,
                max_output_tokens: 256,
                stream_timeout: PATIENCE,
            },
            embeddings: EmbeddingsConfig {
                api_key: "sk-test".into(),
                base_url: openai.url(),
                model: "text-embedding-3-small".into(),
                dimensions: 1_536,
            },
            knowledge: KnowledgeConfig {
                relevance_threshold: RELEVANCE_THRESHOLD.into(),
                proactive_threshold: f64::from(RELEVANCE_THRESHOLD) + 0.1,
                top_k: 5,
                ef_search: 40,
                chunk_size: 32,
                chunk_overlap: 0,
                table: store::knowledge::KnowledgeTable::default(),
            },
            conversation: ConversationConfig {
                context_window_turns: 2,
                max_tokens_per_session: 1_000_000,
                max_tool_calls_per_turn: 1,
                stall_turn_threshold: 6,
            },
            spend: SpendConfig::default(),
            links: LinkHosts::default(),
            notice: NoticeConfig::default(),
            session_ttl: Duration::from_hours(24),
            handoff_waits: vec![1, 3, 9],
        };
        let model = config.model.clone();
        let deps = Deps::build(config, &database, bus.clone()).unwrap();
        let stop = CancellationToken::new();
        let (writer, stopped) = (deps.events.clone(), stop.clone());
        tokio::spawn(async move { writer.run(stopped).await });
        let world = Self {
            deps,
            anthropic,
            openai,
            outside,
            bus,
            model,
            database,
            _writer: stop.drop_guard(),
            _test_database: test_database,
        };
        world.index("pricing.md", PRICING).await;
        world
    }

    /// Indexes a document.
    pub(crate) async fn index(&self, name: &str, text: &str) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), text).unwrap();
        let knowledge = &self.deps.knowledge;
        knowledge.prepare().await.unwrap();
        let paths = [folder.path().to_owned()];
        stage_paths(&knowledge.pool, &self.bus, &knowledge.profile(), &paths)
            .await
            .unwrap();
        let payload: Value = sqlx::query_scalar("delete from queue.jobs returning payload")
            .fetch_one(self.pool())
            .await
            .unwrap();
        let job = serde_json::from_value(payload).unwrap();
        index_document(knowledge, &job).await.unwrap();
    }

    pub(crate) fn pool(&self) -> &PgPool {
        self.database.pool()
    }

    /// Accepts a message as the API does.
    pub(crate) async fn accept(&self, turn: i32, message: &str) -> (TurnKey, JobId) {
        self.enqueue(turn, id("question", turn), Some(message))
            .await
    }

    /// Accepts the wish to have the message of turn `of` answered again, instead of its answer.
    pub(crate) async fn regenerate(&self, turn: i32, of: i32) -> (TurnKey, JobId) {
        self.enqueue(turn, id("question", of), None).await
    }

    async fn enqueue(
        &self,
        turn: i32,
        message_id: MessageId,
        message: Option<&str>,
    ) -> (TurnKey, JobId) {
        let key = key(turn);
        let mut transaction = self.pool().begin().await.unwrap();
        let job = TurnProcess {
            session_id: key.session_id.clone(),
            turn,
        };
        let job = jobs::enqueue(&mut transaction, &job).await.unwrap();
        let new = NewTurn {
            key: &key,
            secret_hash: None,
            page_url: Some("https://site.example/start"),
            locale: Some("en"),
            message_id: &message_id,
            body: message.unwrap_or_default(),
            answer_id: &id("answer", turn),
            job_id: job.id.0,
        };
        if message.is_some() {
            chat::add_turn(&mut transaction, &new).await.unwrap();
        } else {
            let replaced = id("answer", turn - 1);
            chat::add_regeneration(&mut transaction, &new, replaced.as_str())
                .await
                .unwrap();
        }
        transaction.commit().await.unwrap();
        (key, job.id)
    }

    /// Claims a job as the queue does, whoever has it.
    pub(crate) async fn claim(&self, job: JobId) -> Fence {
        let lease = sqlx::query_scalar(
            "update queue.jobs
             set state = 'running', lease = lease + 1, attempt = least(attempt + 1, max_attempts),
                 lease_until = now() + interval '1 minute', worker = gen_random_uuid()
             where id = $1 returning lease",
        )
        .bind(job.0)
        .fetch_one(self.pool())
        .await
        .unwrap();
        Fence { id: job, lease }
    }

    /// Claims the job and makes an attempt that nobody cancels.
    pub(crate) async fn attempt(&self, key: &TurnKey, job: JobId) -> HandlerResult {
        let fence = self.claim(job).await;
        turn::process(&self.deps.turn, key.clone(), fence, std::future::pending()).await
    }

    /// The frames of an attempt in order; deltas that follow each other are put together, because
    /// how many there are depends on the machine.
    pub(crate) async fn frames(&self, key: &TurnKey, attempt: i32) -> Vec<Value> {
        let rows: Vec<(i32, Value)> = sqlx::query_as(
            "select seq, event from turn_events
             where session_id = $1 and turn = $2 and attempt = $3 order by seq",
        )
        .bind(key.session_id.as_str())
        .bind(key.turn)
        .bind(attempt)
        .fetch_all(self.pool())
        .await
        .unwrap();
        let mut frames: Vec<Value> = Vec::new();
        for ((seq, frame), expected) in rows.into_iter().zip(1..) {
            assert_eq!(seq, expected, "a gap in the numbers");
            if let Some(last) = frames.last_mut()
                && last["type"] == "text-delta"
                && frame["type"] == "text-delta"
            {
                let text = text_of(last) + &text_of(&frame);
                last["delta"] = json!(text);
            } else {
                frames.push(frame);
            }
        }
        frames
    }

    /// Accepts a message and answers it; gives the frames.
    pub(crate) async fn answer(&self, turn: i32, message: &str) -> Vec<Value> {
        let (key, job) = self.accept(turn, message).await;
        let outcome = self.attempt(&key, job).await.unwrap();
        assert_eq!(outcome, jobs::Outcome::Committed);
        self.frames(&key, 1).await
    }

    /// Enforces a daily cap in this process.
    pub(crate) fn cap(&mut self, daily: Usd) {
        let spend = SpendConfig {
            daily_cap: Some(daily),
            ..SpendConfig::default()
        };
        self.deps.turn.budget = Budget::new(spend, &self.model, self.pool().clone());
    }

    /// What turns, sessions and days were billed is what the calls were.
    pub(crate) async fn assert_bill_is_complete(&self) {
        const SUMS: &str = "jsonb_build_array(sum(input_tokens), sum(output_tokens),
            sum(cache_write_tokens), sum(cache_read_tokens), sum(cost_usd))";
        let of = async |table: &str| self.json(&format!("select {SUMS} from {table}")).await;
        let calls = of("model_calls").await;
        assert_eq!(of("turns").await, calls);
        assert_eq!(of("spend_days").await, calls);
        let tokens: i64 = (0..4).filter_map(|kind| calls[kind].as_i64()).sum();
        assert_eq!(
            self.json("select sum(tokens_used) from sessions").await,
            tokens
        );
        assert!(calls[4].as_f64() > Some(0.0), "{calls}");
    }

    /// The bodies of all requests to the model, the oldest first.
    pub(crate) fn requests(&self) -> Vec<Value> {
        let asked = self.outside.received_by(Service::Anthropic);
        asked.into_iter().map(|exchange| exchange.body).collect()
    }

    /// Waits until the attempt has shown some text.
    pub(crate) async fn until_text(&self, key: &TurnKey, attempt: i32) {
        let mut news = self.bus.subscribe();
        let shown = async {
            while !self
                .frames(key, attempt)
                .await
                .iter()
                .any(|frame| frame["type"] == "text-delta")
            {
                news.wait().await;
            }
        };
        tokio::time::timeout(PATIENCE, shown).await.unwrap();
    }

    /// The messages that the model was asked with last.
    pub(crate) fn last_request(&self) -> Vec<Value> {
        let asked = self.outside.received_by(Service::Anthropic);
        let body = &asked.last().unwrap().body;
        body["messages"].as_array().unwrap().clone()
    }

    /// One value of the database as JSON.
    pub(crate) async fn json(&self, expression: &str) -> Value {
        let sql = format!("select to_jsonb(({expression}))");
        sqlx::query_scalar::<_, Option<Value>>(AssertSqlSafe(sql))
            .fetch_one(self.pool())
            .await
            .unwrap()
            .unwrap_or_default()
    }
}

pub(crate) fn key(turn: i32) -> TurnKey {
    TurnKey {
        session_id: "s1".parse().unwrap(),
        turn,
    }
}

fn id(what: &str, turn: i32) -> MessageId {
    format!("{what}-{turn}").parse().unwrap()
}

pub(crate) fn text_of(frame: &Value) -> String {
    frame["delta"].as_str().unwrap_or_default().to_owned()
}

/// The kinds of frames in order.
pub(crate) fn kinds(frames: &[Value]) -> Vec<&str> {
    frames
        .iter()
        .map(|frame| frame["type"].as_str().unwrap())
        .collect()
}

/// All text of some frames.
pub(crate) fn shown(frames: &[Value]) -> String {
    frames.iter().map(text_of).collect()
}

/// Who said what, without the passages.
pub(crate) fn said(messages: &[Value]) -> Vec<(&str, &str)> {
    messages
        .iter()
        .map(|message| {
            let text = message["content"].as_array().unwrap().last().unwrap();
            let role = message["role"].as_str().unwrap();
            (role, text["text"].as_str().unwrap())
        })
        .collect()
}
