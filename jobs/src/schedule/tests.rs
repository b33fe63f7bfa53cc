//! When schedules fire, day by day, in zones that do odd things to their clocks.

use std::collections::BTreeMap;

use chrono::{NaiveDate, TimeZone};
use proptest::prelude::*;

use super::*;

fn schedule(cron: &str, zone: &str) -> Schedule {
    Schedule::parse("test", cron, zone).unwrap()
}

fn utc(text: &str) -> DateTime<Utc> {
    format!("{text}:00Z").parse().unwrap()
}

fn local(text: &str) -> NaiveDateTime {
    format!("{text}:00").parse().unwrap()
}

/// Every fire after one instant, until another.
fn fires(schedule: &Schedule, from: DateTime<Utc>, until: DateTime<Utc>) -> Vec<Fire> {
    let mut next = schedule.next(from);
    let following = || {
        let fire = next.filter(|fire| fire.at <= until)?;
        next = schedule.next_after(fire.local);
        Some(fire)
    };
    std::iter::from_fn(following).collect()
}

#[test]
fn a_skipped_hour_fires_when_the_clock_has_passed_it() {
    let daily = schedule("30 2 * * *", "Europe/Berlin");
    let fire = daily.next(utc("2026-03-28T12:00")).unwrap();
    assert_eq!(fire.local, local("2026-03-29T02:30"));
    // 01:59:59 CET is followed by 03:00 CEST.
    assert_eq!(fire.at, utc("2026-03-29T01:00"));
    assert_eq!(daily.latest_due(utc("2026-03-29T01:00")), Some(fire));
    let before = daily.latest_due(utc("2026-03-29T00:59")).unwrap();
    assert_eq!(before.local, local("2026-03-28T02:30"));
}

#[test]
fn a_repeated_hour_fires_the_first_time_only() {
    let daily = schedule("30 2 * * *", "Europe/Berlin");
    let fire = daily.next(utc("2026-10-24T12:00")).unwrap();
    assert_eq!(fire.at, utc("2026-10-25T00:30"));
    // 02:15 for the second time: the fire of 02:30 stays the newest that is due.
    assert_eq!(daily.latest_due(utc("2026-10-25T01:15")), Some(fire));
    let next = daily.next(utc("2026-10-25T01:15")).unwrap();
    assert_eq!(next.local, local("2026-10-26T02:30"));
}

#[test]
fn a_skipped_day_fires_when_the_next_one_begins() {
    // Samoa had no 30 December 2011.
    let daily = schedule("0 12 * * *", "Pacific/Apia");
    let fire = daily.next(utc("2011-12-30T00:00")).unwrap();
    assert_eq!(fire.local, local("2011-12-30T12:00"));
    assert_eq!(fire.at, utc("2011-12-30T10:00"));
    let next = daily.next(fire.at).unwrap();
    assert_eq!(next.local, local("2011-12-31T12:00"));
}

#[test]
fn the_fires_of_a_gap_are_due_together() {
    let hourly = schedule("0 * * * *", "America/New_York");
    let after = utc("2026-03-08T07:00");
    let due = hourly.latest_due(after).unwrap();
    assert_eq!((due.local, due.at), (local("2026-03-08T03:00"), after));
    let skipped = hourly.next(utc("2026-03-08T06:59")).unwrap();
    assert_eq!(
        (skipped.local, skipped.at),
        (local("2026-03-08T02:00"), after)
    );
}

#[test]
fn two_years_have_every_fire_of_every_day_once() {
    let (from, until) = (utc("2026-01-01T12:00"), utc("2028-01-01T11:59"));
    for zone in ["Europe/Berlin", "America/New_York", "UTC"] {
        for (cron, a_day) in [
            ("0 2 * * *", 1),
            ("30 2 * * *", 1),
            ("0 */6 * * *", 4),
            ("0 * * * *", 24),
        ] {
            let schedule = schedule(cron, zone);
            let fires = fires(&schedule, from, until);
            let mut days: BTreeMap<NaiveDate, usize> = BTreeMap::new();
            for fire in &fires {
                *days.entry(fire.local.date()).or_default() += 1;
            }
            let first = days.pop_first();
            let last = days.pop_last();
            assert!(first.is_some() && last.is_some());
            assert!(days.len() >= 728, "{schedule}: {}", days.len());
            assert!(days.values().all(|count| *count == a_day), "{schedule}");
            assert!(fires.is_sorted_by(|one, other| one.local < other.local));
            assert!(fires.is_sorted_by_key(|fire| fire.at));
        }
    }
}

#[test]
fn what_is_no_schedule_is_refused_by_the_name_of_its_variable() {
    let problems = |variables: &[(&str, &str)]| {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut settings = Settings::new(variables);
        let read = Schedule::read(
            &mut settings,
            "test",
            ("WHEN", "0 2 * * *"),
            ("WHERE", "Europe/Berlin"),
        );
        match settings.finish(read) {
            Ok(schedule) => vec![schedule.to_string()],
            Err(error) => error.problems.into_iter().map(|(name, _)| name).collect(),
        }
    };
    assert_eq!(problems(&[]), ["test: 0 2 * * * (Europe/Berlin)"]);
    assert_eq!(
        problems(&[("WHEN", " 5   4 * * 1-5 "), ("WHERE", "UTC")]),
        ["test: 5 4 * * 1-5 (UTC)"]
    );
    for refused in [
        "every day",
        "* * * *",
        "0 0 2 * * *",
        "0 0 2 * * * 2026",
        "61 2 * * *",
        "0 0 30 2 *",
        "@reboot",
        "0 2 * * *\u{0}",
    ] {
        assert_eq!(problems(&[("WHEN", refused)]), ["WHEN"], "{refused}");
    }
    assert_eq!(problems(&[("WHERE", "Berlin")]), ["WHERE"]);
    assert_eq!(
        problems(&[("WHEN", "soon"), ("WHERE", "here")]),
        ["WHERE", "WHEN"]
    );
}

#[tokio::test(start_paused = true)]
async fn the_timer_is_woken_by_a_clock_that_went_on_while_the_machine_slept() {
    #[derive(Debug, Default)]
    struct Wall(parking_lot::Mutex<TimeDelta>);
    impl store::clock::Clock for Wall {
        fn now(&self) -> DateTime<Utc> {
            DateTime::UNIX_EPOCH + *self.0.lock()
        }
    }
    let hours = std::time::Duration::from_hours;
    let began = tokio::time::Instant::now();
    let wall = Wall::default();
    let sleep = ticker::sleep(&wall, hours(10));
    tokio::pin!(sleep);
    let early = tokio::time::timeout(hours(1), &mut sleep).await;
    assert!(early.is_err());
    // tokio's timer has counted one hour, the clock on the wall ten.
    *wall.0.lock() = TimeDelta::hours(10);
    sleep.await;
    assert!(began.elapsed() <= hours(1) + std::time::Duration::from_mins(1));
    // Set back, it does not make the sleep longer.
    let began = tokio::time::Instant::now();
    let sleep = ticker::sleep(&wall, hours(2));
    let set_back = async { *wall.0.lock() = TimeDelta::zero() };
    futures::join!(sleep, set_back);
    assert_eq!(began.elapsed(), hours(2));
}

fn any_zone() -> impl Strategy<Value = Tz> {
    proptest::sample::select(chrono_tz::TZ_VARIANTS.as_slice())
}

fn any_cron() -> impl Strategy<Value = String> {
    let minute = prop_oneof![
        (0_u32..60).prop_map(|minute| minute.to_string()),
        Just("*/20".to_owned()),
    ];
    let hour = prop_oneof![
        (0_u32..24).prop_map(|hour| hour.to_string()),
        Just("*".to_owned()),
        Just("*/6".to_owned()),
        Just("1-3".to_owned()),
    ];
    let day = prop_oneof![
        Just("* * *".to_owned()),
        Just("* * 1-5".to_owned()),
        Just("1,15 * *".to_owned()),
        Just("L * *".to_owned()),
    ];
    (minute, hour, day).prop_map(|(minute, hour, day)| format!("{minute} {hour} {day}"))
}

proptest! {
    /// Looked at in whatever rhythm, each fire is the newest one that is due for exactly as long as the
    /// next one is not, and none is left out.
    #[test]
    fn every_fire_comes_once_and_in_order(
        zone in any_zone(),
        cron in any_cron(),
        start in 0_i64..2_200_000_000,
        steps in proptest::collection::vec(1_i64..40_000, 1..40),
    ) {
        let schedule = Schedule::in_zone("test", &cron, zone).unwrap();
        let mut now = Utc.timestamp_opt(start, 0).unwrap();
        let mut seen = schedule.latest_due(now).unwrap();
        for step in steps {
            now += TimeDelta::seconds(step);
            let due = schedule.latest_due(now).unwrap();
            let next = schedule.next(now).unwrap();
            prop_assert!(due.at <= now && now < next.at, "{due:?} {now} {next:?}");
            prop_assert!(due.local < next.local && due >= seen);
            // All that lies between two looks is found by going on from the first.
            while seen < due {
                let following = schedule.next_after(seen.local).unwrap();
                prop_assert!(following.at >= seen.at && following.at <= now);
                seen = following;
            }
            prop_assert_eq!(seen, due);
        }
    }

    /// The clock shows a fire's time when it fires, or has just passed it, and had not before.
    #[test]
    fn a_fire_is_the_first_instant_at_which_its_time_is_shown_or_passed(
        zone in any_zone(),
        cron in any_cron(),
        start in 0_i64..2_200_000_000,
    ) {
        let schedule = Schedule::in_zone("test", &cron, zone).unwrap();
        let fire = schedule.next(Utc.timestamp_opt(start, 0).unwrap()).unwrap();
        let shown = |at: DateTime<Utc>| at.with_timezone(&zone).naive_local();
        prop_assert!(shown(fire.at) >= fire.local);
        for seconds in (1..7_200).step_by(59) {
            prop_assert!(shown(fire.at - TimeDelta::seconds(seconds)) < fire.local);
        }
    }
}
