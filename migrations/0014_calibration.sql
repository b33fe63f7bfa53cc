-- A relevance threshold is right for one model and one corpus. What it was measured with, so that a
-- threshold that was not measured with what runs now can be told.
create table knowledge_calibrations (
    calibration_id bigint           generated always as identity,
    -- KNOWLEDGE_TABLE_NAME.
    table_name     text             not null,
    model          text             not null,
    dimensions     integer          not null,
    -- Of the fingerprints of all indexed documents.
    corpus_hash    bytea            not null,
    threshold      double precision not null,
    -- What was measured at the threshold: shares from 0 to 1.
    recall         double precision not null,
    abstention     double precision not null,
    passages       integer          not null,
    questions      integer          not null,
    question_set   text             not null,
    created_at     timestamptz      not null default now(),
    constraint knowledge_calibrations_pkey primary key (calibration_id),
    constraint knowledge_calibrations_shares check
        (threshold between 0 and 1 and recall between 0 and 1 and abstention between 0 and 1),
    constraint knowledge_calibrations_counts check (dimensions > 0 and passages > 0 and questions > 0)
);
create index knowledge_calibrations_newest on knowledge_calibrations (table_name, calibration_id desc);

-- What the workers search with, one row for each table of chunks: the API has no such settings and
-- tells with it whether the threshold is calibrated. Written by a worker when it starts.
create table knowledge_settings (
    table_name   text             not null,
    model        text             not null,
    dimensions   integer          not null,
    threshold    double precision not null,
    published_at timestamptz      not null default now(),
    constraint knowledge_settings_pkey primary key (table_name)
);
