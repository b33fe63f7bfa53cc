//! The routes, one file each.

pub(crate) mod cancel;
pub(crate) mod chat;
pub(crate) mod close;
pub(crate) mod contact;
pub(crate) mod demo;
pub(crate) mod feedback;
pub(crate) mod health;
pub(crate) mod metrics;
pub(crate) mod ready;
pub(crate) mod slack_events;
pub(crate) mod slack_interactions;
pub(crate) mod stream;
pub(crate) mod transcript;
pub(crate) mod wake;
pub(crate) mod widget;
