//! Clients of the services outside, one module per provider.
//!
//! No client repeats a call: a failure says whether it may heal ([`ProviderError::retry`]), and the
//! job decides when to try again, because its schedule survives this process. No client holds a
//! database connection.

pub mod anthropic;
pub mod bucket;
pub mod embeddings;
pub mod error;
mod gen_ai;
pub mod guarded;
pub mod http;
mod sse;

pub use error::{Failure, ProviderError, RetryClass};
pub use http::http_client;
