//! Whether a dump is whole, by its last lines. `pg_dump` that is killed leaves a beginning that reads well.

/// The last thing that `pg_dump` writes into a dump that is whole, but for what `\restrict` needs.
const TRAILER: &[u8] = b"\n--\n-- PostgreSQL database dump complete\n--\n";
/// Newer versions end the restricted mode after it.
const UNRESTRICT: &[u8] = b"\\unrestrict ";
/// The trailer and what may follow, and some room.
const KEPT: usize = 1_024;

/// The end of a stream.
#[derive(Debug, Default)]
pub(super) struct Tail(Vec<u8>);

impl Tail {
    /// More of the stream.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let kept = &bytes[bytes.len().saturating_sub(KEPT)..];
        self.0.extend_from_slice(kept);
        let excess = self.0.len().saturating_sub(KEPT);
        self.0.drain(..excess);
    }

    /// Whether the stream that ends here is a whole dump.
    pub(super) fn is_whole(&self) -> bool {
        let found = self
            .0
            .windows(TRAILER.len())
            .rposition(|window| window == TRAILER);
        let Some(place) = found else { return false };
        let rest = &self.0[place + TRAILER.len()..];
        rest.ends_with(b"\n")
            && rest
                .split(|byte| *byte == b'\n')
                .all(|line| line.is_empty() || line.starts_with(UNRESTRICT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: &str = "x\n\n--\n-- PostgreSQL database dump complete\n--\n\n";

    fn is_whole(text: &str, step: usize) -> bool {
        let mut tail = Tail::default();
        for piece in text.as_bytes().chunks(step) {
            tail.push(piece);
        }
        tail.is_whole()
    }

    #[test]
    fn the_trailer_is_found_however_the_stream_is_cut() {
        let long = "a line of a table\n".repeat(1_000) + END;
        let restricted = format!("{END}\\unrestrict abc123\n\n");
        for step in [1, 7, 1_024, 100_000] {
            assert!(is_whole(&long, step), "{step}");
            assert!(is_whole(&restricted, step), "{step}");
        }
    }

    #[test]
    fn every_beginning_of_a_dump_is_not_a_whole_one() {
        let whole = format!("COPY t FROM stdin;\n1\n\\.\n{END}\\unrestrict abc\n\n");
        let least = whole.find("complete\n--\n").unwrap() + "complete\n--\n\n".len();
        for length in 0..least {
            assert!(!is_whole(&whole[..length], 64), "{length}");
        }
        // A row may quote the trailer.
        assert!(!is_whole(&format!("{END}1\tmore\n"), 64));
    }
}
