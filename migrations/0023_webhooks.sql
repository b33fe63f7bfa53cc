-- Endpoints that are told what happens: who they are, what they are signed with, and how it went
-- (docs/decisions/0022). What is to be delivered are jobs of the queue.

create table webhook_endpoints (
    endpoint_id       text        not null,
    url               text        not null,
    description       text        not null default '',
    events            text[]      not null,
    status            text        not null default 'active',
    -- Why it is disabled: by hand, gone (it answered 410), failing (for a week, without a break).
    status_reason     text,
    created_at        timestamptz not null default now(),
    updated_at        timestamptz not null default now(),
    -- Since when every attempt has failed; null: the last one did not.
    failing_since     timestamptz,
    last_delivered_at timestamptz,
    constraint webhook_endpoints_pkey primary key (endpoint_id),
    -- No user name in it: it would stand in logs on the way.
    constraint webhook_endpoints_url_legal check
        (length(url) <= 2000 and url ~ '^https?://[^[:space:]/?#@]+([/?#][^[:space:]]*)?$'),
    constraint webhook_endpoints_description_short check (length(description) <= 200),
    constraint webhook_endpoints_events_known check
        (cardinality(events) > 0
         and events <@ array['session.started', 'turn.completed', 'handoff.created', 'handoff.delivered',
                             'handoff.failed', 'session.closed']),
    constraint webhook_endpoints_status_known check (status in ('active', 'disabled')),
    constraint webhook_endpoints_disabled_says_why check ((status = 'disabled') = (status_reason is not null))
);

-- The newest signs first; the others too, until they expire.
create table webhook_secrets (
    endpoint_id text        not null,
    secret_id   bigint      generated always as identity,
    secret      text        not null,
    created_at  timestamptz not null default now(),
    -- Null: it is the newest.
    expires_at  timestamptz,
    constraint webhook_secrets_pkey primary key (endpoint_id, secret_id),
    constraint webhook_secrets_endpoint_fkey foreign key (endpoint_id)
        references webhook_endpoints (endpoint_id) on delete cascade
);

-- Every attempt, for operators; pruned with the history of the jobs.
create table webhook_attempts (
    attempt_id  bigint      generated always as identity,
    endpoint_id text        not null,
    event_id    text        not null,
    event       text        not null,
    job_id      bigint      not null,
    attempt     smallint    not null,
    started_at  timestamptz not null default now(),
    -- Null: it runs, or its worker vanished.
    ended_at    timestamptz,
    outcome     text,
    -- Of the answer, if there was one.
    http_status smallint,
    latency_ms  integer,
    -- Redacted: a status, a kind of failure.
    error       text,
    constraint webhook_attempts_pkey primary key (attempt_id),
    constraint webhook_attempts_outcome_known check (outcome in ('delivered', 'failed')),
    constraint webhook_attempts_ended_has_outcome check ((outcome is null) = (ended_at is null))
);
create index webhook_attempts_endpoint on webhook_attempts (endpoint_id, attempt_id);
create index webhook_attempts_started on webhook_attempts (started_at);

-- Asked within statements that run anyway: where nobody listens, nothing is done for it.
create function webhooks_wanted(variadic wanted text[]) returns boolean
language sql stable
as $$ select exists (select from webhook_endpoints where status = 'active' and events && wanted) $$;
comment on function webhooks_wanted is 'Whether any active endpoint is to be told of one of these events.';

create view ops.webhook_endpoints as
select e.endpoint_id, e.url, e.description, e.events, e.status, e.status_reason, e.created_at, e.updated_at,
       e.failing_since, e.last_delivered_at,
       (select count(*) from webhook_secrets s
        where s.endpoint_id = e.endpoint_id and (s.expires_at is null or s.expires_at > now())) as secrets,
       (select count(*) from queue.jobs j where j.serial_key = 'webhook:' || e.endpoint_id) as waiting
from webhook_endpoints e;
comment on view ops.webhook_endpoints is
    'Who is told what happens, without the secrets. events: what of; status: active or disabled (status_reason: by hand, gone: it answered 410, failing: for a week); failing_since: since when every attempt has failed; secrets: how many sign, more than one while one is replaced; waiting: what is still to be delivered, in its order.';

create view ops.webhook_attempts as
select attempt_id, endpoint_id, event_id, event, job_id, attempt, started_at, ended_at, outcome, http_status,
       latency_ms, error
from webhook_attempts;
comment on view ops.webhook_attempts is
    'Every attempt to deliver an event, kept as long as the history of the jobs. event_id: the same for all attempts, and what the receiver knows it by (webhook-id); outcome: delivered, failed; null: it runs, or its worker was lost.';

-- Makes a secret and puts it in front of those that there are.
create function public.webhooks_new_secret(of_endpoint text) returns text
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    -- Two random UUIDs are 244 random bits.
    fresh text := 'whsec_' || encode(decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'), 'base64');
begin
    insert into public.webhook_secrets (endpoint_id, secret) values (of_endpoint, fresh);
    return fresh;
end $$;
comment on function webhooks_new_secret is 'What ops.add_webhook_endpoint and ops.rotate_webhook_secret share. Not for direct use.';

create function ops.add_webhook_endpoint(url text, events text[], description text default '')
returns table (endpoint_id text, secret text)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    -- Each event is a job for each of them.
    most constant integer := 20;
begin
    -- Two at once would each count one less.
    lock table public.webhook_endpoints in share row exclusive mode;
    if (select count(*) from public.webhook_endpoints) >= most then
        raise exception 'there are % endpoints already, which is the most: remove one', most
            using errcode = 'invalid_parameter_value';
    end if;
    endpoint_id := 'we_' || replace(gen_random_uuid()::text, '-', '');
    begin
        insert into public.webhook_endpoints (endpoint_id, url, events, description)
        values (add_webhook_endpoint.endpoint_id, add_webhook_endpoint.url,
                array(select distinct e from unnest(add_webhook_endpoint.events) e order by e),
                coalesce(add_webhook_endpoint.description, ''));
    exception when check_violation or not_null_violation then
        raise exception 'that is no endpoint: a URL is http or https, without a user name, of at most 2000 characters; events are session.started, turn.completed, handoff.created, handoff.delivered, handoff.failed, session.closed; a description has at most 200 characters'
            using errcode = 'invalid_parameter_value';
    end;
    secret := public.webhooks_new_secret(endpoint_id);
    return next;
end $$;
comment on function ops.add_webhook_endpoint is
    'Registers an endpoint. Returns its id and the secret that its events are signed with, which is shown this once.';

create function ops.rotate_webhook_secret(endpoint_id text, old_ones_hold interval default '24 hours') returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    -- Every one of them signs: a header has an end.
    most constant integer := 3;
begin
    perform from public.webhook_endpoints e where e.endpoint_id = rotate_webhook_secret.endpoint_id for update;
    if not found then
        raise exception 'there is no endpoint %', endpoint_id using errcode = 'no_data_found';
    end if;
    if old_ones_hold is null or old_ones_hold < interval '0' or old_ones_hold > interval '30 days' then
        raise exception 'old secrets hold for 0 to 30 days' using errcode = 'invalid_parameter_value';
    end if;
    update public.webhook_secrets s
    set expires_at = least(coalesce(s.expires_at, 'infinity'), now() + old_ones_hold)
    where s.endpoint_id = rotate_webhook_secret.endpoint_id;
    delete from public.webhook_secrets s
    where s.endpoint_id = rotate_webhook_secret.endpoint_id
      and (s.expires_at <= now()
           or s.secret_id not in (select o.secret_id from public.webhook_secrets o
                                  where o.endpoint_id = rotate_webhook_secret.endpoint_id
                                  order by o.secret_id desc limit most - 1));
    return public.webhooks_new_secret(endpoint_id);
end $$;
comment on function ops.rotate_webhook_secret is
    'Gives an endpoint a new secret, which is shown this once. The old ones sign as well for the given time (24 hours): at most three sign at once.';

create function ops.disable_webhook_endpoint(endpoint_id text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    update public.webhook_endpoints e
    set status = 'disabled', status_reason = 'by hand', updated_at = now()
    where e.endpoint_id = disable_webhook_endpoint.endpoint_id and e.status = 'active';
    if found then
        return true;
    end if;
    perform from public.webhook_endpoints e where e.endpoint_id = disable_webhook_endpoint.endpoint_id;
    if not found then
        raise exception 'there is no endpoint %', endpoint_id using errcode = 'no_data_found';
    end if;
    return false;
end $$;
comment on function ops.disable_webhook_endpoint is
    'Tells an endpoint nothing more: what waits for it is cancelled, and what happens meanwhile is not kept for it. False: it was disabled already.';

create function ops.enable_webhook_endpoint(endpoint_id text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    update public.webhook_endpoints e
    set status = 'active', status_reason = null, failing_since = null, updated_at = now()
    where e.endpoint_id = enable_webhook_endpoint.endpoint_id and e.status = 'disabled';
    if found then
        return true;
    end if;
    perform from public.webhook_endpoints e where e.endpoint_id = enable_webhook_endpoint.endpoint_id;
    if not found then
        raise exception 'there is no endpoint %', endpoint_id using errcode = 'no_data_found';
    end if;
    return false;
end $$;
comment on function ops.enable_webhook_endpoint is
    'Tells a disabled endpoint of what happens from now on. False: it was active already.';

create function ops.remove_webhook_endpoint(endpoint_id text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    delete from public.webhook_endpoints e where e.endpoint_id = remove_webhook_endpoint.endpoint_id;
    if not found then
        raise exception 'there is no endpoint %', endpoint_id using errcode = 'no_data_found';
    end if;
end $$;
comment on function ops.remove_webhook_endpoint is
    'Forgets an endpoint and its secrets: what waits for it is cancelled. Its attempts are kept like those of others.';

-- As the functions before: they act with their owner's rights.
revoke execute on function ops.add_webhook_endpoint, ops.rotate_webhook_secret, ops.disable_webhook_endpoint,
    ops.enable_webhook_endpoint, ops.remove_webhook_endpoint, public.webhooks_new_secret from public;

-- All functions of the schema, so that a later one is not forgotten here; the granting one stays the owner's.
create or replace function ops.grant_operator() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    grant usage on schema ops to growth_chat_operator;
    grant select on all tables in schema ops to growth_chat_operator;
    grant execute on all functions in schema ops to growth_chat_operator;
    revoke execute on function ops.grant_operator from growth_chat_operator;
end $$;

do $$
begin
    if exists (select from pg_roles where rolname = 'growth_chat_operator') then
        perform ops.grant_operator();
    end if;
end $$;
