-- When a visitor agreed in the contact form to be contacted; null: what is known of them was only said
-- in the conversation.
alter table handoff_records add column consent_at timestamptz;
