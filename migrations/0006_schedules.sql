-- One row a schedule: what of it has been settled. It is the fence that makes one job of each fire,
-- whoever looks; see jobs/src/schedule/.
create table queue.schedules (
    name         text        not null,
    -- The rule that was brought last, and since when it counts: nothing fires for the time before.
    cron         text        not null,
    time_zone    text        not null,
    since        timestamptz not null,
    -- Whatever fires until here, by this rule or another one of the name, has been settled.
    settled      timestamptz not null,
    -- The newest fire that was made a job of, in local time, which a rule names each fire by.
    last_fire    timestamp,
    last_job_id  bigint,
    -- For people: as the process reckoned that wrote the row last. Null: it never fires again.
    next_fire_at timestamptz,
    constraint schedules_pkey primary key (name),
    constraint schedules_fire_has_job check ((last_fire is null) = (last_job_id is null))
);

create view ops.schedules as
select name, cron, time_zone, last_fire as last_fire_local,
       case when last_fire is not null then settled end as last_fire_at,
       last_job_id, next_fire_at, since
from queue.schedules;
comment on view ops.schedules is
    'What is enqueued by the clock. last_fire_local: the newest fire, in the time zone of the schedule, and last_fire_at the moment of it; last_job_id: the job that it made (see ops.jobs, ops.failed_jobs); next_fire_at: when a worker makes the next one, long past if no worker runs or knows the schedule; since: from when on the rule counts.';

-- The role may read every view of the schema; this one is new.
do $$
begin
    if exists (select from pg_roles where rolname = 'growth_chat_operator') then
        perform ops.grant_operator();
    end if;
end $$;
