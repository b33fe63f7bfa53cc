-- Forgetting: by age, by wish, and again after a restore (docs/decisions/0023).

-- When the texts of a closed session went; null: not yet.
alter table sessions add column forgotten_at timestamptz;

create table privacy_requests (
    request_id   text        not null,
    -- conversation: what was said · person: the handoff and what is outside as well
    scope        text        not null,
    session_id   text,
    -- Until the request is done: then only its hash is kept, in the ledger.
    email        text,
    requested_by text        not null,
    -- waiting: for an operator's approval · pending: a job sees to it · done
    status       text        not null,
    -- [{system, reference, state, error, at}]: what is to be forgotten outside; no contact data.
    outside      jsonb       not null default '[]',
    receipt      jsonb,
    created_at   timestamptz not null default now(),
    approved_at  timestamptz,
    finished_at  timestamptz,
    constraint privacy_requests_pkey primary key (request_id),
    constraint privacy_requests_scope_known check (scope in ('conversation', 'person')),
    constraint privacy_requests_has_subject check (status = 'done' or session_id is not null or email is not null),
    constraint privacy_requests_by_known check (requested_by in ('visitor', 'operator')),
    constraint privacy_requests_status_known check (status in ('waiting', 'pending', 'done')),
    constraint privacy_requests_done_has_time check ((status = 'done') = (finished_at is not null))
);
create index privacy_requests_session on privacy_requests (session_id);

create table erasure_ledger (
    entry_id     text        not null,
    scope        text        not null,
    session_ids  text[]      not null,
    -- HMAC-SHA-256 of the address under PRIVACY_SECRET; null: the wish named a session.
    email_hash   bytea,
    requested_by text        not null,
    -- {table: rows}
    erased       jsonb       not null,
    erased_at    timestamptz not null default now(),
    -- When the entry was put into the bucket.
    kept_at      timestamptz,
    constraint erasure_ledger_pkey primary key (entry_id),
    constraint erasure_ledger_scope_known check (scope in ('conversation', 'person'))
);

create view ops.privacy_requests as
select request_id, scope, session_id, email is not null as by_email, requested_by, status,
       (select count(*) from jsonb_array_elements(outside) o where o ->> 'state' = 'done') as outside_done,
       jsonb_array_length(outside) as outside_total,
       created_at, approved_at, finished_at
from privacy_requests;
comment on view ops.privacy_requests is
    'Wishes to be forgotten, without addresses. status: waiting (for ops.approve_erasure: the visitor erased the conversation, the handoff and what is outside are still there), pending (a privacy.erase job sees to it, see ops.jobs), done. outside_done of outside_total: messages in Slack and records in the CRM.';

-- A job as the API and the workers enqueue it.
create function queue.add_privacy_erase(request_id text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    insert into queue.jobs (queue, kind, max_attempts, retry_waits, unique_key, payload)
    values ('maintenance', 'privacy.erase', 10, '{1,3,9,60,300,1800,7200,28800,43200}', request_id,
            pg_catalog.jsonb_build_object('request_id', request_id))
    on conflict do nothing;
    perform pg_notify('growth_chat', concat_ws(E'\n', 'ops', 'q maintenance'));
end $$;
comment on function queue.add_privacy_erase is 'What the ops functions of erasure do. Not for direct use.';

create function ops.erase_session(session_id text) returns text
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    id text := replace(gen_random_uuid()::text, '-', '');
begin
    if not exists (select from sessions s where s.session_id = erase_session.session_id)
       and not exists (select from handoff_records h where h.session_id = erase_session.session_id) then
        raise exception 'there is no session %', session_id using errcode = 'no_data_found';
    end if;
    insert into privacy_requests (request_id, scope, session_id, requested_by, status, approved_at)
    values (id, 'person', erase_session.session_id, 'operator', 'pending', now());
    perform queue.add_privacy_erase(id);
    return id;
end $$;
comment on function ops.erase_session is
    'Erases a conversation, its handoff, and what Slack and the CRM have of it. Returns the request''s id, see ops.privacy_requests.';

create function ops.erase_email(email text) returns text
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    id text := replace(gen_random_uuid()::text, '-', '');
begin
    if position('@' in email) < 2 or length(email) > 254 then
        raise exception 'that is no e-mail address' using errcode = 'invalid_parameter_value';
    end if;
    insert into privacy_requests (request_id, scope, email, requested_by, status, approved_at)
    values (id, 'person', lower(trim(erase_email.email)), 'operator', 'pending', now());
    perform queue.add_privacy_erase(id);
    return id;
end $$;
comment on function ops.erase_email is
    'Erases everything of the person with this address: conversations in which they left it, handoffs, what Slack and the CRM have. Returns the request''s id, see ops.privacy_requests.';

create function ops.approve_erasure(request_id text) returns void
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
begin
    update privacy_requests r set status = 'pending', scope = 'person', approved_at = now()
    where r.request_id = approve_erasure.request_id and r.status = 'waiting';
    if not found then
        raise exception 'request % does not wait for approval', request_id
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    perform queue.add_privacy_erase(approve_erasure.request_id);
end $$;
comment on function ops.approve_erasure is
    'Lets the handoff, and what Slack and the CRM have, go as well, after a visitor has erased the conversation.';

-- Every function of the schema is for operators, but the one that makes them so.
create or replace function ops.grant_operator() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    grant usage on schema ops to growth_chat_operator;
    grant select on all tables in schema ops to growth_chat_operator;
    grant execute on all functions in schema ops to growth_chat_operator;
    revoke execute on function ops.grant_operator from growth_chat_operator;
end $$;
revoke execute on all functions in schema ops from public;
revoke execute on function queue.add_privacy_erase from public;

do $$
begin
    if exists (select from pg_roles where rolname = 'growth_chat_operator') then
        perform ops.grant_operator();
    end if;
end $$;
