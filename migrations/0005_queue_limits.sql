-- Jobs that are not due yet leave the claim's index, so that a claim costs the same however many
-- retries and delayed jobs wait. Processes of the version before still put such jobs back as ready:
-- a claim therefore looks at run_at too.
alter table queue.jobs drop constraint jobs_state_known;
alter table queue.jobs
    -- scheduled: not due yet · ready: due · blocked: waits for its serial key · running: leased
    add constraint jobs_state_known check (state in ('scheduled', 'ready', 'blocked', 'running')),
    -- Jobs with the same key share a token bucket.
    add column rate_key text,
    -- W3C traceparent of whoever enqueued it.
    add column trace text,
    add constraint jobs_run_at_finite check (isfinite(run_at)),
    add constraint jobs_keys_bounded check
        (octet_length(serial_key) between 1 and 512 and octet_length(unique_key) between 1 and 512
         and octet_length(rate_key) between 1 and 512) not valid;
alter table queue.history
    add column rate_key text,
    add column trace text;

drop index queue.jobs_claimable;
create index jobs_ready on queue.jobs (queue, priority, run_at, id) where state = 'ready';
create index jobs_scheduled on queue.jobs (queue, run_at) where state = 'scheduled';
update queue.jobs set state = 'scheduled' where state = 'ready' and run_at > now();

-- Unique keys that hold longer than their job is live.
create table queue.unique_keys (
    kind       text        not null,
    key        text        not null,
    -- The newest job that had it.
    job_id     bigint      not null,
    -- Null: for ever.
    expires_at timestamptz,
    constraint unique_keys_pkey primary key (kind, key)
);
create index unique_keys_expiring on queue.unique_keys (expires_at) where expires_at is not null;

-- Token buckets (GCRA: one time says how full a bucket is). A row whose times have passed says the
-- same as no row.
create table queue.buckets (
    key            text        not null,
    -- When the bucket will be full again.
    full_at        timestamptz not null,
    -- The last time that a job was told to come again at.
    deferred_until timestamptz not null,
    constraint buckets_pkey primary key (key)
);

create or replace view ops.queues as
select queue,
       paused.paused_at is not null as paused,
       paused.paused_at,
       count(jobs.id) filter (where state = 'ready') as ready,
       count(jobs.id) filter (where state = 'scheduled') as scheduled,
       count(jobs.id) filter (where state = 'blocked') as blocked,
       count(jobs.id) filter (where state = 'running') as running,
       coalesce(extract(epoch from now() - min(run_at)
           filter (where state = 'ready' or (state = 'scheduled' and run_at <= now()))), 0)::float8 as oldest_age_seconds
from queue.jobs
full join queue.paused using (queue)
group by queue, paused.paused_at;
comment on view ops.queues is
    'Every queue that has live jobs or is paused. ready: due; scheduled: due later; blocked: behind another job of the same serial key; oldest_age_seconds: how long the oldest due job has waited.';
comment on view ops.jobs is
    'The live jobs (scheduled, ready, blocked, running), without their payload. Ended ones: ops.failed_jobs, for the dead.';

create or replace view ops.failed_jobs as
select id, queue, kind, state, attempt, max_attempts,
       case when state in ('scheduled', 'ready') then run_at end as next_run_at,
       (errors -> -1 ->> 'at')::timestamptz as failed_at,
       errors -> -1 ->> 'error' as last_error,
       errors, serial_key, unique_key, created_at
from queue.jobs
where errors <> '[]'
union all
select id, queue, kind, 'dead', attempt, max_attempts, null, finished_at,
       errors -> -1 ->> 'error', errors, serial_key, unique_key, created_at
from queue.history
where outcome = 'dead';

create view ops.rate_limits as
select key, full_at, deferred_until from queue.buckets;
comment on view ops.rate_limits is
    'The token buckets in use. full_at: when the key may again run a whole burst at once; deferred_until: when the last of its jobs that found the bucket empty is tried again.';

-- Brings a dead job back, or makes a waiting one due. Returns its state. The lock of the serial key
-- is taken before any row, as everywhere.
create or replace function queue.bring_back(job_id bigint) returns text
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    key text;
    live queue.jobs;
    dead queue.history;
    new_state text := 'ready';
    other bigint;
begin
    select serial_key into key from queue.jobs where id = job_id
    union all
    select serial_key from queue.history where id = job_id
    limit 1;
    if key is not null then
        perform pg_advisory_xact_lock(hashtextextended(key, 0));
    end if;

    select * into live from queue.jobs where id = job_id for update;
    if found then
        if live.state not in ('scheduled', 'ready') then
            raise exception 'job % is %: there is nothing to retry', job_id, live.state
                using errcode = 'object_not_in_prerequisite_state';
        end if;
        update queue.jobs set state = 'ready', run_at = least(run_at, clock_timestamp()) where id = job_id;
        perform pg_notify('growth_chat', concat_ws(E'\n', 'ops', 'q ' || live.queue));
        return 'ready';
    end if;

    select * into dead from queue.history where id = job_id for update;
    if not found then
        raise exception 'job % is not known: it never was, or its history has been pruned', job_id
            using errcode = 'no_data_found';
    elsif dead.outcome <> 'dead' then
        raise exception 'job % is %: only a job that failed can be retried', job_id, dead.outcome
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    -- Such a job would find its turn finished and do nothing: that must not look like an answer.
    if exists (select from ops.turns t
               where dead.kind = 'turn.process' and t.session_id = dead.payload ->> 'session_id'
                 and t.turn::text = dead.payload ->> 'turn' and t.finished_at is not null) then
        raise exception 'job % belongs to a turn that is finished: its visitor has been told of the failure and can ask again', job_id
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    if key is not null and exists (select from queue.jobs where serial_key = key) then
        new_state := 'blocked';
    end if;
    begin
        insert into queue.jobs (id, queue, kind, state, priority, max_attempts, retry_waits, lease,
                                serial_key, unique_key, rate_key, trace, payload, errors, created_at)
        overriding system value
        values (dead.id, dead.queue, dead.kind, new_state, dead.priority, dead.max_attempts,
                dead.retry_waits, coalesce(dead.lease, 1000000), dead.serial_key,
                dead.unique_key, dead.rate_key, dead.trace, dead.payload, dead.errors, dead.created_at);
    exception when unique_violation then
        select id into other from queue.jobs
        where kind = dead.kind and unique_key = dead.unique_key;
        raise exception 'job % can''t be retried: job % does the same and is live', job_id, other
            using errcode = 'unique_violation';
    end;
    delete from queue.history where id = job_id;
    if new_state = 'ready' then
        perform pg_notify('growth_chat', concat_ws(E'\n', 'ops', 'q ' || dead.queue));
    end if;
    return new_state;
end $$;

create or replace function ops.cancel_job(job_id bigint) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    job queue.jobs;
begin
    update queue.jobs
    set cancel_requested = true,
        -- Workers end it: it has to become due.
        run_at = case when state in ('scheduled', 'ready') then least(run_at, clock_timestamp()) else run_at end,
        state = case when state = 'scheduled' then 'ready' else state end
    where id = job_id
    returning * into job;
    if not found then
        raise exception 'job % is not live: it has ended, or never was', job_id
            using errcode = 'no_data_found';
    end if;
    perform pg_notify('growth_chat', concat_ws(E'\n', 'ops', 'q ' || job.queue, 'c ' || job_id));
    return job.state;
end $$;

do $$
begin
    if exists (select from pg_roles where rolname = 'growth_chat_operator') then
        perform ops.grant_operator();
    end if;
end $$;
