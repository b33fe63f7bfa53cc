//! What the person who waits is told.

/// Tells the person who waits.
#[expect(clippy::print_stderr, reason = "the program's progress")]
pub(crate) fn progress(what: &str) {
    eprintln!("{what}");
}
