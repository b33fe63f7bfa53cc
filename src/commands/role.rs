//! The long-running roles, as what each reads of the environment.

use std::fmt::Debug;

use store::settings::Settings;

use super::{api, serve, worker};

/// Who reads which variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    /// `growth-chat api`
    Api,
    /// `growth-chat worker`
    Worker,
    /// Both
    Serve,
}

impl Role {
    /// Reads what the role does at its start.
    pub(crate) fn read(self, settings: &mut Settings) -> Option<Box<dyn Debug>> {
        match self {
            Self::Api => boxed(api::read(settings)),
            Self::Worker => boxed(worker::read(settings)),
            Self::Serve => boxed(serve::read(settings)),
        }
    }
}

fn boxed<T: Debug + 'static>(value: Option<T>) -> Option<Box<dyn Debug>> {
    value.map(|value| Box::new(value) as Box<dyn Debug>)
}
