//! The whole system, tested from outside.

#![expect(
    clippy::unwrap_used,
    reason = "in a test a failure is a panic, in its helpers as well"
)]

mod api;
mod deploy;
mod documents;
mod evaluation;
mod faults;
mod handoff;
mod jobs;
mod journeys;
mod knowledge;
mod lifecycle;
mod ops;
mod people;
mod schema;
mod support;
mod webhooks;
