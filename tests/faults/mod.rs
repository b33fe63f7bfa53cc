//! What the house promises when something breaks: processes that are killed, a database that goes
//! away, providers that fail, visitors who mean no good. Real processes, a real Postgres.

mod api;
mod budget;
mod discretion;
mod fallback;
mod hostile_input;
mod idempotency;
mod notify;
mod postgres;
mod providers;
mod sleep;
mod steps;
mod stop;
mod worker;
