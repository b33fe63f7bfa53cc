//! The hub's promise, with a log, lost wake-ups and clients that come, go and dawdle.

use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;
use crate::hub::lane::{MAX_FRAMES, Next};

fn key(turn: i32) -> TurnKey {
    TurnKey {
        session_id: "session".parse().unwrap(),
        turn,
    }
}

fn cursor(turn: i32, attempt: i32, seq: i32) -> Cursor {
    Cursor { turn, attempt, seq }
}

fn event(at: Cursor, terminal: bool) -> StoredEvent {
    StoredEvent {
        key: key(at.turn),
        cursor: at,
        terminal,
        json: RawValue::from_string(format!("\"{at}\"")).unwrap(),
    }
}

/// What the database does for [`store::events::read_after`].
fn read(log: &[StoredEvent], wants: &[Want], limit: ReadLimit) -> Page {
    let mut sorted = log.to_vec();
    sorted.sort_by_key(|event| event.cursor);
    let found = wants.iter().flat_map(|(_, from)| {
        sorted
            .iter()
            .filter(|event| event.cursor.turn == from.turn && event.cursor > *from)
            .take(usize::try_from(limit.frames_per_turn).unwrap())
            .cloned()
    });
    let mut bytes = 0;
    let mut events = Vec::new();
    for event in found {
        if bytes >= limit.bytes {
            break;
        }
        bytes += i64::try_from(event.json.get().len()).unwrap();
        events.push(event);
    }
    Page {
        events,
        is_cut: bytes >= limit.bytes,
        erased: Vec::new(),
    }
}

/// A client: what it has received over all its connections.
#[derive(Default)]
struct Client {
    received: Vec<Bytes>,
    seen: Option<Cursor>,
    connection: Option<(ReaderId, Arc<Lane>)>,
    done: bool,
    cuts: usize,
}

impl Client {
    fn connect(&mut self, fanout: &mut Fanout, turn: i32, takeover: Takeover) {
        let lane = Arc::new(Lane::default());
        let from = self.seen.unwrap_or(Cursor::start_of(turn));
        let id = fanout.join(key(turn), from, takeover, Patience::Hurried, lane.clone());
        self.connection = Some((id, lane));
    }

    /// Asks for what is behind the last frame that it has. Behind a turn's last one there is nothing: the
    /// route says so by 204, and the client needs no end of the stream.
    fn come_back(&mut self, fanout: &mut Fanout, turn: i32, writer: &Writer) {
        if writer.ends_at(self.seen) {
            if self.received.last() != Some(&frame::DONE) {
                self.received.push(frame::DONE);
            }
            self.done = true;
        } else {
            self.connect(fanout, turn, Takeover::Event);
        }
    }

    fn cut(&mut self, fanout: &mut Fanout, turn: i32) {
        if let Some((id, lane)) = self.connection.take() {
            lane.leave();
            fanout.leave(&key(turn), id);
        }
    }

    /// Takes up to `count` frames; whether the hub is to be told that there is room again.
    fn drain(&mut self, count: usize) -> bool {
        let mut asks = false;
        for _ in 0..count {
            let Some((_, lane)) = &self.connection else {
                break;
            };
            match lane.poll_next(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Next::Frame { bytes, hungry }) => {
                    asks |= hungry;
                    if let Some(at) = id_of(&bytes) {
                        self.seen = Some(at);
                    }
                    self.received.push(bytes);
                }
                Poll::Ready(Next::End(End::Clean)) => {
                    self.done = true;
                    self.connection = None;
                }
                Poll::Ready(Next::End(End::Cut)) => {
                    self.cuts += 1;
                    self.connection = None;
                }
                Poll::Pending => break,
            }
        }
        asks
    }
}

fn id_of(frame: &[u8]) -> Option<Cursor> {
    let text = std::str::from_utf8(frame).unwrap();
    text.strip_prefix("id: ")?.lines().next()?.parse().ok()
}

#[derive(Debug, Clone)]
enum Step {
    /// Frames are appended, and the wake-up arrives or is lost.
    Append { turn: i32, count: usize, wake: bool },
    /// Another attempt begins.
    TakeOver { turn: i32 },
    /// The turn ends.
    Finish { turn: i32 },
    /// A read is planned and made; it is delivered by a later step.
    Read,
    /// The planned read fails.
    Fail,
    /// The read is delivered.
    Deliver,
    /// The fallback looks at everything.
    Rescan,
    /// A client loses its connection and comes back, or comes for the first time.
    Reconnect { client: usize },
    /// A client loses its connection.
    Cut { client: usize },
    /// A client reads.
    Drain { client: usize, count: usize },
}

const CLIENTS: usize = 5;

/// Clients 0–2 wait for turn 1, the others for turn 2.
fn turn_of(client: usize) -> i32 {
    if client < 3 { 1 } else { 2 }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let turn = 1..=2;
    let client = 0..CLIENTS;
    let step = prop_oneof![
        6 => (turn.clone(), 1..200_usize, any::<bool>())
            .prop_map(|(turn, count, wake)| Step::Append { turn, count, wake }),
        1 => turn.clone().prop_map(|turn| Step::TakeOver { turn }),
        1 => turn.prop_map(|turn| Step::Finish { turn }),
        6 => Just(Step::Read),
        1 => Just(Step::Fail),
        6 => Just(Step::Deliver),
        2 => Just(Step::Rescan),
        3 => client.clone().prop_map(|client| Step::Reconnect { client }),
        1 => client.clone().prop_map(|client| Step::Cut { client }),
        6 => (client, 1..300_usize).prop_map(|(client, count)| Step::Drain { client, count }),
    ];
    prop::collection::vec(step, 1..80)
}

/// The writer's side: appends frames as workers do.
struct Writer {
    log: Vec<StoredEvent>,
    next: [Option<Cursor>; 3],
}

impl Writer {
    fn new() -> Self {
        Self {
            log: Vec::new(),
            next: [None, Some(cursor(1, 1, 1)), Some(cursor(2, 1, 1))],
        }
    }

    fn slot(&mut self, turn: i32) -> &mut Option<Cursor> {
        &mut self.next[usize::try_from(turn).unwrap()]
    }

    fn append(&mut self, turn: i32, terminal: bool) {
        if let Some(at) = *self.slot(turn) {
            self.log.push(event(at, terminal));
            *self.slot(turn) = (!terminal).then(|| cursor(turn, at.attempt, at.seq + 1));
        }
    }

    fn take_over(&mut self, turn: i32) {
        if let Some(at) = *self.slot(turn) {
            *self.slot(turn) = Some(cursor(turn, at.attempt + 1, 1));
        }
    }

    fn ends_at(&self, seen: Option<Cursor>) -> bool {
        let mut ends = self.log.iter().filter(|event| event.terminal);
        ends.any(|event| Some(event.cursor) == seen)
    }

    /// The whole stream of a turn.
    fn stream(&self, turn: i32) -> Vec<Bytes> {
        let frames = self.log.iter().filter(|event| event.cursor.turn == turn);
        frames.map(frame::encode).chain([frame::DONE]).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_client_gets_the_exact_sequence_whatever_is_cut_lost_or_repeated(
        steps in steps(),
        bytes in 100..2_000_i64,
    ) {
        let limit = ReadLimit { frames_per_turn: 64, bytes };
        let mut writer = Writer::new();
        let mut fanout = Fanout::default();
        let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::default()).collect();
        let mut under_way: Option<(Vec<Want>, Page)> = None;

        for step in steps {
            match step {
                Step::Append { turn, count, wake } => {
                    for _ in 0..count {
                        writer.append(turn, false);
                    }
                    if wake {
                        fanout.mark(&key(turn));
                    }
                }
                Step::TakeOver { turn } => writer.take_over(turn),
                Step::Finish { turn } => writer.append(turn, true),
                Step::Read => if under_way.is_none() {
                    let wants = fanout.plan();
                    let page = read(&writer.log, &wants, limit);
                    under_way = Some((wants, page));
                },
                Step::Fail => if let Some((wants, _)) = under_way.take() {
                    fanout.put_back(&wants);
                },
                Step::Deliver => if let Some((wants, page)) = under_way.take() {
                    fanout.deliver(&wants, &page, limit);
                },
                Step::Rescan => fanout.mark_all(),
                Step::Reconnect { client } => if !clients[client].done {
                    let turn = turn_of(client);
                    clients[client].cut(&mut fanout, turn);
                    clients[client].come_back(&mut fanout, turn, &writer);
                },
                Step::Cut { client } => clients[client].cut(&mut fanout, turn_of(client)),
                Step::Drain { client, count } => if clients[client].drain(count) {
                    fanout.mark(&key(turn_of(client)));
                },
            }
        }

        // Everybody comes back and reads to the end, with the fallback as the only wake-up.
        if let Some((wants, page)) = under_way.take() {
            fanout.deliver(&wants, &page, limit);
        }
        for turn in [1, 2] {
            writer.append(turn, true);
        }
        for (index, client) in clients.iter_mut().enumerate() {
            if !client.done && client.connection.is_none() {
                client.come_back(&mut fanout, turn_of(index), &writer);
            }
        }
        for _ in 0..10_000 {
            if clients.iter().all(|client| client.done) {
                break;
            }
            fanout.mark_all();
            let wants = fanout.plan();
            let page = read(&writer.log, &wants, limit);
            fanout.deliver(&wants, &page, limit);
            for client in &mut clients {
                client.drain(usize::MAX);
            }
        }
        for (index, client) in clients.iter().enumerate() {
            prop_assert!(client.done);
            prop_assert_eq!(&client.received, &writer.stream(turn_of(index)));
        }
        prop_assert!(fanout.is_empty());
    }
}

#[test]
fn a_client_that_has_the_last_frame_and_not_the_end_is_told_that_nothing_is_left() {
    let mut writer = Writer::new();
    writer.append(1, true);
    let (mut fanout, mut client) = (Fanout::default(), Client::default());
    client.come_back(&mut fanout, 1, &writer);
    deliver_all(&mut fanout, &writer.log);
    client.drain(1);
    assert!(!client.done);
    client.cut(&mut fanout, 1);
    client.come_back(&mut fanout, 1, &writer);
    assert!(client.done && client.connection.is_none());
}

fn deliver_all(fanout: &mut Fanout, log: &[StoredEvent]) {
    while fanout.has_marked() {
        let wants = fanout.plan();
        let page = read(log, &wants, READ_LIMIT);
        fanout.deliver(&wants, &page, READ_LIMIT);
    }
}

#[test]
fn a_client_that_has_seen_nothing_is_not_cut_by_a_takeover() {
    let mut fanout = Fanout::default();
    let mut client = Client::default();
    client.connect(&mut fanout, 1, Takeover::Cut);
    deliver_all(&mut fanout, &[event(cursor(1, 2, 1), true)]);
    client.drain(usize::MAX);
    assert!(client.done);
    assert_eq!(client.cuts, 0);
}

#[test]
fn a_takeover_cuts_a_client_that_asked_for_it_behind_the_last_frame_of_the_old_attempt() {
    let mut fanout = Fanout::default();
    let mut client = Client::default();
    client.connect(&mut fanout, 1, Takeover::Cut);
    let log = [
        event(cursor(1, 1, 1), false),
        event(cursor(1, 1, 2), false),
        event(cursor(1, 2, 1), false),
    ];
    deliver_all(&mut fanout, &log);
    client.drain(usize::MAX);
    assert_eq!(client.seen, Some(cursor(1, 1, 2)));
    assert_eq!(client.cuts, 1);
    assert!(fanout.is_empty());
}

#[test]
fn the_log_of_a_finished_turn_that_has_no_end_is_cut_not_waited_for() {
    let mut fanout = Fanout::default();
    let lane = Arc::new(Lane::default());
    fanout.join(
        key(1),
        Cursor::start_of(1),
        Takeover::Event,
        Patience::Finished,
        lane.clone(),
    );
    deliver_all(&mut fanout, &[]);
    let mut client = Client {
        connection: Some((ReaderId(0), lane)),
        ..Client::default()
    };
    client.drain(1);
    assert_eq!(client.cuts, 1);
    assert!(fanout.is_empty());
}

#[test]
fn what_a_read_left_out_for_its_size_is_read_next_and_no_finished_turn_is_cut_for_it() {
    let mut fanout = Fanout::default();
    let mut lanes = Vec::new();
    let mut log = Vec::new();
    for turn in 1..=3 {
        let lane = Arc::new(Lane::default());
        fanout.join(
            key(turn),
            Cursor::start_of(turn),
            Takeover::Event,
            Patience::Finished,
            lane.clone(),
        );
        lanes.push(lane);
        log.extend((1..=4).map(|seq| event(cursor(turn, 1, seq), seq == 4)));
    }
    // Two frames a read: the first of them ends in the middle of a turn, before the two others.
    let limit = ReadLimit {
        frames_per_turn: 10,
        bytes: 8,
    };
    while fanout.has_marked() {
        let wants = fanout.plan();
        let page = read(&log, &wants, limit);
        fanout.deliver(&wants, &page, limit);
    }
    for lane in lanes {
        let mut client = Client {
            connection: Some((ReaderId(0), lane)),
            ..Client::default()
        };
        client.drain(usize::MAX);
        assert!(client.done);
        assert_eq!(client.received.len(), 5, "four frames and the end");
    }
}

#[test]
fn a_client_that_does_not_read_is_skipped_then_dropped_and_others_are_served() {
    let mut fanout = Fanout::default();
    let (mut lazy, mut eager) = (Client::default(), Client::default());
    lazy.connect(&mut fanout, 1, Takeover::Event);
    eager.connect(&mut fanout, 1, Takeover::Event);
    let frames = i32::try_from(MAX_FRAMES * 3).unwrap();
    let log: Vec<StoredEvent> = (1..=frames)
        .map(|seq| event(cursor(1, 1, seq), false))
        .collect();
    for _ in 0..20 {
        fanout.mark_all();
        deliver_all(&mut fanout, &log);
        eager.drain(usize::MAX);
    }
    assert_eq!(eager.received.len(), log.len());

    let start = Instant::now();
    assert_eq!(fanout.drop_stalled(start), 0);
    assert_eq!(fanout.drop_stalled(start + STALL_LIMIT / 2), 0);
    assert_eq!(fanout.drop_stalled(start + STALL_LIMIT), 1);
    lazy.drain(usize::MAX);
    assert_eq!(lazy.cuts, 1);
    assert!(lazy.received.is_empty());
}

#[test]
fn a_client_that_was_skipped_asks_for_more_once_it_has_drained() {
    let mut fanout = Fanout::default();
    let mut client = Client::default();
    client.connect(&mut fanout, 1, Takeover::Event);
    let frames = i32::try_from(MAX_FRAMES).unwrap();
    let mut log: Vec<StoredEvent> = (1..=frames)
        .map(|seq| event(cursor(1, 1, seq), false))
        .collect();
    deliver_all(&mut fanout, &log);
    // The queue is exactly full, and nothing was refused yet.
    log.push(event(cursor(1, 1, frames + 1), true));
    fanout.mark(&key(1));
    deliver_all(&mut fanout, &log);
    assert!(client.drain(MAX_FRAMES), "the hub is told");
    fanout.mark(&key(1));
    deliver_all(&mut fanout, &log);
    client.drain(usize::MAX);
    assert!(client.done);
}

#[test]
fn a_client_that_reads_slowly_is_not_dropped() {
    let mut fanout = Fanout::default();
    let mut client = Client::default();
    client.connect(&mut fanout, 1, Takeover::Event);
    let frames = i32::try_from(MAX_FRAMES * 3).unwrap();
    let log: Vec<StoredEvent> = (1..=frames)
        .map(|seq| event(cursor(1, 1, seq), false))
        .collect();
    let start = Instant::now();
    for round in 0..10 {
        fanout.mark_all();
        deliver_all(&mut fanout, &log);
        client.drain(1);
        assert_eq!(fanout.drop_stalled(start + STALL_LIMIT * round), 0);
    }
}
