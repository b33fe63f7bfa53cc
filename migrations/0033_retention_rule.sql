-- How long texts are kept, by the worker that was started last: whoever restores the database forgets by the
-- same rule, whatever the operator's shell says (docs/decisions/0023).
create table retention_rule (
    only_row   boolean     not null default true,
    -- RETENTION_DAYS.
    days       integer     not null,
    updated_at timestamptz not null default now(),
    constraint retention_rule_pkey primary key (only_row),
    constraint retention_rule_one_row check (only_row),
    constraint retention_rule_days check (days > 0)
);
