//! What a visitor lives through, with real processes.

mod answer;
mod browser;
mod canary;
mod collector;
mod conversation;
mod dev;
mod handoff;
mod replay;
mod sdk_clients;
mod silent;
mod trace;
