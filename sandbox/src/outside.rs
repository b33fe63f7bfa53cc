//! What the outside world received: one log of all requests to all stand-ins, which tests assert
//! on and `dev` shows. Bounded: the oldest exchanges go first.

use std::{
    borrow::Cow,
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::http::HeaderMap;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;

/// How many exchanges are kept.
const KEPT_EXCHANGES: usize = 500;
/// A longer body is kept as its beginning only, in bytes.
const KEPT_BODY: usize = 512 * 1024;
/// How much of an answer is kept, in bytes.
const KEPT_ANSWER: usize = 16 * 1024;

/// A service of the outside world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// Anthropic's Messages API.
    Anthropic,
    /// `OpenAI`'s embeddings.
    OpenAi,
    /// Slack.
    Slack,
    /// `HubSpot`.
    HubSpot,
    /// A receiver of webhooks.
    Webhook,
    /// A mail server.
    Mail,
    /// A bucket.
    Bucket,
    /// A collector of traces.
    Collector,
}

impl Service {
    /// All of them, in the order in which a page shows them.
    pub const ALL: [Self; 8] = [
        Self::Anthropic,
        Self::OpenAi,
        Self::Slack,
        Self::HubSpot,
        Self::Webhook,
        Self::Mail,
        Self::Bucket,
        Self::Collector,
    ];

    /// Its name for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Anthropic => "Anthropic",
            Self::OpenAi => "OpenAI",
            Self::Slack => "Slack",
            Self::HubSpot => "HubSpot",
            Self::Webhook => "Webhook",
            Self::Mail => "Mail",
            Self::Bucket => "Bucket",
            Self::Collector => "Traces",
        }
    }
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It has not ended.
    Running,
    /// The whole answer was sent, with this status.
    Answered(u16),
    /// The stand-in cut the connection, as it was told to.
    Cut,
    /// The client closed the connection before the answer was whole.
    ClientHungUp,
}

/// One request and what became of it.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// Counts all exchanges from 1.
    pub number: u64,
    /// Who received it.
    pub service: Service,
    /// When it was received.
    pub received: Instant,
    /// Method and path.
    pub request_line: String,
    /// The body, when it is JSON; a very long one as text, shortened.
    pub body: Value,
    /// The `traceparent` that it came with.
    pub traceparent: Option<String>,
    /// The text that was answered so far, shortened.
    pub answer: String,
    /// How it ended.
    pub outcome: Outcome,
    /// When it ended.
    pub ended: Option<Instant>,
}

/// The log that all stand-ins share. Clones are the same log.
#[derive(Debug, Clone)]
pub struct OutsideWorld {
    log: Arc<Mutex<Log>>,
    changed: Arc<watch::Sender<()>>,
}

#[derive(Debug, Default)]
struct Log {
    exchanges: VecDeque<Exchange>,
    received: u64,
}

impl Default for OutsideWorld {
    fn default() -> Self {
        Self {
            log: Arc::default(),
            changed: Arc::new(watch::Sender::new(())),
        }
    }
}

impl OutsideWorld {
    /// What is kept of all services, the oldest first.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.log.lock().exchanges.iter().cloned().collect()
    }

    /// What is kept of one service, the oldest first.
    pub fn received_by(&self, service: Service) -> Vec<Exchange> {
        let log = self.log.lock();
        let of_service = log.exchanges.iter().filter(|it| it.service == service);
        of_service.cloned().collect()
    }

    /// Waits until `condition` finds what it looks for in the log; none: not within `patience`.
    pub async fn wait_for<T>(
        &self,
        patience: Duration,
        condition: impl Fn(&[Exchange]) -> Option<T>,
    ) -> Option<T> {
        let mut changes = self.changed.subscribe();
        let search = async {
            loop {
                changes.mark_unchanged();
                if let Some(found) = condition(&self.exchanges()) {
                    return Some(found);
                }
                changes.changed().await.ok()?;
            }
        };
        tokio::time::timeout(patience, search).await.ok().flatten()
    }

    /// Tells of everything that happens from now on.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Something changed that no exchange tells of.
    pub(crate) fn touch(&self) {
        self.changed.send_replace(());
    }

    pub(crate) fn record(&self, service: Service, request_line: &str, body: &[u8]) -> Recording {
        let value = if body.len() > KEPT_BODY {
            Value::String(beginning(&String::from_utf8_lossy(body), KEPT_BODY).to_owned())
        } else {
            serde_json::from_slice(body)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()))
        };
        let mut log = self.log.lock();
        log.received += 1;
        let number = log.received;
        if log.exchanges.len() == KEPT_EXCHANGES {
            log.exchanges.pop_front();
        }
        log.exchanges.push_back(Exchange {
            number,
            service,
            received: Instant::now(),
            request_line: request_line.to_owned(),
            body: value,
            traceparent: None,
            answer: String::new(),
            outcome: Outcome::Running,
            ended: None,
        });
        drop(log);
        self.changed.send_replace(());
        Recording {
            world: self.clone(),
            number,
            ended: false,
        }
    }

    fn change(&self, number: u64, change: impl FnOnce(&mut Exchange)) {
        let mut log = self.log.lock();
        let found = log
            .exchanges
            .iter_mut()
            .rev()
            .find(|it| it.number == number);
        if let Some(exchange) = found {
            change(exchange);
        }
        drop(log);
        self.changed.send_replace(());
    }
}

/// An exchange under way. Dropped before its end, it was the client who left.
#[derive(Debug)]
pub(crate) struct Recording {
    world: OutsideWorld,
    number: u64,
    ended: bool,
}

impl Recording {
    /// The exchange's number.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The request came with these headers.
    pub(crate) fn came_with(&self, headers: &HeaderMap) {
        let traceparent = headers.get("traceparent");
        let traceparent = traceparent.map(|value| String::from_utf8_lossy(value.as_bytes()));
        self.world.change(self.number, |exchange| {
            exchange.traceparent = traceparent.map(Cow::into_owned);
        });
    }

    /// More text was answered.
    pub(crate) fn answered_text(&self, text: &str) {
        self.world.change(self.number, |exchange| {
            let room = KEPT_ANSWER.saturating_sub(exchange.answer.len());
            exchange.answer.push_str(beginning(text, room));
        });
    }

    pub(crate) fn end(&mut self, outcome: Outcome) {
        self.ended = true;
        self.world.change(self.number, |exchange| {
            exchange.outcome = outcome;
            exchange.ended = Some(Instant::now());
        });
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Outcome::ClientHungUp);
        }
    }
}

/// At most the first `bytes` bytes, cut between characters.
fn beginning(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_keeps_the_newest_exchanges() {
        let world = OutsideWorld::default();
        for _ in 0..KEPT_EXCHANGES + 3 {
            world
                .record(Service::OpenAi, "POST /", b"{}")
                .end(Outcome::Answered(200));
        }
        let kept = world.exchanges();
        assert_eq!(kept.len(), KEPT_EXCHANGES);
        assert_eq!(kept[0].number, 4);
    }

    #[test]
    fn an_exchange_that_nobody_ended_was_ended_by_the_client() {
        let world = OutsideWorld::default();
        drop(world.record(Service::Anthropic, "POST /", b"not json"));
        let kept = world.received_by(Service::Anthropic);
        assert_eq!(kept[0].outcome, Outcome::ClientHungUp);
        assert_eq!(kept[0].body, "not json");
        assert!(world.received_by(Service::OpenAi).is_empty());
    }

    #[test]
    fn a_long_body_and_a_long_answer_are_shortened_between_characters() {
        let world = OutsideWorld::default();
        let body = "ä".repeat(KEPT_BODY);
        let recording = world.record(Service::Anthropic, "POST /", body.as_bytes());
        recording.answered_text(&"x".repeat(KEPT_ANSWER - 1));
        recording.answered_text("ä");
        let kept = &world.exchanges()[0];
        assert_eq!(kept.body.as_str().unwrap().len(), KEPT_BODY);
        assert_eq!(kept.answer.len(), KEPT_ANSWER - 1);
    }

    #[tokio::test]
    async fn waiting_ends_with_the_condition_or_with_patience() {
        let world = OutsideWorld::default();
        let two = |log: &[Exchange]| (log.len() == 2).then_some(log.len());
        let recorder = async {
            let _first = world.record(Service::OpenAi, "POST /", b"1");
            tokio::task::yield_now().await;
            let _second = world.record(Service::OpenAi, "POST /", b"2");
        };
        let (found, ()) = tokio::join!(world.wait_for(Duration::from_secs(5), two), recorder);
        assert_eq!(found, Some(2));
        let never = world
            .wait_for(Duration::from_millis(1), |_| None::<()>)
            .await;
        assert_eq!(never, None);
    }
}
