//! The handoff: how a lead reaches people, whatever fails on the way (docs/decisions/0018).

pub mod channel;
pub mod circuit;
pub mod crm;
pub mod deliver;
mod deps;
pub mod dossier;
mod email;
mod ending;
pub mod join;
pub mod settle;
pub mod slack;
mod unseen;

pub(crate) use self::deliver::presence;
pub use self::{
    channel::{Channel, Receipt, SendError},
    deliver::deliver,
    deps::{HandoffDeps, register},
    dossier::{Dossier, Line, Occasion, Promise, Reference, Speaker},
    email::Email,
};
