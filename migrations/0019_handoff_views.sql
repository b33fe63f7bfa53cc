-- Where each handoff is, for operators: no contact data, no text, no name.

-- A job whose payload can't be read is known to its delivery by its number alone.
create index handoff_deliveries_job on handoff_deliveries (job_id);

create view ops.handoff_deliveries as
select d.session_id, d.handoff_id, d.channel, d.status, d.revision,
       coalesce(attempts.attempts, 0) as attempts, attempts.last_attempt_at, attempts.last_outcome,
       attempts.last_error, job.state as job_state,
       case when job.state in ('scheduled', 'ready') then job.run_at end as next_try_at,
       d.job_id, d.created_at, d.delivered_at
from handoff_deliveries d
left join lateral (
    select count(*) as attempts, max(a.started_at) as last_attempt_at,
           (array_agg(a.outcome order by a.attempt desc))[1] as last_outcome,
           (array_agg(a.error order by a.attempt desc) filter (where a.error is not null))[1] as last_error
    from handoff_attempts a
    where a.session_id = d.session_id and a.handoff_id = d.handoff_id and a.channel = d.channel
) attempts on true
left join queue.jobs job on job.id = d.job_id;
comment on view ops.handoff_deliveries is
    'What each channel owes each handoff. channel: slack, crm, slack_update (the CRM''s link and later facts, in Slack), email (when both failed); status: pending, delivered, skipped (nothing to send), dead (ops.retry_job(job_id) tries again), cancelled; revision: of the facts that it has told; last_outcome: sent, found (an earlier attempt had reached the provider), skipped, failed, refused (can''t heal), unknown; null: it runs, or its worker was lost.';

create view ops.handoff_attempts as
select session_id, handoff_id, channel, attempt, job_id, started_at, ended_at, outcome, latency_ms, error
from handoff_attempts;
comment on view ops.handoff_attempts is
    'Every attempt to deliver a handoff. outcome: as last_outcome of ops.handoff_deliveries; error: a status, a code, a kind of failure, never what was sent.';

create view ops.circuits as
select provider,
       case when open_until is null then 'closed' when open_until > now() then 'open' else 'half open' end as state,
       cardinality(failed_handoffs) as failed_handoffs, failed_probes, open_until, updated_at
from provider_circuits;
comment on view ops.circuits is
    'What is known of the providers of the handoff. state: closed; open (it fails or wants to be left alone: nobody asks until open_until, or a probe is under way); half open (the next delivery is the probe); failed_handoffs: different ones in a row; failed_probes: how often the pause was doubled.';

-- New columns stand at the end: a view can be replaced only so, and whoever reads it by position
-- goes on.
create or replace view ops.handoffs as
select r.session_id, r.handoff_id, r.turn, r.trigger, r.status, r.created_at, r.updated_at,
       r.revision, r.promise_by, r.taken_at, r.settled_at,
       of_deliveries.slack, of_deliveries.crm, of_deliveries.slack_update, of_deliveries.email,
       of_deliveries.attempts, of_deliveries.last_error, of_deliveries.next_try_at, of_deliveries.dead_jobs
from handoff_records r
cross join lateral (
    select max(d.status) filter (where d.channel = 'slack') as slack,
           max(d.status) filter (where d.channel = 'crm') as crm,
           max(d.status) filter (where d.channel = 'slack_update') as slack_update,
           max(d.status) filter (where d.channel = 'email') as email,
           coalesce(sum(d.attempts), 0)::bigint as attempts,
           (array_agg(d.last_error order by d.last_attempt_at desc) filter (where d.last_error is not null))[1] as last_error,
           min(d.next_try_at) as next_try_at,
           coalesce(array_agg(d.job_id order by d.job_id) filter (where d.status = 'dead' and d.job_id is not null), '{}') as dead_jobs
    from ops.handoff_deliveries d
    where d.session_id = r.session_id and d.handoff_id = r.handoff_id
) of_deliveries;
comment on view ops.handoffs is
    'Visitors whom a person is to talk to, without what is known of them. trigger: why; turn: in which it came up (null: by the contact form); status: pending, delivered, degraded (one of two channels failed), mailed (the fallback e-mail), dead (it reached nobody); slack, crm, slack_update, email: how far each channel is, see ops.handoff_deliveries; dead_jobs: what ops.retry_job tries again; promise_by: until when the visitor was promised a reply; taken_at: since when somebody takes care of it. A record outlives its conversation until the person is erased.';

-- The role may read every view of the schema; these are new.
do $$
begin
    if exists (select from pg_roles where rolname = 'growth_chat_operator') then
        perform ops.grant_operator();
    end if;
end $$;
