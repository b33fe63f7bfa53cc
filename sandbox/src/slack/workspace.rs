//! What is in the workspace: one channel, its messages and threads, the people, and open modals.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::rate::{Meter, PostRate};

/// The workspace's id.
pub const TEAM_ID: &str = "T0SANDBOX";
/// The only channel's id.
pub const CHANNEL_ID: &str = "C0NEWLEADS";
/// Its name, without `#`.
pub const CHANNEL_NAME: &str = "new-leads";
/// The app's id.
pub const APP_ID: &str = "A0GROWTHCHAT";
/// The app's user.
pub const BOT_USER_ID: &str = "U0GROWTHCHAT";
/// The app's bot.
pub const BOT_ID: &str = "B0GROWTHCHAT";

/// The most messages that are kept: the oldest go first.
const MOST_MESSAGES: usize = 10_000;
/// The most modals, triggers and deletions that are kept.
const MOST_OTHERS: usize = 1_000;
/// How long a trigger opens a modal.
const TRIGGER_LIFE: Duration = Duration::from_secs(3);

/// Somebody in the workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlackUser {
    /// `U…`.
    pub id: &'static str,
    /// The handle.
    pub name: &'static str,
    /// The name that others see.
    pub display_name: &'static str,
}

/// A sales person.
pub const ANNA: SlackUser = SlackUser {
    id: "U0ANNA",
    name: "anna",
    display_name: "Anna Example",
};
/// Another one.
pub const BEN: SlackUser = SlackUser {
    id: "U0BEN",
    name: "ben",
    display_name: "Ben Example",
};
/// All people.
pub const USERS: [SlackUser; 2] = [ANNA, BEN];

/// What others see of a user's id.
pub fn display_name(id: &str) -> &str {
    let user = USERS.iter().find(|user| user.id == id);
    user.map_or(id, |user| user.display_name)
}

/// How a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// By `chat.postMessage`.
    Bot,
    /// By the incoming webhook.
    Webhook,
    /// A person wrote it.
    Person,
}

/// A message in the channel or in a thread.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PostedMessage {
    /// The channel's id.
    pub channel: String,
    /// The message's name in the channel.
    pub ts: String,
    /// The thread's first message, when it is a reply.
    pub thread_ts: Option<String>,
    /// Whether a reply is shown in the channel as well.
    pub broadcast: bool,
    /// How it came.
    pub via: Via,
    /// Who wrote it: the app's user or a person's id.
    pub user: String,
    /// Its text, as Slack keeps it: `&`, `<` and `>` are escaped.
    pub text: String,
    /// Its blocks; an empty array if it has none.
    pub blocks: Value,
    /// `{event_type, event_payload}`, or null.
    pub metadata: Value,
    /// How often it was changed.
    pub edits: u32,
}

impl PostedMessage {
    /// Its buttons.
    pub fn buttons(&self) -> Vec<Value> {
        let blocks = self.blocks.as_array().into_iter().flatten();
        blocks
            .flat_map(|block| {
                let elements = block["elements"].as_array().into_iter().flatten();
                elements
                    .chain([&block["accessory"]])
                    .cloned()
                    .collect::<Vec<_>>()
            })
            .filter(|element| element["type"] == "button")
            .collect()
    }

    /// The button with this action.
    pub fn button(&self, action_id: &str) -> Option<Value> {
        self.buttons()
            .into_iter()
            .find(|button| button["action_id"] == action_id)
    }

    /// Everything that a reader sees, and more: for tests that look for a word.
    pub fn everything(&self) -> String {
        format!("{}\n{}", self.text, self.blocks)
    }

    /// As the Web API shows it.
    pub(super) fn shown(&self, all_metadata: bool) -> Value {
        let mut shown = json!({"type": "message", "user": self.user, "text": self.text, "ts": self.ts,
            "team": TEAM_ID});
        if self.via != Via::Person {
            shown["bot_id"] = json!(BOT_ID);
            shown["app_id"] = json!(APP_ID);
            shown["blocks"] = self.blocks.clone();
        }
        if self.via == Via::Webhook {
            shown["subtype"] = json!("bot_message");
        }
        if let Some(thread_ts) = &self.thread_ts {
            shown["thread_ts"] = json!(thread_ts);
        }
        if self.broadcast {
            shown["subtype"] = json!("thread_broadcast");
        }
        if !self.metadata.is_null() {
            shown["metadata"] = if all_metadata {
                self.metadata.clone()
            } else {
                json!({"event_type": self.metadata["event_type"]})
            };
        }
        if self.edits > 0 {
            shown["edited"] = json!({"user": self.user, "ts": self.ts});
        }
        shown
    }
}

/// A modal that somebody has on their screen.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OpenView {
    /// `V…`.
    pub id: String,
    /// Who sees it.
    pub user: String,
    /// As it was sent by `views.open`.
    pub view: Value,
    /// Whether it was submitted or closed.
    pub done: bool,
}

#[derive(Debug)]
struct Trigger {
    id: String,
    user: String,
    issued: Instant,
    used: bool,
}

/// Everything that can change.
#[derive(Debug)]
pub(super) struct State {
    pub(super) messages: VecDeque<PostedMessage>,
    pub(super) deleted: VecDeque<String>,
    pub(super) views: VecDeque<OpenView>,
    pub(super) rate: PostRate,
    pub(super) too_fast: u64,
    triggers: VecDeque<Trigger>,
    trigger_life: Duration,
    meters: HashMap<String, Meter>,
    begun: Instant,
    last_ts: u128,
    counter: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            messages: VecDeque::new(),
            deleted: VecDeque::new(),
            views: VecDeque::new(),
            rate: PostRate::default(),
            too_fast: 0,
            triggers: VecDeque::new(),
            trigger_life: TRIGGER_LIFE,
            meters: HashMap::new(),
            begun: Instant::now(),
            last_ts: 0,
            counter: 0,
        }
    }
}

impl State {
    /// A name for a message: the time, and never the same twice.
    #[expect(
        clippy::disallowed_methods,
        reason = "a message is named after the real time, and found by it"
    )]
    pub(super) fn next_ts(&mut self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_micros());
        self.last_ts = now.max(self.last_ts + 1);
        format!(
            "{}.{:06}",
            self.last_ts / 1_000_000,
            self.last_ts % 1_000_000
        )
    }

    /// A number that was not there before.
    pub(super) fn next_number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// Whether the channel takes a message now; if not: how long until then.
    pub(super) fn meter(&mut self, channel: &str) -> Result<(), Duration> {
        let (now, rate) = (self.begun.elapsed(), self.rate);
        let meter = self.meters.entry(channel.to_owned()).or_default();
        let taken = meter.take(now, rate);
        if taken.is_err() {
            self.too_fast += 1;
            if !rate.refuses {
                meter.take_early(rate);
                return Ok(());
            }
        }
        taken
    }

    pub(super) fn keep(&mut self, message: PostedMessage) {
        push(&mut self.messages, message, MOST_MESSAGES);
    }

    pub(super) fn find(&self, channel: &str, ts: &str) -> Option<&PostedMessage> {
        let mut messages = self.messages.iter();
        messages.find(|message| message.channel == channel && message.ts == ts)
    }

    pub(super) fn find_mut(&mut self, channel: &str, ts: &str) -> Option<&mut PostedMessage> {
        let mut messages = self.messages.iter_mut();
        messages.find(|message| message.channel == channel && message.ts == ts)
    }

    pub(super) fn delete(&mut self, channel: &str, ts: &str) {
        self.messages
            .retain(|message| message.channel != channel || message.ts != ts);
        push(&mut self.deleted, ts.to_owned(), MOST_OTHERS);
    }

    /// A trigger by which the app may open a modal for this person, soon and once.
    pub(super) fn issue_trigger(&mut self, user: &str) -> String {
        let id = format!("{}.trigger", self.next_number());
        let trigger = Trigger {
            id: id.clone(),
            user: user.to_owned(),
            issued: Instant::now(),
            used: false,
        };
        push(&mut self.triggers, trigger, MOST_OTHERS);
        id
    }

    pub(super) fn set_trigger_life(&mut self, life: Duration) {
        self.trigger_life = life;
    }

    /// Opens a modal, or says in Slack's words why not.
    pub(super) fn open_view(
        &mut self,
        trigger_id: &str,
        view: Value,
    ) -> Result<OpenView, &'static str> {
        let life = self.trigger_life;
        let trigger = self.triggers.iter_mut().find(|it| it.id == trigger_id);
        let trigger = trigger.ok_or("invalid_trigger_id")?;
        if trigger.used {
            return Err("exchanged_trigger_id");
        }
        if trigger.issued.elapsed() > life {
            return Err("expired_trigger_id");
        }
        trigger.used = true;
        let user = trigger.user.clone();
        let open = OpenView {
            id: format!("V0{}", self.next_number()),
            user,
            view,
            done: false,
        };
        push(&mut self.views, open.clone(), MOST_OTHERS);
        Ok(open)
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T, most: usize) {
    if queue.len() == most {
        queue.pop_front();
    }
    queue.push_back(item);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_messages_have_the_same_name_and_later_ones_sort_behind() {
        let mut state = State::default();
        let names: Vec<String> = (0..100).map(|_| state.next_ts()).collect();
        assert!(names.is_sorted_by(|one, next| one < next));
    }

    #[tokio::test(start_paused = true)]
    async fn a_trigger_opens_one_modal_and_only_soon() {
        let mut state = State::default();
        let trigger = state.issue_trigger("U1");
        assert_eq!(state.open_view(&trigger, Value::Null).unwrap().user, "U1");
        assert_eq!(
            state.open_view(&trigger, Value::Null),
            Err("exchanged_trigger_id")
        );
        let trigger = state.issue_trigger("U1");
        tokio::time::advance(TRIGGER_LIFE * 2).await;
        assert_eq!(
            state.open_view(&trigger, Value::Null),
            Err("expired_trigger_id")
        );
    }
}
