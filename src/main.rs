//! growth-chat.
fn main() {}
