//! What a visitor lives through, with real processes.

mod answer;
mod browser;
mod dev;
mod sdk_clients;
mod trace;
