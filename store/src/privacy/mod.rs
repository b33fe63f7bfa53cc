//! Wishes to be forgotten, and copies of what is known of somebody (docs/decisions/0023).

mod erase;
mod export;
mod ledger;
mod requests;

pub use self::{
    erase::{Erased, Scope, addresses, erase_session, lock_session, sessions_of_email},
    export::{document, export_email, export_session, hold_still, page},
    ledger::{LedgerEntry, add_entry, entries, keep_entry},
    requests::{
        NewRequest, Outside, OutsideState, OutsideSystem, Request, RequestedBy, add, approve,
        by_id, finish, remember_outside, save_outside, wait, waiting,
    },
};
