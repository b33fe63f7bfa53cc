//! What is enqueued by the clock: one job for each fire of a schedule, whatever the fleet does.
//!
//! # When a schedule fires
//!
//! The cron expression is about the clock on the wall: its fires are times of day without a zone. A
//! fire happens at **the first instant at which the clock shows its time or has passed it**:
//!
//! ```text
//!  every day         02:30 is shown once       it fires then
//!  spring forward    02:30 is never shown      it fires at 03:00, when the gap is over
//!  fall back         02:30 is shown twice      it fires the first time
//! ```
//!
//! So every fire has one instant, and the order of the fires is that of their instants. An expression
//! with several fires in the gap (hourly, for zones that skip an hour) has them at one instant, and the
//! last of them is made a job of; in the repeated hour nothing fires the second time.
//!
//! # Who makes the job
//!
//! Every process that works has a timer of its own, and there is no leader: see [`Ticker`].

mod ticker;

use std::fmt;

use chrono::{DateTime, LocalResult, NaiveDateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use croner::{
    Cron,
    errors::CronError,
    parser::{CronParser, Seconds, Year},
};
use store::settings::Settings;

pub use self::ticker::{Tick, Ticker};

/// A schedule is not one. Both sentences say what a legal value is.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// The expression can't be read.
    #[error("is no cron expression of five fields, such as 0 2 * * *")]
    Cron(#[source] CronError),
    /// The expression can be read and never fires.
    #[error("never fires: no such date exists")]
    Never,
    /// No such time zone.
    #[error("is no time zone, such as Europe/Berlin or UTC")]
    TimeZone,
}

/// A moment at which a schedule fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fire {
    /// The time that the expression names, in the schedule's zone; what a fire is known by.
    pub local: NaiveDateTime,
    /// When that is.
    pub at: DateTime<Utc>,
}

impl Fire {
    /// The local date, `2026-11-21`: the unique key of a job that runs daily.
    pub fn date(&self) -> String {
        self.local.date().to_string()
    }
}

/// When something is due, by the clock on the wall of a time zone.
#[derive(Debug, Clone)]
pub struct Schedule {
    name: &'static str,
    text: String,
    cron: Cron,
    zone: Tz,
}

impl Schedule {
    /// A schedule with a stable name, a cron expression of five fields, and a time zone's IANA name.
    pub fn parse(name: &'static str, cron: &str, zone: &str) -> Result<Self, ScheduleError> {
        let zone = zone.parse().map_err(|_| ScheduleError::TimeZone)?;
        Self::in_zone(name, cron, zone)
    }

    fn in_zone(name: &'static str, cron: &str, zone: Tz) -> Result<Self, ScheduleError> {
        // The text is compared with that of other processes: its blanks must not matter.
        let text = cron.split_whitespace().collect::<Vec<_>>().join(" ");
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let cron = parser.parse(&text).map_err(ScheduleError::Cron)?;
        let schedule = Self {
            name,
            text,
            cron,
            zone,
        };
        if schedule.next_after(NaiveDateTime::default()).is_none() {
            return Err(ScheduleError::Never);
        }
        Ok(schedule)
    }

    /// Reads a schedule from two variables, each with its default; what is wrong is noted by its name.
    pub fn read(
        settings: &mut Settings,
        name: &'static str,
        (cron_variable, cron): (&str, &str),
        (zone_variable, zone): (&str, &str),
    ) -> Option<Self> {
        let cron = settings
            .optional(cron_variable, "a cron expression of five fields")
            .unwrap_or_else(|| cron.to_owned());
        let zone = settings
            .optional(zone_variable, "an IANA time zone such as Europe/Berlin")
            .unwrap_or_else(|| zone.to_owned())
            .parse::<Tz>();
        if zone.is_err() {
            settings.problem(zone_variable, ScheduleError::TimeZone.to_string());
        }
        // With a zone that is wrong as well, both are named.
        let schedule = Self::in_zone(name, &cron, zone.unwrap_or(Tz::UTC));
        if let Err(error) = &schedule {
            settings.problem(cron_variable, error.to_string());
        }
        zone.ok().and(schedule.ok())
    }

    /// Its stable name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its expression.
    pub fn cron(&self) -> &str {
        &self.text
    }

    /// Its time zone's name.
    pub fn zone(&self) -> &'static str {
        self.zone.name()
    }

    /// The newest fire that is due at an instant.
    pub fn latest_due(&self, now: DateTime<Utc>) -> Option<Fire> {
        let shown = now.with_timezone(&self.zone).naive_local();
        let mut latest = self.cron.find_previous_occurrence(&shown, true).ok();
        // In a repeated hour the clock has shown later times already.
        while let Some(next) = self.next_after(latest.unwrap_or(shown))
            && next.at <= now
        {
            latest = Some(next.local);
        }
        latest.map(|local| self.fire(local))
    }

    /// The first fire that is not due yet at an instant. None: it never fires again.
    pub fn next(&self, now: DateTime<Utc>) -> Option<Fire> {
        let from = self.latest_due(now).map_or_else(
            || now.with_timezone(&self.zone).naive_local(),
            |fire| fire.local,
        );
        self.next_after(from)
    }

    /// The first fire after a local time.
    fn next_after(&self, local: NaiveDateTime) -> Option<Fire> {
        let next = self.cron.find_next_occurrence(&local, false).ok()?;
        Some(self.fire(next))
    }

    fn fire(&self, local: NaiveDateTime) -> Fire {
        Fire {
            local,
            at: first_shown(self.zone, local),
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.name, self.text, self.zone)
    }
}

/// The first instant at which the clocks of a zone show a time or have passed it.
fn first_shown(zone: Tz, local: NaiveDateTime) -> DateTime<Utc> {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(at) => at.to_utc(),
        LocalResult::Ambiguous(one, other) => one.min(other).to_utc(),
        LocalResult::None => end_of_gap(zone, local),
    }
}

/// When the gap is over that a time falls into: zones skip minutes, an hour, or (Samoa, in 2011) a day.
fn end_of_gap(zone: Tz, local: NaiveDateTime) -> DateTime<Utc> {
    // No clock has ever been more than a day away from UTC.
    let (mut before, mut after) = (-2 * 86_400_i64, 2 * 86_400_i64);
    let at = |seconds| local.and_utc() + TimeDelta::seconds(seconds);
    while after - before > 1 {
        let middle = before.midpoint(after);
        if at(middle).with_timezone(&zone).naive_local() >= local {
            after = middle;
        } else {
            before = middle;
        }
    }
    at(after)
}

#[cfg(test)]
mod tests;
