-- Everything that belongs to a session is keyed by session_id first, so that these tables can be
-- distributed by it on a sharded Postgres without a change of a key.

create extension if not exists vector;

create table sessions (
    session_id       text        not null,
    -- SHA-256 of the visitor's bearer secret; null: only the stream of the first POST can see it.
    secret_hash      bytea,
    status           text        not null default 'open',
    stage            smallint    not null default 1,
    termination_type text,
    page_url         text,
    locale           text,
    -- The newest turn's number.
    last_turn        integer     not null default 0,
    tokens_used      bigint      not null default 0,
    created_at       timestamptz not null default now(),
    last_activity_at timestamptz not null default now(),
    closed_at        timestamptz,
    constraint sessions_pkey primary key (session_id),
    constraint sessions_id_form check (session_id ~ '^[A-Za-z0-9_-]{1,64}$'),
    constraint sessions_status_known check (status in ('open', 'closed')),
    constraint sessions_stage_known check (stage between 1 and 4),
    constraint sessions_termination_known check (termination_type in
        ('session_expiry', 'handed_off', 'visitor_closed', 'stalled', 'token_limit', 'erased')),
    constraint sessions_closed_says_why check ((status = 'closed') = (closed_at is not null)
        and (status = 'closed') = (termination_type is not null))
);

create table turns (
    session_id         text        not null,
    turn               integer     not null,
    status             text        not null default 'queued',
    -- The visitor's message that this turn answers, and the message that the answer will be.
    message_id         text        not null,
    answer_id          text        not null,
    -- The answer that this turn replaces (`trigger: regenerate-message`).
    regenerates        text,
    -- Counts the attempts that began to answer; the second part of every stream id.
    attempt            integer     not null default 0,
    -- The job that processes the turn. No foreign key: the queue is another aggregate.
    job_id             bigint,
    finish_reason      text,
    model              text,
    input_tokens       bigint      not null default 0,
    output_tokens      bigint      not null default 0,
    cache_write_tokens bigint      not null default 0,
    cache_read_tokens  bigint      not null default 0,
    created_at         timestamptz not null default now(),
    started_at         timestamptz,
    first_token_at     timestamptz,
    finished_at        timestamptz,
    constraint turns_pkey primary key (session_id, turn),
    constraint turns_session_fkey foreign key (session_id) references sessions (session_id) on delete cascade,
    constraint turns_answer_key unique (session_id, answer_id),
    constraint turns_regenerates_key unique (session_id, regenerates),
    constraint turns_number_positive check (turn > 0),
    constraint turns_status_known check (status in ('queued', 'running', 'answered', 'cancelled', 'failed')),
    constraint turns_finished_has_time check
        ((status in ('answered', 'cancelled', 'failed')) = (finished_at is not null))
);
-- The turns that are not finished: the session's queue of turns.
create index turns_unfinished on turns (session_id, turn) where finished_at is null;

create table messages (
    session_id text        not null,
    message_id text        not null,
    turn       integer     not null,
    role       text        not null,
    -- The name of the person who wrote it; null: the visitor or the assistant.
    author     text,
    body       text        not null,
    -- [{sourceId, url, title}] of the passages that the answer used.
    sources    jsonb       not null default '[]',
    status     text        not null default 'complete',
    created_at timestamptz not null default now(),
    constraint messages_pkey primary key (session_id, message_id),
    constraint messages_session_fkey foreign key (session_id) references sessions (session_id) on delete cascade,
    constraint messages_role_known check (role in ('user', 'assistant')),
    -- complete | cancelled (partial text kept) | superseded (regenerated; not shown)
    constraint messages_status_known check (status in ('complete', 'cancelled', 'superseded'))
);
create index messages_in_order on messages (session_id, turn, role desc);

-- The session's state after its newest finished turn.
create table checkpoints (
    session_id text        not null,
    turn       integer     not null,
    state      jsonb       not null,
    updated_at timestamptz not null default now(),
    constraint checkpoints_pkey primary key (session_id),
    constraint checkpoints_session_fkey foreign key (session_id) references sessions (session_id) on delete cascade
);

-- The write-ahead log of a turn: each step's output, recorded as the step completes, so that a turn
-- that is taken over repeats no finished step (nor its bill).
create table checkpoint_writes (
    session_id text        not null,
    turn       integer     not null,
    step       text        not null,
    attempt    integer     not null,
    output     jsonb       not null,
    created_at timestamptz not null default now(),
    constraint checkpoint_writes_pkey primary key (session_id, turn, step),
    constraint checkpoint_writes_turn_fkey foreign key (session_id, turn) references turns (session_id, turn) on delete cascade
);

-- What a client sees of a turn, frame by frame. Append-only and hot: no foreign key, because its
-- check would lock the turn's row for every flush. (turn, attempt, seq) is the SSE id.
create table turn_events (
    session_id text        not null,
    turn       integer     not null,
    attempt    integer     not null,
    seq        integer     not null,
    -- The last event of a stream: finish, abort or error.
    terminal   boolean     not null default false,
    event      json        not null,
    created_at timestamptz not null default now(),
    constraint turn_events_pkey primary key (session_id, turn, attempt, seq)
);
