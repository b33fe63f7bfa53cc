//! Outgoing webhooks: exactly what happened, in its order, signed, to those who want to know. Due times are
//! moved by SQL and not waited for: see `docs/decisions/0005-the-databases-clock.md`.

mod addresses;
mod command;
mod delivery;
mod discretion;
mod events;
mod order;
mod support;
