//! What a restored database must not do by itself. It is said in the transaction that loads the rows:
//! whoever sees them, even after a restore that was killed, sees that they are held.

/// Queues whose jobs reach people and other systems. What is in them may have been delivered since the
/// backup was made: an operator decides.
pub const HELD_QUEUES: [&str; 3] = ["handoff", "people", "webhooks"];

/// Where it is held. The one table that has more rows than the backup.
pub(super) const PAUSED: &str = "queue.paused";

/// Holds the queues, and ends the runs of backups that the dump says to be running: they ran in another
/// life. The tables are older than any dump, if the database is ours at all.
pub(super) fn hold() -> String {
    let queues = HELD_QUEUES.map(|queue| format!("('{queue}')")).join(", ");
    format!(
        "
DO $hold$
BEGIN
    IF to_regclass('{PAUSED}') IS NOT NULL THEN
        INSERT INTO {PAUSED} (queue) VALUES {queues} ON CONFLICT DO NOTHING;
    END IF;
    IF to_regclass('public.backup_runs') IS NOT NULL THEN
        UPDATE public.backup_runs
        SET status = 'failed',
            reason = 'it ran when the backup was made that this database was restored from',
            lease_until = NULL, finished_at = now(), upload_id = NULL
        WHERE status = 'running';
    END IF;
END
$hold$;
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_that_is_told_is_held() {
        let hold = hold();
        for queue in HELD_QUEUES {
            assert!(hold.contains(&format!("('{queue}')")), "{queue}");
        }
        assert_eq!(hold.matches("('").count(), HELD_QUEUES.len() + 2);
    }
}
