-- The trace that a job belongs to, as the log and a collector of traces name it.
create or replace view ops.jobs as
select id, queue, kind, state, priority, attempt, max_attempts, run_at, lease_until, worker,
       cancel_requested, serial_key, unique_key, created_at, started_at,
       errors -> -1 ->> 'error' as last_error,
       split_part(trace, '-', 2) as trace_id
from queue.jobs;

create or replace view ops.failed_jobs as
select id, queue, kind, state, attempt, max_attempts,
       case when state in ('scheduled', 'ready') then run_at end as next_run_at,
       (errors -> -1 ->> 'at')::timestamptz as failed_at,
       errors -> -1 ->> 'error' as last_error,
       errors, serial_key, unique_key, created_at,
       split_part(trace, '-', 2) as trace_id
from queue.jobs
where errors <> '[]'
union all
select id, queue, kind, 'dead', attempt, max_attempts, null, finished_at,
       errors -> -1 ->> 'error', errors, serial_key, unique_key, created_at,
       split_part(trace, '-', 2)
from queue.history
where outcome = 'dead';
