//! A takeover against an answer that is under way, in every order that chance comes upon: from the moment
//! at which the takeover is answered, the assistant does not say another word.
//!
//! The worker's part is played with the statements that the worker runs, so that five hundred sessions
//! take seconds. `tests/people` does the same with processes, less often.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use futures::{StreamExt, stream};
use jobs::{Ended, Fence, JobId};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use reqwest::StatusCode;
use sqlx::{PgPool, Row};
use store::{
    bus::Wake,
    checkpoints::JobLease,
    events::{self, NewEvent},
    ids::TurnKey,
    protocol::FinishReason,
    turns::{self, Beginning, Ending, Finish},
};

use super::{
    people::{ADA, press, signed},
    support::App,
};

const RUNS: u64 = 500;
const AT_ONCE: usize = 12;
/// How far chance moves either side, in microseconds.
const SPREAD: u64 = 8_000;
/// By how much the person begins later after a run in which they came first, and sooner after the others:
/// so that both arrive at about the same moment, however slow the machine is.
const STEP: u64 = 1_000;

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    AnswerFirst,
    TakeoverFirst,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_assistant_never_speaks_after_a_takeover_in_five_hundred_interleavings() {
    let app = App::start().await;
    people_are_known(&app.pool).await;
    let seed = rand::random::<u64>();
    let head_start = AtomicU64::new(10_000);
    let runs = stream::iter(0..RUNS).map(|run| {
        let (app, head_start) = (&app, &head_start);
        async move {
            let after = Duration::from_micros(head_start.load(Relaxed));
            let came = one(app, run, after, StdRng::seed_from_u64(seed ^ run)).await;
            let next = |now: u64| match came {
                Came::AnswerFirst => now.saturating_sub(STEP),
                Came::TakeoverFirst => now + STEP,
            };
            head_start.update(Relaxed, Relaxed, next);
            came
        }
    });
    let came: Vec<Came> = runs.buffer_unordered(AT_ONCE).collect().await;
    let answers = came
        .iter()
        .filter(|came| **came == Came::AnswerFirst)
        .count();
    // Both orders were tried, or nothing was.
    let tried = 50..usize::try_from(RUNS).unwrap() - 50;
    assert!(
        tried.contains(&answers),
        "seed {seed}: {answers} answers came first"
    );
    // Whatever came first: no job, no unfinished turn and no stream without an end are left.
    for nothing in [
        "select count(*) from queue.jobs where kind = 'turn.process'",
        "select count(*) from turns where finished_at is null",
        "select count(*) from turns t where not exists (
             select 1 from turn_events e where e.session_id = t.session_id and e.turn = t.turn
               and e.attempt = t.attempt and e.terminal)",
        "select count(*) from turns t where status = 'relayed' and turn = 1 and exists (
             select 1 from messages m where m.session_id = t.session_id and m.message_id = t.answer_id)",
        "select count(*) from turns t where status = 'answered' and not exists (
             select 1 from messages m where m.session_id = t.session_id and m.message_id = t.answer_id)",
        "select count(*) from turns t where status = 'relayed' and answer_id <> message_id and not exists (
             select 1 from queue.jobs j where kind = 'handoff.relay'
               and payload = jsonb_build_object('session_id', t.session_id, 'turn', t.turn))",
    ] {
        assert_eq!(app.count(nothing).await, 0, "seed {seed}: {nothing}");
    }
}

/// The person's name is known, so that no job asks for it.
async fn people_are_known(pool: &PgPool) {
    sqlx::query("insert into slack_people (user_id, name) values ($1, 'Ada')")
        .bind(ADA)
        .execute(pool)
        .await
        .unwrap();
}

/// A session whose answer is under way while somebody takes over and the visitor goes on writing.
async fn one(app: &App, run: u64, head_start: Duration, mut chance: StdRng) -> Came {
    let session = format!("s{run}");
    app.accept(&session, "m1", "Hello").await;
    sqlx::query(
        "insert into handoff_records (session_id, handoff_id, trigger, status)
         values ($1, 'h1', 'explicit_wish', 'delivered')",
    )
    .bind(&session)
    .execute(&app.pool)
    .await
    .unwrap();
    sqlx::query("insert into slack_threads (channel, ts, session_id, handoff_id) values ('C1', $1, $1, 'h1')")
        .bind(&session)
        .execute(&app.pool)
        .await
        .unwrap();
    let mut pause = || Duration::from_micros(chance.random_range(0..SPREAD));
    let (before_begin, before_end, before_takeover, before_message) =
        (pause(), pause(), pause(), pause());
    let by_button = run.is_multiple_of(2);

    let worker = async {
        tokio::time::sleep(before_begin / 2).await;
        answer(&app.pool, &session, before_end / 2).await
    };
    let person = async {
        tokio::time::sleep(head_start + before_takeover).await;
        if by_button {
            press(app, &session, "take_over", ADA).await;
        } else {
            let event = serde_json::json!({
                "type": "event_callback", "event_id": format!("Ev{run}"),
                "event": {"type": "message", "channel": "C1", "thread_ts": session, "user": ADA,
                          "text": "reply: It is me"}
            });
            let sent = signed(app, "/slack/events", event.to_string()).send().await;
            assert_eq!(sent.unwrap().status(), StatusCode::OK);
        }
        spoken(&app.pool, &session).await
    };
    let visitor = async {
        tokio::time::sleep(before_message).await;
        app.accept(&session, "m2", "Anybody?").await;
    };
    let (answered, at_takeover, ()) = tokio::join!(worker, person, visitor);
    // A worker that found nothing to claim comes again, as a worker does.
    answer(&app.pool, &session, Duration::ZERO).await;
    assert_eq!(
        spoken(&app.pool, &session).await,
        at_takeover,
        "the assistant spoke in {session} after the takeover"
    );
    if answered {
        assert_eq!(at_takeover, 1);
        Came::AnswerFirst
    } else {
        Came::TakeoverFirst
    }
}

/// How often the assistant has spoken.
async fn spoken(pool: &PgPool, session: &str) -> i64 {
    sqlx::query_scalar(
        "select count(*) from messages where session_id = $1 and role = 'assistant' and author is null",
    )
    .bind(session)
    .fetch_one(pool)
    .await
    .unwrap()
}

/// Claims the session's turn as a worker does, and answers it. Returns whether the answer was committed.
async fn answer(pool: &PgPool, session: &str, meanwhile: Duration) -> bool {
    let claimed = sqlx::query(
        "update queue.jobs
         set state = 'running', lease_until = now() + interval '1 hour', worker = gen_random_uuid(),
             attempt = 1, lease = lease + 1
         where kind = 'turn.process' and state = 'ready' and payload ->> 'session_id' = $1
         returning id, lease, (payload ->> 'turn')::int",
    )
    .bind(session)
    .fetch_optional(pool)
    .await
    .unwrap();
    let Some(row) = claimed else {
        return false;
    };
    let (id, lease, turn): (i64, i32, i32) = (row.get(0), row.get(1), row.get(2));
    let key = TurnKey {
        session_id: session.parse().unwrap(),
        turn,
    };
    let lease_of = || JobLease { job_id: id, lease };
    let begun = {
        let mut tx = pool.begin().await.unwrap();
        let begun = turns::begin_attempt(&mut tx, lease_of(), &key, 4)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        begun
    };
    let Beginning::Begun(begun) = begun else {
        return false;
    };
    let frame = |seq, json: &str| NewEvent {
        key: key.clone(),
        attempt: begun.attempt,
        seq,
        terminal: json.contains("finish"),
        json: json.to_owned(),
    };
    let mut conn = pool.acquire().await.unwrap();
    events::append(
        &mut conn,
        &[frame(1, r#"{"type":"start","messageId":"x"}"#)],
    )
    .await
    .unwrap();
    drop(conn);
    tokio::time::sleep(meanwhile).await;

    let finish = Finish {
        attempt: begun.attempt,
        ending: Ending::Answered(FinishReason::Stop),
        answer_id: begun.answer_id.clone(),
        text: "An answer".to_owned(),
        sources: Vec::new(),
        model: None,
        calls: Vec::new(),
        tools: None,
        limit: None,
        since_first_token: None,
        state: begun.state.clone(),
        tail: vec![frame(2, r#"{"type":"finish","finishReason":"stop"}"#)],
    };
    let mut after = Wake::default();
    let mut tx = pool.begin().await.unwrap();
    jobs::lock_serial_key(&mut tx, &format!("session:{session}"))
        .await
        .unwrap();
    let fence = Fence {
        id: JobId(id),
        lease,
    };
    let written = turns::finish(&mut tx, lease_of(), &key, &finish)
        .await
        .unwrap()
        .is_some()
        && jobs::end(&mut tx, fence, Ended::Done, &mut after)
            .await
            .unwrap();
    if written {
        tx.commit().await.unwrap();
    } else {
        tx.rollback().await.unwrap();
    }
    written
}
