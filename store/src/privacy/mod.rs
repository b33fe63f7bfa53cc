//! Wishes to be forgotten, and copies of what is known of somebody (docs/decisions/0023).

mod address;
mod erase;
mod export;
mod find;
mod ledger;
mod outside;
mod requests;

pub use self::{
    address::{Address, Mention},
    erase::{Erased, Scope, erase_session, lock_session},
    export::{document, export_email, export_session, hold_still, page},
    find::{Found, HandoffOutline, Outline, addresses, outlines, sessions_of_email},
    ledger::{
        LedgerEntry, NewEntry, add_entry, entries, entry, keep_entry, mark_done, put_back_entry,
        unkept,
    },
    outside::{Outside, OutsideState, OutsideSystem, mark_outside, remember_outside, wait},
    requests::{
        NewRequest, Request, RequestedBy, Status, Waiting, add, approve, ask_about, asked_about,
        block, by_id, close_waiting, finish, forget_addresses, lock, unblock, waiting,
    },
};
