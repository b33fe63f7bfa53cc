-- A person of the company speaks in a conversation (docs/decisions/0019).

-- Who speaks; null: the assistant. `agent_id`: their user in Slack.
alter table sessions
    add column agent              text,
    add column agent_id           text,
    add column agent_since        timestamptz,
    add column agent_typing_until timestamptz,
    add constraint sessions_agent_whole check
        ((agent is null) = (agent_id is null) and (agent is null) = (agent_since is null)) not valid;

-- relayed: the visitor's message went to a person, or the message is a person's. No model answers it.
alter table turns
    drop constraint turns_status_known,
    drop constraint turns_finished_has_time,
    add constraint turns_status_known check
        (status in ('queued', 'running', 'answered', 'cancelled', 'failed', 'relayed')) not valid,
    add constraint turns_finished_has_time check
        ((status in ('answered', 'cancelled', 'failed', 'relayed')) = (finished_at is not null)) not valid;

-- What came from Slack and was obeyed: Slack repeats what it is not sure of. A request is refused when it
-- is older than five minutes, so that a day is long.
create table slack_inbound (
    id          text        not null,
    kind        text        not null,
    received_at timestamptz not null default now(),
    constraint slack_inbound_pkey primary key (id)
);
create index slack_inbound_received on slack_inbound (received_at);

-- What people in Slack are called: an event names only their id.
create table slack_people (
    user_id    text        not null,
    name       text        not null,
    updated_at timestamptz not null default now(),
    constraint slack_people_pkey primary key (user_id)
);

create view ops.agents as
select session_id, agent, agent_since, agent_typing_until > now() as types, last_activity_at
from sessions
where agent is not null;
comment on view ops.agents is
    'The sessions in which a person of the company speaks: the assistant is silent until they hand back. agent: their name; types: whether the visitor is shown that they type; last_activity_at: when anybody last wrote.';

-- The role may read every view of the schema; this one is new.
do $$
begin
    if exists (select from pg_roles where rolname = 'growth_chat_operator') then
        perform ops.grant_operator();
    end if;
end $$;
