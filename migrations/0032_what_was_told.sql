-- What an erasure has to look for or to name (docs/decisions/0023).

-- {attempt: address} that the CRM was asked with: it may have a record that nobody heard of, and the lead may
-- have another address by now.
alter table handoff_records add column crm_asked jsonb not null default '{}';

-- Which endpoints may have been told who a handoff is about. No foreign key: whoever writes holds the handoff.
create table handoff_told (
    session_id  text        not null,
    handoff_id  text        not null,
    endpoint_id text        not null,
    told_at     timestamptz not null default now(),
    constraint handoff_told_pkey primary key (session_id, handoff_id, endpoint_id)
);
