//! The HTTP side.

pub mod hub;
