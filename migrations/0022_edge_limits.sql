-- How often a client may ask for what costs money or people's time (docs/decisions/0021).
--
-- Unlogged: the rows are worth minutes, a row is written for each message, and a statement that
-- touches nothing else waits for no disk. After a crash of the server both tables are empty, and
-- everybody may begin anew. They are in no replica.

-- The key of the day under which addresses, sessions and sites are hashed. It is random, known to the
-- database only, and deleted with the first request of the next day: from then on nobody can say whose
-- a row of `edge_limits` was.
create unlogged table edge_keys (
    -- In UTC, by the database's clock.
    day date not null,
    -- Names the key in the statements that rely on it.
    key_id uuid not null,
    key bytea not null,
    constraint edge_keys_pkey primary key (day),
    constraint edge_keys_key check (octet_length(key) = 32)
);

-- Token buckets. One without a row is full. Their number is bounded by the messages that were accepted
-- since the last `queue.prune`, which deletes full ones.
create unlogged table edge_limits (
    -- The first half of an HMAC-SHA256 under the key of the day.
    key bytea not null,
    -- When the bucket will be full again.
    full_at timestamptz not null,
    -- Whether the last request that asked got a token.
    taken boolean not null,
    constraint edge_limits_pkey primary key (key),
    constraint edge_limits_key check (octet_length(key) = 16)
-- The row of a busy site changes with every message: its next version finds room on the same page.
) with (fillfactor = 50);
