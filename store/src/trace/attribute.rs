//! The names of what spans say, by the semantic conventions of `OpenTelemetry`, and our own for what
//! these do not know.
//!
//! <https://opentelemetry.io/docs/specs/semconv/>; those of generative AI live in a repository of their
//! own: <https://github.com/open-telemetry/semantic-conventions-genai>

/// Why it failed: one of few words.
pub const ERROR_TYPE: &str = "error.type";
/// The visitor's session, as Langfuse groups traces by it.
pub const SESSION_ID: &str = "session.id";

/// GET, POST, …; `_OTHER` for what a caller made up.
pub const HTTP_REQUEST_METHOD: &str = "http.request.method";
/// The status of the answer.
pub const HTTP_RESPONSE_STATUS_CODE: &str = "http.response.status_code";
/// The pattern that a path fits, without what it holds.
pub const HTTP_ROUTE: &str = "http.route";
/// The host that is called.
pub const SERVER_ADDRESS: &str = "server.address";

/// `growth_chat`: the queue is our own.
pub const MESSAGING_SYSTEM: &str = "messaging.system";
/// `process`.
pub const MESSAGING_OPERATION_TYPE: &str = "messaging.operation.type";
/// The job's queue.
pub const MESSAGING_DESTINATION_NAME: &str = "messaging.destination.name";
/// The job's id.
pub const MESSAGING_MESSAGE_ID: &str = "messaging.message.id";
/// The job's kind.
pub const JOB_KIND: &str = "growth_chat.job.kind";
/// The attempt's number, from 1.
pub const JOB_ATTEMPT: &str = "growth_chat.job.attempt";
/// What became of the attempt.
pub const JOB_OUTCOME: &str = "growth_chat.job.outcome";
/// Why it failed, as `ops.failed_jobs` has it.
pub const JOB_ERROR: &str = "growth_chat.job.error";
/// The turn's number in its session.
pub const TURN: &str = "growth_chat.turn";

/// `chat`, `embeddings`, `execute_tool`, `invoke_agent` or `retrieval`.
pub const GEN_AI_OPERATION_NAME: &str = "gen_ai.operation.name";
/// `anthropic`, `openai`.
pub const GEN_AI_PROVIDER_NAME: &str = "gen_ai.provider.name";
/// Who answers.
pub const GEN_AI_AGENT_NAME: &str = "gen_ai.agent.name";
/// The visitor's session.
pub const GEN_AI_CONVERSATION_ID: &str = "gen_ai.conversation.id";
/// What is searched.
pub const GEN_AI_DATA_SOURCE_ID: &str = "gen_ai.data_source.id";
/// The model that was asked for.
pub const GEN_AI_REQUEST_MODEL: &str = "gen_ai.request.model";
/// The most tokens that it may answer with.
pub const GEN_AI_REQUEST_MAX_TOKENS: &str = "gen_ai.request.max_tokens";
/// Whether the answer comes bit by bit.
pub const GEN_AI_REQUEST_STREAM: &str = "gen_ai.request.stream";
/// The model that answered.
pub const GEN_AI_RESPONSE_MODEL: &str = "gen_ai.response.model";
/// Why it stopped, in the provider's word.
pub const GEN_AI_RESPONSE_FINISH_REASONS: &str = "gen_ai.response.finish_reasons";
/// Until its first content, in seconds.
pub const GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: &str = "gen_ai.response.time_to_first_chunk";
/// All input tokens, those from the cache among them.
pub const GEN_AI_USAGE_INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
/// The answer's tokens.
pub const GEN_AI_USAGE_OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
/// The input tokens that were read from the cache.
pub const GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: &str = "gen_ai.usage.cache_read.input_tokens";
/// The input tokens that were written to it.
pub const GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS: &str =
    "gen_ai.usage.cache_creation.input_tokens";
/// The length of the vectors.
pub const GEN_AI_EMBEDDINGS_DIMENSION_COUNT: &str = "gen_ai.embeddings.dimension.count";
/// The tool.
pub const GEN_AI_TOOL_NAME: &str = "gen_ai.tool.name";
/// The provider's name for the call of a tool.
pub const GEN_AI_TOOL_CALL_ID: &str = "gen_ai.tool.call.id";
/// `datastore`: it reads what the company has written.
pub const GEN_AI_TOOL_TYPE: &str = "gen_ai.tool.type";
