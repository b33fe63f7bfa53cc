//! The queue, run by real runtimes on databases of their own. Due times are moved by SQL and not
//! waited for: see `docs/decisions/0005-the-databases-clock.md`.

mod attempts;
mod bad_input;
mod bulk;
mod cancel;
mod catalog;
mod crash;
mod dormant;
mod enqueue;
mod fence;
mod idle;
mod kinds;
mod limits;
mod ops;
mod outage;
mod priority;
mod prune;
mod rate;
mod schedule;
mod serial;
mod shutdown;
mod slots;
mod soak;
mod support;
mod sweep;
mod tail;
mod unique;
