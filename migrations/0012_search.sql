-- Full text beside the vectors.

-- The text search configuration of the chunks: the language's, else what their words look like.
alter table knowledge_documents add column search_configuration text;

-- The chunk's words, in its document's language. A chunk from before has none until its document is
-- indexed again, and is found by its vector meanwhile.
alter table knowledge_chunks add column search tsvector;
-- Read for every chunk that may match: in the row itself rather than beside it.
alter table knowledge_chunks alter column search set storage main;

-- What the full text search knows of a table of chunks (KNOWLEDGE_TABLE_NAME), refreshed while and
-- after documents are indexed. `sampled`: how many chunks the terms were counted in. `last_chunk_id`:
-- the newest chunk then; how far others are beyond it tells how much has changed.
create table knowledge_corpora (
    table_name     text        not null,
    chunks         bigint      not null,
    sampled        bigint      not null,
    last_chunk_id  bigint      not null,
    configurations text[]      not null,
    refreshed_at   timestamptz not null default now(),
    constraint knowledge_corpora_pkey primary key (table_name)
);

-- In how many chunks a term stands, estimated from the sample; terms that stand in one sampled chunk
-- only are left out.
create table knowledge_terms (
    table_name text             not null,
    term       text             not null,
    chunks     double precision not null,
    constraint knowledge_terms_pkey primary key (table_name, term)
);
