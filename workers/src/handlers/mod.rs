//! One file per kind of job.

pub mod handoff_crm;
pub mod handoff_email;
pub mod handoff_remind;
pub mod handoff_settle;
pub mod handoff_slack;
pub mod handoff_slack_delete;
pub mod handoff_slack_update;
pub mod index_document;
pub mod session_sweep;
pub mod turn_process;
