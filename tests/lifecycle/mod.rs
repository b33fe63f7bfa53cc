//! How processes start and end, and what they say when they can't.

mod check;
mod configuration;
mod outage;
mod pooler;
mod process;
mod stop;
mod work;
