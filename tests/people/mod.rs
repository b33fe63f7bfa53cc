//! A person of the company speaks with a visitor: the whole system with Slack's stand-in, several
//! processes, and the ways in which it can fail.

mod conversation;
mod discretion;
mod sdk;
mod support;
mod takeover;
mod trouble;
