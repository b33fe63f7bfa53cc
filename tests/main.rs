//! The whole system, tested from outside.

mod deploy;
mod documents;
