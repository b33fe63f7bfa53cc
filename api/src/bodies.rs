//! Bodies of requests: read into memory that is bounded for the whole process, whoever sends them.
//!
//! A body costs memory before anybody knows what it is worth, and for as long as its client takes to send
//! it. So the bytes that are held are counted, in the process and of one sender; what does not fit is
//! refused with 503. Counted is what has arrived, not what was announced: to announce costs nothing.

use std::{collections::HashMap, ops::Deref, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::{HeaderMap, header},
};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::time::timeout;

use crate::{
    edge::ClientNetwork,
    problem::{Code, Problem},
};

/// Bytes of bodies that a process holds at once. Its machine may have 256 MB.
const BUDGET: usize = 16 * 1024 * 1024;

/// Those of one sender: two of the largest legal bodies, or 128 of the widget's. Nobody takes the others'
/// place by sending slowly.
const SHARE: usize = 2 * 1024 * 1024;

/// What a body takes at first. Most are smaller.
const FIRST: usize = 4 * 1024;

/// How long a body may take to arrive.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(15);

/// How much of a body that is refused is still read and thrown away; who sends even more is not there to
/// read the answer.
const DISCARDED: usize = 16 * 1024 * 1024;

/// Whose share a body is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Sender {
    /// A visitor's network.
    Client(ClientNetwork),
    /// Whoever says to be Slack: that is known once the body is there.
    Slack,
}

/// The bodies that this process holds.
#[derive(Debug, Default)]
pub(crate) struct Bodies {
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    total: usize,
    /// Of those who are sending only.
    shares: HashMap<Sender, usize>,
}

/// There is no room for more bytes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Full {
    #[error("the sender's share is used up")]
    Share,
    #[error("the budget is used up")]
    Budget,
}

impl Full {
    fn as_str(self) -> &'static str {
        match self {
            Self::Share => "sender",
            Self::Budget => "process",
        }
    }

    fn counter(self) -> metrics::Counter {
        metrics::counter!("growth_chat_bodies_refused_total", "scope" => self.as_str())
    }
}

impl From<Full> for Problem {
    fn from(full: Full) -> Self {
        full.counter().increment(1);
        Self::new(Code::Overloaded)
    }
}

/// A body in memory. Its bytes are free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: Vec<u8>,
    /// At least the length of `bytes`.
    taken: usize,
    sender: Sender,
    bodies: Arc<Bodies>,
}

impl Deref for Held {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.bodies.give_back(self.sender, self.taken);
    }
}

impl Held {
    /// Adds a copy: what a connection hands over, however short, keeps all of its read buffer.
    fn add(&mut self, data: &[u8], limit: usize) -> Result<(), Full> {
        let length = self.bytes.len() + data.len();
        if length > self.taken {
            // A power of two, so that many short pieces are not copied again and again.
            let taken = length.next_power_of_two().max(FIRST).min(limit);
            self.bodies.take(self.sender, taken - self.taken)?;
            self.taken = taken;
            self.bytes.reserve_exact(taken - self.bytes.len());
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }
}

impl Bodies {
    pub(crate) fn new() -> Arc<Self> {
        // A series that begins at its first refusal hides that one.
        for full in [Full::Share, Full::Budget] {
            full.counter().increment(0);
        }
        Arc::default()
    }

    /// Reads a JSON body of at most `limit` bytes.
    pub(crate) async fn json(
        self: &Arc<Self>,
        sender: Sender,
        request: Request,
        limit: usize,
    ) -> Result<Held, Problem> {
        let is_json = is_json(request.headers());
        let body = request.into_body();
        if !is_json {
            return Err(turn_away(body, Problem::new(Code::UnsupportedMediaType)));
        }
        self.read(sender, body, limit).await
    }

    /// Reads a body of at most `limit` bytes.
    pub(crate) async fn read(
        self: &Arc<Self>,
        sender: Sender,
        mut body: Body,
        limit: usize,
    ) -> Result<Held, Problem> {
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if announced > limit {
            return Err(turn_away(body, Problem::new(Code::BodyTooLarge)));
        }
        let arrived = timeout(ARRIVAL_LIMIT, self.arrive(sender, &mut body, limit)).await;
        arrived
            .unwrap_or_else(|_| Err(Problem::new(Code::RequestTimeout)))
            .map_err(|problem| turn_away(body, problem))
    }

    async fn arrive(
        self: &Arc<Self>,
        sender: Sender,
        body: &mut Body,
        limit: usize,
    ) -> Result<Held, Problem> {
        let mut held = Held {
            bytes: Vec::new(),
            taken: 0,
            sender,
            bodies: Arc::clone(self),
        };
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                return Err(Problem::with_detail(
                    Code::InvalidRequest,
                    "The body ended early",
                ));
            };
            let data = frame.data_ref().map_or(&[][..], |data| data);
            if held.len() + data.len() > limit {
                return Err(Problem::new(Code::BodyTooLarge));
            }
            held.add(data, limit)?;
        }
        Ok(held)
    }

    fn take(&self, sender: Sender, bytes: usize) -> Result<(), Full> {
        let mut used = self.used.lock();
        let share = used.shares.get(&sender).copied().unwrap_or_default();
        if share + bytes > SHARE {
            return Err(Full::Share);
        }
        if used.total + bytes > BUDGET {
            return Err(Full::Budget);
        }
        used.total += bytes;
        used.shares.insert(sender, share + bytes);
        Ok(())
    }

    fn give_back(&self, sender: Sender, bytes: usize) {
        let mut used = self.used.lock();
        used.total -= bytes;
        if let Some(share) = used.shares.get_mut(&sender) {
            *share -= bytes;
            if *share == 0 {
                used.shares.remove(&sender);
            }
        }
    }
}

/// Refuses a request whose body nobody wants. What still comes of it is thrown away behind the answer: a
/// connection that is closed while its client sends is reset, and the answer is lost with it.
pub(crate) fn turn_away(body: Body, problem: Problem) -> Problem {
    if !body.is_end_stream() {
        // It ends with its connection.
        tokio::spawn(timeout(ARRIVAL_LIMIT, discard(body)));
    }
    problem
}

async fn discard(mut body: Body) {
    let mut left = DISCARDED;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        let Some(rest) = left.checked_sub(length) else {
            return;
        };
        left = rest;
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(|essence| essence.trim().to_ascii_lowercase())
        .is_some_and(|essence| {
            essence == "application/json"
                || (essence.starts_with("application/") && essence.ends_with("+json"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn client(n: u8) -> Sender {
        Sender::Client(ClientNetwork::V4([203, 0, 113, n]))
    }

    async fn read(bodies: &Arc<Bodies>, n: u8, bytes: usize) -> Result<Held, Code> {
        let body = Body::from(vec![b'x'; bytes]);
        let held = bodies.read(client(n), body, MIB).await;
        held.map_err(|problem| problem.code())
    }

    #[tokio::test]
    async fn one_sender_has_a_share_and_all_together_a_budget_that_comes_back() {
        let bodies = Bodies::new();
        let mut held = Vec::new();
        for n in 0..8 {
            for _ in 0..2 {
                held.push(read(&bodies, n, MIB).await.unwrap());
            }
            assert_eq!(read(&bodies, n, 1).await.unwrap_err(), Code::Overloaded);
        }
        assert_eq!(read(&bodies, 8, 1).await.unwrap_err(), Code::Overloaded);
        held.pop();
        held.push(read(&bodies, 8, MIB).await.unwrap());
        drop(held);
        let used = bodies.used.lock();
        assert_eq!((used.total, used.shares.len()), (0, 0));
    }

    #[tokio::test]
    async fn a_body_counts_as_it_arrives_and_is_read_whole() {
        let bodies = Bodies::new();
        let whole: Vec<u8> = (0..=255).cycle().take(20_000).collect();
        let pieces = whole.clone().into_iter();
        let pieces = pieces.map(|byte| Ok::<_, axum::Error>(vec![byte]));
        let body = Body::from_stream(futures::stream::iter(pieces));
        let held = bodies.read(client(1), body, MIB).await.unwrap();
        assert_eq!(*held, *whole);
        assert_eq!(held.taken, 32 * 1024);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_waited_for_in_vain_and_holds_nothing() {
        let bodies = Bodies::new();
        let pending = futures::stream::pending::<Result<Vec<u8>, axum::Error>>();
        let refused = bodies.read(client(1), Body::from_stream(pending), MIB);
        assert_eq!(refused.await.unwrap_err().code(), Code::RequestTimeout);
        assert_eq!(bodies.used.lock().total, 0);
    }

    #[tokio::test]
    async fn what_is_too_large_is_refused_by_what_it_announces_or_by_what_comes() {
        let bodies = Bodies::new();
        assert_eq!(
            read(&bodies, 1, MIB + 1).await.unwrap_err(),
            Code::BodyTooLarge
        );
        let pieces = (0..2).map(|_| Ok::<_, axum::Error>(vec![b'x'; MIB]));
        let body = Body::from_stream(futures::stream::iter(pieces));
        let refused = bodies.read(client(1), body, MIB).await.unwrap_err();
        assert_eq!(refused.code(), Code::BodyTooLarge);
        assert_eq!(bodies.used.lock().total, 0);
    }
}
