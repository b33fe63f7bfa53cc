//! What a process that works is put together from.

use std::{sync::Arc, time::Duration};

use jobs::{Runtime, catalog::TurnProcess};
use store::{bus::Bus, db::Database, expiry, handoffs, ids::SystemEntropy, settings::Settings};

use crate::{
    backup::Backups,
    budget::Budget,
    clients::{anthropic::Anthropic, bucket::Patience, embeddings::Embedder, http_client},
    config::{
        BackupConfig, ConversationConfig, EmbeddingsConfig, KnowledgeConfig, LinkHosts,
        ModelConfig, NoticeConfig, PrivacyConfig, SpendConfig,
    },
    handlers::{
        backup_run, backup_verify, index_document,
        privacy_erase::{self, EraseDeps},
        retention_sweep,
        session_sweep::{self, SweepDeps},
        turn_process::turn_process,
    },
    handoff::{HandoffDeps, crm::Crm, slack::SlackClient},
    knowledge::KnowledgeDeps,
    privacy::secret::PrivacySecret,
    retention::RetentionDeps,
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
    /// The backups; none: there is no bucket.
    pub backup: Option<BackupConfig>,
    /// What is forgotten, and when.
    pub privacy: PrivacyConfig,
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
        let backup = BackupConfig::read_if_meant(settings);
        let privacy = PrivacyConfig::read(settings);
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
            backup: backup?,
            privacy,
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
    /// For backups; none: there is no bucket.
    pub backups: Option<Backups>,
    /// For forgetting what is old.
    pub retention: RetentionDeps,
    /// `PRIVACY_SECRET`.
    pub secret: Option<PrivacySecret>,
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
        let retention = RetentionDeps {
            pool: pool.clone(),
            days: config.privacy.retention_days,
        };
        let backups = config
            .backup
            .map(|config| Backups::new(config, database.clone(), bus.clone(), Patience::default()));
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
            backups,
            retention,
            secret: config.privacy.secret,
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
    let runtime = retention_sweep::register(runtime, &deps.retention);
    let runtime = with_backups(runtime, deps.backups.as_ref());
    runtime.register(move |job: TurnProcess, context| turn_process(turn.clone(), job, context))
}

/// Registers who sees to wishes to be forgotten, here and wherever a handoff went.
#[must_use]
pub fn register_erasure(runtime: Runtime, deps: &Deps, people: &HandoffDeps) -> Runtime {
    let bucket = deps.backups.as_ref().map(Backups::bucket);
    let erase = EraseDeps {
        pool: people.pool.clone(),
        bus: people.bus.clone(),
        secret: deps.secret.clone(),
        slack: SlackClient::new(&people.config.slack, people.http.clone()),
        crm: Crm::new(&people.config, people.http.clone()),
        bucket: bucket.cloned(),
        backup_days: deps
            .backups
            .as_ref()
            .map_or(0, |backups| backups.config().retention_days),
    };
    privacy_erase::register(runtime, &erase)
}

/// Makes and verifies backups where there is a bucket. Where there is none that is said, so that nobody
/// finds out on the day on which one is needed.
fn with_backups(runtime: Runtime, backups: Option<&Backups>) -> Runtime {
    let configured = f64::from(u8::from(backups.is_some()));
    metrics::gauge!("growth_chat_backup_configured").set(configured);
    let Some(backups) = backups else {
        tracing::warn!(
            "NO BACKUPS ARE MADE: set TIGRIS_BUCKET_NAME, TIGRIS_ACCESS_KEY_ID and \
             TIGRIS_SECRET_ACCESS_KEY"
        );
        return runtime;
    };
    backup_verify::register(backup_run::register(runtime, backups), backups)
}
