//! An operator's terminal: text of others on it, and output for as long as somebody reads.

use std::{
    fmt::{Display, Write as _},
    future::pending,
    io::{self, ErrorKind, Write},
    os::fd::AsFd,
    time::Duration,
};

use anyhow::Context;
use tokio::{io::Interest, net::unix::pipe, task::spawn_blocking};

/// The text on one line, with whatever could move the cursor, colour the screen or turn the
/// direction of writing escaped: an error may hold whatever a provider answered.
pub(super) fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || rearranges(character) {
            let _ = write!(safe, "{}", character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

/// Line separators and the marks, embeddings, overrides and isolates of bidirectional text.
fn rearranges(character: char) -> bool {
    matches!(
        character,
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// `1 session`, `2 sessions`.
pub(super) fn many<N: Copy + Display + From<u8> + PartialEq>(count: N, what: &str) -> String {
    let plural = if count == N::from(1) { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// `26 h 3 min`, `4 min 5 s`, `1.5 s`.
pub(super) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3_600, seconds / 60 % 60) {
        (0, 0) => format!("{:.1} s", duration.as_secs_f64()),
        (0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

/// Writes without holding up the signals; false: nobody reads any more.
pub(super) async fn write(text: String) -> anyhow::Result<bool> {
    let written = spawn_blocking(move || {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    });
    match written.await? {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("standard output could not be written"),
    }
}

/// Returns when the reader of standard output is gone, even if nothing is written. Only pipes say so.
pub(super) async fn unread() {
    // Writes go on by the blocking descriptor: this one is for the event alone.
    let watched = io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .and_then(pipe::Sender::from_owned_fd_unchecked);
    if let Ok(out) = watched
        && out.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    pending::<()>().await;
}

/// Says something besides the output.
#[expect(clippy::print_stderr, reason = "for the person who is looking")]
pub(super) fn note(text: &str) {
    eprintln!("growth-chat: {}", printable(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_told_in_two_units() {
        for (seconds, told) in [
            (1.54, "1.5 s"),
            (245.0, "4 min 5 s"),
            (26.0 * 3_600.0 + 190.0, "26 h 3 min"),
        ] {
            assert_eq!(span(Duration::from_secs_f64(seconds)), told);
        }
    }

    #[test]
    fn what_could_move_or_colour_the_screen_is_escaped() {
        assert_eq!(
            printable("a\u{1b}[2J\r\nb\tc\u{9b}1m\u{202e}d"),
            "a\\u{1b}[2J\\r\\nb\\tc\\u{9b}1m\\u{202e}d"
        );
    }

    #[test]
    fn other_text_stays_as_it_is() {
        assert_eq!(printable("it's \"übel\" 日本 🦀"), "it's \"übel\" 日本 🦀");
    }
}
