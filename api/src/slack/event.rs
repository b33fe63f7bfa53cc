//! The events of Slack's Events API, as far as they concern us: replies in threads.

use serde::Deserialize;

use super::{malformed, slack_id, text};
use crate::problem::{Code, Problem};

/// An event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Slack asks whether somebody is here who can say this.
    Challenge(String),
    /// Somebody has written for the visitor.
    Reply(Reply),
    /// It is none of our business: a note, a message of our own, something else.
    Other,
}

/// What somebody has written for the visitor in a thread. It has no text in its `Debug`.
#[derive(PartialEq, Eq)]
pub(crate) struct Reply {
    /// Slack's name of the event, the same when it is repeated.
    pub(crate) event_id: String,
    pub(crate) channel: String,
    /// The message that the thread belongs to.
    pub(crate) thread_ts: String,
    pub(crate) user: String,
    /// The words, without the mark, as Markdown.
    pub(crate) body: String,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply")
            .field("event_id", &self.event_id)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Envelope {
    UrlVerification {
        challenge: String,
    },
    EventCallback {
        event_id: String,
        event: Inner,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Inner {
    #[serde(rename = "type")]
    kind: String,
    subtype: Option<String>,
    channel: Option<serde_json::Value>,
    thread_ts: Option<String>,
    user: Option<serde_json::Value>,
    text: Option<String>,
    bot_id: Option<String>,
}

/// Reads an event.
pub(crate) fn read(body: &[u8]) -> Result<Event, Problem> {
    let envelope: serde_json::Value =
        serde_json::from_slice(body).map_err(|_| Problem::new(Code::InvalidJson))?;
    match Envelope::deserialize(&envelope).map_err(|_| malformed())? {
        Envelope::UrlVerification { challenge } => Ok(Event::Challenge(challenge)),
        Envelope::EventCallback { event_id, event } => {
            Ok(reply(&event_id, &event)?.map_or(Event::Other, Event::Reply))
        }
        Envelope::Other => Ok(Event::Other),
    }
}

fn reply(event_id: &str, event: &Inner) -> Result<Option<Reply>, Problem> {
    // A file or a copy in the channel changes nothing in what was written; an edit is not said again.
    let is_written = matches!(
        event.subtype.as_deref(),
        None | Some("file_share" | "thread_broadcast")
    );
    if event.kind != "message" || !is_written || event.bot_id.is_some() {
        return Ok(None);
    }
    let Some(body) = event.text.as_deref().and_then(text::marked) else {
        return Ok(None);
    };
    let (Some(channel), Some(user), Some(thread_ts)) = (
        event.channel.as_ref().and_then(serde_json::Value::as_str),
        event.user.as_ref().and_then(serde_json::Value::as_str),
        event.thread_ts.as_deref(),
    ) else {
        return Ok(None);
    };
    Ok(Some(Reply {
        event_id: slack_id(event_id)?,
        channel: slack_id(channel)?,
        thread_ts: slack_id(thread_ts)?,
        user: slack_id(user)?,
        body: text::markdown(body),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read_json(body: &Value) -> Result<Event, Code> {
        read(body.to_string().as_bytes()).map_err(|problem| problem.code())
    }

    fn message(change: &Value) -> Value {
        let mut event = json!({
            "type": "message", "channel": "C1", "user": "U1", "ts": "2.0", "thread_ts": "1.0",
            "text": "reply: Hello"
        });
        for (name, value) in change.as_object().unwrap() {
            event[name] = value.clone();
        }
        json!({"type": "event_callback", "event_id": "Ev1", "event": event})
    }

    #[test]
    fn a_marked_reply_in_a_thread_is_for_the_visitor() {
        let Event::Reply(reply) = read_json(&message(&json!({}))).unwrap() else {
            panic!("no reply");
        };
        assert_eq!(
            [
                reply.event_id,
                reply.channel,
                reply.thread_ts,
                reply.user,
                reply.body
            ],
            ["Ev1", "C1", "1.0", "U1", "Hello"]
        );
    }

    #[test]
    fn notes_edits_bots_and_other_events_are_none_of_our_business() {
        for change in [
            json!({"text": "just a note"}),
            json!({"text": "I would reply: no"}),
            json!({"text": "reply:"}),
            json!({"text": null}),
            json!({"thread_ts": null}),
            json!({"user": null}),
            json!({"bot_id": "B1"}),
            json!({"subtype": "message_changed"}),
            json!({"subtype": "message_deleted"}),
            json!({"type": "reaction_added"}),
            json!({"channel": {"id": "C1"}}),
        ] {
            assert_eq!(
                read_json(&message(&change)).unwrap(),
                Event::Other,
                "{change}"
            );
        }
        assert_eq!(
            read_json(&json!({"type": "app_rate_limited"})).unwrap(),
            Event::Other
        );
    }

    #[test]
    fn a_challenge_is_handed_back() {
        let asked = json!({"type": "url_verification", "challenge": "abc"});
        assert_eq!(
            read_json(&asked).unwrap(),
            Event::Challenge("abc".to_owned())
        );
    }

    #[test]
    fn what_is_not_of_slacks_form_is_refused() {
        for bad in [
            json!([]),
            json!({}),
            json!({"type": "event_callback"}),
            json!({"type": "event_callback", "event_id": "Ev1", "event": []}),
            json!({"type": "url_verification"}),
            message(&json!({"user": "U\u{0}1"})),
            message(&json!({"channel": "C".repeat(256)})),
        ] {
            assert_eq!(read_json(&bad), Err(Code::InvalidBody), "{bad}");
        }
        assert_eq!(
            read(b"{").map_err(|problem| problem.code()),
            Err(Code::InvalidJson)
        );
        assert_eq!(
            read(b"\xff").map_err(|problem| problem.code()),
            Err(Code::InvalidJson)
        );
    }
}
