-- Constraints that were added without looking at the rows of before. Looking stops nobody who writes.
alter table queue.jobs validate constraint jobs_keys_bounded;
alter table turns validate constraint turns_stage_known;
alter table turns validate constraint turns_limit_known;
alter table turns validate constraint turns_status_known;
alter table turns validate constraint turns_finished_has_time;
alter table knowledge_documents validate constraint knowledge_documents_format_known;
alter table knowledge_documents validate constraint knowledge_documents_language_form;
alter table sessions validate constraint sessions_agent_whole;
