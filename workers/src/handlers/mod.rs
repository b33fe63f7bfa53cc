//! One file per kind of job.

pub mod handoff_settle;
pub mod index_document;
pub mod session_sweep;
pub mod turn_process;
