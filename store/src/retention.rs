//! What goes by its age (docs/decisions/0023): the texts of sessions that were closed long ago, and the
//! frames of streams that nobody can still be joined to.
//!
//! Every function is one short statement. It deletes rows that nobody waits for, and passes over a session
//! that somebody has locked: it comes again. Nor does it wait for the disk (`synchronous_commit`): what a
//! crash of the server brings back is forgotten by the next sweep.

use sqlx::PgPool;
use tokio::time::{Instant, sleep};

use crate::settings::Settings;

/// How long frames of a stream are kept, in hours (03-operations). A turn is replayed for a minute.
pub const EVENT_HOURS: i32 = 24;

/// Sessions of one transaction at most: each is locked, whether or not the batch has room for it.
pub const BATCH_SESSIONS: i64 = 20;
/// Turns of one transaction, of which each has some rows: about a millisecond, which is as long as a turn may
/// have to wait for it.
pub const BATCH_TURNS: i64 = 100;

/// Pages of frames that one statement looks through: 512 kB, some thousand frames.
const EVENT_PAGES: i64 = 64;
/// How many times as long as a transaction took the sweep rests after it: it has all week, and turns
/// have the database at the same time. `cargo bench-all retention` measures what they notice.
pub const REST: u32 = 4;

/// Reads `RETENTION_DAYS`, default 90 (seed 000): so long after its close the texts of a session go.
pub fn read_days(settings: &mut Settings) -> i32 {
    settings.with_default(
        "RETENTION_DAYS",
        90,
        "a number of days from 1 to 36500",
        |days| (1..=36_500).contains(days),
    )
}

/// Keeps the days that a worker was started with, if they are others than those that are kept.
pub async fn save_days(pool: &PgPool, days: i32) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into retention_rule as kept (days) values ($1)
         on conflict (only_row) do update set days = excluded.days, updated_at = now()
         where kept.days <> excluded.days",
        days,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// The days that the newest worker was started with. `None`: none was since they are kept.
pub async fn load_days(pool: &PgPool) -> sqlx::Result<Option<i32>> {
    sqlx::query_scalar!("select days from retention_rule")
        .fetch_optional(pool)
        .await
}

/// Rows by table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Gone {
    /// Sessions whose texts went.
    pub sessions: i64,
    /// `messages`.
    pub messages: i64,
    /// `checkpoints`.
    pub checkpoints: i64,
    /// `checkpoint_writes`.
    pub checkpoint_writes: i64,
    /// `turn_events`.
    pub turn_events: i64,
    /// `feedback`.
    pub feedback: i64,
}

impl Gone {
    /// `(table, rows)`, for metrics and for people.
    pub fn tables(&self) -> [(&'static str, i64); 5] {
        [
            ("messages", self.messages),
            ("checkpoints", self.checkpoints),
            ("checkpoint_writes", self.checkpoint_writes),
            ("turn_events", self.turn_events),
            ("feedback", self.feedback),
        ]
    }
}

impl std::ops::AddAssign for Gone {
    fn add_assign(&mut self, other: Self) {
        self.sessions += other.sessions;
        self.messages += other.messages;
        self.checkpoints += other.checkpoints;
        self.checkpoint_writes += other.checkpoint_writes;
        self.turn_events += other.turn_events;
        self.feedback += other.feedback;
    }
}

/// Forgets the sessions that were closed first, at most so many of those that were closed more than `days`
/// days ago, and whose messages are at most `rows` or that are alone. One transaction by itself.
pub async fn forget_batch(
    pool: &PgPool,
    days: i32,
    sessions: i64,
    rows: i64,
) -> sqlx::Result<Gone> {
    // A turn has a message of each side and a handful of steps: their number bounds a batch.
    let row = sqlx::query!(
        r#"with due as (
               select session_id, sum(last_turn + 1) over (order by closed_at, session_id) as turns
               from (select session_id, closed_at, last_turn from sessions
                     where status = 'closed' and forgotten_at is null
                       and closed_at < now() - make_interval(days => $1)
                     order by closed_at, session_id
                     limit $2
                     for no key update skip locked) oldest
           ), batch as materialized (
               select session_id from due where turns <= $3
               union
               (select session_id from due order by turns limit 1)
           ), m as (
               delete from messages where session_id in (select session_id from batch) returning 1
           ), c as (
               delete from checkpoints where session_id in (select session_id from batch) returning 1
           ), w as (
               delete from checkpoint_writes where session_id in (select session_id from batch) returning 1
           ), e as (
               delete from turn_events where session_id in (select session_id from batch) returning 1
           ), f as (
               delete from feedback where session_id in (select session_id from batch) returning 1
           ), s as (
               update sessions set forgotten_at = now(), page_url = null, locale = null
               where session_id in (select session_id from batch)
               returning 1
           )
           select (select count(*) from s) as "sessions!", (select count(*) from m) as "messages!",
                  (select count(*) from c) as "checkpoints!",
                  (select count(*) from w) as "checkpoint_writes!",
                  (select count(*) from e) as "turn_events!", (select count(*) from f) as "feedback!",
                  set_config('synchronous_commit', 'off', true) as "no_wait!""#,
        days,
        sessions,
        rows,
    )
    .fetch_one(pool)
    .await?;
    Ok(Gone {
        sessions: row.sessions,
        messages: row.messages,
        checkpoints: row.checkpoints,
        checkpoint_writes: row.checkpoint_writes,
        turn_events: row.turn_events,
        feedback: row.feedback,
    })
}

/// What would go now, and what it was that went first: nothing is changed. It counts rows of the largest
/// tables for as long as that takes, in a transaction of its own, for a person who wants to know.
pub async fn due(pool: &PgPool, days: i32) -> sqlx::Result<(Gone, Option<String>)> {
    let mut transaction = pool.begin().await?;
    sqlx::query!("set local statement_timeout = 0")
        .execute(&mut *transaction)
        .await?;
    let row = sqlx::query!(
        r#"with due as (
               select session_id, closed_at from sessions
               where status = 'closed' and forgotten_at is null
                 and closed_at < now() - make_interval(days => $1)
           )
           select (select count(*) from due) as "sessions!",
                  (select count(*) from messages where session_id in (select session_id from due))
                      as "messages!",
                  (select count(*) from checkpoints where session_id in (select session_id from due))
                      as "checkpoints!",
                  (select count(*) from checkpoint_writes where session_id in (select session_id from due))
                      as "checkpoint_writes!",
                  (select count(*) from turn_events
                   where session_id in (select session_id from due)
                      or created_at < now() - make_interval(hours => $2)) as "turn_events!",
                  (select count(*) from feedback where session_id in (select session_id from due))
                      as "feedback!",
                  (select to_char(min(closed_at) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
                   from due) as oldest"#,
        days,
        EVENT_HOURS,
    )
    .fetch_one(&mut *transaction)
    .await?;
    let gone = Gone {
        sessions: row.sessions,
        messages: row.messages,
        checkpoints: row.checkpoints,
        checkpoint_writes: row.checkpoint_writes,
        turn_events: row.turn_events,
        feedback: row.feedback,
    };
    Ok((gone, row.oldest))
}

/// Deletes the frames that are older than [`EVENT_HOURS`], piece by piece, and tells how many each piece was.
/// It rests `rest` times as long as a piece took. False: the time was over first. Begins at any piece, so that of
/// a table that is too large for one run no end is never reached.
pub async fn forget_old_events(
    pool: &PgPool,
    until: Option<Instant>,
    rest: u32,
    mut told: impl FnMut(i64),
) -> sqlx::Result<bool> {
    let (pieces, first) = event_pieces(pool).await?;
    for piece in (first..pieces).chain(0..first) {
        let began = Instant::now();
        told(forget_events(pool, piece * EVENT_PAGES, EVENT_PAGES).await?);
        if until.is_some_and(|until| Instant::now() >= until) {
            return Ok(false);
        }
        sleep(began.elapsed() * rest).await;
    }
    Ok(true)
}

/// How many pieces of [`EVENT_PAGES`] the table of the frames has, and any of them.
async fn event_pieces(pool: &PgPool) -> sqlx::Result<(i64, i64)> {
    let row = sqlx::query!(
        r#"select pieces as "pieces!", floor(random() * pieces)::bigint as "any!"
           from (select (pg_relation_size('turn_events') / current_setting('block_size')::bigint + $1 - 1) / $1)
                as size (pieces)"#,
        EVENT_PAGES,
    )
    .fetch_one(pool)
    .await?;
    Ok((row.pieces, row.any))
}

/// Deletes the frames that are older than [`EVENT_HOURS`] in `pages` pages of their table from page `from`
/// on. By place, because an index by time would cost every frame of every stream.
async fn forget_events(pool: &PgPool, from: i64, pages: i64) -> sqlx::Result<i64> {
    let row = sqlx::query!(
        r#"with gone as (
               delete from turn_events
               where ctid >= format('(%s,0)', $1::bigint)::tid and ctid < format('(%s,0)', $2::bigint)::tid
                 and created_at < now() - make_interval(hours => $3)
               returning 1
           )
           select (select count(*) from gone) as "gone!",
                  set_config('synchronous_commit', 'off', true) as "no_wait!""#,
        from,
        from + pages,
        EVENT_HOURS,
    )
    .fetch_one(pool)
    .await?;
    Ok(row.gone)
}
