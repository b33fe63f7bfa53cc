//! Sessions that nobody writes in any more are closed, in the hour in which they expire and at no other
//! time.

use std::time::Duration;

use jobs::{JobKind, catalog::SessionSweep, catalog::session_serial_key, sweep_after};
use sqlx::query_scalar;
use store::{bus::Bus, expiry};
use workers::handlers::session_sweep::{self, SweepDeps};

use super::support::{Past, Process, Queue, until};

const TTL: Duration = Duration::from_hours(24);

fn deps(queue: &Queue) -> SweepDeps {
    SweepDeps {
        pool: queue.pool.clone(),
        bus: Bus::new("sweep"),
        ttl: TTL,
    }
}

fn sweeper(queue: &Queue) -> Process {
    let deps = deps(queue);
    queue.process(move |runtime| session_sweep::register(runtime, &deps))
}

/// Runs a sweep to its end.
async fn sweep(queue: &Queue) -> Past {
    let job = SessionSweep {
        due: "by hand".to_owned(),
    };
    let id = queue.enqueue(&job).await;
    let past = queue.ended(id).await;
    assert_eq!((past.outcome.as_str(), past.attempt), ("done", 1));
    past
}

/// Sessions without turns whose last activity was some hours ago.
async fn sessions(queue: &Queue, ids: &[&str], hours: f64) {
    sqlx::query(
        "insert into sessions (session_id, created_at, last_activity_at)
         select id, now() - interval '30 hours', now() - make_interval(secs => $2 * 3600) from unnest($1::text[]) id",
    )
    .bind(ids)
    .bind(hours)
    .execute(&queue.pool)
    .await
    .unwrap();
}

/// Why a session was closed; none: it is open.
async fn closed_by(queue: &Queue, id: &str) -> Option<String> {
    query_scalar("select termination_type from sessions where session_id = $1")
        .bind(id)
        .fetch_one(&queue.pool)
        .await
        .unwrap()
}

const SWEEPS: &str = "select count(*) from queue.jobs where kind = 'session.sweep'";

#[tokio::test]
async fn a_session_that_is_idle_for_long_is_closed_and_says_why() {
    let queue = Queue::new().await;
    let silent = ["silent", "stalled", "went_on", "handed", "waits"];
    sessions(&queue, &silent, 24.1).await;
    sessions(&queue, &["active"], 23.9).await;
    for statement in [
        "update sessions set last_turn = 2, stall_offered_turn = 2 where session_id in ('stalled', 'handed')",
        "update sessions set last_turn = 3, stall_offered_turn = 2 where session_id = 'went_on'",
        "insert into handoff_records (session_id, handoff_id, trigger, status)
         values ('handed', 'h', 'explicit_wish', 'delivered')",
        "insert into turns (session_id, turn, message_id, answer_id, status, finished_at)
         values ('silent', 1, 'm', 'a', 'answered', now())",
        "insert into turns (session_id, turn, message_id, answer_id) values ('waits', 1, 'm', 'a')",
    ] {
        queue.execute(statement).await;
    }
    let process = sweeper(&queue);
    sweep(&queue).await;
    for (id, why) in [
        ("silent", Some("session_expiry")),
        ("stalled", Some("stalled")),
        // The offer was answered.
        ("went_on", Some("session_expiry")),
        ("handed", Some("handed_off")),
        // Somebody is still to answer.
        ("waits", None),
        ("active", None),
    ] {
        assert_eq!(closed_by(&queue, id).await.as_deref(), why, "{id}");
    }
    let told = "select count(*) from sessions where closed_at > now() - interval '1 hour'";
    assert_eq!(queue.count(told).await, 4);
    process.stop().await;
}

#[tokio::test]
async fn a_session_that_somebody_is_just_writing_in_is_passed_over() {
    let queue = Queue::new().await;
    sessions(&queue, &["busy", "idle"], 25.0).await;
    let mut tx = queue.pool.begin().await.unwrap();
    let key = session_serial_key(&"busy".parse().unwrap());
    jobs::lock_serial_key(&mut tx, &key).await.unwrap();
    let process = sweeper(&queue);
    // It ends while the lock is held: it waited for nobody.
    sweep(&queue).await;
    assert_eq!(closed_by(&queue, "busy").await, None);
    assert!(closed_by(&queue, "idle").await.is_some());
    // It comes again within the hour.
    let soon = "select count(*) from queue.jobs
                where kind = 'session.sweep' and run_at between now() and now() + interval '1 hour'";
    assert_eq!(queue.count(soon).await, 1);
    tx.rollback().await.unwrap();
    sweep(&queue).await;
    assert!(closed_by(&queue, "busy").await.is_some());
    process.stop().await;
}

#[tokio::test]
async fn a_row_that_somebody_has_locked_is_passed_over() {
    let queue = Queue::new().await;
    sessions(&queue, &["locked", "idle"], 25.0).await;
    let mut tx = queue.pool.begin().await.unwrap();
    sqlx::query("select from sessions where session_id = 'locked' for update")
        .execute(&mut *tx)
        .await
        .unwrap();
    let process = sweeper(&queue);
    sweep(&queue).await;
    assert_eq!(closed_by(&queue, "locked").await, None);
    assert!(closed_by(&queue, "idle").await.is_some());
    tx.rollback().await.unwrap();
    process.stop().await;
}

#[tokio::test]
async fn a_message_that_comes_after_the_first_look_keeps_its_session_open() {
    let queue = Queue::new().await;
    sessions(&queue, &["back", "idle"], 25.0).await;
    let mut conn = queue.pool.acquire().await.unwrap();
    let found = expiry::idle(&mut conn, TTL, None, 10).await.unwrap();
    let ids: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(ids, ["back", "idle"]);
    queue
        .execute("update sessions set last_activity_at = now() where session_id = 'back'")
        .await;
    let closed = expiry::close_idle(&mut conn, TTL, &ids).await.unwrap();
    assert_eq!(closed.sessions, ["idle".parse().unwrap()]);
    assert_eq!(closed_by(&queue, "back").await, None);
}

#[tokio::test]
async fn ten_thousand_sessions_are_closed_in_transactions_of_five_hundred() {
    let queue = Queue::new().await;
    for statement in [
        "insert into sessions (session_id, last_activity_at)
         select 's' || n, now() - interval '25 hours' from generate_series(1, 10000) n",
        // How many sessions each statement closes, and in which transaction.
        "create table batches (size bigint not null, transaction xid8 not null)",
        "create function note_batch() returns trigger language plpgsql as
         'begin insert into batches select count(*), pg_current_xact_id() from closed; return null; end'",
        "create trigger note_batch after update on sessions referencing new table as closed
         for each statement execute function note_batch()",
    ] {
        queue.execute(statement).await;
    }
    let process = sweeper(&queue);
    sweep(&queue).await;
    let open = "select count(*) from sessions where status = 'open'";
    assert_eq!(queue.count(open).await, 0);
    let largest =
        "select max(sum)::bigint from (select sum(size) from batches group by transaction) t";
    assert_eq!(queue.count(largest).await, 500);
    assert_eq!(
        queue.count("select sum(size)::bigint from batches").await,
        10_000
    );
    // No session is open: nobody has to look again.
    assert_eq!(queue.count(SWEEPS).await, 0);
    process.stop().await;
}

#[tokio::test]
async fn the_next_sweep_is_due_in_the_hour_in_which_the_next_session_expires() {
    let queue = Queue::new().await;
    sessions(&queue, &["first"], 20.5).await;
    sessions(&queue, &["second"], 2.0).await;
    let process = sweeper(&queue);
    sweep(&queue).await;
    let right: Vec<bool> = query_scalar(
        "select run_at = date_trunc('hour', last_activity_at + interval '24 hours', 'UTC') + interval '1 hour'
                and state = 'scheduled'
         from queue.jobs, sessions where kind = 'session.sweep' and session_id = 'first'",
    )
    .fetch_all(&queue.pool)
    .await
    .unwrap();
    assert_eq!(right, [true]);
    process.stop().await;
}

#[tokio::test]
async fn nobody_looks_again_while_no_session_is_open() {
    let queue = Queue::new().await;
    assert_eq!(deps(&queue).plan().await.unwrap(), None);
    sessions(&queue, &["closed"], 25.0).await;
    let process = sweeper(&queue);
    sweep(&queue).await;
    assert_eq!(deps(&queue).plan().await.unwrap(), None);
    assert_eq!(queue.count(SWEEPS).await, 0);
    process.stop().await;
}

#[tokio::test]
async fn a_worker_that_starts_has_the_sessions_of_an_earlier_version_looked_after() {
    let queue = Queue::new().await;
    sessions(&queue, &["old"], 100.0).await;
    let (next, wait) = deps(&queue).plan().await.unwrap().unwrap();
    assert!(next.new && wait.is_zero(), "{next:?} {wait:?}");
    // Another one starts.
    let (again, _) = deps(&queue).plan().await.unwrap().unwrap();
    assert!(!again.new || again.due != next.due);
}

#[tokio::test]
async fn a_sweep_that_was_made_to_run_early_comes_again_in_its_own_hour() {
    let queue = Queue::new().await;
    let mut tx = queue.pool.begin().await.unwrap();
    // One clock for both.
    sqlx::query("insert into sessions (session_id, last_activity_at) values ('s', now() - interval '23 hours')")
        .execute(&mut *tx)
        .await
        .unwrap();
    let next = sweep_after(&mut tx, Duration::from_hours(1)).await.unwrap();
    assert!(next.new);
    tx.commit().await.unwrap();
    queue
        .execute("update queue.jobs set state = 'ready', run_at = now()")
        .await;
    let process = sweeper(&queue);
    queue.bus.jobs_ready(SessionSweep::QUEUE);
    // It ran, and waits for the session's time.
    until("it waits again", async || {
        let waits = "select count(*) from queue.jobs
                     where state = 'scheduled' and lease > 0 and attempt = 0
                       and run_at between now() + interval '50 minutes' and now() + interval '61 minutes'";
        (queue.count(waits).await == 1).then_some(())
    })
    .await;
    assert_eq!(queue.count(SWEEPS).await, 1);
    process.stop().await;
}
