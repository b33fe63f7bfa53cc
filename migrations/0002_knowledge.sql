create table knowledge_documents (
    document_id  bigint      generated always as identity,
    -- Path below the indexed root, or the URL: what makes a document the same one next time.
    source       text        not null,
    -- What a citation links to: the front matter's url, else the source.
    url          text        not null,
    title        text        not null,
    kind         text        not null default 'page',
    content      text        not null,
    content_hash bytea       not null,
    -- The content that the chunks were made of; null: not indexed yet.
    indexed_hash bytea,
    updated_at   timestamptz not null default now(),
    indexed_at   timestamptz,
    constraint knowledge_documents_pkey primary key (document_id),
    constraint knowledge_documents_source_key unique (source),
    constraint knowledge_documents_kind_known check (kind in ('page', 'case_study', 'faq', 'doc'))
);

create table knowledge_chunks (
    chunk_id        bigint       generated always as identity,
    document_id     bigint       not null,
    ordinal         integer      not null,
    heading_path    text[]       not null default '{}',
    content         text         not null,
    token_count     integer      not null,
    content_hash    bytea        not null,
    embedding_model text         not null,
    embedding       vector(1536) not null,
    constraint knowledge_chunks_pkey primary key (chunk_id),
    constraint knowledge_chunks_ordinal_key unique (document_id, ordinal),
    constraint knowledge_chunks_document_fkey foreign key (document_id)
        references knowledge_documents (document_id) on delete cascade
);
create index knowledge_chunks_embedding on knowledge_chunks
    using hnsw (embedding vector_cosine_ops) with (m = 16, ef_construction = 64);
