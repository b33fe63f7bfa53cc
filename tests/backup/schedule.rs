//! Two years of due times: one backup each, whoever asks, sleeps, fails or dies.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use jobs::schedule::{Fire, Schedule};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sandbox::postgres::TestDatabase;
use sqlx::{PgPool, query, query_scalar};
use store::backups::{self, Claim, Made, RunKind, Wanted};
use workers::backup::{Ask, Ran, due_at};

use super::support::World;

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn fires(schedule: &Schedule, from: DateTime<Utc>, until: DateTime<Utc>) -> Vec<Fire> {
    let mut fires = Vec::new();
    let mut now = from;
    while let Some(fire) = schedule.next(now).filter(|fire| fire.at <= until) {
        now = fire.at;
        fires.push(fire);
    }
    fires
}

/// A process that was started and asks for what is due, as `backup --if-due` and the job do. What comes
/// of it is a matter of luck.
async fn asks(pool: &PgPool, schedule: &Schedule, now: DateTime<Utc>, random: &mut StdRng) -> bool {
    let due = due_at(schedule, now).unwrap();
    let wanted = Wanted {
        kind: RunKind::Backup,
        due: Some(&due),
        object_key: None,
        drill: false,
    };
    let run = match backups::claim(pool, wanted).await.unwrap() {
        Claim::Ours(run) => run,
        Claim::Done => return true,
        // Of one that died: nobody waits for a minute here.
        Claim::Busy { .. } => {
            query("update backup_runs set lease_until = now() - interval '1 s' where status = 'running'")
                .execute(pool)
                .await
                .unwrap();
            return false;
        }
    };
    match random.random_range(0..10) {
        // It dies.
        0 => false,
        1 | 2 => {
            backups::fail(pool, run.token, "bad luck", false)
                .await
                .unwrap();
            false
        }
        _ => {
            let made = Made {
                object_key: due.to_string(),
                snapshot_at: now,
                bytes: 1,
                dump_bytes: 1,
                sha256: String::new(),
            };
            assert!(backups::succeed(pool, run.token, &made).await.unwrap());
            true
        }
    }
}

async fn two_years(cron: &str, zone: &str, seed: u64) {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool().await.unwrap();
    let schedule = Schedule::parse("test", cron, zone).unwrap();
    let mut random = StdRng::seed_from_u64(seed);
    let (begin, end) = (utc("2026-01-01T12:00:00Z"), utc("2028-01-01T12:00:00Z"));
    let fires = fires(&schedule, begin, end);
    for (index, fire) in fires.iter().enumerate() {
        let next = fires.get(index + 1).map_or(end, |next| next.at);
        if next == fire.at {
            // Two fires in one gap: the last of them is due.
            continue;
        }
        let mut now = fire.at;
        // Machines start at odd moments, again and again; some after it was done.
        let mut tries = 0;
        loop {
            let pause = (next - now).num_seconds() / 2;
            now += TimeDelta::seconds(random.random_range(0..=pause.clamp(0, 1_800)));
            let done = asks(&pool, &schedule, now, &mut random).await;
            tries += 1;
            if done && random.random_bool(0.7) {
                break;
            }
            assert!(tries < 1_000, "it never comes about");
        }
    }
    let made: Vec<NaiveDateTime> = query_scalar(
        "select due_local from backup_runs where status = 'succeeded' order by due_local",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let due: BTreeSet<NaiveDateTime> = fires.iter().map(|fire| fire.local).collect();
    assert_eq!(
        made,
        due.into_iter().collect::<Vec<_>>(),
        "{cron} in {zone}"
    );
    let expected = if cron.contains("*/6") { 4 * 730 } else { 730 };
    assert_eq!(made.len(), expected, "{cron} in {zone}");
}

macro_rules! two_years {
    ($($name:ident: $cron:literal in $zone:literal, $seed:literal;)+) => {$(
        #[tokio::test]
        async fn $name() {
            two_years($cron, $zone, $seed).await;
        }
    )+};
}

two_years! {
    two_years_have_one_backup_a_night_in_berlin: "0 2 * * *" in "Europe/Berlin", 1;
    two_years_have_one_backup_a_night_in_new_york: "0 2 * * *" in "America/New_York", 2;
    two_years_have_one_backup_in_the_skipped_half_hour: "30 2 * * *" in "Europe/Berlin", 3;
    two_years_have_four_backups_a_day_in_berlin: "0 */6 * * *" in "Europe/Berlin", 4;
    two_years_have_four_backups_a_day_in_new_york: "0 */6 * * *" in "America/New_York", 5;
}

/// The nights around a change of the clocks with real dumps: a machine that is started about every hour,
/// twice each time, by a clock that is not exact.
async fn nights(zone: &str, change: &str, dates: [&str; 5]) {
    let world = World::new().await;
    let schedule = Schedule::parse("test", "0 2 * * *", zone).unwrap();
    let mut random = StdRng::seed_from_u64(6);
    let noon = |days| utc(change) + TimeDelta::days(days) + TimeDelta::hours(12);
    let (mut now, end) = (noon(-3), noon(2));
    let mut made = 0;
    while now < end {
        let due = due_at(&schedule, now).unwrap();
        // What was due before the first of them was started is nobody's.
        if due.local > noon(-3).naive_utc() {
            let asks = [(); 2].map(|()| {
                let (backups, ask) = (world.backups(), Ask::Due(due.clone()));
                async move { backups.run(&ask).await.unwrap() }
            });
            let ran = futures::future::join_all(asks).await;
            made += ran.iter().filter(|ran| matches!(ran, Ran::Made(_))).count();
        }
        now += TimeDelta::minutes(random.random_range(20..=90));
    }
    let keys: Vec<String> = dates
        .iter()
        .flat_map(|date| ["json", "sql.gz"].map(|kind| format!("backups/backup-{date}.{kind}")))
        .collect();
    assert_eq!(world.s3.keys(), keys);
    assert_eq!(made, dates.len());
}

macro_rules! nights {
    ($($name:ident: $zone:literal, $change:literal, $dates:expr;)+) => {$(
        #[tokio::test]
        async fn $name() {
            nights($zone, $change, $dates).await;
        }
    )+};
}

nights! {
    the_spring_of_berlin_has_an_object_a_night: "Europe/Berlin", "2026-03-29T00:00:00Z",
        ["2026-03-27", "2026-03-28", "2026-03-29", "2026-03-30", "2026-03-31"];
    the_autumn_of_berlin_has_an_object_a_night: "Europe/Berlin", "2026-10-25T00:00:00Z",
        ["2026-10-23", "2026-10-24", "2026-10-25", "2026-10-26", "2026-10-27"];
    the_spring_of_new_york_has_an_object_a_night: "America/New_York", "2026-03-08T00:00:00Z",
        ["2026-03-06", "2026-03-07", "2026-03-08", "2026-03-09", "2026-03-10"];
    the_autumn_of_new_york_has_an_object_a_night: "America/New_York", "2026-11-01T00:00:00Z",
        ["2026-10-30", "2026-10-31", "2026-11-01", "2026-11-02", "2026-11-03"];
}
