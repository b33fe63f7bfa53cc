//! What the model costs: one row for each call that the provider bills, their sums by UTC day, and
//! what calls that are under way may come to.
//!
//! ```text
//! reserve ─▶ (the call) ─▶ record: the call's row, the day's sums, the reservation's end
//!    └ refused: the cap is reached
//! ```
//! Days and months are UTC's by the database's clock, so that all processes agree on them.

mod figures;

use std::{fmt, ops::AddAssign, time::Duration};

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgTransaction};

pub use self::figures::SpendFigures;
use crate::{ids::TurnKey, turns::TurnUsage};

/// The advisory lock of admissions. Two keys of 32 bits are apart from the queue's, which are one of 64.
const ADMISSION_LOCK: (i32, i32) = (0x6763_0001, 0);
/// A day's sums are spread over so many rows, so that turns that end at the same time do not wait for
/// each other.
const PARTS: i64 = 16;

/// An amount of US dollars, exact to eight decimals: what a token of the cheapest model costs.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Usd(i64);

impl Usd {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The most that a row of the database holds; far beyond any call.
    pub const MAX: Self = Self(99_999_999_999_999);
    /// Units of a dollar.
    const SCALE: i64 = 100_000_000;

    /// An amount in units of 10⁻⁸ dollars, held to what a row can keep.
    pub const fn from_units(units: i64) -> Self {
        match units {
            ..0 => Self::ZERO,
            _ if units > Self::MAX.0 => Self::MAX,
            _ => Self(units),
        }
    }

    /// The same in whole cents.
    pub const fn from_cents(cents: i64) -> Self {
        Self::from_units(cents.saturating_mul(Self::SCALE / 100))
    }

    /// The amount in units of 10⁻⁸ dollars.
    pub const fn units(self) -> i64 {
        self.0
    }

    /// The amount in dollars, for a metric.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a double is exact up to 90 million dollars"
    )]
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / 1e8
    }
}

impl AddAssign for Usd {
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.saturating_add(other.0);
    }
}

impl std::iter::Sum for Usd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, |mut sum, amount| {
            sum += amount;
            sum
        })
    }
}

impl fmt::Display for Usd {
    /// With cents, and with what is below a cent as far as there is something: `$12.50`, `$0.00125`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (dollars, rest) = (self.0 / Self::SCALE, self.0 % Self::SCALE);
        let digits = format!("{rest:08}");
        let cents = digits.trim_end_matches('0').len().max(2);
        write!(f, "${dollars}.{}", &digits[..cents])
    }
}

/// An amount that can't be read: no decimal number of dollars, negative, or too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("that is no amount of dollars")]
pub struct NotAnAmount;

impl std::str::FromStr for Usd {
    type Err = NotAnAmount;

    /// Reads a decimal number, such as `50` or `0.125`, with eight decimals at most.
    fn from_str(text: &str) -> Result<Self, NotAnAmount> {
        let (dollars, decimals) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let legal = !dollars.is_empty()
            && !text.ends_with('.')
            && digits(dollars)
            && digits(decimals)
            && decimals.len() <= 8;
        if !legal {
            return Err(NotAnAmount);
        }
        let units: i64 = format!("{dollars}{decimals:0<8}")
            .parse()
            .map_err(|_| NotAnAmount)?;
        if units > Self::MAX.0 {
            return Err(NotAnAmount);
        }
        Ok(Self(units))
    }
}

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

/// Records calls of an attempt: their rows, the sums of the day, and the end of their reservations; of
/// all of the turn's, once the turn is finished. To be called once a call's bill is known, also of attempts
/// that failed, in the transaction that makes the step durable; in a turn's last one after
/// [`crate::turns::finish`].
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
             and (call = any($4) or not exists (select 1 from turns where session_id = $1 and turn = $2
                                                                      and finished_at is null))"#,
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
        today: Usd(row.today),
        month: Usd(row.month),
        reserved: Usd(row.reserved),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(units: i64) -> String {
        Usd::from_units(units).to_string()
    }

    #[test]
    fn an_amount_is_shown_with_cents_and_with_what_is_below_a_cent() {
        assert_eq!(shown(0), "$0.00");
        assert_eq!(shown(1), "$0.00000001");
        assert_eq!(shown(125_000), "$0.00125");
        assert_eq!(shown(1_250_000_000), "$12.50");
        assert_eq!(Usd::MAX.to_string(), "$999999.99999999");
    }

    #[test]
    fn an_amount_is_held_to_what_a_row_keeps() {
        assert_eq!(Usd::from_units(-1), Usd::ZERO);
        assert_eq!(Usd::from_units(i64::MAX), Usd::MAX);
        assert_eq!(Usd::from_cents(i64::MAX), Usd::MAX);
        assert_eq!(Usd::from_cents(5_000).to_string(), "$50.00");
    }

    #[test]
    fn only_a_decimal_number_is_an_amount() {
        for (text, units) in [
            ("50", 5_000_000_000),
            ("0.125", 12_500_000),
            ("007.50", 750_000_000),
            ("0.00000001", 1),
            ("999999.99999999", Usd::MAX.units()),
        ] {
            assert_eq!(text.parse(), Ok(Usd(units)), "{text}");
        }
        for text in [
            "",
            ".",
            ".5",
            "5.",
            "-1",
            "+1",
            "1e3",
            "1,5",
            "0.000000001",
            "1000000",
            "NaN",
            "٣",
            "99999999999999999999",
            "1.2.3",
            " 1",
        ] {
            assert_eq!(text.parse::<Usd>(), Err(NotAnAmount), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_read(units in 0..=Usd::MAX.units()) {
            let shown = shown(units);
            prop_assert_eq!(shown.trim_start_matches('$').parse(), Ok(Usd(units)));
        }
    }
}
