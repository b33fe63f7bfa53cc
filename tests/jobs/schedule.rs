//! Schedules: one job a fire, however many processes look, sleep, die, and differ in version.

use std::{
    panic,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use jobs::{
    JobKind,
    schedule::{Fire, Schedule, Tick, Ticker},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sqlx::{PgPool, query, query_as, query_scalar};
use store::bus::Bus;

use super::support::{Eager, Notes, Queue, Work, config, noting, until};

const DAILY: &str = "0 2 * * *";

fn schedule(cron: &str, zone: &str) -> Schedule {
    Schedule::parse("test", cron, zone).unwrap()
}

fn utc(text: &str) -> DateTime<Utc> {
    format!("{text}:00Z").parse().unwrap()
}

fn local(text: &str) -> NaiveDateTime {
    format!("{text}:00").parse().unwrap()
}

/// A job that says which fire it is of.
fn job_of(fire: Fire) -> Work {
    Work {
        n: fire.local.and_utc().timestamp(),
        ..Work::default()
    }
}

/// A process, as far as its timer goes.
struct Process {
    ticker: Ticker,
    pool: PgPool,
    bus: Bus,
}

impl Process {
    fn new(queue: &Queue, schedule: &Schedule) -> Self {
        Self {
            ticker: Ticker::new(schedule.clone(), job_of),
            pool: queue.pool.clone(),
            bus: queue.bus.clone(),
        }
    }

    async fn look(&mut self, now: DateTime<Utc>) -> Tick {
        let tick = self.ticker.tick(&self.pool, &self.bus, Some(now));
        tick.await.unwrap()
    }

    /// The local time of the fire that it makes a job of.
    async fn fired(&mut self, now: &str) -> Option<NaiveDateTime> {
        self.look(utc(now)).await.fired.map(|fire| fire.local)
    }
}

/// The fires that were made jobs of, in the order of their local times.
async fn enqueued(queue: &Queue) -> Vec<NaiveDateTime> {
    let times: Vec<i64> =
        query_scalar("select (payload ->> 'n')::bigint from queue.jobs where kind = $1 order by 1")
            .bind(Work::KIND)
            .fetch_all(&queue.pool)
            .await
            .unwrap();
    times
        .into_iter()
        .map(|seconds| DateTime::from_timestamp(seconds, 0).unwrap().naive_utc())
        .collect()
}

/// All fires between two instants.
fn fires(schedule: &Schedule, from: DateTime<Utc>, until: DateTime<Utc>) -> Vec<Fire> {
    let mut fires = Vec::new();
    let mut now = from;
    while let Some(fire) = schedule.next(now)
        && fire.at <= until
    {
        fires.push(fire);
        now = fire.at;
    }
    fires
}

/// Two years of a fleet of three: they look late, sleep through fires, die and come back.
async fn two_years(cron: &str, zone: &str, seed: u64) {
    let queue = Queue::new().await;
    let schedule = schedule(cron, zone);
    let mut random = StdRng::seed_from_u64(seed);
    let begin = utc("2026-01-01T12:00");
    let fires = fires(&schedule, begin, utc("2028-01-01T11:59"));
    let mut fleet: Vec<Process> = (0..3).map(|_| Process::new(&queue, &schedule)).collect();
    for process in &mut fleet {
        process.look(begin).await;
    }
    let mut expected = Vec::new();
    for (index, fire) in fires.iter().enumerate() {
        if random.random_bool(0.05) {
            let killed = random.random_range(0..fleet.len());
            fleet[killed] = Process::new(&queue, &schedule);
        }
        // How long until the fire after this one; they look somewhere in between.
        let next = fires
            .get(index + 1)
            .map_or(3_600, |next| (next.at - fire.at).num_seconds());
        let everybody_sleeps = next == 0 || random.random_bool(0.02);
        if everybody_sleeps {
            continue;
        }
        let awake = random.random_range(1..=fleet.len());
        let late = random.random_range(0..next.min(7_000));
        let looks = fleet.iter_mut().take(awake).enumerate();
        let looks = looks.map(|(offset, process)| {
            let offset = i64::try_from(offset).unwrap().min(next - 1 - late);
            process.look(fire.at + TimeDelta::seconds(late + offset))
        });
        let looks = futures::future::join_all(looks).await;
        let made: Vec<Fire> = looks.iter().filter_map(|look| look.fired).collect();
        assert_eq!(made, [*fire], "{schedule}");
        expected.push(fire.local);
        fleet.rotate_left(awake);
    }
    assert_eq!(enqueued(&queue).await, expected, "{schedule}");
    assert!(expected.len() * 10 > fires.len() * 9, "{schedule}");
}

macro_rules! two_years {
    ($($name:ident: $cron:literal in $zone:literal, $days:literal;)+) => {$(
        #[tokio::test]
        async fn $name() {
            two_years($cron, $zone, $days).await;
        }
    )+};
}

two_years! {
    two_years_of_two_o_clock_in_berlin: "0 2 * * *" in "Europe/Berlin", 1;
    two_years_of_half_past_two_in_berlin: "30 2 * * *" in "Europe/Berlin", 2;
    two_years_of_every_six_hours_in_berlin: "0 */6 * * *" in "Europe/Berlin", 3;
    two_years_of_two_o_clock_in_new_york: "0 2 * * *" in "America/New_York", 4;
    two_years_of_half_past_two_in_new_york: "30 2 * * *" in "America/New_York", 5;
    two_years_of_every_six_hours_in_new_york: "0 */6 * * *" in "America/New_York", 6;
    two_years_of_two_o_clock_in_utc: "0 2 * * *" in "UTC", 7;
    two_years_of_half_past_two_in_utc: "30 2 * * *" in "UTC", 8;
    two_years_of_every_six_hours_in_utc: "0 */6 * * *" in "UTC", 9;
}

#[tokio::test]
async fn of_many_processes_that_look_at_once_one_makes_the_job() {
    let queue = Queue::new().await;
    let daily = schedule(DAILY, "UTC");
    let mut fleet: Vec<Process> = (0..8).map(|_| Process::new(&queue, &daily)).collect();
    for day in 1..=9 {
        // On the first they all meet a schedule that nobody has seen.
        let now = utc(&format!("2026-11-0{day}T02:00"));
        let looks = fleet.iter_mut().map(|process| process.look(now));
        let looks = futures::future::join_all(looks).await;
        let fired = looks.iter().filter(|look| look.fired.is_some()).count();
        assert_eq!(fired, usize::from(day > 1), "day {day}");
    }
    assert_eq!(enqueued(&queue).await.len(), 8);
}

#[tokio::test]
async fn a_schedule_that_is_new_does_not_fire_for_the_past() {
    let queue = Queue::new().await;
    let mut process = Process::new(&queue, &schedule(DAILY, "Europe/Berlin"));
    let tick = process.look(utc("2026-11-21T12:00")).await;
    assert_eq!(tick.fired, None);
    assert_eq!(tick.next.unwrap().at, utc("2026-11-22T01:00"));
    assert_eq!(process.fired("2026-11-22T00:59").await, None);
    assert_eq!(
        process.fired("2026-11-22T01:00").await,
        Some(local("2026-11-22T02:00"))
    );
}

#[tokio::test]
async fn fires_that_everybody_missed_are_made_up_for_by_one_job() {
    let queue = Queue::new().await;
    let daily = schedule(DAILY, "UTC");
    Process::new(&queue, &daily)
        .look(utc("2026-11-01T12:00"))
        .await;
    // Nothing ran for a week, and what runs now has been started anew.
    let mut process = Process::new(&queue, &daily);
    let newest = local("2026-11-08T02:00");
    assert_eq!(process.fired("2026-11-08T09:00").await, Some(newest));
    assert_eq!(process.fired("2026-11-08T09:01").await, None);
    assert_eq!(enqueued(&queue).await, [newest]);
}

#[tokio::test]
async fn a_clock_that_is_early_fires_nothing_and_is_told_how_long_to_wait() {
    let queue = Queue::new().await;
    let mut process = Process::new(&queue, &schedule(DAILY, "UTC"));
    process.look(utc("2026-11-01T12:00")).await;
    let tick = process.look(utc("2026-11-02T01:59")).await;
    assert_eq!(tick.fired, None);
    assert_eq!(tick.next.unwrap().at - tick.now, TimeDelta::minutes(1));
}

#[tokio::test]
async fn a_new_rule_fires_neither_for_the_past_nor_twice_for_a_moment() {
    let queue = Queue::new().await;
    let mut old = Process::new(&queue, &schedule(DAILY, "UTC"));
    old.look(utc("2026-11-01T12:00")).await;
    assert!(old.fired("2026-11-02T02:00").await.is_some());
    // 09:00 of this day is over when the new version starts; so it is after a restart of it.
    let at_nine = schedule("0 9 * * *", "UTC");
    assert_eq!(
        Process::new(&queue, &at_nine)
            .fired("2026-11-02T10:00")
            .await,
        None
    );
    let mut new = Process::new(&queue, &at_nine);
    assert_eq!(new.fired("2026-11-02T10:05").await, None);
    assert!(new.fired("2026-11-03T09:00").await.is_some());
    // The same moment by another name: 10:00 in Berlin, from just before until just after.
    let in_berlin = schedule("0 10 * * *", "Europe/Berlin");
    let mut newest = Process::new(&queue, &in_berlin);
    assert_eq!(newest.fired("2026-11-03T08:59").await, None);
    assert_eq!(newest.fired("2026-11-03T09:01").await, None);
    assert!(newest.fired("2026-11-04T09:00").await.is_some());
    assert_eq!(enqueued(&queue).await.len(), 3);
}

#[tokio::test]
async fn versions_with_different_rules_fire_side_by_side_and_no_moment_twice() {
    let queue = Queue::new().await;
    // Both have 06:00; they take turns in starting anew and in looking first.
    let rules = [
        schedule("0 2,6 * * *", "UTC"),
        schedule("0 6,9 * * *", "UTC"),
    ];
    let mut fleet = rules.each_ref().map(|rule| Process::new(&queue, rule));
    let begin = utc("2026-11-01T00:00");
    for process in &mut fleet {
        process.look(begin).await;
    }
    for hour in 1..=240_i64 {
        let now = begin + TimeDelta::hours(hour);
        // One starts anew, brings its rule, and takes nothing away that is due by the other one's.
        let restarted = match hour % 24 {
            2 | 12 | 14 => Some(1),
            9 | 13 | 15 => Some(0),
            _ => None,
        };
        if let Some(which) = restarted {
            fleet[which] = Process::new(&queue, &rules[which]);
            fleet[which].look(now).await;
        }
        let [one, other] = &mut fleet;
        if hour % 2 == 0 {
            futures::join!(one.look(now), other.look(now));
        } else {
            futures::join!(other.look(now), one.look(now));
        }
    }
    let expected: Vec<_> = (1..=10)
        .flat_map(|day| [2, 6, 9].map(|hour| local(&format!("2026-11-{day:02}T{hour:02}:00"))))
        .collect();
    assert_eq!(enqueued(&queue).await, expected);
}

#[tokio::test]
async fn a_fire_that_was_interrupted_is_left_to_the_next_look() {
    let queue = Queue::new().await;
    let daily = schedule(DAILY, "UTC");
    let mut process = Process::new(&queue, &daily);
    process.look(utc("2026-11-01T12:00")).await;
    let due = utc("2026-11-02T02:00");
    // The row is locked when it dies.
    let mut dying = Ticker::new(daily.clone(), |_| -> Work { panic!("killed") });
    let (pool, bus) = (queue.pool.clone(), queue.bus.clone());
    let died = tokio::spawn(async move { dying.tick(&pool, &bus, Some(due)).await });
    assert!(died.await.unwrap_err().is_panic());
    assert_eq!(enqueued(&queue).await, []);
    assert!(process.look(due).await.fired.is_some());
}

/// Makes a schedule look as if the fleet had been away for two days.
async fn let_fires_be_missed(queue: &Queue, name: &str) {
    query(
        "insert into queue.schedules (name, cron, time_zone, since, settled)
         values ($1, $2, 'UTC', now() - interval '2 days', now() - interval '2 days')",
    )
    .bind(name)
    .bind(DAILY)
    .execute(&queue.pool)
    .await
    .unwrap();
}

#[tokio::test]
async fn a_process_that_starts_makes_up_for_a_fire_and_its_job_runs_at_once() {
    let queue = Queue::new().await;
    let_fires_be_missed(&queue, "test").await;
    let notes = Notes::default();
    let process = queue.process(|runtime| {
        runtime
            .register::<Work, _, _>(noting(&notes))
            .schedule(schedule(DAILY, "UTC"), job_of)
    });
    until("the job has run", async || {
        (!notes.lock().is_empty()).then_some(())
    })
    .await;
    process.stop().await;
    assert_eq!(notes.lock().len(), 1);
}

#[tokio::test]
async fn a_schedule_that_fails_is_tried_again_and_keeps_no_other_from_firing() {
    let queue = Queue::new().await;
    let_fires_be_missed(&queue, "poison").await;
    let_fires_be_missed(&queue, "test").await;
    let healed = Arc::new(AtomicBool::new(false));
    let poison = Schedule::parse("poison", DAILY, "UTC").unwrap();
    let making = Arc::clone(&healed);
    let process = queue.process(|runtime| {
        runtime
            .schedule(poison, move |_| {
                if making.load(Ordering::Relaxed) {
                    Eager::default()
                } else {
                    panic::resume_unwind(Box::new("poison"))
                }
            })
            .schedule(schedule(DAILY, "UTC"), job_of)
    });
    until("the other one has fired", async || {
        (enqueued(&queue).await.len() == 1).then_some(())
    })
    .await;
    assert!(process.is_alive());
    healed.store(true, Ordering::Relaxed);
    until("it has fired as well", async || {
        let all = queue.count("select count(*) from queue.jobs").await;
        (all == 2).then_some(())
    })
    .await;
    process.stop().await;
}

#[tokio::test]
async fn what_the_database_refuses_is_tried_until_it_does_not() {
    let queue = Queue::new().await;
    let_fires_be_missed(&queue, "test").await;
    queue
        .execute("alter table queue.jobs add constraint jobs_none check (false)")
        .await;
    let process = queue.remote("worker", &config(), |runtime| {
        runtime.schedule(schedule(DAILY, "UTC"), job_of)
    });
    until("it has been refused", async || {
        // Each try takes a number, whatever becomes of it.
        let tried = queue.count("select count(*) from queue.jobs_id_seq where is_called");
        (tried.await == 1).then_some(())
    })
    .await;
    assert!(process.is_alive());
    queue
        .execute("alter table queue.jobs drop constraint jobs_none")
        .await;
    until("it fires", async || {
        (enqueued(&queue).await.len() == 1).then_some(())
    })
    .await;
    process.stop().await;
}

#[tokio::test]
async fn an_operator_sees_what_fired_and_what_comes_next() {
    let queue = Queue::new().await;
    let mut process = Process::new(&queue, &schedule(DAILY, "Europe/Berlin"));
    process.look(utc("2026-11-01T12:00")).await;
    let see = async || {
        let mut tx = queue.pool.begin().await.unwrap();
        query("set local role growth_chat_operator")
            .execute(&mut *tx)
            .await
            .unwrap();
        query_as::<
            _,
            (
                String,
                Option<NaiveDateTime>,
                Option<DateTime<Utc>>,
                Option<DateTime<Utc>>,
            ),
        >(
            "select cron || ' ' || time_zone, last_fire_local, last_fire_at, next_fire_at
             from ops.schedules where name = 'test'",
        )
        .fetch_one(&mut *tx)
        .await
        .unwrap()
    };
    let rule = format!("{DAILY} Europe/Berlin");
    let first = utc("2026-11-02T01:00");
    assert_eq!(see().await, (rule.clone(), None, None, Some(first)));
    process.look(first).await;
    let fired = Some(local("2026-11-02T02:00"));
    let next = Some(utc("2026-11-03T01:00"));
    assert_eq!(see().await, (rule, fired, Some(first), next));
    let its_job = "select count(*) from ops.schedules join queue.jobs on id = last_job_id";
    assert_eq!(queue.count(its_job).await, 1);
}
