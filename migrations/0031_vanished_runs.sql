-- A run whose process has gone is marked as failed by the next one, which may be days later. Until then the
-- view says what it is.
create or replace view ops.backups as
select run_id, kind,
       case when status = 'running' and lease_until < now() then 'vanished' else status end as status,
       due_local, time_zone, object_key, reason, started_at, finished_at,
       extract(epoch from finished_at - started_at)::float8 as seconds, snapshot_at, bytes, dump_bytes,
       sha256, verified_at, drill, lease_until
from backup_runs;
comment on view ops.backups is
    'Attempts to make a backup (kind backup) and to restore one for a proof (kind verify; drill: through all of restore). status: running until lease_until, vanished if its process did not come back (the next run makes it failed), succeeded, or failed with its reason; due_local: the due time that it is of, on the clock of time_zone, null if somebody asked for it; snapshot_at: the moment that is in the backup; bytes: in the bucket, dump_bytes: of the SQL; verified_at: when it was restored and every count was right. A backup is good only then, and only if this database made it: kind backup.';
