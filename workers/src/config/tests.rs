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
    assert_eq!(model.fallback_model, None);
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
            proactive_threshold: 0.7 + 0.10,
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
            max_tool_calls_per_turn: 1,
            stall_turn_threshold: 6,
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
        ("LLM_FALLBACK_MODEL", &["two words", "claude-haiku-4-5"]),
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
        ("RAG_PROACTIVE_THRESHOLD", &["-0.1", "1.1", "x"][..]),
        ("RAG_TOP_K", &["0", "101"]),
        ("RAG_HNSW_EF_SEARCH", &["0", "1001"]),
        ("CHUNK_SIZE", &["0", "31", "4097"]),
        ("CHUNK_OVERLAP", &["512", "5000", "-1"]),
        (
            "KNOWLEDGE_TABLE_NAME",
            &[
                "Chunks",
                "1st",
                "a-b",
                "x\"; drop table messages",
                "sessions",
                "turns",
            ],
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
        ("MAX_TOOL_CALLS_PER_TURN", "11"),
        ("MAX_TOOL_CALLS_PER_TURN", "-1"),
        ("STALL_TURN_THRESHOLD", "0"),
    ] {
        assert_eq!(
            complaints(ConversationConfig::read, &[], (name, value)),
            [name]
        );
    }
}

#[test]
fn the_default_overlap_is_fixed_and_refused_with_a_chunk_size_that_is_too_small_for_it() {
    let config = read(KnowledgeConfig::read, &[KNOWLEDGE[0], ("CHUNK_SIZE", "65")]).unwrap();
    assert_eq!(config.chunk_overlap, 64);
    let error = read(KnowledgeConfig::read, &[KNOWLEDGE[0], ("CHUNK_SIZE", "64")]).unwrap_err();
    assert_eq!(error.problems[0].0, "CHUNK_OVERLAP");
    assert!(error.problems[0].1.contains("CHUNK_SIZE"), "{error}");
    let both = [KNOWLEDGE[0], ("CHUNK_SIZE", "32"), ("CHUNK_OVERLAP", "0")];
    assert!(read(KnowledgeConfig::read, &both).is_ok());
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
