-- An erasure whose record is kept before anybody outside is asked, and one that can't be worked on says why
-- (docs/decisions/0023).

-- Why nobody can see to it, in words for an operator; null: nothing is in its way.
alter table privacy_requests add column problem text;

-- The request is done, and what it held of an address is gone: a database that was restored from before has
-- no more use for it either.
alter table erasure_ledger add column done boolean not null default false;
-- When it was wished; null: when it was done, in entries of before. Whoever came back later is not meant.
alter table erasure_ledger add column requested_at timestamptz;

create or replace view ops.privacy_requests as
select request_id, scope, session_id, email is not null as by_email, requested_by, status,
       (select count(*) from jsonb_array_elements(outside) o where o ->> 'state' = 'done') as outside_done,
       jsonb_array_length(outside) as outside_total,
       created_at, approved_at, finished_at, problem,
       (select l.kept_at is not null from erasure_ledger l where l.entry_id = request_id) as record_kept
from privacy_requests;
comment on view ops.privacy_requests is
    'Wishes to be forgotten, without addresses. status: waiting (for ops.approve_erasure: the conversation is erased, or somebody else speaks in it; the handoff and what is outside are still there), pending (a privacy.erase job sees to it, see ops.jobs), done. outside_done of outside_total: messages in Slack and records in the CRM. problem: why it can''t be worked on; it is worked on as soon as that is mended and a worker starts. record_kept: whether the ledger''s entry is in the bucket; false: in this database only, until the next backup puts it there; null: nothing is erased yet.';

-- One whole address, as the worker reads it, and nothing around it: what it can't read it would not find.
create or replace function ops.erase_email(email text) returns text
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    id text := replace(gen_random_uuid()::text, '-', '');
    whole text := btrim(erase_email.email, E' \t\r\n');
    atom constant text := '[^][:space:][:cntrl:]"(),.:;<>@[\\]+';
    label constant text := '(?!-)[^][:space:][:cntrl:]!"#$%&''()*+,./:;<=>?@[\\^_`{|}~]{1,63}(?<!-)';
begin
    if whole !~ format('^(?!.{65,}@)%1$s(\.%1$s)*@%2$s(\.%2$s)+$', atom, label) or octet_length(whole) > 254 then
        raise exception 'that is no e-mail address' using errcode = 'invalid_parameter_value';
    end if;
    insert into privacy_requests (request_id, scope, email, requested_by, status, approved_at)
    values (id, 'person', whole, 'operator', 'pending', now());
    perform queue.add_privacy_erase(id);
    return id;
end $$;
