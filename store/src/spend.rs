//! What the model costs: one row for each call that the provider bills, their sums by UTC day, and
//! what calls that are under way may come to.
//!
//! ```text
//! reserve ─▶ (the call) ─▶ record: the call's row, the day's sums, the reservation's end
//!    └ refused: the cap is reached
//! ```
//! Days and months are UTC's by the database's clock, so that all processes agree on them.

mod figures;
mod usd;

use std::time::Duration;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgTransaction};

pub use self::{
    figures::SpendFigures,
    usd::{NotAnAmount, Usd},
};
use crate::{ids::TurnKey, turns::TurnUsage};

/// The advisory lock of admissions. Two keys of 32 bits are apart from the queue's, which are one of 64.
const ADMISSION_LOCK: (i32, i32) = (0x6763_0001, 0);
/// A day's sums are spread over so many rows, so that turns that end at the same time do not wait for
/// each other.
const PARTS: i64 = 16;

/// What the model was called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A visitor's answer.
    Answer,
    /// The running summary of a conversation.
    Summary,
    /// An operator's replay of a turn.
    Replay,
}

impl Purpose {
    /// The name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Summary => "summary",
            Self::Replay => "replay",
        }
    }
}

/// A call of the model that the provider bills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCall {
    /// The call's number in its attempt.
    pub call: i16,
    /// What it was for.
    pub purpose: Purpose,
    /// The model that answered, as the provider names it.
    pub model: String,
    /// `ok`, `cancelled`, `empty`, or the code of a failure.
    pub outcome: &'static str,
    /// What it is billed for.
    pub usage: TurnUsage,
    /// What that costs.
    pub cost: Usd,
}

/// Records calls of an attempt: their rows, the sums of the day, and the end of their reservations. To be
/// called once a call's bill is known, also of attempts that failed, in the transaction that makes the
/// step durable. Reservations of calls without a bill end with the turn; of a turn that is finished, which
/// is replayed, with any call that is recorded.
///
/// A call that is recorded again adds nothing. The money of a session that is gone is counted all the same,
/// without rows of its calls: its turn has no later attempt that could repeat them.
pub async fn record(
    conn: &mut PgConnection,
    key: &TurnKey,
    attempt: i32,
    calls: &[ModelCall],
) -> sqlx::Result<()> {
    let column = |value: fn(&ModelCall) -> i64| calls.iter().map(value).collect::<Vec<_>>();
    let numbers: Vec<i16> = calls.iter().map(|call| call.call).collect();
    let purposes: Vec<String> = calls
        .iter()
        .map(|call| call.purpose.as_str().to_owned())
        .collect();
    let models: Vec<String> = calls.iter().map(|call| call.model.clone()).collect();
    let outcomes: Vec<String> = calls.iter().map(|call| call.outcome.to_owned()).collect();
    // One statement, because it is part of the transaction that every turn ends with. The lock on the
    // session is the foreign key's. The days' rows are locked in the order of their key.
    sqlx::query!(
        r#"with session as (
               select 1 from sessions where session_id = $1 for key share
           ), call as (
               select number, purpose, model, outcome, input, output, cache_write, cache_read,
                      units::numeric / 100000000 as cost
               from unnest($4::smallint[], $5::text[], $6::text[], $7::text[], $8::bigint[], $9::bigint[],
                           $10::bigint[], $11::bigint[], $12::bigint[])
                   as c (number, purpose, model, outcome, input, output, cache_write, cache_read, units)
           ), inserted as (
               insert into model_calls (session_id, turn, attempt, call, purpose, model, outcome, input_tokens,
                                        output_tokens, cache_write_tokens, cache_read_tokens, cost_usd)
               select $1, $2, $3, number, purpose, model, outcome, input, output, cache_write, cache_read, cost
               from call
               where exists (select 1 from session)
               on conflict on constraint model_calls_pkey do nothing
               returning model, input_tokens, output_tokens, cache_write_tokens, cache_read_tokens, cost_usd
           ), billed as (
               select * from inserted
               union all
               select model, input, output, cache_write, cache_read, cost from call
               where not exists (select 1 from session)
           ), summed as (
               insert into spend_days as d (day, model, part, calls, input_tokens, output_tokens,
                                            cache_write_tokens, cache_read_tokens, cost_usd)
               select (now() at time zone 'utc')::date, model, abs(hashtextextended($1, 0) % $13)::smallint,
                      count(*), sum(input_tokens)::bigint, sum(output_tokens)::bigint,
                      sum(cache_write_tokens)::bigint, sum(cache_read_tokens)::bigint, sum(cost_usd)
               from billed
               group by model
               order by model
               on conflict on constraint spend_days_pkey do update
               set calls = d.calls + excluded.calls,
                   input_tokens = d.input_tokens + excluded.input_tokens,
                   output_tokens = d.output_tokens + excluded.output_tokens,
                   cache_write_tokens = d.cache_write_tokens + excluded.cache_write_tokens,
                   cache_read_tokens = d.cache_read_tokens + excluded.cache_read_tokens,
                   cost_usd = d.cost_usd + excluded.cost_usd
           )
           delete from spend_reservations
           where session_id = $1 and turn = $2
             and (call = any($4)
                  or not exists (select 1 from turns
                                 where session_id = $1 and turn = $2 and finished_at is null))"#,
        key.session_id.as_str(),
        key.turn,
        attempt,
        &numbers,
        &purposes,
        &models,
        &outcomes,
        &column(|call| call.usage.input),
        &column(|call| call.usage.output),
        &column(|call| call.usage.cache_write),
        &column(|call| call.usage.cache_read),
        &column(|call| Usd::from_units(call.cost.units()).units()),
        PARTS,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What was spent in the UTC month so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// The first day of the month.
    pub since: NaiveDate,
    /// How long the month still lasts.
    pub ends_in: Duration,
    /// Since the beginning of the UTC day.
    pub today: Usd,
    /// Since the beginning of the month.
    pub month: Usd,
    /// What calls that are under way may come to, while a cap is enforced.
    pub reserved: Usd,
}

/// What was spent, by the rows that are committed.
pub async fn spent(conn: &mut PgConnection) -> sqlx::Result<Spent> {
    let row = sqlx::query!(
        r#"with clock as (
               select now() at time zone 'utc' as utc
           ), month as (
               select utc::date as today, date_trunc('month', utc) as begins,
                      date_trunc('month', utc) + interval '1 month' - utc as ends_in
               from clock
           )
           select begins::date as "since!", extract(epoch from ends_in)::float8 as "ends_in!",
                  (select coalesce(sum(cost_usd) filter (where day = today), 0) * 100000000
                   from spend_days where day >= begins::date)::bigint as "today!",
                  (select coalesce(sum(cost_usd), 0) * 100000000
                   from spend_days where day >= begins::date)::bigint as "month!",
                  (select coalesce(sum(cost_usd), 0) * 100000000
                   from spend_reservations where expires_at > now())::bigint as "reserved!"
           from month"#
    )
    .fetch_one(conn)
    .await?;
    Ok(Spent {
        since: row.since,
        ends_in: Duration::try_from_secs_f64(row.ends_in).unwrap_or_default(),
        today: Usd::of_rows(row.today),
        month: Usd::of_rows(row.month),
        reserved: Usd::of_rows(row.reserved),
    })
}

/// Which period's cap is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CapReached {
    /// That of the UTC day.
    Daily,
    /// That of the UTC month.
    Monthly,
}

/// The caps that are enforced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caps {
    /// The most that may be spent in a UTC day.
    pub daily: Option<Usd>,
    /// The most that may be spent in a UTC month.
    pub monthly: Option<Usd>,
}

/// What a call may come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reservation {
    /// The call's number in its turn.
    pub call: i16,
    /// The most that it can cost.
    pub cost: Usd,
    /// How long the reservation counts if nobody settles it; longer than a call can take.
    pub life: Duration,
}

/// Reserves what a call may come to, unless a cap is reached: what was spent and what others have
/// reserved has to be below each cap. Of all callers one decides at a time, so that one call at most goes
/// beyond a cap, by no more than its own cost.
///
/// In a transaction of its own, which is to be committed at once: it holds everybody else up. A call that
/// is reserved again, by the turn's next attempt, is reserved once.
pub async fn reserve(
    transaction: &mut PgTransaction<'_>,
    key: &TurnKey,
    reservation: Reservation,
    caps: Caps,
) -> sqlx::Result<Result<(), CapReached>> {
    let (class, object) = ADMISSION_LOCK;
    // A statement of its own: the next one has to see what the lock's last holder committed.
    sqlx::query!("select pg_advisory_xact_lock($1, $2)", class, object)
        .execute(&mut **transaction)
        .await?;
    // The transaction may have begun before the wait for the lock, and before midnight.
    let row = sqlx::query!(
        r#"with clock as (
               select statement_timestamp() as now, statement_timestamp() at time zone 'utc' as utc
           ), expired as (
               delete from spend_reservations
               where expires_at <= statement_timestamp()
                 and (session_id, turn, call) <> ($1, $2, $3::smallint)
           ), spent as (
               select coalesce(sum(cost_usd) filter (where day = utc::date), 0) as today,
                      coalesce(sum(cost_usd), 0) as month
               from clock left join spend_days on day >= date_trunc('month', utc)::date
           ), reserved as (
               select coalesce(sum(cost_usd), 0) as cost
               from spend_reservations
               where expires_at > statement_timestamp()
                 and (session_id, turn, call) <> ($1, $2, $3::smallint)
           ), reached as (
               select coalesce(today + cost >= $6::bigint::numeric / 100000000, false) as daily,
                      coalesce(month + cost >= $7::bigint::numeric / 100000000, false) as monthly
               from spent, reserved
           ), granted as (
               insert into spend_reservations (session_id, turn, call, cost_usd, expires_at)
               select $1, $2, $3, $4::bigint::numeric / 100000000, now + make_interval(secs => $5)
               from clock, reached
               where not daily and not monthly
               on conflict on constraint spend_reservations_pkey do update
               set cost_usd = excluded.cost_usd, expires_at = excluded.expires_at
           )
           select daily as "daily!", monthly as "monthly!" from reached"#,
        key.session_id.as_str(),
        key.turn,
        reservation.call,
        reservation.cost.units(),
        reservation.life.as_secs_f64(),
        caps.daily.map(Usd::units),
        caps.monthly.map(Usd::units),
    )
    .fetch_one(&mut **transaction)
    .await?;
    Ok(match (row.daily, row.monthly) {
        (_, true) => Err(CapReached::Monthly),
        (true, false) => Err(CapReached::Daily),
        (false, false) => Ok(()),
    })
}
