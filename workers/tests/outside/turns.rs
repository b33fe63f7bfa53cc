//! Turns against a real database and the stand-ins' real wire protocols.

use std::time::{Duration, Instant};

use jobs::{Outcome, QueueConfig, Retry, Runtime};
use sandbox::{
    anthropic::{Content, Pace, Reply},
    outside::{Outcome as Exchanged, Service},
};
use serde_json::{Value, json};
use store::protocol::Chunk;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use workers::turn;

use crate::turn_world::{TurnWorld, key, kinds, said, shown};

const QUESTION: &str = "What does an audit cost?";

/// Slow enough to be interrupted.
fn slow() -> Reply {
    Reply::words(10_000).paced(Pace {
        between_tokens: Duration::from_millis(5),
        ..Pace::default()
    })
}

#[tokio::test]
async fn a_turn_is_answered_from_the_knowledge_base_and_cites_it() {
    let world = TurnWorld::new().await;
    let (key, job) = world.accept(1, QUESTION).await;

    assert_eq!(world.attempt(&key, job).await.unwrap(), Outcome::Committed);

    let answer = "An audit costs 9,000 euros and takes two weeks.";
    let source = json!({
        "sourceId": "source-1", "url": "/pricing#audits", "title": "Pricing — Audits"
    });
    assert_eq!(
        world.frames(&key, 1).await,
        [
            json!({"type": "start", "messageId": "answer-1"}),
            json!({"type": "data-session", "transient": true,
                   "data": {"sessionId": "s1", "turn": 1, "stage": 1}}),
            json!({"type": "start-step"}),
            json!({"type": "text-start", "id": "answer"}),
            json!({"type": "text-delta", "id": "answer", "delta": answer}),
            json!({"type": "text-end", "id": "answer"}),
            json!({"type": "source-url", "sourceId": "source-1", "url": "/pricing#audits",
                   "title": "Pricing — Audits"}),
            json!({"type": "finish-step"}),
            json!({"type": "finish", "finishReason": "stop"}),
        ]
    );
    assert_eq!(
        world
            .json(
                "select jsonb_build_object('body', body, 'sources', sources, 'status', status, 'turn', turn)
                 from messages where message_id = 'answer-1'"
            )
            .await,
        json!({"body": answer, "sources": [source], "status": "complete", "turn": 1})
    );
    let turn = world.json("select to_jsonb(t) from turns t").await;
    assert_eq!(turn["status"], "answered");
    assert_eq!(turn["finish_reason"], "stop");
    assert_eq!(turn["model"], "claude-haiku-4-5");
    assert!(turn["first_token_at"].as_str() >= turn["started_at"].as_str());
    let billed = turn["input_tokens"].as_i64().unwrap() + turn["output_tokens"].as_i64().unwrap();
    assert_eq!(world.json("select tokens_used from sessions").await, billed);
    assert_eq!(
        world
            .json("select state from checkpoints where turn = 1")
            .await,
        json!({"stage": 1, "turns_without_proposal": 1})
    );
    assert_eq!(
        world
            .json("select array_agg(step order by step) from checkpoint_writes")
            .await,
        json!(["answered", "asked", "retrieved"])
    );
    assert_eq!(
        world.json("select outcome from queue.history").await,
        "done"
    );
    assert_eq!(world.json("select count(*) from queue.jobs").await, 0);
}

#[tokio::test]
async fn the_model_sees_the_newest_exchanges_and_the_passages() {
    let world = TurnWorld::new().await;
    for (turn, message) in (1..).zip(["Hello", "How are you?", "And now?", QUESTION]) {
        let (key, job) = world.accept(turn, message).await;
        world.anthropic.push(Reply::text(format!("Answer {turn}")));
        world.attempt(&key, job).await.unwrap();
    }
    let messages = world.last_request();
    assert_eq!(
        said(&messages),
        [
            ("user", "How are you?"),
            ("assistant", "Answer 2"),
            ("user", "And now?"),
            ("assistant", "Answer 3"),
            ("user", QUESTION),
        ]
    );
    assert_eq!(messages[4]["content"][0]["type"], "search_result");
    assert_eq!(messages[4]["content"][0]["citations"]["enabled"], true);
}

#[tokio::test]
async fn an_answer_that_was_replaced_is_not_shown_to_the_model() {
    let world = TurnWorld::new().await;
    let answer = async |(key, job), reply| {
        world.anthropic.push(Reply::text(reply));
        world.attempt(&key, job).await.unwrap();
    };
    answer(world.accept(1, "Hello").await, "Nonsense").await;
    answer(world.regenerate(2, 1).await, "Hi!").await;
    assert_eq!(said(&world.last_request()), [("user", "Hello")]);
    answer(world.accept(3, "Thanks").await, "Bye!").await;
    assert_eq!(
        said(&world.last_request()),
        [("user", "Hello"), ("assistant", "Hi!"), ("user", "Thanks")]
    );
}

#[tokio::test]
async fn a_cancelled_turn_keeps_and_bills_what_was_said_and_hangs_up() {
    let world = TurnWorld::new().await;
    world.anthropic.push(slow());
    let (key, job) = world.accept(1, QUESTION).await;
    let fence = world.claim(job).await;
    let (cancel, cancelled) = oneshot::channel::<()>();
    let cancelled = async { cancelled.await.unwrap() };
    let (outcome, hung_up_after) = tokio::join!(
        turn::process(&world.deps.turn, key.clone(), fence, cancelled),
        async {
            world.until_text(&key, 1).await;
            let asked = Instant::now();
            cancel.send(()).unwrap();
            world
                .outside
                .wait_for(Duration::from_secs(10), |exchanges| {
                    exchanges
                        .iter()
                        .find(|exchange| exchange.outcome == Exchanged::ClientHungUp)
                        .and_then(|exchange| exchange.ended)
                })
                .await
                .unwrap()
                .duration_since(asked)
        }
    );
    assert_eq!(outcome.unwrap(), Outcome::Committed);
    assert!(hung_up_after < Duration::from_secs(1), "{hung_up_after:?}");

    let frames = world.frames(&key, 1).await;
    assert_eq!(
        kinds(&frames),
        [
            "start",
            "data-session",
            "start-step",
            "text-start",
            "text-delta",
            "text-end",
            "abort"
        ]
    );
    assert_eq!(frames[6]["reason"], "cancelled");
    assert_eq!(
        world
            .json("select array[body, status] from messages where role = 'assistant'")
            .await,
        json!([shown(&frames), "cancelled"])
    );
    let turn = world.json("select to_jsonb(t) from turns t").await;
    assert_eq!(turn["status"], "cancelled");
    assert!(turn["input_tokens"].as_i64().unwrap() > 0);
    let said = i64::try_from(shown(&frames).len()).unwrap();
    assert_eq!(turn["output_tokens"], (said + 3) / 4);
    assert_eq!(
        world.json("select outcome from queue.history").await,
        "cancelled"
    );
}

#[tokio::test]
async fn a_turn_that_was_cancelled_before_it_began_asks_nobody() {
    let world = TurnWorld::new().await;
    let (key, job) = world.accept(1, QUESTION).await;
    sqlx::query("update queue.jobs set cancel_requested = true")
        .execute(world.pool())
        .await
        .unwrap();
    assert_eq!(world.attempt(&key, job).await.unwrap(), Outcome::Committed);
    assert_eq!(
        kinds(&world.frames(&key, 1).await),
        ["start", "data-session", "abort"]
    );
    assert_eq!(world.anthropic.calls(), 0);
    assert_eq!(
        world
            .json("select count(*) from messages where role = 'assistant'")
            .await,
        0
    );
    assert_eq!(world.json("select status from turns").await, "cancelled");
}

#[tokio::test]
async fn a_failure_before_the_first_text_is_not_seen_and_repeats_no_finished_step() {
    let world = TurnWorld::new().await;
    let embedded = world.openai.calls();
    world
        .anthropic
        .push(Reply::refused(529, "overloaded_error").with_header("retry-after", "7"));
    world
        .anthropic
        .push(Reply::text("We do.").failing_after(0, "overloaded_error"));
    let (key, job) = world.accept(1, QUESTION).await;

    let failed = world.attempt(&key, job).await.unwrap_err();
    assert_eq!(failed.retry, Retry::NotBefore(Duration::from_secs(7)));
    assert!(failed.reason.contains("overloaded"), "{}", failed.reason);
    let failed = world.attempt(&key, job).await.unwrap_err();
    assert_eq!(failed.retry, Retry::AsPlanned);
    for attempt in [1, 2] {
        assert_eq!(world.frames(&key, attempt).await, Vec::<Value>::new());
    }
    assert_eq!(world.json("select status from turns").await, "running");

    assert_eq!(world.attempt(&key, job).await.unwrap(), Outcome::Committed);
    let frames = world.frames(&key, 3).await;
    assert_eq!(kinds(&frames)[..3], ["start", "data-session", "start-step"]);
    assert_eq!(world.openai.calls(), embedded + 1);
}

#[tokio::test]
async fn an_answer_that_broke_off_starts_again_once() {
    let world = TurnWorld::new().await;
    world.anthropic.push(Reply::words(20).cut_after(5));
    let (key, job) = world.accept(1, QUESTION).await;
    let failed = world.attempt(&key, job).await.unwrap_err();
    assert_eq!(failed.retry, Retry::AsPlanned);

    assert_eq!(world.attempt(&key, job).await.unwrap(), Outcome::Committed);
    let frames = world.frames(&key, 2).await;
    assert_eq!(
        kinds(&frames)[..4],
        ["start", "data-session", "data-reset", "start-step"]
    );
    assert_eq!(frames[2]["data"], json!({"attempt": 2}));
    assert_eq!(
        world
            .json("select array_agg(body) from messages where role = 'assistant'")
            .await,
        json!([shown(&frames)])
    );
    // Both calls were billed.
    let calls = world.outside.received_by(Service::Anthropic).len();
    assert_eq!(calls, 2);
    assert_eq!(
        world
            .json(
                "select jsonb_agg(array[attempt::text, call::text, outcome] order by attempt)
                 from model_calls"
            )
            .await,
        json!([["1", "1", "connection_lost"], ["2", "1", "ok"]])
    );
    world.assert_bill_is_complete().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_twice_is_given_up() {
    let world = TurnWorld::new().await;
    let (key, job) = world.accept(1, QUESTION).await;
    for expected in [Retry::AsPlanned, Retry::Never] {
        world
            .anthropic
            .push(Reply::words(20).failing_after(5, "overloaded_error"));
        assert_eq!(world.attempt(&key, job).await.unwrap_err().retry, expected);
    }
}

#[tokio::test]
async fn a_worker_that_was_overtaken_writes_nothing() {
    let world = TurnWorld::new().await;
    world.anthropic.push(slow());
    let (key, job) = world.accept(1, QUESTION).await;
    let stale = world.claim(job).await;
    let (cancel, cancelled) = oneshot::channel::<()>();
    let cancelled = async { cancelled.await.unwrap() };
    let (overtaken, ()) = tokio::join!(
        turn::process(&world.deps.turn, key.clone(), stale, cancelled),
        async {
            world.until_text(&key, 1).await;
            assert_eq!(world.attempt(&key, job).await.unwrap(), Outcome::Committed);
            // The overtaken worker wants to end the turn, too.
            cancel.send(()).unwrap();
        }
    );
    assert!(overtaken.is_err());
    assert_eq!(world.json("select status from turns").await, "answered");
    assert_eq!(
        world
            .json("select array_agg(body) from messages where role = 'assistant'")
            .await,
        json!(["An audit costs 9,000 euros and takes two weeks."])
    );
    let stale_kinds = world.frames(&key, 1).await;
    assert!(!kinds(&stale_kinds).contains(&"abort"));
    assert_eq!(kinds(&world.frames(&key, 2).await)[2], "data-reset");

    // Nor can it begin again, or end what is finished.
    let again = turn::process(&world.deps.turn, key.clone(), stale, std::future::pending()).await;
    assert_eq!(again.unwrap(), Outcome::Done);
}

#[tokio::test]
async fn a_stale_lease_can_not_begin_an_attempt() {
    let world = TurnWorld::new().await;
    let (key, job) = world.accept(1, QUESTION).await;
    let stale = world.claim(job).await;
    world.claim(job).await;
    let refused = turn::process(&world.deps.turn, key, stale, std::future::pending()).await;
    assert_eq!(refused.unwrap_err().reason, "the lease was lost");
    assert_eq!(world.json("select attempt from turns").await, 0);
    assert_eq!(world.anthropic.calls(), 0);
}

#[tokio::test]
async fn how_the_model_stopped_is_told() {
    for (stop_reason, finish_reason) in [
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("refusal", "content-filter"),
        ("something_new", "other"),
    ] {
        let world = TurnWorld::new().await;
        world
            .anthropic
            .push(Reply::text("Well.").stopping_by(stop_reason));
        let (key, job) = world.accept(1, QUESTION).await;
        world.attempt(&key, job).await.unwrap();
        let frames = world.frames(&key, 1).await;
        assert_eq!(frames.last().unwrap()["finishReason"], finish_reason);
    }
}

#[tokio::test]
async fn a_refusal_without_a_word_is_explained_kindly() {
    let world = TurnWorld::new().await;
    world
        .anthropic
        .push(Reply::content(Vec::<Content>::new()).stopping_by("refusal"));
    let (key, job) = world.accept(1, QUESTION).await;
    world.attempt(&key, job).await.unwrap();
    let text = shown(&world.frames(&key, 1).await);
    assert!(text.contains("can't help with that"), "{text}");
    assert_eq!(
        world.json("select finish_reason from turns").await,
        "content-filter"
    );
}

#[tokio::test]
async fn a_dead_job_tells_the_visitor_without_internals() {
    let world = TurnWorld::new().await;
    world
        .anthropic
        .push(Reply::refused(401, "authentication_error"));
    let mut news = world.bus.subscribe();
    let (key, _) = world.accept(1, QUESTION).await;
    let runtime = Runtime::new(
        world.database.clone(),
        world.bus.clone(),
        QueueConfig::default(),
    );
    let runtime = workers::register(runtime, &world.deps);
    let stop = CancellationToken::new();
    let running = tokio::spawn(runtime.run(stop.clone(), Duration::from_secs(5)));
    let failed = async {
        while world.json("select status from turns").await != "failed" {
            news.wait().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), failed)
        .await
        .unwrap();
    stop.cancel();
    running.await.unwrap().unwrap();

    assert_eq!(
        world.json("select outcome from queue.history").await,
        "dead"
    );
    let frames = world.frames(&key, 2).await;
    assert_eq!(kinds(&frames), ["start", "data-contact-form", "error"]);
    assert_eq!(frames[1]["data"], json!({"reason": "failure"}));
    let text = frames[2]["errorText"].as_str().unwrap();
    assert!(
        text.starts_with("Sorry") && !text.contains("anthropic"),
        "{text}"
    );
}

#[tokio::test]
async fn what_a_turn_was_billed_for_that_failed_is_the_sessions() {
    let world = TurnWorld::new().await;
    for _ in 0..2 {
        world
            .anthropic
            .push(Reply::words(20).failing_after(5, "overloaded_error"));
    }
    let mut news = world.bus.subscribe();
    let (key, _) = world.accept(1, QUESTION).await;
    let runtime = Runtime::new(
        world.database.clone(),
        world.bus.clone(),
        QueueConfig::default(),
    );
    let runtime = workers::register(runtime, &world.deps);
    let stop = CancellationToken::new();
    let running = tokio::spawn(runtime.run(stop.clone(), Duration::from_secs(5)));
    let failed = async {
        while world.json("select status from turns").await != "failed" {
            news.wait().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), failed)
        .await
        .unwrap();
    stop.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(world.anthropic.calls(), 2);
    let frames = world.frames(&key, 3).await;
    assert_eq!(
        kinds(&frames),
        ["start", "data-reset", "data-contact-form", "error"]
    );
    world.assert_bill_is_complete().await;
}

/// Refuses every frame and counts the tries, which a rollback does not undo.
const REFUSE: [&str; 3] = [
    "create sequence tries",
    "create function refuse() returns trigger language plpgsql as
     $$ begin perform nextval('tries'); raise exception 'not now'; end $$",
    "create trigger refuse before insert on turn_events execute function refuse()",
];

#[tokio::test]
async fn frames_that_the_database_refuses_for_a_while_are_written_later() {
    let world = TurnWorld::new().await;
    world.accept(1, QUESTION).await;
    let execute = async |sql: &'static str| {
        sqlx::query(sql).execute(world.pool()).await.unwrap();
    };
    execute("update turns set attempt = 1").await;
    for statement in REFUSE {
        execute(statement).await;
    }
    let emitter = world.deps.events.emitter(key(1), 1);
    emitter.push(Chunk::StartStep);
    let refused_twice = async {
        while world.json("select last_value from tries").await.as_i64() < Some(2) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), refused_twice)
        .await
        .unwrap();
    emitter.push(Chunk::FinishStep);
    execute("drop trigger refuse on turn_events").await;
    assert_eq!(emitter.flush().await, Ok(3));
    assert_eq!(
        kinds(&world.frames(&key(1), 1).await),
        ["start-step", "finish-step"]
    );
}

#[tokio::test]
async fn a_writer_that_ends_writes_what_it_has_and_lets_nobody_wait() {
    let world = TurnWorld::new().await;
    world.accept(1, QUESTION).await;
    sqlx::query("update turns set attempt = 1")
        .execute(world.pool())
        .await
        .unwrap();
    let writer = turn::EventWriter::new(world.pool().clone(), world.bus.clone());
    let emitter = writer.emitter(key(1), 1);
    emitter.push(Chunk::StartStep);
    let stop = CancellationToken::new();
    stop.cancel();
    writer.run(stop).await;
    assert_eq!(kinds(&world.frames(&key(1), 1).await), ["start-step"]);
    assert_eq!(emitter.flush().await, Ok(2));
    emitter.push(Chunk::FinishStep);
    assert_eq!(emitter.flush().await, Err(turn::WriterEnded));
}
