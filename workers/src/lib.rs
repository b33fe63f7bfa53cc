//! What the jobs do: their handlers, and the clients of the outside services that they call.
//!
//! A process that works reads a [`WorkerConfig`], builds [`Deps`] from it, and has [`register`] tell
//! the queue which handler runs what. It also runs [`Deps::events`] for as long as handlers run.

pub mod backup;
pub mod budget;
pub mod clients;
mod commit;
pub mod config;
pub mod conversation;
mod deps;
pub mod evaluation;
pub mod handlers;
pub mod handoff;
pub mod hex;
pub mod knowledge;
pub mod prices;
pub mod privacy;
pub mod retention;
pub mod standard_webhooks;
pub mod turn;
pub mod webhooks;

pub use deps::{Deps, WorkerConfig, register, register_erasure};
