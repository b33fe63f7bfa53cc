//! Server-sent events as a client reads them, in memory that is bounded and in linear time: the data
//! of each event, whatever its other fields say. Lines end with LF, CR or CRLF.

use std::collections::VecDeque;

/// The most bytes of one event. A model sends a few hundred; an answer that a gateway gathers and
/// passes on in one piece of a megabyte, with the escapes of its JSON, is still an answer.
const EVENT_LIMIT: usize = 4 * 1024 * 1024;

/// The stream is not one of events: an event is too long, or not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotEvents;

/// Puts events together from a body's pieces.
#[derive(Debug, Default)]
pub(crate) struct SseDecoder {
    line: Vec<u8>,
    data: Option<Vec<u8>>,
    /// The line before ended with CR: a LF that follows belongs to its end.
    after_cr: bool,
    begun: bool,
    ready: VecDeque<String>,
}

impl SseDecoder {
    /// Takes the next piece of the body.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<(), NotEvents> {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let part = &bytes[..end.unwrap_or(bytes.len())];
            let buffered = self.line.len() + self.data.as_ref().map_or(0, Vec::len);
            if buffered + part.len() > EVENT_LIMIT {
                return Err(NotEvents);
            }
            self.line.extend_from_slice(part);
            let Some(end) = end else { return Ok(()) };
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            self.end_line()?;
        }
        Ok(())
    }

    /// The data of the next event that is complete.
    pub(crate) fn pop(&mut self) -> Option<String> {
        self.ready.pop_front()
    }

    fn end_line(&mut self) -> Result<(), NotEvents> {
        let mut line = self.line.as_slice();
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if line.is_empty() {
            if let Some(data) = self.data.take() {
                self.ready
                    .push_back(String::from_utf8(data).map_err(|_| NotEvents)?);
            }
        } else if line == b"data" || line.starts_with(b"data:") {
            let value = line.get(5..).unwrap_or_default();
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match &mut self.data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => self.data = Some(value.to_vec()),
            }
        }
        self.line.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(pieces: &[&[u8]]) -> Result<Vec<String>, NotEvents> {
        let mut decoder = SseDecoder::default();
        for piece in pieces {
            decoder.push(piece)?;
        }
        Ok(std::iter::from_fn(|| decoder.pop()).collect())
    }

    #[test]
    fn the_data_of_an_event_is_all_its_data_lines() {
        let stream = "\u{feff}: comment\n\nevent: a\ndata: one\ndata:two\ndata\nid: 7\n\nretry: 5\n\ndata:  x\n\ndatas: y\n\ndata: unfinished\n";
        assert_eq!(decode(&[stream.as_bytes()]).unwrap(), ["one\ntwo\n", " x"]);
    }

    #[test]
    fn every_kind_of_line_end_counts_once() {
        for end in ["\n", "\r", "\r\n"] {
            let stream = format!("data: a{end}data: b{end}{end}data: c{end}{end}");
            assert_eq!(decode(&[stream.as_bytes()]).unwrap(), ["a\nb", "c"]);
        }
    }

    #[test]
    fn an_event_without_end_and_bytes_that_are_no_text_are_refused() {
        let line = vec![b'x'; EVENT_LIMIT / 2];
        assert_eq!(decode(&[&line, &line]), Ok(vec![]));
        assert_eq!(decode(&[&line, &line, b"x"]), Err(NotEvents));
        let mut lines = b"data: ".to_vec();
        lines.extend(&line);
        lines.push(b'\n');
        assert_eq!(decode(&[&lines, &lines, &lines]), Err(NotEvents));
        assert_eq!(decode(&[b"data: \xff\n\n"]), Err(NotEvents));
    }

    proptest! {
        #[test]
        fn pieces_mean_the_same_as_the_whole(
            stream in "((data: ?)?[a-zü:]{0,6}(\r\n|\n|\r)){0,30}",
            cuts in proptest::collection::vec(0_usize..200, 0..12),
        ) {
            let whole = stream.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(whole.len())).collect();
            cuts.extend([0, whole.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &whole[cut[0]..cut[1]]).collect();
            prop_assert_eq!(decode(&pieces), decode(&[whole]));
        }
    }
}
