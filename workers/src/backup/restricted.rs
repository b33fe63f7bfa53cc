//! psql does nothing of what a bucket holds but SQL. A dump is a script, and in a script of psql's
//! `\! command` is a command of the shell: whoever may write into the bucket could run it here.
//!
//! psql's restricted mode takes no such line until `\unrestrict` comes with the key that began the mode.
//! `pg_dump` begins it itself, by a key that stands in the dump. So that pair is left out, and the mode is
//! begun by a key that nobody has seen.

use store::ids::{Entropy, SystemEntropy};

use super::tools::ToolVersion;
use crate::hex::hex;

const RESTRICT: &[u8] = b"\\restrict ";
const UNRESTRICT: &[u8] = b"\\unrestrict ";
/// What is held back, to see the last line as a whole.
const HELD: usize = 1_024;

/// The line that begins the mode.
pub(super) fn begin() -> String {
    format!("\\restrict {}\n", hex(&SystemEntropy.bytes()))
}

/// Whether a psql knows the restricted mode: it came to every major version by a minor one (CVE-2025-8714).
pub fn is_restrictable(psql: ToolVersion) -> bool {
    let since = match psql.major {
        0..=12 => return false,
        13 => 22,
        14 => 19,
        15 => 14,
        16 => 10,
        17 => 6,
        _ => 0,
    };
    psql.minor >= since
}

/// Leaves a dump's own pair of lines out: one in the header, the other at the very end. Anywhere else such
/// a line stays, and psql refuses it.
#[derive(Debug, Default)]
pub(super) struct WithoutPair {
    has_begun: bool,
    held: Vec<u8>,
}

impl WithoutPair {
    /// More of the dump, the first time the whole header. Leaves in `piece` what may go on.
    pub(super) fn pass(&mut self, piece: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.has_begun, true)
            && let Some((from, to)) = restrict_line(piece)
        {
            piece.drain(from..to);
        }
        self.held.append(piece);
        let more = self.held.len().saturating_sub(HELD);
        piece.extend(self.held.drain(..more));
    }

    /// The rest.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let end = self.held.trim_ascii_end().len();
        let last_line = self.held[..end]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |place| place + 1);
        if self.held[last_line..].starts_with(UNRESTRICT) {
            self.held.truncate(last_line);
        }
        self.held
    }
}

/// Where the line is, if nothing but comments is before it.
fn restrict_line(header: &[u8]) -> Option<(usize, usize)> {
    let mut place = 0;
    for line in header.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(RESTRICT) {
            return Some((place, place + line.len()));
        }
        if line != b"\n" && !line.starts_with(b"--") {
            return None;
        }
        place += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without_pair(text: &str, step: usize) -> String {
        let mut filter = WithoutPair::default();
        let mut passed = Vec::new();
        let (header, rest) = text.as_bytes().split_at(text.len().min(200));
        for piece in std::iter::once(header).chain(rest.chunks(step)) {
            let mut piece = piece.to_vec();
            filter.pass(&mut piece);
            passed.extend(piece);
        }
        passed.extend(filter.finish());
        String::from_utf8(passed).unwrap()
    }

    #[test]
    fn the_pair_of_a_dump_is_left_out_however_the_stream_is_cut() {
        let rows = "a row\n".repeat(1_000);
        let dump = |first: &str, last: &str| {
            format!(
                "--\n-- PostgreSQL database dump\n--\n\n{first}\nSET x = 0;\n{rows}--\n\n{last}\n"
            )
        };
        let expected = dump("", "").trim_end().to_owned();
        for step in [1, 7, 1_024, 100_000] {
            let whole = dump("\\restrict abc\n", "\\unrestrict abc\n");
            assert_eq!(without_pair(&whole, step).trim_end(), expected, "{step}");
            // An older pg_dump writes none.
            assert_eq!(without_pair(&expected, step), expected, "{step}");
        }
    }

    #[test]
    fn such_a_line_anywhere_else_stays_for_psql_to_refuse() {
        for text in [
            "SET x = 0;\n\\restrict abc\n",
            "--\n\\restrict abc\n\\restrict def\nselect 1;\n",
            "select 1;\n\\unrestrict abc\n\\! touch pwned\n",
            "select 1;\n\\unrestrict abc\nselect 2;\n\\unrestrict abc\n",
        ] {
            assert!(without_pair(text, 5).contains("restrict"), "{text}");
        }
    }

    #[test]
    fn a_psql_from_before_the_mode_is_told_from_a_later_one() {
        let known = |text: &str| is_restrictable(text.parse().unwrap());
        for version in [
            "13.22", "14.19", "15.14", "16.10", "17.6", "18.0", "19beta1",
        ] {
            assert!(known(version), "{version}");
        }
        for version in ["12.22", "13.21", "14.18", "15.13", "16.9", "17.5"] {
            assert!(!known(version), "{version}");
        }
    }

    #[test]
    fn no_key_comes_twice() {
        assert_ne!(begin(), begin());
    }
}
