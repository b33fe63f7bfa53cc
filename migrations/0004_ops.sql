-- What a person on duty needs, in SQL: a stable interface over the tables of the service, which are
-- free to change below it. Nothing here shows message text or a job's payload.

-- The fence of a job that ended. A job that is brought back goes on counting from it: a worker that
-- slept through the job's death and its second life must not hold a number that is valid again.
-- Null: ended before this column was there, or done (such a job is never brought back).
alter table queue.history add column lease integer;

create schema ops;
comment on schema ops is
    'For operators: views to look at, functions to act. Documented and stable; shows no message text.';

create view ops.queues as
select queue,
       paused.paused_at is not null as paused,
       paused.paused_at,
       count(jobs.id) filter (where state = 'ready' and run_at <= now()) as ready,
       count(jobs.id) filter (where state = 'ready' and run_at > now()) as scheduled,
       count(jobs.id) filter (where state = 'blocked') as blocked,
       count(jobs.id) filter (where state = 'running') as running,
       coalesce(extract(epoch from now() - min(run_at)
           filter (where state = 'ready' and run_at <= now())), 0)::float8 as oldest_age_seconds
from queue.jobs
full join queue.paused using (queue)
group by queue, paused.paused_at;
comment on view ops.queues is
    'Every queue that has live jobs or is paused. ready: due now; scheduled: due later; blocked: behind another job of the same serial key; oldest_age_seconds: how long the oldest due job has waited.';

create view ops.jobs as
select id, queue, kind, state, priority, attempt, max_attempts, run_at, lease_until, worker,
       cancel_requested, serial_key, unique_key, created_at, started_at,
       errors -> -1 ->> 'error' as last_error
from queue.jobs;
comment on view ops.jobs is
    'The live jobs (ready, blocked, running), without their payload. Ended ones: ops.failed_jobs, for the dead.';

create view ops.failed_jobs as
select id, queue, kind, state, attempt, max_attempts,
       case when state = 'ready' then run_at end as next_run_at,
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
comment on view ops.failed_jobs is
    'Live jobs of which an attempt failed, and dead ones: none of their attempts is left, they run again only by ops.retry_job. errors: every failed attempt, [{attempt, at, error}]; next_run_at: when a live one is tried again.';

create view ops.turns as
select session_id, turn, status, attempt, message_id, answer_id, regenerates, job_id, finish_reason, model,
       input_tokens, output_tokens, cache_write_tokens, cache_read_tokens,
       created_at, started_at, first_token_at, finished_at
from turns;
comment on view ops.turns is
    'The turns of all sessions: their state, cost in tokens and times, without any text. job_id: see ops.jobs and ops.failed_jobs.';

-- Brings a dead job back, or makes a waiting one due. Returns its state. The lock of the serial key
-- is taken before any row, as everywhere.
create function queue.bring_back(job_id bigint) returns text
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
        if live.state <> 'ready' then
            raise exception 'job % is %: there is nothing to retry', job_id, live.state
                using errcode = 'object_not_in_prerequisite_state';
        end if;
        update queue.jobs set run_at = least(run_at, clock_timestamp()) where id = job_id;
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
                                serial_key, unique_key, payload, errors, created_at)
        overriding system value
        values (dead.id, dead.queue, dead.kind, new_state, dead.priority, dead.max_attempts,
                dead.retry_waits, coalesce(dead.lease, 1000000), dead.serial_key,
                dead.unique_key, dead.payload, dead.errors, dead.created_at);
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
comment on function queue.bring_back is
    'What ops.retry_job and ops.retry_failed do with one job. Not for direct use.';

create function ops.retry_job(job_id bigint) returns text
language sql security definer set search_path = pg_catalog, pg_temp
as 'select queue.bring_back(job_id)';
comment on function ops.retry_job is
    'Runs a dead job again, with all its attempts and the errors so far, or a waiting one now instead of later. Returns ready, or blocked if another job of its serial key is first. An error says why it can''t.';

create function ops.retry_failed(job_kind text, since timestamptz) returns setof bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    candidate bigint;
begin
    for candidate in
        select id from (
            select id, serial_key from queue.history
            where outcome = 'dead' and kind = job_kind and finished_at >= since
            order by finished_at
            -- Each takes a lock, and the server's table of locks is finite.
            limit 1000
        ) oldest
        -- The same order for everybody: two callers don't wait for each other.
        order by hashtextextended(serial_key, 0), id
    loop
        begin
            perform queue.bring_back(candidate);
            return next candidate;
        exception
            when unique_violation or object_not_in_prerequisite_state or no_data_found then
                raise notice '%', sqlerrm;
        end;
    end loop;
end $$;
comment on function ops.retry_failed is
    'Runs the dead jobs of a kind again that died since then, the oldest 1,000; returns their ids. Those that can''t be are passed over, with a notice each.';

create function ops.cancel_job(job_id bigint) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    job queue.jobs;
begin
    update queue.jobs
    set cancel_requested = true,
        run_at = case when state = 'ready' then least(run_at, clock_timestamp()) else run_at end
    where id = job_id
    returning * into job;
    if not found then
        raise exception 'job % is not live: it has ended, or never was', job_id
            using errcode = 'no_data_found';
    end if;
    perform pg_notify('growth_chat', concat_ws(E'\n', 'ops', 'q ' || job.queue, 'c ' || job_id));
    return job.state;
end $$;
comment on function ops.cancel_job is
    'Asks for a live job to be cancelled, and returns the state that it is in. Workers end it, because more may follow from the end than a row (a turn is closed, its client told): a running job at once, a ready one as soon as a worker has a slot, a blocked one when its turn comes, one of a paused queue when that is resumed.';

create function ops.pause_queue(name text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if coalesce(name, '') !~ '^[A-Za-z0-9._-]{1,64}$' then
        raise exception 'that is no name of a queue: 1 to 64 letters, digits, dots, dashes and underscores'
            using errcode = 'invalid_parameter_value';
    end if;
    if not exists (select from queue.jobs where queue = name) then
        raise notice 'no live job is in the queue %: check its name', name;
    end if;
    insert into queue.paused (queue) values (name) on conflict on constraint paused_pkey do nothing;
    return found;
end $$;
comment on function ops.pause_queue is
    'Pauses a queue, fleet-wide: jobs are accepted and wait, running ones go on to their end. False: it was paused already.';

create function ops.resume_queue(name text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    delete from queue.paused where queue = name;
    if not found then
        return false;
    end if;
    perform pg_notify('growth_chat', concat_ws(E'\n', 'ops', 'q ' || name));
    return true;
end $$;
comment on function ops.resume_queue is
    'Resumes a paused queue; its jobs run at once. False: it was not paused.';

create function ops.grant_operator() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    grant usage on schema ops to growth_chat_operator;
    grant select on all tables in schema ops to growth_chat_operator;
    grant execute on function ops.retry_job, ops.retry_failed, ops.cancel_job, ops.pause_queue, ops.resume_queue
        to growth_chat_operator;
end $$;
comment on function ops.grant_operator is
    'Gives the role growth_chat_operator what an operator needs here. For the owner, once, where the migration was not allowed to create the role and somebody else did.';

-- By default everybody may execute a function; these act with their owner's rights.
revoke execute on all functions in schema ops from public;
revoke execute on function queue.bring_back from public;

do $$
begin
    if not exists (select from pg_roles where rolname = 'growth_chat_operator') then
        create role growth_chat_operator nologin;
        comment on role growth_chat_operator is
            'Operates growth-chat by the schema ops: sees and moves jobs, sees no message text.';
    end if;
exception
    -- A role belongs to the server: the migration of another database may have been faster.
    when duplicate_object or unique_violation then null;
    when insufficient_privilege then
        raise notice 'the role growth_chat_operator was not created, CREATEROLE is missing: create it, then select ops.grant_operator()';
end $$;
do $$
begin
    if exists (select from pg_roles where rolname = 'growth_chat_operator') then
        perform ops.grant_operator();
    end if;
end $$;
