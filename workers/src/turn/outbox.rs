//! What the event writer still has to write: the pure part, without a task or a database.
//!
//! ```text
//! push ──▶ lane: waiting frames ──take──▶ under way ──written──▶ durable
//!            └ adjacent deltas of a part become one frame while they wait
//! ```
//! A frame gets its number when it is taken, in order for each lane, so that frames that were
//! merged leave no gap. Lanes that have something to write take turns.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
};

use store::{events::NewEvent, ids::TurnKey, protocol::Chunk};
use tokio::sync::Notify;

/// One turn's way into the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct LaneId(u64);

#[derive(Debug)]
struct Lane {
    key: TurnKey,
    attempt: i32,
    /// The number of the next frame that is taken.
    next_seq: i32,
    waiting: VecDeque<Chunk>,
    /// Of the frames that wait.
    waiting_bytes: usize,
    /// Of the frames that are being written.
    bytes_under_way: usize,
    /// Tells the lane's owner that frames were written.
    written: Arc<Notify>,
}

/// Everything that is to be written.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    lanes: HashMap<LaneId, Lane>,
    /// Lanes with waiting frames, each once; it may name lanes that are gone.
    ready: VecDeque<LaneId>,
    last_id: u64,
}

/// The frames of one statement.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) events: Vec<NewEvent>,
    /// The lanes with their shares, in bytes.
    shares: Vec<(LaneId, usize)>,
}

/// The size of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchLimit {
    /// The most frames.
    pub(super) frames: usize,
    /// No frame is added to a batch that has as many bytes.
    pub(super) bytes: usize,
}

impl Outbox {
    /// A lane for an attempt, whose frames are numbered from 1.
    pub(super) fn open(&mut self, key: TurnKey, attempt: i32) -> (LaneId, Arc<Notify>) {
        self.last_id += 1;
        let id = LaneId(self.last_id);
        let written = Arc::new(Notify::new());
        let lane = Lane {
            key,
            attempt,
            next_seq: 1,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            bytes_under_way: 0,
            written: written.clone(),
        };
        self.lanes.insert(id, lane);
        (id, written)
    }

    /// Forgets a lane. What waits in it is not written any more.
    pub(super) fn close(&mut self, id: LaneId) {
        self.lanes.remove(&id);
    }

    /// Adds a frame; returns whether the lane had none waiting before.
    pub(super) fn push(&mut self, id: LaneId, chunk: Chunk) -> bool {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return false;
        };
        lane.waiting_bytes += weight(&chunk);
        let was_idle = lane.waiting.is_empty();
        if let (Some(Chunk::TextDelta { id: open, delta }), Chunk::TextDelta { id, delta: more }) =
            (lane.waiting.back_mut(), &chunk)
            && open == id
        {
            delta.push_str(more);
        } else {
            lane.waiting.push_back(chunk);
        }
        if was_idle {
            self.ready.push_back(id);
        }
        was_idle
    }

    /// The bytes of a lane that are not durable yet.
    pub(super) fn unwritten(&self, id: LaneId) -> usize {
        self.lanes
            .get(&id)
            .map_or(0, |lane| lane.waiting_bytes + lane.bytes_under_way)
    }

    /// The number that the lane's next frame will have, once all its frames are durable.
    pub(super) fn settled(&self, id: LaneId) -> Option<i32> {
        let lane = self.lanes.get(&id)?;
        (lane.waiting.is_empty() && lane.bytes_under_way == 0).then_some(lane.next_seq)
    }

    /// Whether nothing waits.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// Takes what goes with the next statement; the lanes that could not be served whole go first
    /// next time.
    pub(super) fn take(&mut self, limit: BatchLimit) -> Batch {
        let mut batch = Batch::default();
        let mut bytes = 0;
        while batch.events.len() < limit.frames
            && bytes < limit.bytes
            && let Some(id) = self.ready.pop_front()
        {
            let Entry::Occupied(mut lane) = self.lanes.entry(id) else {
                continue;
            };
            let lane = lane.get_mut();
            let mut share = 0;
            while batch.events.len() < limit.frames
                && bytes < limit.bytes
                && let Some(chunk) = lane.waiting.pop_front()
            {
                let weight = weight(&chunk);
                share += weight;
                bytes += weight;
                let frame = NewEvent::new(lane.key.clone(), lane.attempt, lane.next_seq, &chunk);
                batch.events.push(frame);
                lane.next_seq += 1;
            }
            lane.bytes_under_way += share;
            lane.waiting_bytes = lane.waiting_bytes.saturating_sub(share);
            batch.shares.push((id, share));
            if !lane.waiting.is_empty() {
                self.ready.push_front(id);
            }
        }
        batch
    }

    /// The batch is durable.
    pub(super) fn written(&mut self, batch: &Batch) {
        for (id, share) in &batch.shares {
            if let Some(lane) = self.lanes.get_mut(id) {
                lane.bytes_under_way -= share;
                lane.written.notify_waiters();
            }
        }
    }

    /// Wakes everybody who waits for the log.
    pub(super) fn wake_all(&self) {
        for lane in self.lanes.values() {
            lane.written.notify_waiters();
        }
    }
}

/// What a frame counts for: its text, and something for the rest. Merging two deltas frees nothing,
/// so that the sum stays right.
fn weight(chunk: &Chunk) -> usize {
    match chunk {
        Chunk::TextDelta { delta, .. } => delta.len(),
        _ => FRAME_OVERHEAD,
    }
}

/// About what a frame without text takes.
const FRAME_OVERHEAD: usize = 128;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn key(turn: i32) -> TurnKey {
        TurnKey {
            session_id: "s".parse().unwrap(),
            turn,
        }
    }

    fn delta(part: &str, text: &str) -> Chunk {
        Chunk::TextDelta {
            id: part.to_owned(),
            delta: text.to_owned(),
        }
    }

    const AMPLE: BatchLimit = BatchLimit {
        frames: 1_000,
        bytes: 1_000_000,
    };

    #[test]
    fn deltas_of_a_part_that_wait_together_become_one_frame() {
        let mut outbox = Outbox::default();
        let (lane, _) = outbox.open(key(1), 2);
        for chunk in [
            Chunk::StartStep,
            delta("a", "Hel"),
            delta("a", "lo"),
            delta("b", "!"),
            Chunk::FinishStep,
        ] {
            outbox.push(lane, chunk);
        }
        let batch = outbox.take(AMPLE);
        let frames: Vec<_> = batch
            .events
            .iter()
            .map(|event| (event.attempt, event.seq, event.json.as_str()))
            .collect();
        assert_eq!(
            frames,
            [
                (2, 1, r#"{"type":"start-step"}"#),
                (2, 2, r#"{"type":"text-delta","id":"a","delta":"Hello"}"#),
                (2, 3, r#"{"type":"text-delta","id":"b","delta":"!"}"#),
                (2, 4, r#"{"type":"finish-step"}"#),
            ]
        );
        assert_eq!(outbox.settled(lane), None);
        outbox.written(&batch);
        assert_eq!(outbox.settled(lane), Some(5));
        assert_eq!(outbox.unwritten(lane), 0);
    }

    #[test]
    fn a_lane_that_is_closed_leaves_nothing() {
        let mut outbox = Outbox::default();
        let (lane, _) = outbox.open(key(1), 1);
        outbox.push(lane, Chunk::StartStep);
        let under_way = outbox.take(AMPLE);
        outbox.push(lane, Chunk::FinishStep);
        outbox.close(lane);
        outbox.written(&under_way);
        assert!(outbox.take(AMPLE).events.is_empty());
        assert!(outbox.is_empty() && outbox.lanes.is_empty());
    }

    #[derive(Debug, Clone)]
    enum Act {
        Push { lane: usize, text: Option<String> },
        Take,
        Written,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            6 => (0..3_usize, proptest::option::weighted(0.8, "[a-z]{1,5}"))
                .prop_map(|(lane, text)| Act::Push { lane, text }),
            2 => Just(Act::Take),
            1 => Just(Act::Written),
        ]
    }

    /// The frames of a lane with neighbouring deltas put together.
    fn normal_form(chunks: impl IntoIterator<Item = Chunk>) -> Vec<Chunk> {
        let mut normal: Vec<Chunk> = Vec::new();
        for chunk in chunks {
            match (normal.last_mut(), chunk) {
                (Some(Chunk::TextDelta { delta, .. }), Chunk::TextDelta { delta: more, .. }) => {
                    delta.push_str(&more);
                }
                (_, chunk) => normal.push(chunk),
            }
        }
        normal
    }

    proptest! {
        #[test]
        fn every_lane_is_written_whole_in_order_and_numbered_without_a_gap(
            acts in vec(act(), 0..80),
            frames in 1..4_usize,
            bytes in 1..200_usize,
        ) {
            let limit = BatchLimit { frames, bytes };
            let mut outbox = Outbox::default();
            let lanes: Vec<_> = (1..=3).map(|turn| outbox.open(key(turn), 1).0).collect();
            let mut pushed: BTreeMap<i32, Vec<Chunk>> = BTreeMap::new();
            let mut log: BTreeMap<i32, Vec<(i32, Chunk)>> = BTreeMap::new();
            let mut under_way = Vec::new();
            let record = |batch: &Batch, log: &mut BTreeMap<i32, Vec<(i32, Chunk)>>| {
                assert!(batch.events.len() <= frames);
                for event in &batch.events {
                    let chunk = serde_json::from_str(&event.json).unwrap();
                    log.entry(event.key.turn).or_default().push((event.seq, chunk));
                }
            };
            for act in acts {
                match act {
                    Act::Push { lane, text } => {
                        let chunk = text.map_or(Chunk::StartStep, |text| delta("t", &text));
                        pushed.entry(i32::try_from(lane).unwrap() + 1).or_default().push(chunk.clone());
                        outbox.push(lanes[lane], chunk);
                    }
                    Act::Take => {
                        let batch = outbox.take(limit);
                        record(&batch, &mut log);
                        under_way.push(batch);
                    }
                    Act::Written => {
                        for batch in under_way.drain(..) {
                            outbox.written(&batch);
                        }
                    }
                }
            }
            while !outbox.is_empty() {
                let batch = outbox.take(limit);
                record(&batch, &mut log);
                under_way.push(batch);
            }
            for batch in &under_way {
                outbox.written(batch);
            }
            for (turn, lane) in (1..).zip(&lanes) {
                let written = log.remove(&turn).unwrap_or_default();
                let seqs: Vec<i32> = written.iter().map(|(seq, _)| *seq).collect();
                let count = i32::try_from(seqs.len()).unwrap();
                prop_assert_eq!(seqs, (1..=count).collect::<Vec<_>>());
                prop_assert_eq!(outbox.settled(*lane), Some(count + 1));
                prop_assert_eq!(outbox.unwritten(*lane), 0);
                prop_assert_eq!(
                    normal_form(written.into_iter().map(|(_, chunk)| chunk)),
                    normal_form(pushed.remove(&turn).unwrap_or_default())
                );
            }
        }
    }
}
