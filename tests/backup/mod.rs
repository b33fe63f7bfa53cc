//! Backups that can be believed: made, proved, fenced, restored, against real `pg_dump` and `psql` and a
//! store that breaks on demand.

mod command;
mod discretion;
mod fence;
mod made;
mod pg_dump;
mod restored;
mod restoring;
mod runbook;
mod schedule;
mod stopped;
mod store;
mod support;
mod tampered;
mod target;
mod verified;
