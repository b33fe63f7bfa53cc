-- Attempts to make a backup of this database, and to restore one for a proof. The fence of a due time,
-- and the history; see docs/decisions/0020-honest-backups.md. What backups there are says the bucket.
create table backup_runs (
    run_id      bigint generated always as identity,
    -- Names the run outside, in the object and its manifest: ids begin again in a restored database.
    token       uuid        not null default gen_random_uuid(),
    kind        text        not null,
    -- The due time that it is of, on the clock of the zone. Null: somebody asked for it.
    due_local   timestamp,
    time_zone   text,
    status      text        not null default 'running',
    -- Why it failed, for an operator.
    reason      text,
    -- Of a verify: the object that it restores.
    object_key  text,
    upload_id   text,
    -- While it runs, it is its process's until then.
    lease_until timestamptz,
    started_at  timestamptz not null default now(),
    finished_at timestamptz,
    -- The moment that is in the backup.
    snapshot_at timestamptz,
    bytes       bigint,
    dump_bytes  bigint,
    sha256      text,
    -- When the object was restored and compared with its manifest.
    verified_at timestamptz,
    -- Of a verify: whether it went through all of `restore`.
    drill       boolean     not null default false,
    constraint backup_runs_pkey primary key (run_id),
    constraint backup_runs_token unique (token),
    constraint backup_runs_kind check (kind in ('backup', 'verify')),
    constraint backup_runs_status check (status in ('running', 'succeeded', 'failed')),
    constraint backup_runs_due check ((due_local is null) = (time_zone is null)),
    constraint backup_runs_lease check ((status = 'running') = (lease_until is not null)),
    constraint backup_runs_finished check ((status = 'running') = (finished_at is null)),
    constraint backup_runs_reason check ((status = 'failed') = (reason is not null))
);

-- One at a time, in the whole fleet.
create unique index backup_runs_one_running on backup_runs (kind) where status = 'running';
-- One backup of a due time.
create unique index backup_runs_one_of_due on backup_runs (due_local, time_zone)
    where kind = 'backup' and status in ('running', 'succeeded');
create index backup_runs_objects on backup_runs (object_key);

create view ops.backups as
select run_id, kind, status, due_local, time_zone, object_key, reason, started_at, finished_at,
       extract(epoch from finished_at - started_at)::float8 as seconds, snapshot_at, bytes, dump_bytes,
       sha256, verified_at, drill, lease_until
from backup_runs;
comment on view ops.backups is
    'Attempts to make a backup (kind backup) and to restore one for a proof (kind verify; drill: through all of restore). status: running until lease_until, succeeded, or failed with its reason; due_local: the due time that it is of, on the clock of time_zone, null if somebody asked for it; snapshot_at: the moment that is in the backup; bytes: in the bucket, dump_bytes: of the SQL; verified_at: when it was restored and every count was right. A backup is good only then.';

-- A dump has no privileges, so that any role can restore it. This puts back what the migrations say.
create function queue.restore_privileges() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    revoke execute on all functions in schema ops from public;
    revoke execute on all functions in schema queue from public;
    begin
        if not exists (select from pg_roles where rolname = 'growth_chat_operator') then
            create role growth_chat_operator nologin;
        end if;
    exception
        when duplicate_object or unique_violation then null;
        when insufficient_privilege then
            raise notice 'the role growth_chat_operator was not created, CREATEROLE is missing: create it, then select ops.grant_operator()';
    end;
    if exists (select from pg_roles where rolname = 'growth_chat_operator') then
        perform ops.grant_operator();
    end if;
end $$;
comment on function queue.restore_privileges is
    'Gives the privileges of the migrations again, after a restore.';
revoke execute on function queue.restore_privileges from public;

-- The role may read every view of the schema; this one is new.
do $$
begin
    if exists (select from pg_roles where rolname = 'growth_chat_operator') then
        perform ops.grant_operator();
    end if;
end $$;
