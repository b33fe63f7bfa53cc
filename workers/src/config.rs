//! What the worker is told by its environment: the model, the embeddings, the knowledge base, the
//! limits of a conversation.
//!
//! Each `read` notes every problem by the variable's name and never its value; it gives `None` when
//! a value that must be there is missing. Secrets are [`SecretString`]s, which `Debug` hides.

mod age_keys;
mod backup;
mod business_hours;
mod conversation;
mod handoff;
mod links;
mod notice;
mod outgoing;
mod privacy;
mod spend;

use std::time::Duration;

use secrecy::SecretString;
use store::{knowledge::KnowledgeTable, settings::Settings};
use url::Url;

pub(crate) use self::handoff::mail_address;
pub use self::{
    age_keys::{AgeIdentity, AgeRecipient},
    backup::{BackupConfig, BucketConfig, RestoreConfig, ToolsConfig},
    conversation::ConversationConfig,
    handoff::{CrmConfig, HandoffConfig, SlackConfig, SmtpConfig, SmtpTls},
    links::LinkHosts,
    notice::NoticeConfig,
    outgoing::OutgoingConfig,
    privacy::PrivacyConfig,
    spend::{CostCapAction, SpendConfig},
};

/// A current small model: quick to its first token, which a visitor waits for.
const DEFAULT_MODEL: &str = "claude-haiku-4-5";

/// How much nearer than a passage a case study is by default before it is told of unasked (seed 000).
const PROACTIVE_MARGIN: f64 = 0.10;

/// The language model.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// `ANTHROPIC_API_KEY`, a secret.
    pub api_key: SecretString,
    /// `ANTHROPIC_BASE_URL`, without `/v1` and without a slash at its end.
    pub base_url: String,
    /// `LLM_MODEL`.
    pub model: String,
    /// `LLM_FALLBACK_MODEL`: asked when the model is overloaded, fails or does not begin in time.
    pub fallback_model: Option<String>,
    /// `LLM_MAX_OUTPUT_TOKENS`: the most tokens of one answer.
    pub max_output_tokens: u32,
    /// `LLM_STREAM_TIMEOUT_MS`: the longest wait for the first token, of the fallback as well.
    pub stream_timeout: Duration,
}

impl ModelConfig {
    /// Reads the model's variables.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let api_key = settings.secret(
            "ANTHROPIC_API_KEY",
            "a key of the Anthropic API, made in its console (console.anthropic.com)",
        );
        let base_url = base_url(settings, "ANTHROPIC_BASE_URL", "https://api.anthropic.com");
        let model = name(settings, "LLM_MODEL", DEFAULT_MODEL);
        let fallback_model = fallback(settings, &model);
        let max_output_tokens = settings.with_default(
            "LLM_MAX_OUTPUT_TOKENS",
            1_024,
            "a number of tokens from 1 to 64000",
            |tokens| (1..=64_000).contains(tokens),
        );
        let stream_timeout = settings.with_default(
            "LLM_STREAM_TIMEOUT_MS",
            8_000_u64,
            "milliseconds from 100 to 120000",
            |milliseconds| (100..=120_000).contains(milliseconds),
        );
        Some(Self {
            api_key: api_key?,
            base_url,
            model,
            fallback_model,
            max_output_tokens,
            stream_timeout: Duration::from_millis(stream_timeout),
        })
    }
}

/// The embeddings.
#[derive(Debug, Clone)]
pub struct EmbeddingsConfig {
    /// `OPENAI_API_KEY`, a secret.
    pub api_key: SecretString,
    /// `OPENAI_EU_ENDPOINT`, with `/v1` and without a slash at its end.
    pub base_url: String,
    /// `OPENAI_EMBEDDING_MODEL`.
    pub model: String,
    /// `OPENAI_EMBEDDING_DIMENSIONS`: fixed by the first index. pgvector indexes at most 2,000.
    pub dimensions: u16,
}

impl EmbeddingsConfig {
    /// Reads the embeddings' variables.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let api_key = settings.secret(
            "OPENAI_API_KEY",
            "a key of the OpenAI API, made in its console (platform.openai.com)",
        );
        let base_url = base_url(settings, "OPENAI_EU_ENDPOINT", "https://api.openai.com/v1");
        let model = name(settings, "OPENAI_EMBEDDING_MODEL", "text-embedding-3-small");
        let dimensions = settings.with_default(
            "OPENAI_EMBEDDING_DIMENSIONS",
            1_536,
            "a number from 1 to 2000, which is what a vector index can hold",
            |dimensions| (1..=2_000).contains(dimensions),
        );
        Some(Self {
            api_key: api_key?,
            base_url,
            model,
            dimensions,
        })
    }
}

/// The knowledge base: how it is cut, and how it is searched.
#[derive(Debug, Clone, PartialEq)]
pub struct KnowledgeConfig {
    /// `RAG_RELEVANCE_THRESHOLD`: the least cosine similarity of a passage, 0 to 1. It has no
    /// default, because it is right for one model and one corpus only (EC-05, seed 000).
    pub relevance_threshold: f64,
    /// `RAG_PROACTIVE_THRESHOLD`: the least cosine similarity of a case study that is told of unasked
    /// (FR-18, seed 000), 0 to 1. By default 0.10 more than the relevance threshold.
    pub proactive_threshold: f64,
    /// `RAG_TOP_K`: the most passages of a search.
    pub top_k: u16,
    /// `RAG_HNSW_EF_SEARCH`: how many neighbours the index looks at, its recall against its time.
    pub ef_search: u16,
    /// `CHUNK_SIZE`: the most tokens of a chunk.
    pub chunk_size: usize,
    /// `CHUNK_OVERLAP`: the most tokens that a chunk repeats of the one before it.
    pub chunk_overlap: usize,
    /// `KNOWLEDGE_TABLE_NAME`: the table of the chunks.
    pub table: KnowledgeTable,
}

impl KnowledgeConfig {
    /// Reads the knowledge base's variables.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let rule = "a cosine similarity from 0 to 1, tuned for your knowledge (0.70 to begin with)";
        let mut threshold = settings.required::<f64>("RAG_RELEVANCE_THRESHOLD", rule);
        if threshold.is_some_and(|value| !(0.0..=1.0).contains(&value)) {
            settings.problem("RAG_RELEVANCE_THRESHOLD", format!("is not valid: {rule}"));
            threshold = None;
        }
        let proactive_threshold = settings.with_default(
            "RAG_PROACTIVE_THRESHOLD",
            (threshold.unwrap_or(1.0) + PROACTIVE_MARGIN).min(1.0),
            "a cosine similarity from 0 to 1",
            |threshold| (0.0..=1.0).contains(threshold),
        );
        let top_k = settings.with_default("RAG_TOP_K", 5, "a number from 1 to 100", |top_k| {
            (1..=100).contains(top_k)
        });
        let ef_search = settings.with_default(
            "RAG_HNSW_EF_SEARCH",
            40,
            "a number from 1 to 1000, which are pgvector's limits",
            |ef_search| (1..=1_000).contains(ef_search),
        );
        // The upper limit leaves room for the title and the headings in an embedding's 8,192.
        let chunk_size = settings.with_default(
            "CHUNK_SIZE",
            512,
            "a number of tokens from 32 to 4096",
            |size| (32..=4_096).contains(size),
        );
        let rule = "a number of tokens, less than CHUNK_SIZE";
        let chunk_overlap = settings.with_default("CHUNK_OVERLAP", 64, rule, |_| true);
        // The default as well (seed 000), which is too much for a small CHUNK_SIZE.
        if chunk_overlap >= chunk_size {
            settings.problem(
                "CHUNK_OVERLAP",
                "is 64 unless it is set, and has to be less than CHUNK_SIZE",
            );
        }
        let table = settings
            .optional("KNOWLEDGE_TABLE_NAME", KnowledgeTable::RULE)
            .unwrap_or_default();
        Some(Self {
            relevance_threshold: threshold?,
            proactive_threshold,
            top_k,
            ef_search,
            chunk_size,
            chunk_overlap,
            table,
        })
    }
}

/// A base URL without the slash at its end. The public addresses are https; http is for stand-ins
/// and for gateways in a network of one's own.
fn base_url(settings: &mut Settings, variable: &str, default: &str) -> String {
    optional_base_url(settings, variable).unwrap_or_else(|| default.to_owned())
}

/// An address to which paths are added, without a slash at its end.
pub fn optional_base_url(settings: &mut Settings, variable: &str) -> Option<String> {
    let rule = "an http or https URL without a query, a fragment or a user name";
    let url = settings.optional::<Url>(variable, rule)?;
    let legal = matches!(url.scheme(), "http" | "https")
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if !legal {
        settings.problem(variable, format!("is not valid: {rule}"));
    }
    Some(url.as_str().trim_end_matches('/').to_owned())
}

const NAME_RULE: &str = "1 to 128 letters, digits and '-', '_', '.', ':', '/', '@'";

/// Whether it may be a model's name, as a provider writes it.
fn is_name(name: &str) -> bool {
    name.len() <= 128
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/@".contains(&byte))
}

/// A model's name.
fn name(settings: &mut Settings, variable: &str, default: &str) -> String {
    settings.with_default(variable, default.to_owned(), NAME_RULE, |name| {
        is_name(name)
    })
}

/// The model that is asked when `model` fails.
fn fallback(settings: &mut Settings, model: &str) -> Option<String> {
    const VARIABLE: &str = "LLM_FALLBACK_MODEL";
    let fallback: String = settings.optional(VARIABLE, NAME_RULE)?;
    if !is_name(&fallback) {
        settings.problem(VARIABLE, format!("is not valid: {NAME_RULE}"));
        return None;
    }
    if fallback == model {
        settings.problem(VARIABLE, "is LLM_MODEL: another model is needed, or none");
        return None;
    }
    Some(fallback)
}

#[cfg(test)]
mod tests;
