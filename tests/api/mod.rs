//! The HTTP API: a router on a free port with a database of its own. The worker's part is played by
//! the tests, so that every interleaving can be had.

mod auth;
mod bodies;
mod cancel;
mod chat;
mod close;
mod contact;
mod cors;
mod docs;
mod edge;
mod erase;
mod expiry;
mod feedback;
mod follow;
mod hostile_input;
mod idempotency;
mod interleavings;
mod large_tokens;
mod people;
mod regenerate;
mod slack;
mod stream;
mod stream_property;
mod support;
mod takeover;
mod transcript;
