-- {handoff_id: address}: by which the CRM is asked for what an attempt has made that nobody heard of. They go
-- when the request is done.
alter table privacy_requests add column addresses jsonb not null default '{}';
