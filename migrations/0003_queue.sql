-- The queue has no foreign key into the rest and nothing refers to it by one: its tables can stay
-- on one node while the sessions are distributed.
create schema queue;

-- Live jobs only: a job that ends leaves this table in the statement that ends it, so that it stays
-- narrow and a claim costs the same after ten million jobs.
create table queue.jobs (
    id           bigint      generated always as identity,
    queue        text        not null,
    kind         text        not null,
    -- ready: may run once run_at has come · blocked: waits for its serial key · running: leased
    state        text        not null default 'ready',
    -- 0 is served first.
    priority     smallint    not null default 0,
    run_at       timestamptz not null default now(),
    -- Attempts that were started and count.
    attempt      smallint    not null default 0,
    max_attempts smallint    not null,
    -- Seconds to wait after the first, second, … failed attempt.
    retry_waits  integer[]   not null,
    -- The fence: grows with every claim; every write of a worker names the number it was given.
    lease        integer     not null default 0,
    lease_until  timestamptz,
    worker       uuid,
    cancel_requested boolean not null default false,
    serial_key   text,
    unique_key   text,
    payload      jsonb       not null,
    -- [{attempt, at, error}], the newest last.
    errors       jsonb       not null default '[]',
    created_at   timestamptz not null default now(),
    started_at   timestamptz,
    constraint jobs_pkey primary key (id),
    constraint jobs_state_known check (state in ('ready', 'blocked', 'running')),
    constraint jobs_running_has_lease check
        ((state = 'running') = (lease_until is not null and worker is not null)),
    constraint jobs_blocked_has_key check (state <> 'blocked' or serial_key is not null),
    constraint jobs_waits_positive check (0 <= all (retry_waits)),
    constraint jobs_attempts_bounded check (attempt between 0 and max_attempts and max_attempts > 0)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0,
        autovacuum_analyze_scale_factor = 0.2);
create index jobs_claimable on queue.jobs (queue, priority, run_at, id) where state = 'ready';
create index jobs_leased on queue.jobs (lease_until) where state = 'running';
-- At most one job of a key is not blocked: the promise of the serial key, kept by the database.
create unique index jobs_serial_unblocked on queue.jobs (serial_key)
    where serial_key is not null and state <> 'blocked';
create index jobs_serial_blocked on queue.jobs (serial_key, id) where state = 'blocked';
create unique index jobs_unique_live on queue.jobs (kind, unique_key) where unique_key is not null;

-- Jobs that ended: done, dead or cancelled.
create table queue.history (
    id           bigint      not null,
    queue        text        not null,
    kind         text        not null,
    outcome      text        not null,
    priority     smallint    not null,
    attempt      smallint    not null,
    max_attempts smallint    not null,
    retry_waits  integer[]   not null,
    worker       uuid,
    serial_key   text,
    unique_key   text,
    payload      jsonb       not null,
    errors       jsonb       not null,
    created_at   timestamptz not null,
    started_at   timestamptz,
    finished_at  timestamptz not null default now(),
    constraint history_pkey primary key (id),
    constraint history_outcome_known check (outcome in ('done', 'dead', 'cancelled'))
);
create index history_finished on queue.history (finished_at);
create index history_dead on queue.history (kind, finished_at) where outcome = 'dead';

-- A paused queue has a row; every other queue runs.
create table queue.paused (
    queue     text        not null,
    paused_at timestamptz not null default now(),
    constraint paused_pkey primary key (queue)
);
