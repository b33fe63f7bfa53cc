-- no-transaction
-- Without a list of pending entries, which every search would have to read through.
create index concurrently if not exists knowledge_chunks_search on knowledge_chunks
    using gin (search) with (fastupdate = off);
