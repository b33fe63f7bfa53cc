//! The HTTP side of growth-chat: accepts visitors' messages and streams the answers.
//!
//! It never calls a third party and runs no job. What it accepts it has committed, and what it
//! streams it has read from the table: so any process can be killed and any other one goes on.

mod accept;
mod auth;
mod bodies;
mod client;
pub mod config;
mod docs;
mod edge;
mod extract;
pub mod hub;
mod limits;
mod message;
mod observe;
pub mod problem;
mod router;
mod routes;
mod site_key;
mod slack;
mod sse;
mod state;
mod stop;
mod widget_tokens;
pub mod write_deadline;

pub use config::ApiConfig;
pub use hub::Hub;
pub use router::{metrics_router, openapi, router};
pub use state::State;
