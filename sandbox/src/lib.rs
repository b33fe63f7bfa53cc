//! Everything outside of growth-chat that a developer's machine lacks: a private Postgres with
//! pgvector, and stand-ins for the services that growth-chat calls, which speak the real wire
//! protocols. `growth-chat dev` runs the system against them, and so do the tests; the product
//! itself only sees other addresses. Release images are built without this crate.

pub mod postgres;
pub mod watchdog;
