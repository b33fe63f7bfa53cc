//! Promises that can be kept, in every zone and on every day.

use chrono::Timelike;
use proptest::prelude::*;

use super::*;

/// Zones that are special in some way: no summer time, half and quarter hours, summer time of half an
/// hour or over midnight, the other hemisphere, the first and the last of the day.
const ZONES: [Tz; 20] = [
    Tz::UTC,
    Tz::Europe__Berlin,
    Tz::Europe__Madrid,
    Tz::Europe__London,
    Tz::Europe__Dublin,
    Tz::America__New_York,
    Tz::America__Los_Angeles,
    Tz::America__St_Johns,
    Tz::America__Santiago,
    Tz::America__Havana,
    Tz::America__Sao_Paulo,
    Tz::Atlantic__Azores,
    Tz::Africa__Cairo,
    Tz::Asia__Beirut,
    Tz::Asia__Kolkata,
    Tz::Asia__Kathmandu,
    Tz::Australia__Lord_Howe,
    Tz::Pacific__Chatham,
    Tz::Pacific__Apia,
    Tz::Pacific__Pago_Pago,
];

fn weekdays() -> BTreeSet<Day> {
    Day::ALL[..5].iter().copied().collect()
}

fn hours(zone: Tz, hours: (u8, u8), cutoff: u8, holidays: &[&str]) -> BusinessHours {
    let holidays = holidays.iter().map(|date| date.parse().unwrap());
    BusinessHours::new(zone, hours, cutoff, weekdays(), holidays.collect()).unwrap()
}

/// By when a reply is promised, both as RFC 3339.
fn by(hours: &BusinessHours, now: &str) -> String {
    let now: DateTime<Utc> = now.parse().unwrap();
    let promise = hours.promise(now, Language::English).unwrap();
    promise.by.with_timezone(&hours.timezone).to_rfc3339()
}

#[test]
fn the_same_day_is_promised_until_the_cut_off_and_then_the_next_working_day() {
    let hours = hours(Tz::Europe__Berlin, (9, 18), 16, &["2026-11-25"]);
    // 2026-11-23 is a Monday; Berlin is an hour ahead.
    for (now, promised) in [
        ("2026-11-22T22:59:59Z", "2026-11-23T18:00:00+01:00"), // Sunday night
        ("2026-11-22T23:00:00Z", "2026-11-23T18:00:00+01:00"), // Monday's midnight
        ("2026-11-23T07:59:59Z", "2026-11-23T18:00:00+01:00"),
        ("2026-11-23T14:59:59Z", "2026-11-23T18:00:00+01:00"),
        ("2026-11-23T15:00:00Z", "2026-11-24T18:00:00+01:00"), // the cut-off itself
        ("2026-11-23T17:00:00Z", "2026-11-24T18:00:00+01:00"),
        ("2026-11-24T15:00:00Z", "2026-11-26T18:00:00+01:00"), // a holiday between
        ("2026-11-25T08:00:00Z", "2026-11-26T18:00:00+01:00"), // on the holiday
        ("2026-11-27T15:00:00Z", "2026-11-30T18:00:00+01:00"), // the weekend between
        ("2026-11-28T08:00:00Z", "2026-11-30T18:00:00+01:00"), // on the weekend
    ] {
        assert_eq!(by(&hours, now), promised, "{now}");
    }
}

#[test]
fn a_promise_is_by_the_clock_on_both_sides_of_a_change() {
    let hours = hours(Tz::Europe__Berlin, (9, 18), 16, &[]);
    assert_eq!(
        by(&hours, "2027-03-26T15:00:00Z"),
        "2027-03-29T18:00:00+02:00"
    );
    assert_eq!(
        by(&hours, "2026-10-23T14:00:00Z"),
        "2026-10-26T18:00:00+01:00"
    );
    assert_eq!(
        by(&hours, "2027-03-29T13:59:59Z"),
        "2027-03-29T18:00:00+02:00"
    );
}

#[test]
fn an_end_that_the_clock_leaves_out_is_when_it_does_so_and_one_that_comes_twice_is_the_first() {
    let days: BTreeSet<Day> = Day::ALL.into();
    let night = |zone, end| BusinessHours::new(zone, (0, end), end, days.clone(), BTreeSet::new());
    let berlin = night(Tz::Europe__Berlin, 2).unwrap();
    assert_eq!(
        by(&berlin, "2027-03-27T23:30:00Z"),
        "2027-03-28T03:00:00+02:00"
    );
    assert_eq!(
        by(&berlin, "2026-10-24T22:30:00Z"),
        "2026-10-25T02:00:00+02:00"
    );
    // The first 02:00 is over, the second is not: the day is.
    assert_eq!(
        by(&berlin, "2026-10-25T00:30:00Z"),
        "2026-10-26T02:00:00+01:00"
    );
    // Santiago leaves out the first hour of 2026-09-06.
    let santiago = night(Tz::America__Santiago, 24).unwrap();
    assert_eq!(
        by(&santiago, "2026-09-06T03:30:00Z"),
        "2026-09-06T01:00:00-03:00"
    );
}

#[test]
fn a_day_whose_hours_the_clock_leaves_out_is_no_working_day() {
    let days: BTreeSet<Day> = Day::ALL.into();
    let small = BusinessHours::new(Tz::Europe__Berlin, (2, 3), 3, days.clone(), BTreeSet::new());
    assert_eq!(
        by(&small.unwrap(), "2027-03-27T23:30:00Z"),
        "2027-03-29T03:00:00+02:00"
    );
    // Samoa had no 30 December 2011.
    let apia = BusinessHours::new(Tz::Pacific__Apia, (9, 24), 16, days, BTreeSet::new()).unwrap();
    assert_eq!(
        by(&apia, "2011-12-30T01:00:00Z"),
        "2011-12-31T00:00:00+14:00"
    );
    assert_eq!(
        by(&apia, "2011-12-30T08:00:00Z"),
        "2012-01-01T00:00:00+14:00"
    );
}

#[test]
fn hours_that_nobody_works_promise_nothing() {
    let year = NaiveDate::from_ymd_opt(2026, 1, 1).unwrap().iter_days();
    let hours = BusinessHours {
        holidays: year.take(1_000).collect(),
        ..hours(Tz::UTC, (9, 18), 16, &[])
    };
    let now = "2026-02-01T00:00:00Z".parse().unwrap();
    assert_eq!(hours.promise(now, Language::English), None);
}

#[test]
fn hours_that_nobody_can_work_are_refused() {
    let make = |start, end, cutoff, days| {
        BusinessHours::new(Tz::UTC, (start, end), cutoff, days, BTreeSet::new())
    };
    assert_eq!(make(9, 9, 9, weekdays()), Err(HoursError::End));
    assert_eq!(make(18, 9, 9, weekdays()), Err(HoursError::End));
    assert_eq!(make(9, 25, 9, weekdays()), Err(HoursError::End));
    assert_eq!(make(9, 18, 19, weekdays()), Err(HoursError::Cutoff));
    assert_eq!(make(9, 18, 16, BTreeSet::new()), Err(HoursError::Days));
    assert!(make(0, 24, 24, weekdays()).is_ok());
}

#[test]
fn hours_are_read_as_they_were_kept() {
    let hours = hours(Tz::Asia__Kolkata, (0, 24), 23, &["2026-12-25"]);
    let kept = serde_json::to_value(&hours).unwrap();
    assert_eq!(
        kept,
        serde_json::json!({
            "timezone": "Asia/Kolkata", "start": 0, "end": 24, "same_day_cutoff": 23,
            "days": ["mon", "tue", "wed", "thu", "fri"], "holidays": ["2026-12-25"]
        })
    );
    assert_eq!(
        serde_json::from_value::<BusinessHours>(kept).unwrap(),
        hours
    );
}

#[test]
fn people_are_reminded_when_a_quarter_of_the_time_is_left_within_limits() {
    let made_at: DateTime<Utc> = "2026-11-23T08:00:00Z".parse().unwrap();
    let remind_after = |minutes| {
        let promise = Promise {
            text: String::new(),
            by: made_at + chrono::Duration::minutes(minutes),
            made_at,
        };
        promise.remind_after().as_secs() / 60
    };
    assert_eq!(remind_after(120), 90);
    assert_eq!(remind_after(10 * 60), 9 * 60);
    assert_eq!(remind_after(12), 7);
    assert_eq!(remind_after(3), 0);
    assert_eq!(remind_after(-3), 0);
}

prop_compose! {
    fn any_hours()(
        zone in prop::sample::select(&ZONES[..]),
        start in 0_u8..24,
        length in 1_u8..=24,
        cutoff in 0_u8..=24,
        days in prop::collection::btree_set(prop::sample::select(&Day::ALL[..]), 1..=7),
        holidays in prop::collection::btree_set(0_u64..4_000, 0..40),
    ) -> BusinessHours {
        let end = (start + length).min(24);
        let first = NaiveDate::from_ymd_opt(2024, 1, 1).unwrap();
        let holidays = holidays.into_iter().map(|day| first + Days::new(day));
        BusinessHours::new(zone, (start, end), cutoff.min(end), days, holidays.collect()).unwrap()
    }
}

/// Some second from 2024 to 2034; every third time one near a change of some clock or a midnight.
fn any_time() -> impl Strategy<Value = DateTime<Utc>> {
    let seconds = 1_704_067_200_i64..2_019_686_400;
    let near_midnight =
        (19_724_i64..23_376, -18_000_i64..18_000).prop_map(|(day, offset)| day * 86_400 + offset);
    // The changes of Europe and of America are on Sundays between 00 and 12 UTC in these months.
    let near_change = (
        2024_i32..2034,
        prop::sample::select(vec![3_u32, 4, 9, 10, 11]),
        1_u32..29,
        0_i64..43_200,
    )
        .prop_map(|(year, month, day, second)| {
            let date = NaiveDate::from_ymd_opt(year, month, day).unwrap();
            let sunday = date + Days::new(u64::from(6 - date.weekday().num_days_from_monday()));
            sunday.and_time(NaiveTime::MIN).and_utc().timestamp() + second
        });
    prop_oneof![seconds, near_midnight, near_change]
        .prop_map(|second| DateTime::from_timestamp(second, 0).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_promise_can_be_kept(hours in any_hours(), now in any_time()) {
        let Some(promise) = hours.promise(now, Language::English) else {
            return Ok(());
        };
        prop_assert!(promise.by > now);
        // The last second in which it is kept is one of the hours of a working day.
        let last = (promise.by - chrono::Duration::seconds(1)).with_timezone(&hours.timezone);
        let date = last.date_naive();
        prop_assert!(hours.is_working_day(date), "{last}");
        prop_assert!((u32::from(hours.start)..u32::from(hours.end)).contains(&last.hour()), "{last}");
        // The same day is promised before its cut-off only, by the clock on the wall.
        let local = now.with_timezone(&hours.timezone);
        let is_today = date == local.date_naive();
        if is_today {
            prop_assert!(local.hour() < u32::from(hours.same_day_cutoff), "{local}");
        }
        prop_assert_eq!(promise.text.contains("today"), is_today);
        // And no working day is passed over that could have been promised.
        let earliest = local.date_naive().iter_days().skip(1);
        for passed in earliest.take_while(|day| *day < date) {
            prop_assert!(hours.end_of_hours(passed).is_none(), "{passed}");
        }
    }

    #[test]
    fn who_asks_later_is_not_promised_an_earlier_time(
        hours in any_hours(),
        now in any_time(),
        later in 0_i64..200_000,
    ) {
        let first = hours.promise(now, Language::English);
        let second = hours.promise(now + chrono::Duration::seconds(later), Language::English);
        if let (Some(first), Some(second)) = (first, second) {
            prop_assert!(first.by <= second.by);
        }
    }

    #[test]
    fn a_reminder_comes_before_its_promise(hours in any_hours(), now in any_time()) {
        if let Some(promise) = hours.promise(now, Language::English) {
            let at = now + promise.remind_after();
            prop_assert!(now <= at && at < promise.by);
        }
    }
}
