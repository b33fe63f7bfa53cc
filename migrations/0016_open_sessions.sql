-- no-transaction
create index concurrently if not exists sessions_open on sessions (session_id) where status = 'open';
