//! The queue, run by real runtimes on databases of their own. Due times are moved by SQL and not
//! waited for: see `docs/decisions/0005-the-databases-clock.md`.

mod attempts;
mod cancel;
mod catalog;
mod crash;
mod dormant;
mod enqueue;
mod fence;
mod idle;
mod ops;
mod outage;
mod serial;
mod shutdown;
mod slots;
mod support;
