//! The mark by which a message of ours is found again, when nobody knows whether it was taken.
//!
//! `chat.postMessage` keeps metadata with a message, which nobody sees. The webhook has none; but every
//! message of ours has buttons, and Slack keeps the id of their block. Nobody else can make either.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use store::ids::{HandoffId, SessionId};

use super::{
    client::{Page, Place, Seen, SlackClient},
    error::{Class, SlackError},
};

/// The `event_type` of our metadata.
pub(super) const EVENT_TYPE: &str = "growth_chat_handoff";
/// Messages that are looked through at most, in pages of 200: a channel with more of them since the first
/// attempt is none for leads. Each page is a call of 50 that Slack allows in a minute.
const MOST_PAGES: usize = 10;
/// Our clock and Slack's may differ by this.
const CLOCKS_DIFFER: TimeDelta = TimeDelta::minutes(5);

/// What a message of ours is: part `message`, `link`, `reminder`, `relay-7` of a handoff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    session_id: SessionId,
    handoff_id: HandoffId,
    part: String,
}

impl Mark {
    /// The mark of a part; a part is named by at most 32 letters, digits and `-`.
    pub fn new(session_id: &SessionId, handoff_id: &HandoffId, part: impl Into<String>) -> Self {
        Self {
            session_id: session_id.clone(),
            handoff_id: handoff_id.clone(),
            part: part.into(),
        }
    }

    /// The message's `metadata`.
    pub(super) fn metadata(&self) -> Value {
        json!({"event_type": EVENT_TYPE, "event_payload": {
            "session_id": self.session_id, "handoff_id": self.handoff_id, "part": self.part}})
    }

    /// The `block_id` of its buttons.
    pub(super) fn block_id(&self) -> String {
        format!("{}:{}:{}", self.part, self.session_id, self.handoff_id)
    }

    fn is_on(&self, message: &Seen) -> bool {
        message.metadata == self.metadata() || has_block(message, |id| id == self.block_id())
    }
}

/// Whether a message is ours and of this handoff, whichever part of it.
pub(super) fn is_of(message: &Seen, session_id: &SessionId, handoff_id: &HandoffId) -> bool {
    let payload = &message.metadata["event_payload"];
    let by_metadata = message.metadata["event_type"] == EVENT_TYPE
        && payload["session_id"] == session_id.as_str()
        && payload["handoff_id"] == handoff_id.as_str();
    let end = format!(":{session_id}:{handoff_id}");
    by_metadata || has_block(message, |id| id.ends_with(&end))
}

fn has_block(message: &Seen, is_it: impl Fn(&str) -> bool) -> bool {
    // Anybody's app may name its blocks; people's messages have none that they could name.
    let blocks = message.blocks.as_array().into_iter().flatten();
    message.bot_id.is_some()
        && blocks
            .filter_map(|block| block["block_id"].as_str())
            .any(is_it)
}

/// A time as Slack names messages by it.
pub(super) fn slack_time(time: DateTime<Utc>) -> String {
    let micros = time.timestamp_micros().max(0);
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

/// How far a search went.
pub(super) enum Found {
    /// The messages that were looked for.
    Places(Vec<Place>),
    /// Those that were found until there were too many messages to look through: the reason.
    NotAll(Vec<Place>, SlackError),
    /// Slack can't be asked: the reason.
    NotAsked(SlackError),
}

impl Found {
    /// The messages, and why they may not be all.
    pub(super) fn into_parts(self) -> (Vec<Place>, Option<SlackError>) {
        match self {
            Self::Places(places) => (places, None),
            Self::NotAll(places, reason) => (places, Some(reason)),
            Self::NotAsked(reason) => (Vec::new(), Some(reason)),
        }
    }
}

impl SlackClient {
    /// Looks for a message that was sent after `since`: in a thread, or without one in the channel.
    ///
    /// `None`: it is not there, or it can't be looked for, because the token may not read or the channel
    /// is not known by its name. Then it is sent again: a lead twice is better than none.
    pub async fn find(
        &self,
        mark: &Mark,
        thread: Option<&Place>,
        since: DateTime<Utc>,
    ) -> Result<Option<Place>, SlackError> {
        let is_it = |message: &Seen| mark.is_on(message);
        let found = match thread {
            Some(thread) => self.search_thread(thread, 1, is_it).await?,
            None => self.search_channel(since, None, 1, is_it).await?,
        };
        match found {
            Found::Places(places) | Found::NotAll(places, _) => Ok(places.into_iter().next()),
            Found::NotAsked(reason) => {
                tracing::warn!(%reason, "Slack can't be asked whether it has a message");
                Ok(None)
            }
        }
    }

    /// Messages of the channel between two times that `is_it` says yes to: all, or no more than `enough`
    /// are looked for.
    pub(super) async fn search_channel(
        &self,
        since: DateTime<Utc>,
        until: Option<DateTime<Utc>>,
        enough: usize,
        is_it: impl Fn(&Seen) -> bool,
    ) -> Result<Found, SlackError> {
        let channel = match self.channel_id().await {
            Ok(Some(channel)) => channel,
            Ok(None) => return Ok(Found::NotAsked(SlackError::no_channel())),
            Err(error) => return not_asked(error),
        };
        let source = Source::Channel {
            channel,
            oldest: slack_time(since - CLOCKS_DIFFER),
            latest: until.map(|until| slack_time(until + CLOCKS_DIFFER)),
        };
        self.search(&source, enough, is_it).await
    }

    /// The same for the replies to a message, and that message itself.
    pub(super) async fn search_thread(
        &self,
        thread: &Place,
        enough: usize,
        is_it: impl Fn(&Seen) -> bool,
    ) -> Result<Found, SlackError> {
        let source = Source::Thread(thread.clone());
        self.search(&source, enough, is_it).await
    }

    async fn search(
        &self,
        source: &Source,
        enough: usize,
        is_it: impl Fn(&Seen) -> bool,
    ) -> Result<Found, SlackError> {
        let mut found = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let page = match self.page(source, cursor.as_deref()).await {
                Ok(page) => page,
                Err(error) => return not_asked(error),
            };
            let ours = page.messages.into_iter().filter(|it| is_it(it));
            found.extend(ours.map(|message| Place {
                channel: source.channel().to_owned(),
                ts: message.ts,
            }));
            match page.next {
                Some(next) if found.len() < enough => cursor = Some(next),
                _ => return Ok(Found::Places(found)),
            }
        }
        Ok(Found::NotAll(found, SlackError::too_many()))
    }

    async fn page(&self, source: &Source, cursor: Option<&str>) -> Result<Page, SlackError> {
        match source {
            Source::Channel {
                channel,
                oldest,
                latest,
            } => {
                self.history(channel, oldest, latest.as_deref(), cursor)
                    .await
            }
            Source::Thread(thread) => self.replies(thread, cursor).await,
        }
    }
}

/// Where messages are looked for.
enum Source {
    Channel {
        channel: String,
        oldest: String,
        latest: Option<String>,
    },
    Thread(Place),
}

impl Source {
    fn channel(&self) -> &str {
        match self {
            Self::Channel { channel, .. } => channel,
            Self::Thread(thread) => &thread.channel,
        }
    }
}

/// What will never be answered is not waited for.
fn not_asked(error: SlackError) -> Result<Found, SlackError> {
    if error.class() == Class::Final {
        Ok(Found::NotAsked(error))
    } else {
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(part: &str) -> Mark {
        Mark::new(&"s-1".parse().unwrap(), &"h-1".parse().unwrap(), part)
    }

    #[test]
    fn a_message_is_known_by_its_metadata_or_by_its_buttons() {
        let by_bot = Seen {
            metadata: mark("message").metadata(),
            ..Seen::default()
        };
        assert!(mark("message").is_on(&by_bot));
        assert!(!mark("link").is_on(&by_bot));
        let by_webhook = Seen {
            bot_id: Some("B1".to_owned()),
            blocks: json!([{"type": "actions", "block_id": mark("message").block_id()}]),
            ..Seen::default()
        };
        assert!(mark("message").is_on(&by_webhook));
        assert!(!mark("link").is_on(&by_webhook));
        let (session, handoff) = ("s-1".parse().unwrap(), "h-1".parse().unwrap());
        for message in [&by_bot, &by_webhook] {
            assert!(is_of(message, &session, &handoff));
            assert!(!is_of(message, &session, &"h-2".parse().unwrap()));
        }
        let of_a_person = Seen {
            bot_id: None,
            ..by_webhook
        };
        assert!(!mark("message").is_on(&of_a_person));
    }

    #[test]
    fn a_time_is_written_as_slack_names_messages() {
        let time = DateTime::from_timestamp_micros(1_700_000_000_000_120).unwrap();
        assert_eq!(slack_time(time), "1700000000.000120");
    }
}
