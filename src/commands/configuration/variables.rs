//! What each variable is for, and its default.

/// A chapter of the reference.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) title: &'static str,
    pub(super) variables: &'static [Variable],
}

/// A variable, besides what the code that reads it says.
#[derive(Debug)]
pub(super) struct Variable {
    pub(super) name: &'static str,
    pub(super) default: Unset,
    /// Whether its value is hidden from everybody.
    pub(super) secret: bool,
    pub(super) meaning: &'static str,
}

/// What holds when a variable is not set.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unset {
    /// Nothing: it is required, or what it is for is off.
    Nothing,
    /// This value; a test compares.
    Is(&'static str),
    /// What follows from others.
    Says(&'static str),
}

impl Unset {
    pub(super) fn text(self) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::Is(text) | Self::Says(text) => Some(text),
        }
    }
}

/// Without a default.
const fn plain(name: &'static str, meaning: &'static str) -> Variable {
    Variable {
        name,
        default: Unset::Nothing,
        secret: false,
        meaning,
    }
}

/// With one.
const fn with(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable {
        default: Unset::Is(default),
        ..plain(name, meaning)
    }
}

/// With one that follows from others.
const fn derived(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable {
        default: Unset::Says(default),
        ..plain(name, meaning)
    }
}

/// Hidden from everybody.
const fn secret(name: &'static str, meaning: &'static str) -> Variable {
    Variable {
        secret: true,
        ..plain(name, meaning)
    }
}

/// All variables of the service.
pub(super) const GROUPS: &[Group] = &[
    Group {
        title: "Process",
        variables: &[
            with(
                "ENVIRONMENT",
                "production",
                "Where it runs. Outside production a request needs no edge and `/demo` is served; in development every origin may be allowed, ports may be 0, and crawls and webhooks may go to this machine",
            ),
            with("BIND_ADDRESS", "0.0.0.0", "Where it listens"),
            with("PORT", "8080", "The API's port"),
            with(
                "METRICS_PORT",
                "9091",
                "The port of `/metrics`, `/wake` and a worker's `/health`, for nobody outside",
            ),
            with(
                "IDLE_SHUTDOWN_SECONDS",
                "0",
                "After how long with nothing to do, nor anything due within as long, the process ends with exit code 0, for platforms that start it with the next request",
            ),
            plain(
                "WORKER_WAKE_URL",
                "Where an API process sends a request when it has enqueued a job, to start a worker that has ended so",
            ),
            with(
                "SHUTDOWN_DRAIN_SECONDS",
                "20",
                "How long work in progress may go on after the first signal; shorter than the platform's time-out",
            ),
            with("LOG_FORMAT", "json", "The log's form"),
            with("RUST_LOG", "info", "What is logged"),
            plain(
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                "Where traces go: a collector's address for OTLP over HTTP (protobuf), to which `/v1/traces` is added. Langfuse's is `https://cloud.langfuse.com/api/public/otel`",
            ),
            secret(
                "OTEL_EXPORTER_OTLP_HEADERS",
                "What the collector is shown, `Authorization=Basic%20…` for Langfuse",
            ),
            with(
                "OTEL_SERVICE_NAME",
                "growth-chat",
                "The name under which a collector keeps the traces",
            ),
        ],
    },
    Group {
        title: "Database",
        variables: &[
            secret(
                "CHECKPOINT_DB_URL",
                "The database, in one line. `postgresql+asyncpg://` is understood",
            ),
            secret("DATABASE_URL", "Another name of it"),
            with(
                "DATABASE_MAX_CONNECTIONS",
                "10",
                "Connections of the pool; a process holds up to six besides",
            ),
        ],
    },
    Group {
        title: "Chat API",
        variables: &[
            plain(
                "WIDGET_TOKENS",
                "The site keys of `X-Widget-Token`; they are public",
            ),
            plain(
                "ALLOWED_ORIGIN",
                "The sites whose pages may call the API. `*` in development only",
            ),
            secret(
                "EDGE_SECRET",
                "What the proxy in front of the API shows in `X-Edge-Secret`, so that its `CF-Connecting-IP` is believed ([the edge](runbooks/edge.md)). Production needs it or `TRUSTED_PROXIES`",
            ),
            derived(
                "TRUSTED_PROXIES",
                "cloudflare",
                "Networks whose `CF-Connecting-IP` is believed without the secret: by default Cloudflare's, and none if `EDGE_SECRET` is set. Production needs one of the two to be set",
            ),
            with(
                "RATE_LIMIT_IP",
                "30/10m",
                "Messages of one address, or of one IPv6 network of 64 bits: so many at once, and they come back in so long",
            ),
            with(
                "RATE_LIMIT_SESSION",
                "10/1m",
                "Messages of one conversation",
            ),
            with("RATE_LIMIT_SITE", "600/1m", "Messages of one site key"),
        ],
    },
    Group {
        title: "Conversation",
        variables: &[
            with(
                "SESSION_TTL_HOURS",
                "24",
                "After how long without a message a session is closed",
            ),
            with(
                "STALL_TURN_THRESHOLD",
                "6",
                "Turns without a proposal after which a person is offered",
            ),
            with(
                "CONTEXT_WINDOW_TURNS",
                "10",
                "The newest exchanges that the model sees; older ones become a summary",
            ),
            with(
                "MAX_TOOL_CALLS_PER_TURN",
                "1",
                "Searches that the model may ask for besides the first",
            ),
            with(
                "MAX_TOKENS_PER_SESSION",
                "16000",
                "Billed tokens of a session, cached ones included; beyond it a fixed answer offers the contact form",
            ),
            plain(
                "NOTICE_TEXT",
                "What visitors are told at the beginning, in place of the widget's own text",
            ),
            plain(
                "LINK_ALLOWED_HOSTS",
                "Where links of answers may lead, besides the knowledge's own and the sites of `ALLOWED_ORIGIN`",
            ),
        ],
    },
    Group {
        title: "Model (Anthropic)",
        variables: &[
            secret("ANTHROPIC_API_KEY", "The key of the Anthropic API"),
            with(
                "ANTHROPIC_BASE_URL",
                "https://api.anthropic.com",
                "The API's address, without `/v1`",
            ),
            with("LLM_MODEL", "claude-haiku-4-5", "The model"),
            plain(
                "LLM_FALLBACK_MODEL",
                "The model that is asked when the other one is overloaded, fails or does not begin",
            ),
            with("LLM_MAX_OUTPUT_TOKENS", "1024", "The longest answer"),
            with(
                "LLM_STREAM_TIMEOUT_MS",
                "8000",
                "The longest wait for the first token",
            ),
            plain(
                "LLM_PRICES",
                "Prices that go before the built-in list ([what it costs](operating.md#what-it-costs))",
            ),
            with(
                "MONTHLY_COST_CAP_USD",
                "50",
                "What a UTC month may cost before `COST_CAP_ACTION`",
            ),
            with(
                "COST_CAP_ACTION",
                "alert",
                "What happens then: `alert` tells, `degrade` answers with the contact form",
            ),
            plain(
                "DAILY_COST_CAP_USD",
                "What a UTC day may cost; beyond it every new turn is answered with the contact form",
            ),
        ],
    },
    Group {
        title: "Knowledge (OpenAI embeddings)",
        variables: &[
            secret("OPENAI_API_KEY", "The key of the OpenAI API"),
            with(
                "OPENAI_EU_ENDPOINT",
                "https://api.openai.com/v1",
                "The API's address, with `/v1`; the EU's for visitors of the EU",
            ),
            with(
                "OPENAI_EMBEDDING_MODEL",
                "text-embedding-3-small",
                "The model of the embeddings",
            ),
            with(
                "OPENAI_EMBEDDING_DIMENSIONS",
                "1536",
                "Their length, fixed by the first index",
            ),
            plain(
                "RAG_RELEVANCE_THRESHOLD",
                "The least cosine similarity of a passage. It has no default because it is [measured](evaluating.md)",
            ),
            derived(
                "RAG_PROACTIVE_THRESHOLD",
                "0.10 more than `RAG_RELEVANCE_THRESHOLD`",
                "The least cosine similarity of a case study that is told of unasked",
            ),
            with("RAG_TOP_K", "5", "The most passages of a search"),
            with(
                "RAG_HNSW_EF_SEARCH",
                "40",
                "How many neighbours the index looks at",
            ),
            with("CHUNK_SIZE", "512", "The most tokens of a chunk"),
            with(
                "CHUNK_OVERLAP",
                "64",
                "The most tokens that a chunk repeats of the one before it",
            ),
            with(
                "KNOWLEDGE_TABLE_NAME",
                "knowledge_chunks",
                "The table of the chunks",
            ),
            plain(
                "ALLOW_PRIVATE_ADDRESSES",
                "Private networks that crawls and registered webhooks may go to",
            ),
        ],
    },
    Group {
        title: "Handoff",
        variables: &[
            with(
                "HANDOFF_RETRY_BACKOFF_SECONDS",
                "1,3,9",
                "The waits after failed deliveries to Slack and the CRM",
            ),
            secret(
                "SLACK_BOT_TOKEN",
                "The bot token, for messages that can be changed later",
            ),
            secret(
                "SLACK_WEBHOOK_URL",
                "The incoming webhook, which is left when the token fails",
            ),
            secret(
                "SLACK_SIGNING_SECRET",
                "Proves that a request comes from Slack: without it, buttons and thread replies are refused",
            ),
            with("SLACK_CHANNEL", "#new-leads", "Where leads are announced"),
            with(
                "SLACK_API_BASE_URL",
                "https://slack.com/api",
                "The Web API's address, with `/api`",
            ),
            with("CRM_PROVIDER", "none", "Where leads are kept"),
            secret("HUBSPOT_ACCESS_TOKEN", "The token of a private app"),
            with(
                "HUBSPOT_BASE_URL",
                "https://api.hubapi.com",
                "The API's address",
            ),
            plain(
                "CRM_WEBHOOK_URL",
                "Where leads are posted; it may be a private address",
            ),
            secret(
                "CRM_WEBHOOK_SECRET",
                "Signs what is posted (Standard Webhooks)",
            ),
            plain(
                "FALLBACK_EMAIL_ADDRESS",
                "Who is written to when Slack and the CRM failed",
            ),
            plain("SMTP_HOST", "The mail server"),
            with("SMTP_PORT", "587", "Its port"),
            secret("SMTP_USERNAME", "The user name there"),
            secret("SMTP_PASSWORD", "The password there"),
            derived("SMTP_FROM", "`SMTP_USERNAME`", "The sender's address"),
            with("SMTP_TLS", "starttls", "How the connection is protected"),
            plain("BUSINESS_HOURS_TIMEZONE", "In which somebody answers"),
            with(
                "BUSINESS_HOURS_START",
                "9",
                "The first hour of a working day",
            ),
            with("BUSINESS_HOURS_END", "18", "The hour at which it is over"),
            with(
                "BUSINESS_HOURS_SAME_DAY_CUTOFF",
                "16",
                "The hour from which the same day is not promised any more",
            ),
            with("BUSINESS_DAYS", "mon-fri", "The working days"),
            plain("BUSINESS_HOLIDAYS", "Days on which nobody works"),
        ],
    },
    Group {
        title: "Queue",
        variables: &[
            with("WORKER_QUEUES", "all", "The queues that a worker works on"),
            derived(
                "WORKER_CONCURRENCY",
                "[per queue](operating.md#limits)",
                "Jobs of a queue that run at once in a process",
            ),
            with(
                "QUEUE_LEASE_SECONDS",
                "4",
                "After how long without a sign of life a job is taken over",
            ),
            with(
                "QUEUE_IDLE_POLL_SECONDS",
                "30",
                "How often an idle process looks by itself; 0 lets the database sleep ([more](operating.md#a-worker-that-lets-the-database-sleep))",
            ),
            with(
                "JOB_HISTORY_DAYS",
                "7",
                "How long ended jobs are kept; dead ones 90 days at least",
            ),
        ],
    },
    Group {
        title: "Backup",
        variables: &[
            plain(
                "TIGRIS_BUCKET_NAME",
                "The bucket of the backups. A worker without it and its keys makes none, and says so",
            ),
            secret("TIGRIS_ACCESS_KEY_ID", "The id of its access key"),
            secret("TIGRIS_SECRET_ACCESS_KEY", "Its secret access key"),
            derived(
                "TIGRIS_ENDPOINT_URL",
                "https://fly.storage.tigris.dev",
                "Another store that speaks S3; where it is set, the bucket stands in the path",
            ),
            with("TIGRIS_REGION", "auto", "The store's region"),
            with("BACKUP_SCHEDULE", "0 2 * * *", "When a backup is due"),
            with("BACKUP_TIMEZONE", "Europe/Berlin", "By which clocks"),
            with("BACKUP_RETENTION_DAYS", "90", "How long backups are kept"),
            plain("BACKUP_AGE_RECIPIENT", "Backups are encrypted to this key"),
            secret(
                "BACKUP_AGE_IDENTITY",
                "Reads encrypted backups, to verify and restore them",
            ),
            secret(
                "RESTORE_PASSWORD",
                "Goes into the address of `restore --into`, which everybody on the machine can read",
            ),
            plain("PG_BIN_DIR", "Where pg_dump and psql are, if not on `PATH`"),
        ],
    },
    Group {
        title: "Data protection",
        variables: &[
            with(
                "RETENTION_DAYS",
                "90",
                "How long a closed conversation is kept. A restore goes by what the newest worker was told, unless it is set",
            ),
            secret(
                "PRIVACY_SECRET",
                "The key of the erasure ledger's hashes and of the receipts' signatures; it must never change. Without it nobody is forgotten by their address, nor is a backup restored if somebody was, and receipts are not signed",
            ),
        ],
    },
];

/// What is compiled into `chat.js` (widget/vite.config.ts); attributes of the element win over it.
pub(super) const WIDGET: &[Variable] = &[
    derived(
        "VITE_API_URL",
        "where `chat.js` comes from",
        "The address of the API or of its `/chat`",
    ),
    plain(
        "VITE_FALLBACK_URL",
        "Opened in a new tab when the service can't help",
    ),
    plain(
        "VITE_GDPR_NOTICE_TEXT",
        "What visitors are told at the beginning; `NOTICE_TEXT` goes before it",
    ),
    with(
        "VITE_STREAM_TIMEOUT_MS",
        "10000",
        "Milliseconds until the widget shows that something is wrong",
    ),
    derived(
        "VITE_DEFAULT_PROACTIVE_MESSAGE",
        "a sentence in the page's language",
        "What invites a visitor to write",
    ),
];
