//! A lead on its way to people, through the whole system.

mod drain;
mod hostile;
