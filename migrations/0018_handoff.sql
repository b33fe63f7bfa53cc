-- The handoff: its facts in full, what each channel owes it, every attempt, and what the fleet knows
-- of the providers (docs/decisions/0018).

alter table handoff_records
    -- Raised by every new fact: a channel that has told an older one is asked again.
    add column revision        integer     not null default 1,
    -- From here on facts make a new handoff: its e-mail is being written, or it is settled.
    add column sealed_at       timestamptz,
    -- [{role, author, text, at}] of the conversation so far, the oldest first.
    add column transcript      jsonb       not null default '[]',
    -- What the visitor was told, in their language, and the latest time of it.
    add column promise_text    text,
    add column promise_by      timestamptz,
    -- Who said that they take care of it.
    add column taken_by        text,
    add column taken_at        timestamptz,
    add column settled_at      timestamptz,
    add constraint handoff_records_revision_positive check (revision > 0),
    add constraint handoff_records_promise_whole check ((promise_text is null) = (promise_by is null)),
    add constraint handoff_records_taken_by_somebody check ((taken_by is null) = (taken_at is null));

-- Whatever was pending before had no channels: facts may still be added to it.
drop index handoff_records_open;
create unique index handoff_records_open on handoff_records (session_id)
    where status = 'pending' and sealed_at is null;

create table handoff_deliveries (
    session_id   text        not null,
    handoff_id   text        not null,
    channel      text        not null,
    status       text        not null default 'pending',
    -- The revision of the facts that the channel has told; 0: none.
    revision     integer     not null default 0,
    -- The newest job; no foreign key: the queue is another aggregate.
    job_id       bigint,
    -- What the provider calls it: {"channel", "ts"}, {"contact", "note"}, {"message_id"}.
    reference    jsonb       not null default '{}',
    -- Where a person finds it.
    url          text,
    created_at   timestamptz not null default now(),
    delivered_at timestamptz,
    updated_at   timestamptz not null default now(),
    constraint handoff_deliveries_pkey primary key (session_id, handoff_id, channel),
    constraint handoff_deliveries_record_fkey foreign key (session_id, handoff_id)
        references handoff_records (session_id, handoff_id) on delete cascade,
    constraint handoff_deliveries_channel_known check (channel in ('slack', 'crm', 'slack_update', 'email')),
    constraint handoff_deliveries_status_known check (status in ('pending', 'delivered', 'skipped', 'dead', 'cancelled'))
);

create table handoff_attempts (
    session_id   text        not null,
    handoff_id   text        not null,
    channel      text        not null,
    -- Counts all attempts of the delivery, over all its jobs, from 1.
    attempt      integer     not null,
    job_id       bigint      not null,
    lease        integer     not null,
    started_at   timestamptz not null default now(),
    ended_at     timestamptz,
    -- Null: it runs, or its worker vanished.
    outcome      text,
    latency_ms   integer,
    -- What the provider calls what it took.
    provider_id  text,
    -- Redacted: a status, a code, a kind of failure.
    error        text,
    constraint handoff_attempts_pkey primary key (session_id, handoff_id, channel, attempt),
    constraint handoff_attempts_delivery_fkey foreign key (session_id, handoff_id, channel)
        references handoff_deliveries (session_id, handoff_id, channel) on delete cascade,
    constraint handoff_attempts_outcome_known check (outcome in ('sent', 'found', 'skipped', 'failed', 'refused', 'unknown')),
    constraint handoff_attempts_ended_has_outcome check ((outcome is null) = (ended_at is null))
);

-- Which session a message of Slack is about: what comes in names only the channel and the message.
create table slack_threads (
    channel    text        not null,
    ts         text        not null,
    session_id text        not null,
    handoff_id text        not null,
    created_at timestamptz not null default now(),
    constraint slack_threads_pkey primary key (channel, ts)
);
create index slack_threads_session on slack_threads (session_id);

create table provider_circuits (
    provider         text        not null,
    -- Different handoffs that failed since the last success; at most as many as open the circuit.
    failed_handoffs  text[]      not null default '{}',
    -- How often in a row a probe has failed.
    failed_probes    integer     not null default 0,
    -- Until then nobody asks; null: closed.
    open_until       timestamptz,
    updated_at       timestamptz not null default now(),
    constraint provider_circuits_pkey primary key (provider)
);

-- One row: the hours that the newest worker was started with.
create table business_hours (
    only_row   boolean     not null default true,
    hours      jsonb       not null,
    updated_at timestamptz not null default now(),
    constraint business_hours_pkey primary key (only_row),
    constraint business_hours_one_row check (only_row)
);
