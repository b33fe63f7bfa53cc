//! What a wake-up says, and how it is written for other processes.

use std::{collections::BTreeSet, fmt::Write as _};

use crate::ids::{SessionId, TurnKey};

/// Postgres refuses a payload of 8,000 bytes or more.
const MAX_PAYLOAD: usize = 7_900;
/// More keys than this in one wake-up become "look at everything": a mailbox is bounded.
pub(super) const MAX_KEYS: usize = 4_096;

/// What a subscriber was told since it last asked.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Wake {
    /// Anything may have happened: look at everything.
    pub rescan: bool,
    /// The database was out of reach for a while: leases may have ended whose holders are alive.
    /// Each process finds that out by itself.
    pub outage: bool,
    /// A worker took leases: see when they end.
    pub leases: bool,
    /// Queues in which jobs may be ready.
    pub queues: BTreeSet<String>,
    /// Jobs whose handler is to be stopped.
    pub cancelled_jobs: BTreeSet<i64>,
    /// Turns with new events.
    pub turns: BTreeSet<TurnKey>,
    /// Sessions in which somebody else speaks, or types.
    pub sessions: BTreeSet<SessionId>,
}

impl Wake {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.rescan |= other.rescan;
        self.outage |= other.outage;
        self.leases |= other.leases;
        self.queues.extend(other.queues.iter().cloned());
        self.cancelled_jobs.extend(&other.cancelled_jobs);
        self.turns.extend(other.turns.iter().cloned());
        self.sessions.extend(other.sessions.iter().cloned());
        let keys =
            self.queues.len() + self.cancelled_jobs.len() + self.turns.len() + self.sessions.len();
        if keys > MAX_KEYS {
            *self = Self {
                rescan: true,
                outage: self.outage,
                leases: true,
                ..Self::default()
            };
        }
    }

    /// The payloads that say the same to other processes: the sender's name, then a line a key.
    pub(super) fn payloads(&self, sender: &str) -> Vec<String> {
        let mut lines = Vec::new();
        if self.rescan {
            lines.push("r".to_owned());
        }
        if self.leases {
            lines.push("l".to_owned());
        }
        lines.extend(self.queues.iter().map(|queue| format!("q {queue}")));
        lines.extend(self.cancelled_jobs.iter().map(|id| format!("c {id}")));
        lines.extend(
            self.turns
                .iter()
                .map(|key| format!("t {} {}", key.turn, key.session_id)),
        );
        lines.extend(self.sessions.iter().map(|id| format!("s {id}")));
        let mut payloads = Vec::new();
        let mut payload = sender.to_owned();
        for line in lines {
            if payload.len() + 1 + line.len() > MAX_PAYLOAD {
                payloads.push(std::mem::replace(&mut payload, sender.to_owned()));
            }
            let _ = write!(payload, "\n{line}");
        }
        payloads.push(payload);
        payloads
    }

    /// Reads a payload: the sender and what it says. A line of a newer version is passed over.
    pub(super) fn parse(payload: &str) -> (&str, Self) {
        let mut lines = payload.lines();
        let sender = lines.next().unwrap_or_default();
        let mut wake = Self::default();
        for line in lines {
            match line.split_once(' ') {
                Some(("q", queue)) => {
                    wake.queues.insert(queue.to_owned());
                }
                Some(("c", id)) => wake.cancelled_jobs.extend(id.parse::<i64>()),
                Some(("t", key)) => {
                    if let Some((turn, session_id)) = key.split_once(' ')
                        && let (Ok(turn), Ok(session_id)) = (turn.parse(), session_id.parse())
                    {
                        wake.turns.insert(TurnKey { session_id, turn });
                    }
                }
                Some(("s", id)) => wake.sessions.extend(id.parse::<SessionId>()),
                _ if line == "r" => wake.rescan = true,
                _ if line == "l" => wake.leases = true,
                _ => {}
            }
        }
        (sender, wake)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wake() -> Wake {
        let key = |turn| TurnKey {
            session_id: "s-1".parse().unwrap(),
            turn,
        };
        Wake {
            rescan: true,
            outage: false,
            leases: true,
            queues: ["turns".to_owned()].into(),
            cancelled_jobs: [7].into(),
            turns: (1..=300).map(key).collect(),
            sessions: ["s-1".parse().unwrap()].into(),
        }
    }

    #[test]
    fn a_wake_up_survives_the_journey_in_payloads_that_postgres_takes() {
        let payloads = wake().payloads("me");
        assert!(payloads.iter().all(|payload| payload.len() < 8_000));
        let mut read = Wake::default();
        for payload in &payloads {
            let (sender, part) = Wake::parse(payload);
            assert_eq!(sender, "me");
            read.merge(&part);
        }
        assert_eq!(read, wake());
    }

    #[test]
    fn a_line_of_a_newer_version_is_passed_over() {
        let (_, wake) = Wake::parse("me\nz whatever\nt x y\nc nine\ns ?\nq turns");
        assert_eq!(
            wake,
            Wake {
                queues: ["turns".to_owned()].into(),
                ..Wake::default()
            }
        );
    }
}
