//! The sub-commands.
#[cfg(feature = "sandbox")]
pub mod dev;
