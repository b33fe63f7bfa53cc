//! `growth-chat sessions show ID --follow`: goes on with what happens in a conversation.
//!
//! ```text
//! told that something happened ──▶ read the session ──▶ print the lines that are new ──▶ wait
//! ```
//! It hears what the processes tell each other, and looks only then. While a turn runs the connection is
//! made again when it is lost; while none does, whoever hung up is left alone: a database that goes to
//! sleep is not woken for somebody who looks on.

use std::{collections::HashSet, time::Duration};

use anyhow::Context;
use jobs::{JobKind, catalog::TurnProcess};
use serde_json::json;
use store::{
    bus::{Bus, Interest, Subscription, Wake},
    db::{Database, is_temporary, reconnect_waits},
    ids::SessionId,
};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::{Story, json_line, page, timeline::Entry, unknown};
use crate::{
    commands::terminal::{note, unread, write},
    lifecycle::StopSignals,
    process::fresh_name,
};

/// The shortest time between two looks: an answer tells of itself many times a second.
const PAUSE: Duration = Duration::from_millis(300);
/// How often it is asked whether the connection still stands. It is asked here, not at the database.
const LOST_LOOK: Duration = Duration::from_secs(1);

/// Follows until it is told to stop, nobody reads any more, or the session has ended.
pub(super) async fn run(
    database: &Database,
    session_id: &SessionId,
    with_text: bool,
    json: bool,
) -> anyhow::Result<()> {
    let mut signals = StopSignals::listen().context("listening to signals failed")?;
    let bus = Bus::new(fresh_name());
    let subscription = bus.subscribe();
    let follower = Follower {
        bus: bus.clone(),
        database,
        session_id,
        with_text,
        json,
        seen: HashSet::new(),
        said: HashSet::new(),
        interest: None,
        listened: false,
    };
    tokio::select! {
        ended = follower.follow(subscription) => ended,
        () = bus.run(database, CancellationToken::new()) => Ok(()),
        _ = signals.next() => Ok(()),
        () = unread() => Ok(()),
    }
}

struct Follower<'f> {
    bus: Bus,
    database: &'f Database,
    session_id: &'f SessionId,
    with_text: bool,
    json: bool,
    seen: HashSet<Entry>,
    /// The turns of which the question, or the answer, was shown.
    said: HashSet<(i32, &'static str)>,
    /// Held while a turn runs.
    interest: Option<Interest>,
    /// Whether the connection stood once.
    listened: bool,
}

impl Follower<'_> {
    async fn follow(mut self, mut subscription: Subscription) -> anyhow::Result<()> {
        let mut first = true;
        loop {
            let story = self.read().await?;
            let text = if first {
                self.begin(&story)?
            } else {
                self.news(&story)?
            };
            if !text.is_empty() && !write(text).await? {
                return Ok(());
            }
            let session = &story.report.session;
            let busy = session.unfinished_turns > 0;
            if session.status == "closed" && !busy {
                return Ok(());
            }
            self.interest = busy.then(|| self.bus.interest());
            if first {
                first = false;
            } else {
                sleep(PAUSE).await;
            }
            if !self.told(&mut subscription).await {
                note("no turn runs, and the database has hung up: it is left to sleep");
                return Ok(());
            }
        }
    }

    /// What there is, however long the database is away.
    async fn read(&self) -> anyhow::Result<Story> {
        let mut waits = None;
        loop {
            let read = Story::read(self.database, self.session_id, self.with_text).await;
            let error = match read {
                Ok(story) => return story.ok_or_else(|| unknown(self.session_id)),
                Err(error) => error,
            };
            let source = error.downcast_ref::<sqlx::Error>();
            if !source.is_some_and(is_temporary) {
                return Err(error);
            }
            if waits.is_none() {
                note("the database is away, going on");
            }
            let wait = waits.get_or_insert_with(reconnect_waits).next();
            sleep(wait.unwrap_or(PAUSE)).await;
        }
    }

    fn begin(&mut self, story: &Story) -> anyhow::Result<String> {
        self.seen.extend(story.timeline());
        self.words(story);
        story.shown(self.json)
    }

    /// The lines that are new.
    fn news(&mut self, story: &Story) -> anyhow::Result<String> {
        let mut text = String::new();
        for entry in story.timeline() {
            if self.seen.insert(entry.clone()) {
                text += &if self.json {
                    json_line(&entry)?
                } else {
                    page::line(&entry)
                };
            }
        }
        for (turn, who, words) in self.words(story) {
            text += &if self.json {
                json_line(&json!({ "turn": turn, who: words }))?
            } else {
                page::quoted(who, Some(words))
            };
        }
        Ok(text)
    }

    /// What was said and not shown yet.
    fn words<'s>(&mut self, story: &'s Story) -> Vec<(i32, &'static str, &'s str)> {
        let mut words = Vec::new();
        for turn in &story.report.turns {
            for (who, said) in [("question", &turn.question), ("answer", &turn.answer)] {
                if let Some(said) = said
                    && self.said.insert((turn.turn, who))
                {
                    words.push((turn.turn, who, said.as_str()));
                }
            }
        }
        words
    }

    /// Waits until something may have happened to the session. False: nobody will tell any more.
    async fn told(&mut self, subscription: &mut Subscription) -> bool {
        let mut ticks = interval(LOST_LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                wake = subscription.wait() => if self.concerns(&wake) {
                    return true;
                },
                _ = ticks.tick() => {
                    let stands = self.bus.is_listening();
                    if self.listened && !stands && !self.bus.is_awake() {
                        return false;
                    }
                    self.listened |= stands;
                }
            }
        }
    }

    /// A turn that was accepted is told of by its queue only.
    fn concerns(&self, wake: &Wake) -> bool {
        wake.rescan
            || wake.queues.contains(TurnProcess::QUEUE)
            || wake
                .turns
                .iter()
                .any(|turn| turn.session_id == *self.session_id)
    }
}
