//! What the worker is told by its environment: the model, the embeddings, the knowledge base, the
//! limits of a conversation.
//!
//! Each `read` notes every problem by the variable's name and never its value; it gives `None` when
//! a value that must be there is missing. Secrets are [`SecretString`]s, which `Debug` hides.

use std::time::Duration;

use secrecy::SecretString;
use store::{knowledge::KnowledgeTable, settings::Settings};
use url::Url;

/// The language model.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// `ANTHROPIC_API_KEY`, a secret.
    pub api_key: SecretString,
    /// `ANTHROPIC_BASE_URL`, without `/v1` and without a slash at its end.
    pub base_url: String,
    /// `LLM_MODEL`.
    pub model: String,
    /// `LLM_MAX_OUTPUT_TOKENS`: the most tokens of one answer.
    pub max_output_tokens: u32,
    /// `LLM_STREAM_TIMEOUT_MS`: the longest wait for the first token.
    pub stream_timeout: Duration,
}

impl ModelConfig {
    /// Reads the model's variables.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let api_key = settings.secret("ANTHROPIC_API_KEY", "the Anthropic API key");
        let base_url = base_url(settings, "ANTHROPIC_BASE_URL", "https://api.anthropic.com");
        // A current small model: quick to its first token, which a visitor waits for.
        let model = name(settings, "LLM_MODEL", "claude-haiku-4-5");
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
        let api_key = settings.secret("OPENAI_API_KEY", "the OpenAI API key");
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
            settings.problem(
                "RAG_RELEVANCE_THRESHOLD",
                format!("is out of range: {rule}"),
            );
            threshold = None;
        }
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
        let default_overlap = 64.min(chunk_size / 8);
        let chunk_overlap = settings.with_default(
            "CHUNK_OVERLAP",
            default_overlap,
            "a number of tokens, less than CHUNK_SIZE",
            |overlap| *overlap < chunk_size,
        );
        let table = settings
            .optional("KNOWLEDGE_TABLE_NAME", KnowledgeTable::RULE)
            .unwrap_or_default();
        Some(Self {
            relevance_threshold: threshold?,
            top_k,
            ef_search,
            chunk_size,
            chunk_overlap,
            table,
        })
    }
}

/// The limits of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationConfig {
    /// `CONTEXT_WINDOW_TURNS`: how many of the newest exchanges the model sees (EC-13, seed 000).
    pub context_window_turns: u16,
    /// `MAX_TOKENS_PER_SESSION`: what a session may be billed for, all in all (EC-12, seed 000).
    pub max_tokens_per_session: u64,
}

impl ConversationConfig {
    /// Reads the conversation's variables.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let context_window_turns = settings.with_default(
            "CONTEXT_WINDOW_TURNS",
            10,
            "a number of exchanges from 1 to 1000",
            |turns| (1..=1_000).contains(turns),
        );
        let max_tokens_per_session = settings.with_default(
            "MAX_TOKENS_PER_SESSION",
            16_000,
            "a number of tokens from 1 to 1000000000",
            |tokens| (1..=1_000_000_000).contains(tokens),
        );
        Some(Self {
            context_window_turns,
            max_tokens_per_session,
        })
    }
}

/// A base URL without the slash at its end. The public addresses are https; http is for stand-ins
/// and for gateways in a network of one's own.
fn base_url(settings: &mut Settings, variable: &str, default: &str) -> String {
    let rule = "an http or https URL without a query, a fragment or a user name";
    let Some(url) = settings.optional::<Url>(variable, rule) else {
        return default.to_owned();
    };
    let legal = matches!(url.scheme(), "http" | "https")
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if !legal {
        settings.problem(variable, format!("is not valid: {rule}"));
    }
    url.as_str().trim_end_matches('/').to_owned()
}

/// A model's name, as a provider writes it.
fn name(settings: &mut Settings, variable: &str, default: &str) -> String {
    settings.with_default(
        variable,
        default.to_owned(),
        "1 to 128 letters, digits and '-', '_', '.', ':', '/', '@'",
        |name| {
            name.len() <= 128
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/@".contains(&byte))
        },
    )
}

#[cfg(test)]
mod tests {
    use store::settings::SettingsError;

    use super::*;

    fn read<T>(
        read: impl FnOnce(&mut Settings) -> Option<T>,
        variables: &[(&str, &str)],
    ) -> Result<T, SettingsError> {
        let owned = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut settings = Settings::new(owned);
        let value = read(&mut settings);
        settings.finish(value)
    }

    /// The variables that are complained about, with `base` and one variable more.
    fn complaints<T>(
        reader: impl FnOnce(&mut Settings) -> Option<T>,
        base: &[(&str, &str)],
        more: (&str, &str),
    ) -> Vec<String> {
        let variables: Vec<_> = base.iter().copied().chain([more]).collect();
        match read(reader, &variables) {
            Ok(_) => Vec::new(),
            Err(error) => error.problems.into_iter().map(|(name, _)| name).collect(),
        }
    }

    const MODEL: &[(&str, &str)] = &[("ANTHROPIC_API_KEY", "sk-ant-secret")];
    const EMBEDDINGS: &[(&str, &str)] = &[("OPENAI_API_KEY", "sk-secret")];
    const KNOWLEDGE: &[(&str, &str)] = &[("RAG_RELEVANCE_THRESHOLD", "0.7")];

    #[test]
    fn everything_but_the_keys_and_the_threshold_has_a_default() {
        let model = read(ModelConfig::read, MODEL).unwrap();
        assert_eq!(model.base_url, "https://api.anthropic.com");
        assert_eq!(model.model, "claude-haiku-4-5");
        assert_eq!(model.max_output_tokens, 1_024);
        assert_eq!(model.stream_timeout, Duration::from_secs(8));
        let embeddings = read(EmbeddingsConfig::read, EMBEDDINGS).unwrap();
        assert_eq!(embeddings.base_url, "https://api.openai.com/v1");
        assert_eq!(embeddings.model, "text-embedding-3-small");
        assert_eq!(embeddings.dimensions, 1_536);
        assert_eq!(
            read(KnowledgeConfig::read, KNOWLEDGE).unwrap(),
            KnowledgeConfig {
                relevance_threshold: 0.7,
                top_k: 5,
                ef_search: 40,
                chunk_size: 512,
                chunk_overlap: 64,
                table: "knowledge_chunks".parse().unwrap(),
            }
        );
        assert_eq!(
            read(ConversationConfig::read, &[]).unwrap(),
            ConversationConfig {
                context_window_turns: 10,
                max_tokens_per_session: 16_000,
            }
        );
    }

    #[test]
    fn what_must_be_there_is_asked_for_by_name() {
        let missing = |error: SettingsError| error.problems[0].0.clone();
        assert_eq!(
            missing(read(ModelConfig::read, &[]).unwrap_err()),
            "ANTHROPIC_API_KEY"
        );
        assert_eq!(
            missing(read(EmbeddingsConfig::read, &[]).unwrap_err()),
            "OPENAI_API_KEY"
        );
        assert_eq!(
            missing(read(KnowledgeConfig::read, &[]).unwrap_err()),
            "RAG_RELEVANCE_THRESHOLD"
        );
    }

    #[test]
    fn every_value_out_of_range_is_refused_by_name() {
        for (name, values) in [
            ("LLM_MODEL", &["two words"][..]),
            ("LLM_MAX_OUTPUT_TOKENS", &["0", "-1", "64001", "many"]),
            ("LLM_STREAM_TIMEOUT_MS", &["0", "99", "120001"]),
            (
                "ANTHROPIC_BASE_URL",
                &[
                    "api.anthropic.com",
                    "ftp://x",
                    "https://u:p@x",
                    "https://x?k=v",
                ],
            ),
        ] {
            for value in values {
                assert_eq!(
                    complaints(ModelConfig::read, MODEL, (name, value)),
                    [name],
                    "{value}"
                );
            }
        }
        for value in ["0", "2001", "x"] {
            let name = "OPENAI_EMBEDDING_DIMENSIONS";
            assert_eq!(
                complaints(EmbeddingsConfig::read, EMBEDDINGS, (name, value)),
                [name]
            );
        }
        for (name, values) in [
            ("RAG_TOP_K", &["0", "101"][..]),
            ("RAG_HNSW_EF_SEARCH", &["0", "1001"]),
            ("CHUNK_SIZE", &["0", "31", "4097"]),
            ("CHUNK_OVERLAP", &["512", "-1"]),
            (
                "KNOWLEDGE_TABLE_NAME",
                &["Chunks", "1st", "a-b", "x\"; drop table messages"],
            ),
        ] {
            for value in values {
                assert_eq!(
                    complaints(KnowledgeConfig::read, KNOWLEDGE, (name, value)),
                    [name],
                    "{value}"
                );
            }
        }
        for value in ["-0.1", "1.1", "NaN", "high"] {
            let name = "RAG_RELEVANCE_THRESHOLD";
            assert_eq!(
                complaints(KnowledgeConfig::read, &[], (name, value)),
                [name],
                "{value}"
            );
        }
        for (name, value) in [
            ("CONTEXT_WINDOW_TURNS", "0"),
            ("CONTEXT_WINDOW_TURNS", "-3"),
            ("MAX_TOKENS_PER_SESSION", "0"),
        ] {
            assert_eq!(
                complaints(ConversationConfig::read, &[], (name, value)),
                [name]
            );
        }
    }

    #[test]
    fn a_small_chunk_size_has_a_default_overlap_that_fits() {
        let config = read(KnowledgeConfig::read, &[KNOWLEDGE[0], ("CHUNK_SIZE", "40")]).unwrap();
        assert!(config.chunk_overlap < config.chunk_size);
    }

    #[test]
    fn every_problem_of_a_role_is_reported_at_once() {
        let wrong = [
            ("LLM_MAX_OUTPUT_TOKENS", "0"),
            ("LLM_STREAM_TIMEOUT_MS", "x"),
            ("ANTHROPIC_BASE_URL", "x"),
        ];
        let mut names: Vec<_> = read(ModelConfig::read, &wrong)
            .unwrap_err()
            .problems
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "ANTHROPIC_API_KEY",
                "ANTHROPIC_BASE_URL",
                "LLM_MAX_OUTPUT_TOKENS",
                "LLM_STREAM_TIMEOUT_MS"
            ]
        );
    }

    #[test]
    fn base_urls_lose_their_last_slash() {
        for (given, taken) in [
            ("https://eu.example.org/", "https://eu.example.org"),
            ("http://127.0.0.1:4001/", "http://127.0.0.1:4001"),
            ("http://localhost:4001", "http://localhost:4001"),
            ("http://[::1]:4001/x/", "http://[::1]:4001/x"),
        ] {
            let variables = [MODEL[0], ("ANTHROPIC_BASE_URL", given)];
            assert_eq!(read(ModelConfig::read, &variables).unwrap().base_url, taken);
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let model = read(ModelConfig::read, MODEL).unwrap();
        let embeddings = read(EmbeddingsConfig::read, EMBEDDINGS).unwrap();
        assert!(!format!("{model:?}{embeddings:?}").contains("secret"));
        let wrong = [
            MODEL[0],
            ("ANTHROPIC_BASE_URL", "https://user:hunter2@example.org"),
        ];
        let error = read(ModelConfig::read, &wrong).unwrap_err();
        assert!(!format!("{error}{error:?}").contains("hunter2"));
    }
}
