//! The handoff: how a lead reaches people, whatever fails on the way (docs/decisions/0018).

pub mod channel;
mod deps;
pub mod dossier;

pub use self::{
    channel::{Channel, Receipt, SendError},
    deps::{HandoffDeps, register},
    dossier::{Dossier, Line, Promise, Reference, Speaker},
};
