-- What became of conversations, for operators: no text, no address of a page, nothing by which a
-- visitor could be reached.

-- New columns stand at the end: a view can be replaced only so, and whoever reads it by position
-- goes on.
create or replace view ops.turns as
select t.session_id, t.turn, t.status, t.attempt, t.message_id, t.answer_id, t.regenerates, t.job_id,
       t.finish_reason, t.model, t.input_tokens, t.output_tokens, t.cache_write_tokens, t.cache_read_tokens,
       t.created_at, t.started_at, t.first_token_at, t.finished_at,
       t.stage, t.cost_usd,
       coalesce(t.limit_reached, t.finish_reason, t.status) as outcome,
       extract(epoch from t.first_token_at - t.created_at)::float8 as seconds_to_first_token,
       extract(epoch from t.finished_at - t.created_at)::float8 as seconds_total,
       calls.answer_calls, calls.answer_cost_usd, calls.summary_calls, calls.summary_cost_usd,
       calls.replay_calls, calls.replay_cost_usd
from turns t
cross join lateral (
    select count(*) filter (where purpose = 'answer') as answer_calls,
           coalesce(sum(cost_usd) filter (where purpose = 'answer'), 0) as answer_cost_usd,
           count(*) filter (where purpose = 'summary') as summary_calls,
           coalesce(sum(cost_usd) filter (where purpose = 'summary'), 0) as summary_cost_usd,
           count(*) filter (where purpose = 'replay') as replay_calls,
           coalesce(sum(cost_usd) filter (where purpose = 'replay'), 0) as replay_cost_usd
    from model_calls m
    where m.session_id = t.session_id and m.turn = t.turn
) calls;
comment on view ops.turns is
    'The turns of all sessions: their state, cost and times, without any text. stage: where the conversation was after it; outcome: the limit that was reached, else the finish reason, else the status; seconds_to_first_token and seconds_total count from the moment the message was accepted; cost_usd: what the turn came to; the calls of the model by purpose, failed attempts included: answer, summary (of the older conversation), replay (growth-chat replay, not part of cost_usd). job_id: see ops.jobs and ops.failed_jobs.';

create view ops.sessions as
select s.session_id, s.status, s.termination_type, s.stage, s.locale, s.last_turn as turns,
       of_turns.unfinished_turns, of_turns.failed_turns, s.tokens_used, of_turns.cost_usd,
       s.stall_offered_turn, handoff.status as handoff_status, handoff.trigger as handoff_trigger,
       s.created_at, s.last_activity_at, s.closed_at
from sessions s
cross join lateral (
    select count(*) filter (where finished_at is null) as unfinished_turns,
           count(*) filter (where status = 'failed') as failed_turns,
           coalesce(sum(cost_usd), 0) as cost_usd
    from turns t
    where t.session_id = s.session_id
) of_turns
left join lateral (
    select status, trigger from handoff_records h
    where h.session_id = s.session_id
    order by created_at desc
    limit 1
) handoff on true;
comment on view ops.sessions is
    'The conversations, without any text or contact data. stage: 1 discover, 2 qualify, 3 propose, 4 handed off; termination_type: why it was closed; turns: how many messages were accepted; tokens_used: what counts towards MAX_TOKENS_PER_SESSION; stall_offered_turn: the turn in which a person was offered because nothing moved; handoff_status, handoff_trigger: of the newest handoff, see ops.handoffs.';

create view ops.handoffs as
select session_id, handoff_id, turn, trigger, status, created_at, updated_at
from handoff_records;
comment on view ops.handoffs is
    'Visitors whom a person is to talk to, without what is known of them. trigger: why; turn: in which it came up (null: by the contact form); status: pending, delivered, degraded (one of two channels failed), mailed (the fallback e-mail), dead. A record outlives its conversation until the person is erased.';

-- The role may read every view of the schema; these are new.
do $$
begin
    if exists (select from pg_roles where rolname = 'growth_chat_operator') then
        perform ops.grant_operator();
    end if;
end $$;
