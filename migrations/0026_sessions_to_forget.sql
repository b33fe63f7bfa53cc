-- no-transaction
-- The closed sessions whose texts are still there: what retention looks through.
create index concurrently if not exists sessions_to_forget on sessions (closed_at, session_id)
    where status = 'closed' and forgotten_at is null;
