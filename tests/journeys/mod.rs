//! What a visitor lives through, with real processes.

mod answer;
mod browser;
mod canary;
mod conversation;
mod dev;
mod sdk_clients;
mod trace;
