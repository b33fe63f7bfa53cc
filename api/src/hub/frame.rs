//! A stored event as the bytes of an SSE frame. The bytes are the same for every client.

use std::io::Write;

use bytes::Bytes;
use store::{events::StoredEvent, protocol::Chunk};

/// Ends every stream that ends on purpose.
pub(super) const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// The first bytes of every stream, sent before anything is known of the answer.
pub(super) const OPENING: Bytes = Bytes::from_static(b": ok\n\n");

/// Keeps proxies from closing a silent stream.
pub(super) const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// `id: <turn>-<attempt>-<seq>` and the chunk's JSON in one `data:` line.
pub(super) fn encode(event: &StoredEvent) -> Bytes {
    let json = event.json.get();
    let mut frame = Vec::with_capacity(json.len() + 48);
    // Writing into memory does not fail.
    let _ = write!(frame, "id: {}\ndata: ", event.cursor);
    // JSON has line breaks only between its tokens, where a space means the same.
    frame.extend(json.bytes().map(|byte| match byte {
        b'\n' | b'\r' => b' ',
        other => other,
    }));
    frame.extend_from_slice(b"\n\n");
    Bytes::from(frame)
}

/// A frame that is nowhere kept, and so has no id.
pub(super) fn transient(chunk: &Chunk) -> Bytes {
    Bytes::from(format!("data: {}\n\n", chunk.to_json()))
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;
    use store::{
        events::{Cursor, StoredEvent},
        ids::TurnKey,
    };

    #[test]
    fn a_frame_is_an_id_line_and_one_data_line() {
        let event = StoredEvent {
            key: TurnKey {
                session_id: "s".parse().unwrap(),
                turn: 2,
            },
            cursor: Cursor {
                turn: 2,
                attempt: 1,
                seq: 10,
            },
            terminal: false,
            json: RawValue::from_string("{\n\"type\":\r\n\"start\"}".to_owned()).unwrap(),
        };
        assert_eq!(
            super::encode(&event),
            "id: 2-1-10\ndata: { \"type\":  \"start\"}\n\n"
        );
    }
}
