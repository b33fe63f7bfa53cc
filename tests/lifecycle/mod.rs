//! How processes start and end, and what they say when they can't.

mod check;
mod configuration;
mod idle_shutdown;
mod outage;
mod pooler;
mod process;
mod stop;
mod work;
