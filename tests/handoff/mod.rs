//! The handoff: how a lead reaches people, whatever fails on the way. Real processes, stand-ins for the
//! services, and people who look at what arrived there.
//!
//! Waits are not waited for where a test is about what comes of them: [`support::Leads`] moves the queue's
//! times back instead (docs/decisions/0005). `schedule` looks at the clock.

mod circuits;
mod discretion;
mod drain;
mod facts;
mod hostile;
mod kills;
mod lock;
mod operator;
mod outage;
mod schedule;
mod support;
