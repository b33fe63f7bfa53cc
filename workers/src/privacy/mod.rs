//! Forgetting a person: here, outside, and with a proof (docs/decisions/0023).

pub mod here;
pub mod ledger;
pub mod receipt;
pub mod replay;
pub mod secret;
