//! Which backup is wanted, and which is due.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use jobs::schedule::{Fire, Schedule};
use store::backups::Due;

/// So many fires are looked at: a year and more of a weekly one, days of one every few hours.
const LOOKED_AT: usize = 60;

/// Who wants a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// The schedule: one of this time.
    Due(Due),
    /// A person: one of now.
    ByHand,
}

/// The newest time at which a backup was due; none: there was none yet.
pub fn due_at(schedule: &Schedule, now: DateTime<Utc>) -> Option<Due> {
    schedule.latest_due(now).map(|fire| due(schedule, fire))
}

/// A fire as a due time.
pub(crate) fn due(schedule: &Schedule, fire: Fire) -> Due {
    Due {
        local: fire.local,
        zone: schedule.zone().to_owned(),
    }
}

/// Whether no date has two fires, so that a date names a backup.
pub fn is_daily(schedule: &Schedule, now: DateTime<Utc>) -> bool {
    let mut dates = BTreeSet::new();
    let mut now = now;
    for _ in 0..LOOKED_AT {
        let Some(fire) = schedule.next(now) else {
            break;
        };
        if !dates.insert(fire.local.date()) {
            return false;
        }
        now = fire.at;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_daily_if_no_date_has_two_fires() {
        let now = "2026-11-21T12:00:00Z".parse().unwrap();
        for (cron, daily) in [
            ("0 2 * * *", true),
            ("30 2 * * 0", true),
            ("0 */6 * * *", false),
            ("0 2,14 1 * *", false),
        ] {
            let schedule = Schedule::parse("test", cron, "Europe/Berlin").unwrap();
            assert_eq!(is_daily(&schedule, now), daily, "{cron}");
        }
    }

    #[test]
    fn the_newest_time_is_due_on_the_clock_of_the_zone() {
        let schedule = Schedule::parse("test", "0 2 * * *", "Europe/Berlin").unwrap();
        let due = due_at(&schedule, "2026-07-01T00:00:00Z".parse().unwrap()).unwrap();
        assert_eq!(due.to_string(), "2026-07-01 02:00 Europe/Berlin");
        let due = due_at(&schedule, "2026-06-30T23:59:59Z".parse().unwrap()).unwrap();
        assert_eq!(due.to_string(), "2026-06-30 02:00 Europe/Berlin");
    }
}
