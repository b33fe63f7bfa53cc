//! What a process that works is put together from.

use std::{sync::Arc, time::Duration};

use jobs::{Runtime, catalog::TurnProcess};
use store::{bus::Bus, db::Database, expiry, handoffs, ids::SystemEntropy, settings::Settings};

use crate::{
    budget::Budget,
    clients::{anthropic::Anthropic, embeddings::Embedder, http_client},
    config::{
        ConversationConfig, EmbeddingsConfig, KnowledgeConfig, LinkHosts, ModelConfig,
        NoticeConfig, SpendConfig,
    },
    handlers::{
        index_document,
        session_sweep::{self, SweepDeps},
        turn_process::turn_process,
    },
    knowledge::KnowledgeDeps,
    turn::{EventWriter, TurnDeps},
};

/// Everything that the worker is told by its environment, besides the database and the queue.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// The language model.
    pub model: ModelConfig,
    /// The embeddings.
    pub embeddings: EmbeddingsConfig,
    /// The knowledge base.
    pub knowledge: KnowledgeConfig,
    /// The limits of a conversation.
    pub conversation: ConversationConfig,
    /// The money.
    pub spend: SpendConfig,
    /// Where links of answers may lead, besides what the knowledge names.
    pub links: LinkHosts,
    /// What every visitor is told.
    pub notice: NoticeConfig,
    /// `HANDOFF_RETRY_BACKOFF_SECONDS`.
    pub handoff_waits: Vec<i32>,
    /// `SESSION_TTL_HOURS`: after how long without a message a session is closed.
    pub session_ttl: Duration,
}

impl WorkerConfig {
    /// Reads all of it, so that every problem is noted at once.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let model = ModelConfig::read(settings);
        let embeddings = EmbeddingsConfig::read(settings);
        let knowledge = KnowledgeConfig::read(settings);
        let conversation = ConversationConfig::read(settings);
        let spend = SpendConfig::read(settings);
        let links = LinkHosts::read(settings);
        let notice = NoticeConfig::read(settings);
        let handoff_waits = handoffs::read_waits(settings);
        let session_ttl = expiry::read_ttl(settings);
        Some(Self {
            model: model?,
            embeddings: embeddings?,
            knowledge: knowledge?,
            conversation: conversation?,
            spend: spend?,
            links: links?,
            notice,
            handoff_waits,
            session_ttl,
        })
    }
}

/// What the handlers work with. A clone shares it.
#[derive(Debug, Clone)]
pub struct Deps {
    /// For turns.
    pub turn: TurnDeps,
    /// For indexing. Its [`KnowledgeDeps::prepare`] is to be called before anything is searched.
    pub knowledge: KnowledgeDeps,
    /// What the model may cost.
    pub budget: Budget,
    /// For closing idle sessions.
    pub sweep: SweepDeps,
    /// Writes the frames of the turns, while its `run` runs: longer than the handlers.
    pub events: EventWriter,
}

impl Deps {
    /// Makes the clients. Fails when the system's trust roots can't be read.
    pub fn build(config: WorkerConfig, database: &Database, bus: Bus) -> reqwest::Result<Self> {
        let http = http_client()?;
        let pool = database.pool().clone();
        let knowledge = KnowledgeDeps {
            pool: pool.clone(),
            embedder: Embedder::new(config.embeddings, http.clone()),
            config: config.knowledge,
        };
        let budget = Budget::new(config.spend, &config.model, pool.clone());
        let events = EventWriter::new(pool.clone(), bus.clone());
        let sweep = SweepDeps {
            pool: pool.clone(),
            bus: bus.clone(),
            ttl: config.session_ttl,
        };
        let turn = TurnDeps {
            pool,
            bus,
            writer: events.clone(),
            model_name: config.model.model.clone(),
            max_output_tokens: config.model.max_output_tokens,
            model: Anthropic::new(config.model, http),
            conversation: config.conversation,
            budget: budget.clone(),
            links: config.links,
            notice: config.notice,
            entropy: Arc::new(SystemEntropy),
            handoff_waits: config.handoff_waits,
            knowledge: knowledge.clone(),
        };
        Ok(Self {
            turn,
            knowledge,
            budget,
            sweep,
            events,
        })
    }
}

/// Registers every handler.
#[must_use]
pub fn register(runtime: Runtime, deps: &Deps) -> Runtime {
    let turn = deps.turn.clone();
    let runtime = index_document::register(runtime, &deps.knowledge);
    let runtime = session_sweep::register(runtime, &deps.sweep);
    runtime.register(move |job: TurnProcess, context| turn_process(turn.clone(), job, context))
}
