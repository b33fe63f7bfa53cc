//! The sub-commands.
#[cfg(feature = "sandbox")]
pub(crate) mod dev;
