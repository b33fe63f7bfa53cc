-- Documents of more formats, pages of a site, and embeddings that are paid for and not yet in use.

-- `format`: how `content` is written; null: by the source's ending, as rows before this migration.
-- `language`: ISO 639-1 (639-3 where there is none), null: not known.
alter table knowledge_documents
    add column format   text,
    add column language text,
    add constraint knowledge_documents_format_known check (format in ('markdown', 'text')) not valid,
    add constraint knowledge_documents_language_form check (language ~ '^[a-z]{2,3}(-[A-Za-z0-9]{1,8})*$') not valid;

-- What the next crawl needs to know of a page that is a document: with `etag` or `last_modified` it
-- asks for a newer version only, and `links` is where it goes on when there is none.
create table knowledge_pages (
    document_id   bigint      not null,
    etag          text,
    last_modified text,
    links         text[]      not null default '{}',
    -- The version of the rules that made the document of the page.
    extractor     smallint    not null,
    fetched_at    timestamptz not null default now(),
    constraint knowledge_pages_pkey primary key (document_id),
    constraint knowledge_pages_document_fkey foreign key (document_id)
        references knowledge_documents (document_id) on delete cascade
);

-- Embeddings that the provider has made and that no chunk has yet: whoever goes on after a crash does
-- not pay for them again. They go when their document's chunks are exchanged; what stays behind goes
-- with the nightly pruning.
create table knowledge_embeddings (
    content_hash bytea       not null,
    model        text        not null,
    dimensions   integer     not null,
    embedding    vector      not null,
    created_at   timestamptz not null default now(),
    constraint knowledge_embeddings_pkey primary key (content_hash, model, dimensions)
);
create index knowledge_embeddings_created_at on knowledge_embeddings (created_at);
