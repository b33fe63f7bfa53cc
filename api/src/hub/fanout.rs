//! Which frames go to which client: the hub without its clock, its database and its tasks.
//!
//! Each client has a cursor, the place of the last frame that was queued for it. A round is
//! [`Fanout::plan`] (what to read), a read, and [`Fanout::deliver`]. Clients come, go, drain and ask
//! for more between the two; a client whose cursor lies before the place that the read began at is
//! left for the next round, so that nobody is ever given a frame with a gap before it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use store::{
    events::{Cursor, Page, ReadLimit, StoredEvent},
    ids::{SessionId, TurnKey},
    protocol::Chunk,
    turn_control::ERASED,
};
use tokio::time::Instant;

use super::{
    frame,
    lane::{End, Lane, Offer},
};

/// Turns that one query looks at; the rest is read by the next query at once.
pub(super) const TURNS_PER_READ: usize = 1_000;

/// What one query returns: of one turn, and for all clients together. Usual frames have some 70 bytes;
/// what is left out is read by the next query at once.
pub(super) const READ_LIMIT: ReadLimit = ReadLimit {
    frames_per_turn: 128,
    bytes: 4 * 1024 * 1024,
};

/// How long a client may take nothing while more is waiting for it.
pub(super) const STALL_LIMIT: Duration = Duration::from_secs(30);

/// What a client is given when its turn is taken over by another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takeover {
    /// The new attempt's frames, which say that the earlier ones are void.
    Event,
    /// An abrupt end, so that the client asks again from the beginning.
    Cut,
}

/// Names a client of the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReaderId(u64);

#[cfg(test)]
impl ReaderId {
    pub(super) fn of(number: u64) -> Self {
        Self(number)
    }
}

/// How a client waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// For a turn that is under way.
    Hurried,
    /// For a turn that may come or not: it is looked for now and then, and nobody is woken for it. Its
    /// first frame makes it a turn like any other.
    Patient,
    /// For nothing: nothing will be added to the turn, and the stream ends where the log ends.
    Finished,
}

/// What to read of one turn.
pub(super) type Want = (SessionId, Cursor);

#[derive(Debug)]
struct Reader {
    id: ReaderId,
    /// The last frame that was queued for the client.
    cursor: Cursor,
    takeover: Takeover,
    patience: Patience,
    lane: Arc<Lane>,
    /// Whether frames came since the last [`Fanout::is_any_silent`].
    heard: bool,
    /// Since when, and after how many frames, the client takes nothing.
    stalled: Option<(Instant, u64)>,
}

/// The clients of a process, by the turn that they wait for.
#[derive(Debug, Default)]
pub(super) struct Fanout {
    turns: HashMap<TurnKey, Vec<Reader>>,
    /// Turns that may have something to read.
    marked: BTreeSet<TurnKey>,
    last_id: u64,
}

impl Fanout {
    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Whether a read is due.
    pub(super) fn has_marked(&self) -> bool {
        !self.marked.is_empty()
    }

    /// Adds a client that has seen everything up to `cursor`.
    pub(super) fn join(
        &mut self,
        key: TurnKey,
        cursor: Cursor,
        takeover: Takeover,
        patience: Patience,
        lane: Arc<Lane>,
    ) -> ReaderId {
        self.last_id += 1;
        let id = ReaderId(self.last_id);
        self.marked.insert(key.clone());
        // Nearly every turn has one client, and a vector that grows makes room for four.
        let readers = self
            .turns
            .entry(key)
            .or_insert_with(|| Vec::with_capacity(1));
        readers.push(Reader {
            id,
            cursor,
            takeover,
            patience,
            lane,
            heard: false,
            stalled: None,
        });
        id
    }

    /// Removes a client.
    pub(super) fn leave(&mut self, key: &TurnKey, id: ReaderId) {
        if let Some(readers) = self.turns.get_mut(key) {
            readers.retain(|reader| reader.id != id);
            if readers.is_empty() {
                self.turns.remove(key);
            }
        }
    }

    /// A turn may have something to read.
    pub(super) fn mark(&mut self, key: &TurnKey) {
        if self.turns.contains_key(key) {
            self.marked.insert(key.clone());
        }
    }

    /// Every turn may have something to read.
    pub(super) fn mark_all(&mut self) {
        self.marked.extend(self.turns.keys().cloned());
    }

    /// Every turn that somebody waits for in a hurry may have something to read.
    pub(super) fn mark_hurried(&mut self) {
        let patient = |reader: &Reader| reader.patience == Patience::Patient;
        let hurried = self
            .turns
            .iter()
            .filter(|(_, readers)| !readers.iter().all(patient));
        self.marked.extend(hurried.map(|(key, _)| key.clone()));
    }

    /// Takes what is to be read now: each marked turn from the cursor of the client that is
    /// furthest behind among those with room.
    pub(super) fn plan(&mut self) -> Vec<Want> {
        let mut wants = Vec::new();
        while wants.len() < TURNS_PER_READ
            && let Some(key) = self.marked.pop_first()
        {
            let from = self
                .turns
                .get(&key)
                .into_iter()
                .flatten()
                .filter(|reader| reader.lane.has_room())
                .map(|reader| reader.cursor)
                .min();
            wants.extend(from.map(|cursor| (key.session_id, cursor)));
        }
        wants
    }

    /// Puts back what could not be read.
    pub(super) fn put_back(&mut self, wants: &[Want]) {
        for want in wants {
            self.mark(&key_of(want));
        }
    }

    /// Queues what was read for `wants` within `limit`.
    pub(super) fn deliver(&mut self, wants: &[Want], read: &Page, limit: ReadLimit) {
        let limit = usize::try_from(limit.frames_per_turn).unwrap_or(usize::MAX);
        let mut rest = read.events.as_slice();
        for want in wants {
            let key = key_of(want);
            let count = rest.iter().take_while(|event| event.key == key).count();
            let (page, behind) = rest.split_at(count);
            rest = behind;
            let more = page.len() >= limit || (read.is_cut && behind.is_empty());
            if read.erased.contains(&key) {
                self.end_erased(&key);
                continue;
            }
            let Some(readers) = self.turns.get_mut(&key) else {
                continue;
            };
            let frames: Vec<Bytes> = page.iter().map(frame::encode).collect();
            readers.retain_mut(|reader| reader.cursor < want.1 || reader.take(page, &frames, more));
            if readers.is_empty() {
                self.turns.remove(&key);
            } else if more {
                self.marked.insert(key);
            }
        }
    }

    /// Ends the streams of a turn of which nothing is left: the log has no end for them.
    fn end_erased(&mut self, key: &TurnKey) {
        let abort = frame::transient(&Chunk::Abort {
            reason: ERASED.to_owned(),
        });
        let stopped = Bytes::from([abort, frame::DONE].concat());
        for reader in self.turns.remove(key).into_iter().flatten() {
            let last = match reader.patience {
                // Its turn has not begun: there is nothing to stop.
                Patience::Patient => frame::DONE,
                Patience::Hurried | Patience::Finished => stopped.clone(),
            };
            reader.lane.end(End::Clean, Some(last));
        }
    }

    /// Whether a client has been given nothing of an unfinished turn since this was last asked,
    /// although it has room.
    pub(super) fn is_any_silent(&mut self) -> bool {
        let mut silent = false;
        for reader in self.turns.values_mut().flatten() {
            let heard = std::mem::take(&mut reader.heard);
            silent |= !heard
                && reader.patience == Patience::Hurried
                && reader.lane.stalled_at().is_none();
        }
        silent
    }

    /// Drops the clients that have taken nothing for [`STALL_LIMIT`] although more waits for them.
    /// Returns how many.
    pub(super) fn drop_stalled(&mut self, now: Instant) -> usize {
        let mut dropped = 0;
        self.turns.retain(|_, readers| {
            readers.retain_mut(|reader| {
                let keep = reader.is_alive(now);
                dropped += usize::from(!keep);
                keep
            });
            !readers.is_empty()
        });
        dropped
    }

    /// Drops every client.
    pub(super) fn drop_all(&mut self) {
        for reader in self.turns.drain().flat_map(|(_, readers)| readers) {
            reader.lane.drop_now();
        }
        self.marked.clear();
    }
}

impl Reader {
    /// Queues the frames behind the cursor; whether the client stays.
    fn take(&mut self, page: &[StoredEvent], frames: &[Bytes], more: bool) -> bool {
        for (event, frame) in page.iter().zip(frames) {
            if event.cursor <= self.cursor {
                continue;
            }
            let has_seen_frames = self.cursor.seq > 0;
            if self.takeover == Takeover::Cut
                && has_seen_frames
                && event.cursor.attempt > self.cursor.attempt
            {
                self.lane.end(End::Cut, None);
                return false;
            }
            match self.lane.offer(frame) {
                Offer::Taken => {
                    self.cursor = event.cursor;
                    self.heard = true;
                    if self.patience == Patience::Patient {
                        self.patience = Patience::Hurried;
                    }
                }
                Offer::Full => return true,
                Offer::Gone => return false,
            }
            if event.terminal {
                self.lane.end(End::Clean, Some(frame::DONE));
                return false;
            }
        }
        if self.patience == Patience::Finished && !more {
            // The log of a finished turn has no end: what came is not the whole answer.
            self.lane.end(End::Cut, None);
            return false;
        }
        true
    }

    fn is_alive(&mut self, now: Instant) -> bool {
        let Some(taken) = self.lane.stalled_at() else {
            self.stalled = None;
            return true;
        };
        match self.stalled {
            Some((since, at)) if at == taken => {
                if now.duration_since(since) < STALL_LIMIT {
                    return true;
                }
                self.lane.drop_now();
                false
            }
            _ => {
                self.stalled = Some((now, taken));
                true
            }
        }
    }
}

fn key_of((session_id, cursor): &Want) -> TurnKey {
    TurnKey {
        session_id: session_id.clone(),
        turn: cursor.turn,
    }
}

#[cfg(test)]
#[path = "fanout_tests.rs"]
mod tests;
