//! What growth-chat keeps, and how: the domain's types and their SQL, one file per aggregate.
//!
//! Everything else stands on this crate (`store ← jobs ← {api, workers} ← binary`). Nothing here
//! knows HTTP, a provider, or how a job is run.

pub mod agents;
pub mod backups;
pub mod bus;
pub mod business_hours;
pub mod chat;
pub mod checkpoints;
pub mod clock;
pub mod db;
pub mod edge_limits;
pub mod environment;
pub mod events;
pub mod expiry;
pub mod feedback;
pub mod handoffs;
pub mod ids;
pub mod knowledge;
pub mod migration;
pub mod phrases;
pub mod privacy;
pub mod protocol;
pub mod replays;
pub mod retention;
mod roundtrip;
pub mod session_report;
pub mod sessions;
pub mod settings;
pub mod spend;
pub mod trace;
pub mod transcript;
pub mod turn_control;
pub mod turns;
pub mod webhooks;
