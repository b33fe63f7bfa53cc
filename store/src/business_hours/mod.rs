//! When somebody replies: what a visitor is promised, from the hours in which people work (FR-22, seed
//! 000). Pure: the time comes in, the promise goes out.
//!
//! ```text
//!            START              CUTOFF        END
//!   ───────────┼───────────────────┼───────────┼──────────▶ a working day, by the company's clock
//!     today, by END                 │ the next working day, by its END
//! ```
//!
//! - A working day is one of `BUSINESS_DAYS` and no holiday. Its hours are from START to END; END is
//!   24 at most, which is midnight.
//! - Before the cut-off hour of a working day the same day is promised, also before START: its whole
//!   day lies ahead. From the cut-off on, and on every other day, it is the next working day.
//! - A promise is always kept by the END of a day's hours, so that who asks later is never promised an
//!   earlier time than who asked before.
//! - Where the clock is put forward over an hour that is meant, the moment of that counts; where an hour
//!   comes twice, the first counts. A day whose hours the clock leaves out altogether has none.

mod table;
mod words;

use std::{collections::BTreeSet, time::Duration};

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, TimeZone, Utc, Weekday};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

pub use self::table::{load, save};
use crate::{phrases::Language, protocol::ReplyPromise};

/// How far ahead a working day is looked for, in days: a year and a day. Whoever works on none of them
/// promises nothing.
const HORIZON: usize = 367;
/// A gap of the clock is passed in steps of a minute, for two days at most: Samoa has once left out one.
const LONGEST_GAP: u64 = 2 * 24 * 60;
/// People are reminded of a promise when a quarter of its time is left, but so long before it at least …
const LEAST_NOTICE: Duration = Duration::from_mins(5);
/// … and so long at most.
const MOST_NOTICE: Duration = Duration::from_hours(1);

/// The hours in which people work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BusinessHours {
    #[serde(with = "zone")]
    timezone: Tz,
    start: u8,
    end: u8,
    same_day_cutoff: u8,
    days: BTreeSet<Day>,
    holidays: BTreeSet<NaiveDate>,
}

/// A day of the week, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

impl Day {
    /// The week, from Monday on.
    pub const ALL: [Self; 7] = [
        Self::Mon,
        Self::Tue,
        Self::Wed,
        Self::Thu,
        Self::Fri,
        Self::Sat,
        Self::Sun,
    ];

    fn of(date: NaiveDate) -> Self {
        match date.weekday() {
            Weekday::Mon => Self::Mon,
            Weekday::Tue => Self::Tue,
            Weekday::Wed => Self::Wed,
            Weekday::Thu => Self::Thu,
            Weekday::Fri => Self::Fri,
            Weekday::Sat => Self::Sat,
            Weekday::Sun => Self::Sun,
        }
    }
}

/// Hours that nobody can work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HoursError {
    /// The end is not after the start, or after midnight.
    #[error("the end of the hours has to be after their start, and 24 at most")]
    End,
    /// The cut-off is after the end.
    #[error("the cut-off hour can't be after the end of the hours")]
    Cutoff,
    /// There is no working day.
    #[error("one working day is needed at least")]
    Days,
}

/// What a visitor is told about when somebody replies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promise {
    /// In their language.
    pub text: String,
    /// The latest time.
    pub by: DateTime<Utc>,
    /// When it was given.
    pub made_at: DateTime<Utc>,
}

impl BusinessHours {
    /// Hours from `start` (inclusive) to `end` (exclusive) by the clock of `timezone`, on these days
    /// but for the holidays; from `same_day_cutoff` on the same day is not promised.
    pub fn new(
        timezone: Tz,
        (start, end): (u8, u8),
        same_day_cutoff: u8,
        days: BTreeSet<Day>,
        holidays: BTreeSet<NaiveDate>,
    ) -> Result<Self, HoursError> {
        if start >= end || end > 24 {
            return Err(HoursError::End);
        }
        if same_day_cutoff > end {
            return Err(HoursError::Cutoff);
        }
        if days.is_empty() {
            return Err(HoursError::Days);
        }
        Ok(Self {
            timezone,
            start,
            end,
            same_day_cutoff,
            days,
            holidays,
        })
    }

    /// What somebody who asks `now` is promised; `None`: nobody works within a year.
    pub fn promise(&self, now: DateTime<Utc>, language: Language) -> Option<Promise> {
        let today = now.with_timezone(&self.timezone).date_naive();
        for date in today.iter_days().take(HORIZON) {
            let is_too_late = date == today && now >= self.instant(date, self.same_day_cutoff)?;
            let Some(by) = self.end_of_hours(date) else {
                continue;
            };
            if is_too_late || by <= now {
                continue;
            }
            let text = words::promise(language, date == today, date, self.end, self.timezone);
            return Some(Promise {
                text,
                by,
                made_at: now,
            });
        }
        None
    }

    /// Whether people work on a day.
    fn is_working_day(&self, date: NaiveDate) -> bool {
        self.days.contains(&Day::of(date)) && !self.holidays.contains(&date)
    }

    /// When the hours of a day end, if it has some.
    fn end_of_hours(&self, date: NaiveDate) -> Option<DateTime<Utc>> {
        if !self.is_working_day(date) {
            return None;
        }
        let (start, end) = (
            self.instant(date, self.start)?,
            self.instant(date, self.end)?,
        );
        (start < end).then_some(end)
    }

    /// When the clock shows an hour of a day, 24 being the next day's midnight; `None`: beyond all
    /// calendars.
    fn instant(&self, date: NaiveDate, hour: u8) -> Option<DateTime<Utc>> {
        let days = u64::from(hour / 24);
        let time = NaiveTime::from_hms_opt(u32::from(hour % 24), 0, 0)?;
        let wanted = date.checked_add_days(Days::new(days))?.and_time(time);
        (0..=LONGEST_GAP)
            .filter_map(|minutes| {
                wanted.checked_add_signed(chrono::Duration::minutes(minutes.cast_signed()))
            })
            .find_map(|local| self.timezone.from_local_datetime(&local).earliest())
            .map(|instant| instant.to_utc())
    }
}

impl Promise {
    /// How long after it was given people are to be reminded of it.
    pub fn remind_after(&self) -> Duration {
        let time = (self.by - self.made_at).to_std().unwrap_or_default();
        time.saturating_sub((time / 4).clamp(LEAST_NOTICE, MOST_NOTICE))
    }
}

impl From<&Promise> for ReplyPromise {
    fn from(promise: &Promise) -> Self {
        Self::new(&promise.text, promise.by)
    }
}

/// A time zone by its name in the IANA database.
mod zone {
    use chrono_tz::Tz;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature is serde's"
    )]
    pub(super) fn serialize<S: Serializer>(zone: &Tz, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(zone.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Tz, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
