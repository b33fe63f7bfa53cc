//! The handoff: how a lead reaches people, whatever fails on the way (docs/decisions/0018).

pub mod channel;
pub mod crm;
mod deps;
pub mod dossier;
mod email;

pub use self::{
    channel::{Channel, Receipt, SendError},
    deps::{HandoffDeps, register},
    dossier::{Dossier, Line, Promise, Reference, Speaker},
    email::Email,
};
