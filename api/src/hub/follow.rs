//! The clients that follow a session: they wait for a turn that is not there yet, and are told who speaks
//! meanwhile (docs/decisions/0019).
//!
//! What a follower is told is a level: each look at the session is compared with what it was told last,
//! so that a look that comes late, twice or for nothing does no harm. The frames of the turn itself come
//! by the fan-out, through the same lane.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use store::{
    agents::Presence,
    ids::SessionId,
    protocol::{AgentData, AgentStatus, Chunk, True},
};
use tokio::time::Instant;

use super::{
    fanout::ReaderId,
    frame,
    lane::{End, Lane, Offer},
};

/// How long a follower waits while nothing comes. Shorter than what proxies allow a response, and a
/// database that nobody else uses is not kept awake by one that was forgotten.
pub(super) const SILENCE_LIMIT: Duration = Duration::from_mins(4);

#[derive(Debug)]
struct Follower {
    id: ReaderId,
    lane: Arc<Lane>,
    /// What it was told last.
    told: Option<Presence>,
    /// How many frames it had been given when it was last told something, and when that was.
    given: u64,
    since: Instant,
}

/// The followers of a process, by the session that they follow.
#[derive(Debug, Default)]
pub(super) struct Followers {
    sessions: HashMap<SessionId, Vec<Follower>>,
    /// Sessions that are to be looked at.
    marked: BTreeSet<SessionId>,
}

impl Followers {
    /// Adds one; it is told how things stand at the next look, which is due at once.
    pub(super) fn join(
        &mut self,
        session_id: SessionId,
        id: ReaderId,
        lane: Arc<Lane>,
        now: Instant,
    ) {
        self.marked.insert(session_id.clone());
        self.sessions.entry(session_id).or_default().push(Follower {
            id,
            lane,
            told: None,
            given: 0,
            since: now,
        });
    }

    pub(super) fn leave(&mut self, session_id: &SessionId, id: ReaderId) {
        if let Some(followers) = self.sessions.get_mut(session_id) {
            followers.retain(|follower| follower.id != id);
            if followers.is_empty() {
                self.sessions.remove(session_id);
            }
        }
    }

    /// Something may have changed in a session.
    pub(super) fn mark(&mut self, session_id: &SessionId) {
        if self.sessions.contains_key(session_id) {
            self.marked.insert(session_id.clone());
        }
    }

    pub(super) fn mark_all(&mut self) {
        self.marked.extend(self.sessions.keys().cloned());
    }

    pub(super) fn has_marked(&self) -> bool {
        !self.marked.is_empty()
    }

    /// Takes what is to be looked at, `limit` at most.
    pub(super) fn plan(&mut self, limit: usize) -> Vec<SessionId> {
        let mut wanted = Vec::new();
        while wanted.len() < limit
            && let Some(session_id) = self.marked.pop_first()
        {
            if self.sessions.contains_key(&session_id) {
                wanted.push(session_id);
            }
        }
        wanted
    }

    /// Puts back what could not be looked at.
    pub(super) fn put_back(&mut self, wanted: Vec<SessionId>) {
        for session_id in wanted {
            self.mark(&session_id);
        }
    }

    /// Tells the followers of the sessions that were looked at what they do not know.
    pub(super) fn tell(
        &mut self,
        wanted: &[SessionId],
        found: &[(SessionId, Presence)],
        now: Instant,
    ) {
        let nobody = Presence::default();
        for session_id in wanted {
            let presence = found
                .iter()
                .find_map(|(id, presence)| (id == session_id).then_some(presence))
                .unwrap_or(&nobody);
            let Some(followers) = self.sessions.get_mut(session_id) else {
                continue;
            };
            followers.retain_mut(|follower| follower.tell(presence, now));
            if followers.is_empty() {
                self.sessions.remove(session_id);
            }
        }
    }

    /// Ends the streams of those to whom nothing has come for [`SILENCE_LIMIT`].
    pub(super) fn end_silent(&mut self, now: Instant) {
        self.sessions.retain(|_, followers| {
            followers.retain_mut(|follower| !follower.is_silent(now));
            !followers.is_empty()
        });
    }
}

impl Follower {
    /// Whether it goes on following.
    fn tell(&mut self, presence: &Presence, now: Instant) -> bool {
        for chunk in news(self.told.as_ref(), presence) {
            match self.lane.offer(&frame::transient(&chunk)) {
                Offer::Taken => {}
                // It reads nothing now, and is told at a later look.
                Offer::Full => return true,
                Offer::Gone => return false,
            }
            self.since = now;
            self.given = self.lane.given();
        }
        self.told = Some(presence.clone());
        // While its turn plays there is more to come than people.
        if !presence.expected && self.lane.given() == self.given {
            self.lane.end(End::Clean, Some(frame::DONE));
            return false;
        }
        true
    }

    fn is_silent(&self, now: Instant) -> bool {
        let silent =
            self.lane.given() == self.given && now.duration_since(self.since) >= SILENCE_LIMIT;
        if silent {
            self.lane.end(End::Clean, Some(frame::DONE));
        }
        silent
    }
}

/// What somebody has to be told who was told `before`.
fn news(before: Option<&Presence>, now: &Presence) -> Vec<Chunk> {
    let chunk = |name: &str, status| Chunk::DataAgent {
        data: AgentData {
            name: name.to_owned(),
            status,
        },
        transient: True,
    };
    let spoke = before.and_then(|before| before.agent.as_deref());
    let typed = before.is_some_and(|before| before.types);
    let Some(name) = now.agent.as_deref() else {
        // Whoever begins to follow may believe that somebody speaks.
        let is_news = before.is_none() || spoke.is_some();
        let left = is_news.then(|| chunk(spoke.unwrap_or_default(), AgentStatus::Left));
        return left.into_iter().collect();
    };
    let mut news = Vec::new();
    if spoke != Some(name) || (typed && !now.types) {
        news.push(chunk(name, AgentStatus::Joined));
    }
    if now.types && (spoke != Some(name) || !typed) {
        news.push(chunk(name, AgentStatus::Typing));
    }
    news
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presence(agent: Option<&str>, types: bool) -> Presence {
        Presence {
            agent: agent.map(str::to_owned),
            types,
            expected: true,
        }
    }

    fn told(before: Option<&Presence>, now: &Presence) -> Vec<(String, AgentStatus)> {
        let data = news(before, now).into_iter().map(|chunk| match chunk {
            Chunk::DataAgent { data, .. } => (data.name, data.status),
            other => panic!("{other:?}"),
        });
        data.collect()
    }

    #[test]
    fn a_follower_is_told_what_differs_from_what_it_knows() {
        use AgentStatus::{Joined, Left, Typing};
        let (nobody, ada) = (presence(None, false), presence(Some("Ada"), false));
        let (ada_types, bob) = (presence(Some("Ada"), true), presence(Some("Bob"), false));
        let ada_is = |status| ("Ada".to_owned(), status);
        assert_eq!(told(None, &nobody), [(String::new(), Left)]);
        assert_eq!(told(None, &ada_types), [ada_is(Joined), ada_is(Typing)]);
        assert_eq!(told(Some(&nobody), &ada), [ada_is(Joined)]);
        assert_eq!(told(Some(&ada), &ada_types), [ada_is(Typing)]);
        assert_eq!(told(Some(&ada_types), &ada), [ada_is(Joined)]);
        assert_eq!(told(Some(&ada_types), &bob), [("Bob".to_owned(), Joined)]);
        assert_eq!(told(Some(&ada), &nobody), [ada_is(Left)]);
        for same in [&nobody, &ada, &ada_types] {
            assert_eq!(told(Some(same), same), []);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_to_whom_nothing_comes_is_ended_and_one_that_is_given_a_turn_is_not() {
        let mut followers = Followers::default();
        let sessions: Vec<SessionId> = ["a", "b"].iter().map(|id| id.parse().unwrap()).collect();
        let lanes = [Arc::new(Lane::default()), Arc::new(Lane::default())];
        for (number, (session, lane)) in (1..).zip(sessions.iter().zip(&lanes)) {
            followers.join(
                session.clone(),
                ReaderId::of(number),
                lane.clone(),
                Instant::now(),
            );
        }
        let wanted = followers.plan(10);
        assert_eq!(wanted, sessions);
        let found: Vec<_> = sessions
            .iter()
            .map(|id| (id.clone(), presence(None, false)))
            .collect();
        followers.tell(&wanted, &found, Instant::now());
        let frame = frame::transient(&Chunk::StartStep);
        lanes[1].offer(&frame);
        followers.end_silent(Instant::now());
        assert_eq!(followers.sessions.len(), 2);
        tokio::time::advance(SILENCE_LIMIT).await;
        followers.end_silent(Instant::now());
        assert!(!followers.sessions.contains_key(&sessions[0]));
        assert!(followers.sessions.contains_key(&sessions[1]));
    }

    #[test]
    fn a_session_in_which_nobody_is_expected_ends_the_wait() {
        let mut followers = Followers::default();
        let session: SessionId = "a".parse().unwrap();
        let lane = Arc::new(Lane::default());
        followers.join(session.clone(), ReaderId::of(1), lane, Instant::now());
        let wanted = followers.plan(10);
        followers.tell(&wanted, &[], Instant::now());
        assert!(followers.sessions.is_empty());
    }
}
