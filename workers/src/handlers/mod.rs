//! One file per kind of job.

pub mod agent_unreachable;
pub mod backup_run;
pub mod backup_verify;
pub mod handoff_crm;
pub mod handoff_email;
pub mod handoff_relay;
pub mod handoff_remind;
pub mod handoff_settle;
pub mod handoff_slack;
pub mod handoff_slack_update;
pub mod index_document;
pub mod privacy_erase;
pub mod retention_sweep;
pub mod session_sweep;
pub mod slack_face;
pub mod slack_note;
pub mod slack_open_reply;
pub mod slack_person;
pub mod turn_process;
pub mod webhook_deliver;
pub mod webhook_release;
