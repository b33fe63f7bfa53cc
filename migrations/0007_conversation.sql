-- The conversation: what each call of the model was billed for, what a session came to, who asked for
-- a person. Everything of a session begins with its session_id; the sums of money do not belong to
-- one and outlive it.

-- What a turn came to. `stage`: where the conversation was after it.
alter table turns
    add column stage         smallint,
    add column cost_usd      numeric(14, 8) not null default 0,
    add column limit_reached text,
    add constraint turns_stage_known check (stage between 1 and 4) not valid,
    add constraint turns_limit_known check (limit_reached in ('session_tokens', 'cost_cap')) not valid;

-- The turn in which the assistant offered a person because the conversation led nowhere.
alter table sessions add column stall_offered_turn integer;

-- One row for each call of the model that the provider bills, also of attempts that failed.
create table model_calls (
    session_id         text           not null,
    turn               integer        not null,
    attempt            integer        not null,
    call               smallint       not null,
    purpose            text           not null,
    model              text           not null,
    outcome            text           not null,
    input_tokens       bigint         not null,
    output_tokens      bigint         not null,
    cache_write_tokens bigint         not null,
    cache_read_tokens  bigint         not null,
    cost_usd           numeric(14, 8) not null,
    created_at         timestamptz    not null default now(),
    constraint model_calls_pkey primary key (session_id, turn, attempt, call),
    constraint model_calls_session_fkey foreign key (session_id) references sessions (session_id) on delete cascade,
    constraint model_calls_purpose_known check (purpose in ('answer', 'summary', 'replay')),
    constraint model_calls_not_negative check (least(input_tokens, output_tokens, cache_write_tokens,
        cache_read_tokens) >= 0 and cost_usd >= 0)
);

-- What all sessions cost, by UTC day and model. A day is spread over some rows, so that turns that end
-- at the same time do not wait for each other. It stays when a session is erased.
create table spend_days (
    day                date           not null,
    model              text           not null,
    part               smallint       not null,
    calls              bigint         not null,
    input_tokens       bigint         not null,
    output_tokens      bigint         not null,
    cache_write_tokens bigint         not null,
    cache_read_tokens  bigint         not null,
    cost_usd           numeric(18, 8) not null,
    constraint spend_days_pkey primary key (day, model, part)
);

-- What calls that are under way may come to, while a cap is enforced. A reservation that nobody
-- settles (its worker died) no longer counts after expires_at.
create table spend_reservations (
    session_id text           not null,
    turn       integer        not null,
    call       smallint       not null,
    cost_usd   numeric(14, 8) not null,
    expires_at timestamptz    not null,
    constraint spend_reservations_pkey primary key (session_id, turn, call)
);

-- Somebody is to talk to a visitor. No foreign key: the record outlives the conversation until the
-- person is erased. `lead`: what is known of them; `trigger`: why.
create table handoff_records (
    session_id text        not null,
    handoff_id text        not null,
    turn       integer,
    trigger    text        not null,
    status     text        not null default 'pending',
    lead       jsonb       not null default '{}',
    summary    text,
    page_url   text,
    locale     text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint handoff_records_pkey primary key (session_id, handoff_id),
    constraint handoff_records_trigger_known check (trigger in ('qualified_lead', 'contact_form', 'stall', 'explicit_wish')),
    constraint handoff_records_status_known check (status in ('pending', 'delivered', 'degraded', 'mailed', 'dead'))
);
-- One open handoff of a session: further facts are added to it.
create unique index handoff_records_open on handoff_records (session_id) where status = 'pending';

-- What a visitor thinks of an answer; the newest opinion stands.
create table feedback (
    session_id text        not null,
    turn       integer     not null,
    rating     text        not null,
    comment    text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint feedback_pkey primary key (session_id, turn),
    constraint feedback_turn_fkey foreign key (session_id, turn) references turns (session_id, turn) on delete cascade,
    constraint feedback_rating_known check (rating in ('up', 'down'))
);
