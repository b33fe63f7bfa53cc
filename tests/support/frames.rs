//! A turn's stream as a client reads it.

use std::time::Duration;

use reqwest::Response;
use serde_json::Value;
use tokio::time::timeout;

/// A machine under load is slow; a test that waits longer waits for what never comes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How a stream ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// `[DONE]`, and the body is whole.
    Clean,
    /// The body broke off.
    Cut,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) id: String,
    pub(crate) json: Value,
}

impl Frame {
    pub(crate) fn kind(&self) -> &str {
        self.json["type"].as_str().unwrap()
    }

    /// `(turn, attempt, seq)` of its id.
    pub(crate) fn position(&self) -> (u32, u32, u32) {
        let mut numbers = self.id.split('-').map(|number| number.parse().unwrap());
        let mut next = || numbers.next().unwrap();
        (next(), next(), next())
    }
}

/// A stream as a client reads it.
pub(crate) struct Frames {
    pub(crate) response: Response,
    buffer: Vec<u8>,
    /// Every byte that came.
    pub(crate) bytes: Vec<u8>,
}

/// The whole frames in what came, byte for byte, without comments.
pub(crate) fn whole_frames(bytes: &[u8]) -> Vec<&str> {
    let end = bytes.windows(2).rposition(|pair| pair == b"\n\n");
    let whole = end.map_or(&[][..], |end| &bytes[..end]);
    str::from_utf8(whole)
        .unwrap()
        .split("\n\n")
        .filter(|block| !block.is_empty() && !block.starts_with(':'))
        .collect()
}

/// What a client reads next.
#[derive(Debug)]
pub(crate) enum Next {
    Frame(Frame),
    Comment,
    End(End),
}

impl Frames {
    pub(crate) fn of(response: Response) -> Self {
        Self {
            response,
            buffer: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// What comes next.
    pub(crate) async fn next(&mut self) -> Next {
        let mut done = false;
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                let text = String::from_utf8(block).unwrap();
                let text = text.trim_end();
                if text.starts_with(':') {
                    return Next::Comment;
                }
                if text == "data: [DONE]" {
                    done = true;
                    continue;
                }
                // A frame that is nowhere kept has no id.
                let (id, data) = text.split_once('\n').unwrap_or(("id: ", text));
                return Next::Frame(Frame {
                    id: id.strip_prefix("id: ").unwrap().to_owned(),
                    json: serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap(),
                });
            }
            match timeout(PATIENCE, self.response.chunk())
                .await
                .expect("nothing comes")
            {
                Ok(Some(chunk)) => {
                    self.bytes.extend_from_slice(&chunk);
                    self.buffer.extend_from_slice(&chunk);
                }
                Ok(None) => {
                    assert!(done && self.buffer.is_empty(), "a clean end without [DONE]");
                    return Next::End(End::Clean);
                }
                Err(_) => return Next::End(End::Cut),
            }
        }
    }

    /// The next frame.
    pub(crate) async fn frame(&mut self) -> Frame {
        loop {
            match self.next().await {
                Next::Frame(frame) => return frame,
                Next::Comment => {}
                Next::End(end) => panic!("the stream ended: {end:?}"),
            }
        }
    }

    /// Everything up to the end.
    pub(crate) async fn rest(&mut self) -> (Vec<Frame>, End) {
        let mut frames = Vec::new();
        loop {
            match self.next().await {
                Next::Frame(frame) => frames.push(frame),
                Next::Comment => {}
                Next::End(end) => return (frames, end),
            }
        }
    }

    /// The ids of the frames up to the end.
    pub(crate) async fn rest_ids(&mut self) -> (Vec<String>, End) {
        let (frames, end) = self.rest().await;
        (frames.into_iter().map(|frame| frame.id).collect(), end)
    }
}
