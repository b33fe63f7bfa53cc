//! The durable event log of a turn: what every client of the turn sees, frame by frame.
//!
//! `(turn, attempt, seq)` orders the frames and is the SSE id. A turn that is taken over after a
//! crash goes on under the next attempt number; frames of an older attempt that arrive late sort
//! before everything a client of the new attempt has seen, so nobody ever reads them.

use std::{fmt, str::FromStr};

use serde_json::value::RawValue;
use sqlx::PgConnection;

use crate::{
    ids::{SessionId, TurnKey},
    protocol::Chunk,
};

/// A place in a turn's event log: everything up to and including it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cursor {
    /// The turn's number in its session.
    pub turn: i32,
    /// The attempt, from 1; 0 is before everything.
    pub attempt: i32,
    /// The frame's number in the attempt, from 1; 0 is before the attempt's first frame.
    pub seq: i32,
}

impl Cursor {
    /// Before every frame of a turn.
    pub fn start_of(turn: i32) -> Self {
        Self {
            turn,
            attempt: 0,
            seq: 0,
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.turn, self.attempt, self.seq)
    }
}

/// A cursor is `<turn>-<attempt>-<seq>`, three whole numbers of which the first is at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cursor is <turn>-<attempt>-<seq>")]
pub struct BadCursor;

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let number = |part: Option<&str>| {
            part.filter(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|part| part.parse::<i32>().ok())
                .ok_or(BadCursor)
        };
        let mut parts = text.trim().split('-');
        let cursor = Self {
            turn: number(parts.next())?,
            attempt: number(parts.next())?,
            seq: number(parts.next())?,
        };
        if parts.next().is_some() || cursor.turn < 1 {
            Err(BadCursor)
        } else {
            Ok(cursor)
        }
    }
}

/// One frame as it is stored.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    /// Its session and turn.
    pub key: TurnKey,
    /// Its place.
    pub cursor: Cursor,
    /// Whether it ends the stream.
    pub terminal: bool,
    /// The chunk's JSON, ready to send.
    pub json: Box<RawValue>,
}

/// A frame to be appended.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Its session and turn.
    pub key: TurnKey,
    /// The attempt that wrote it.
    pub attempt: i32,
    /// Its number in the attempt.
    pub seq: i32,
    /// Whether it ends the stream.
    pub terminal: bool,
    /// The chunk's JSON.
    pub json: String,
}

impl NewEvent {
    /// The frame of `chunk`.
    pub fn new(key: TurnKey, attempt: i32, seq: i32, chunk: &Chunk) -> Self {
        Self {
            key,
            attempt,
            seq,
            terminal: chunk.is_terminal(),
            json: chunk.to_json(),
        }
    }
}

/// The frames of an attempt's chunks, numbered from `first_seq`.
pub fn number(key: &TurnKey, attempt: i32, first_seq: i32, chunks: &[Chunk]) -> Vec<NewEvent> {
    (first_seq..)
        .zip(chunks)
        .map(|(seq, chunk)| NewEvent::new(key.clone(), attempt, seq, chunk))
        .collect()
}

/// Appends frames of any number of turns in one statement. A frame whose attempt is not its turn's
/// current one is left out: a worker that was overtaken writes nothing.
///
/// Returns how many were written.
pub async fn append(conn: &mut PgConnection, events: &[NewEvent]) -> sqlx::Result<u64> {
    let mut session_ids = Vec::with_capacity(events.len());
    let mut turns = Vec::with_capacity(events.len());
    let mut attempts = Vec::with_capacity(events.len());
    let mut seqs = Vec::with_capacity(events.len());
    let mut terminals = Vec::with_capacity(events.len());
    let mut bodies = Vec::with_capacity(events.len());
    for event in events {
        session_ids.push(event.key.session_id.as_str());
        turns.push(event.key.turn);
        attempts.push(event.attempt);
        seqs.push(event.seq);
        terminals.push(event.terminal);
        bodies.push(event.json.as_str());
    }
    let written = sqlx::query!(
        "insert into turn_events (session_id, turn, attempt, seq, terminal, event)
         select e.session_id, e.turn, e.attempt, e.seq, e.terminal, e.event::json
         from unnest($1::text[], $2::int[], $3::int[], $4::int[], $5::bool[], $6::text[])
              as e (session_id, turn, attempt, seq, terminal, event)
         join turns t on t.session_id = e.session_id and t.turn = e.turn and t.attempt = e.attempt
         on conflict on constraint turn_events_pkey do nothing",
        &session_ids as _,
        &turns,
        &attempts,
        &seqs,
        &terminals,
        &bodies as _,
    )
    .execute(conn)
    .await?;
    Ok(written.rows_affected())
}

/// How much one read returns at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimit {
    /// Frames of each turn.
    pub frames_per_turn: i64,
    /// Bytes of JSON, of all turns together. One frame may reach beyond.
    pub bytes: i64,
}

/// What one read returned.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The frames: cursor by cursor, in the order of the log.
    pub events: Vec<StoredEvent>,
    /// The read ended at its limit of bytes: whatever lies behind the last frame, of its turn and of
    /// the cursors that come after it, was not looked at.
    pub is_cut: bool,
    /// The turns of which nothing is left and nothing will come: their session was erased.
    pub erased: Vec<TurnKey>,
}

/// The frames behind each cursor, within `limit`: one query for all the clients of a process.
pub async fn read_after(
    conn: &mut PgConnection,
    cursors: &[(SessionId, Cursor)],
    limit: ReadLimit,
) -> sqlx::Result<Page> {
    let session_ids: Vec<&str> = cursors
        .iter()
        .map(|(session_id, _)| session_id.as_str())
        .collect();
    let turns: Vec<i32> = cursors.iter().map(|(_, cursor)| cursor.turn).collect();
    let attempts: Vec<i32> = cursors.iter().map(|(_, cursor)| cursor.attempt).collect();
    let seqs: Vec<i32> = cursors.iter().map(|(_, cursor)| cursor.seq).collect();
    let rows = sqlx::query!(
        r#"select ordinal as "ordinal!", attempt as "attempt?", seq as "seq?", terminal as "terminal?",
                  event as "event?: sqlx::types::Json<Box<RawValue>>"
           from (
               select c.ordinal, e.attempt, e.seq, e.terminal, e.event, coalesce(e.bytes, 0) as bytes,
                      coalesce(sum(e.bytes) over (order by c.ordinal, e.attempt, e.seq
                                                  rows unbounded preceding), 0) as bytes_so_far,
                      -- Asked only where there is nothing to read.
                      case when e.attempt is null
                           then (select termination_type = 'erased' from sessions where session_id = c.session_id)
                      end as erased
               from unnest($1::text[], $2::int[], $3::int[], $4::int[])
                    with ordinality as c (session_id, turn, attempt, seq, ordinal)
               left join lateral (
                   select attempt, seq, terminal, event, octet_length(event::text) as bytes
                   from turn_events
                   where session_id = c.session_id and turn = c.turn
                     and (attempt, seq) > (c.attempt, c.seq)
                   order by attempt, seq limit $5
               ) e on true
           ) page
           where bytes_so_far - bytes < $6 and (attempt is not null or erased)
           order by ordinal, attempt, seq"#,
        &session_ids as _,
        &turns,
        &attempts,
        &seqs,
        limit.frames_per_turn,
        limit.bytes,
    )
    .fetch_all(conn)
    .await?;
    let mut bytes = 0;
    let mut page = Page::default();
    for row in rows {
        let index = usize::try_from(row.ordinal - 1).ok();
        let Some((session_id, cursor)) = index.and_then(|index| cursors.get(index)) else {
            continue;
        };
        let key = TurnKey {
            session_id: session_id.clone(),
            turn: cursor.turn,
        };
        let frame = (row.attempt, row.seq, row.terminal, row.event);
        let (Some(attempt), Some(seq), Some(terminal), Some(event)) = frame else {
            page.erased.push(key);
            continue;
        };
        bytes += event.0.get().len();
        page.events.push(StoredEvent {
            key,
            cursor: Cursor {
                turn: cursor.turn,
                attempt,
                seq,
            },
            terminal,
            json: event.0,
        });
    }
    page.is_cut = i64::try_from(bytes).unwrap_or(i64::MAX) >= limit.bytes;
    Ok(page)
}
