//! What the jobs do: their handlers, and the clients of the outside services that they call.

pub mod clients;
pub mod config;
pub mod handlers;
pub mod knowledge;
