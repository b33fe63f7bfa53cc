//! What a model's calls of tools, and the limits, make of a conversation: over a real database, read
//! off what the provider really received.

use std::time::Duration;

use jobs::{Outcome, Retry};
use sandbox::anthropic::{Citation, Content, Pace, Reply};
use serde_json::{Value, json};
use store::{
    business_hours::{self, BusinessHours, Day},
    spend::Usd,
};

use crate::turn_world::{TurnWorld, kinds, said, shown};

const QUESTION: &str = "What does an audit cost?";

fn text(text: &str) -> Content {
    Content::Text {
        text: text.to_owned(),
        citations: Vec::new(),
    }
}

fn call(name: &str, input: Value) -> Content {
    Content::ToolUse {
        name: name.to_owned(),
        input,
    }
}

/// A text, and a call of a tool with it.
fn speaking(words: &str, name: &str, input: Value) -> Reply {
    Reply::content(vec![text(words), call(name, input)])
}

fn search(query: &str) -> Content {
    call("retrieve_knowledge", json!({"query": query}))
}

fn data<'f>(frames: &'f [Value], kind: &str) -> Vec<&'f Value> {
    frames
        .iter()
        .filter(|frame| frame["type"] == kind)
        .map(|frame| &frame["data"])
        .collect()
}

/// The instructions that are not the same for everybody.
fn surroundings(request: &Value) -> &str {
    request["system"][1]["text"].as_str().unwrap()
}

/// What the model was told of its calls: the results in the newest message.
fn told(request: &Value) -> Vec<(&str, bool)> {
    let messages = request["messages"].as_array().unwrap();
    let results = messages.last().unwrap()["content"].as_array().unwrap();
    results
        .iter()
        .map(|result| {
            let text = result["content"][0]["text"].as_str().unwrap_or("passages");
            (text, result["is_error"] == true)
        })
        .collect()
}

#[tokio::test]
async fn a_stage_is_moved_beside_the_answer_in_one_call() {
    let world = TurnWorld::new().await;
    let reply = speaking("Tell me more.", "set_stage", json!({"stage": "qualify"}));
    world.anthropic.push(reply);
    let frames = world.answer(1, "We need an audit.").await;
    assert_eq!(world.anthropic.calls(), 1);
    assert_eq!(shown(&frames), "Tell me more.");
    assert_eq!(
        kinds(&frames)[4..],
        [
            "text-delta",
            "text-end",
            "data-stage",
            "finish-step",
            "finish"
        ]
    );
    assert_eq!(data(&frames, "data-stage"), [&json!({"stage": 2})]);
    assert_eq!(frames.last().unwrap()["finishReason"], "stop");
    assert_eq!(
        world
            .json("select array[t.stage, s.stage] from turns t, sessions s")
            .await,
        json!([2, 2])
    );
    world.answer(2, "And now?").await;
    let requests = world.requests();
    assert!(surroundings(&requests[0]).contains("conversation: discover."));
    assert!(surroundings(&requests[1]).contains("conversation: qualify."));
}

#[tokio::test]
async fn a_model_that_only_called_is_told_the_outcome_and_speaks() {
    let world = TurnWorld::new().await;
    sqlx::query("create table none ()")
        .execute(world.pool())
        .await
        .unwrap();
    world.anthropic.in_turn(
        "Hello",
        [
            Reply::content(vec![
                call("set_stage", json!({"stage": "handed_off"})),
                call("set_stage", json!({"stage": "propose", "session_id": "s2"})),
                call("set_stage", json!({"stage": "qualify"})),
                call("drop_table", json!({"table": "none"})),
            ]),
            Reply::text("Hi."),
        ],
    );
    let frames = world.answer(1, "Hello").await;
    assert_eq!(shown(&frames), "Hi.");
    let requests = world.requests();
    assert_eq!(requests.len(), 2);
    let bad = "Refused: the arguments do not fit the tool's schema.";
    assert_eq!(
        told(&requests[1]),
        [
            (bad, true),
            (bad, true),
            ("The stage is set.", false),
            ("There is no such tool.", true),
        ]
    );
    assert_eq!(world.json("select stage from sessions").await, 2);
    world.assert_bill_is_complete().await;
}

#[tokio::test]
async fn a_search_of_the_model_is_made_once_and_cited_by_its_number() {
    let world = TurnWorld::new().await;
    let embedded = world.openai.calls();
    // The message has one passage, so that of the search is the second.
    let citing = Content::Text {
        text: "Twelve people.".to_owned(),
        citations: vec![Citation {
            search_result: 1,
            block: 0,
            cited_text: "twelve participants".to_owned(),
        }],
    };
    world.anthropic.in_turn(
        QUESTION,
        [
            Reply::content(vec![
                text("Let me look."),
                search("How long is a workshop?"),
            ]),
            Reply::content(vec![citing]),
        ],
    );
    let frames = world.answer(1, QUESTION).await;
    assert_eq!(shown(&frames), "Let me look.\n\nTwelve people.");
    let sources = frames.iter().filter(|frame| frame["type"] == "source-url");
    let urls: Vec<_> = sources.map(|source| source["url"].clone()).collect();
    assert_eq!(urls, ["/pricing#workshops"]);
    assert_eq!(world.openai.calls(), embedded + 2);
    let requests = world.requests();
    let result = &requests[1]["messages"][2]["content"][0]["content"][0];
    assert_eq!(result["type"], "search_result");
    assert_eq!(result["source"], "/pricing#workshops");
    assert_eq!(
        world
            .json("select array_agg(step order by step) from checkpoint_writes")
            .await,
        json!(["answered", "asked", "called.1", "found.1", "retrieved"])
    );
    world.assert_bill_is_complete().await;
}

#[tokio::test]
async fn searches_beyond_the_limit_are_refused_and_then_the_model_has_to_answer() {
    let world = TurnWorld::new().await;
    let embedded = world.openai.calls();
    world.anthropic.in_turn(
        QUESTION,
        [
            Reply::content(vec![search("workshops"), search("prices")]),
            Reply::content(vec![search("again")]),
            Reply::text("So be it."),
        ],
    );
    let frames = world.answer(1, QUESTION).await;
    assert_eq!(shown(&frames), "So be it.");
    let requests = world.requests();
    assert_eq!(requests.len(), 3);
    let refused = "Refused: no more searches in this turn. Answer from what you have.";
    assert_eq!(told(&requests[1])[1], (refused, true));
    assert_eq!(told(&requests[2]), [(refused, true)]);
    assert!(requests[1].get("tool_choice").is_none());
    assert_eq!(requests[2]["tool_choice"], json!({"type": "none"}));
    // The message, and one search.
    assert_eq!(world.openai.calls(), embedded + 2);
}

#[tokio::test]
async fn an_attempt_goes_on_behind_the_calls_of_the_one_before() {
    let world = TurnWorld::new().await;
    let embedded = world.openai.calls();
    let searching = Reply::content(vec![
        text("Let me look."),
        search("How long is a workshop?"),
    ]);
    let overloaded = || Reply::refused(529, "overloaded_error");
    let replies = [
        searching,
        overloaded(),
        overloaded(),
        Reply::text("One day."),
    ];
    world.anthropic.in_turn(QUESTION, replies);
    let (key, job) = world.accept(1, QUESTION).await;
    // What was said in the first call comes again as it was, so that its text is no reason to give up.
    for attempt in 1..=2 {
        let failed = world.attempt(&key, job).await.unwrap_err();
        assert_eq!(failed.retry, Retry::AsPlanned);
        assert_eq!(shown(&world.frames(&key, attempt).await), "Let me look.");
    }
    assert_eq!(world.attempt(&key, job).await.unwrap(), Outcome::Committed);
    let frames = world.frames(&key, 3).await;
    assert_eq!(kinds(&frames)[2], "data-reset");
    assert_eq!(shown(&frames), "Let me look.\n\nOne day.");
    let requests = world.requests();
    assert_eq!(requests.len(), 4);
    assert_eq!(requests[1]["messages"], requests[3]["messages"]);
    assert_eq!(world.openai.calls(), embedded + 2);
    world.assert_bill_is_complete().await;
}

#[tokio::test]
async fn a_paused_answer_is_continued_where_it_stopped() {
    let world = TurnWorld::new().await;
    world.anthropic.in_turn(
        QUESTION,
        [
            Reply::text("It costs ").stopping_by("pause_turn"),
            Reply::text("9,000 euros."),
        ],
    );
    let frames = world.answer(1, QUESTION).await;
    assert_eq!(shown(&frames), "It costs 9,000 euros.");
    assert_eq!(
        said(&world.last_request()),
        [("user", QUESTION), ("assistant", "It costs")]
    );
}

#[tokio::test]
async fn an_answer_that_finds_no_room_is_explained() {
    for (stop, reason) in [
        ("model_context_window_exceeded", "length"),
        ("max_tokens", "length"),
    ] {
        let world = TurnWorld::new().await;
        let nothing = Reply::content(Vec::<Content>::new()).stopping_by(stop);
        world.anthropic.push(nothing);
        let frames = world.answer(1, QUESTION).await;
        assert!(shown(&frames).starts_with("That is more than"), "{stop}");
        assert_eq!(frames.last().unwrap()["finishReason"], reason);
    }
}

#[tokio::test]
async fn a_session_that_has_used_up_its_tokens_is_answered_kindly_and_closed() {
    let mut world = TurnWorld::new().await;
    world.deps.turn.conversation.max_tokens_per_session = 1;
    world.answer(1, "Hello").await;
    let frames = world.answer(2, QUESTION).await;
    assert_eq!(world.anthropic.calls(), 1);
    assert_eq!(
        kinds(&frames),
        [
            "start",
            "data-session",
            "start-step",
            "text-start",
            "text-delta",
            "text-end",
            "data-limit",
            "data-contact-form",
            "finish-step",
            "finish"
        ]
    );
    let limit = data(&frames, "data-limit")[0];
    assert_eq!(limit["scope"], "session");
    assert_eq!(limit["text"], shown(&frames));
    assert_eq!(
        data(&frames, "data-contact-form"),
        [&json!({"reason": "limit"})]
    );
    assert_eq!(
        world
            .json(
                "select jsonb_build_array(status, termination_type, closed_at is not null)
                 from sessions"
            )
            .await,
        json!(["closed", "token_limit", true])
    );
    assert_eq!(
        world
            .json("select jsonb_agg(limit_reached order by turn) from turns")
            .await,
        json!([null, "session_tokens"])
    );
    world.assert_bill_is_complete().await;
}

#[tokio::test]
async fn a_limit_in_the_middle_of_a_turn_is_told_behind_what_was_said() {
    let mut world = TurnWorld::new().await;
    world.deps.turn.conversation.max_tokens_per_session = 1;
    let reply = Reply::content(vec![text("Let me look."), search("workshops")]);
    world.anthropic.push(reply);
    let frames = world.answer(1, QUESTION).await;
    let shown = shown(&frames);
    assert!(
        shown.starts_with("Let me look.\n\nWe have reached the limit"),
        "{shown}"
    );
    assert_eq!(world.anthropic.calls(), 1);
    assert_eq!(
        world.json("select limit_reached from turns").await,
        "session_tokens"
    );
}

#[tokio::test]
async fn a_cap_that_is_reached_is_answered_with_the_contact_form_and_the_session_goes_on() {
    let mut world = TurnWorld::new().await;
    world.answer(1, "Hello").await;
    world.cap(Usd::from_units(1));
    let frames = world.answer(2, QUESTION).await;
    assert_eq!(world.anthropic.calls(), 1);
    assert_eq!(data(&frames, "data-limit")[0]["scope"], "budget");
    assert_eq!(
        data(&frames, "data-contact-form"),
        [&json!({"reason": "limit"})]
    );
    assert_eq!(
        world
            .json(
                "select jsonb_build_array(s.status, t.limit_reached) from sessions s, turns t
                   where t.turn = 2"
            )
            .await,
        json!(["open", "cost_cap"])
    );
    world.cap(Usd::from_cents(100));
    let frames = world.answer(3, QUESTION).await;
    assert!(shown(&frames).contains("9,000 euros"));
    assert_eq!(
        world.json("select count(*) from spend_reservations").await,
        0
    );
    world.assert_bill_is_complete().await;
}

#[tokio::test]
async fn a_person_is_offered_once_when_nothing_moves() {
    let mut world = TurnWorld::new().await;
    world.deps.turn.conversation.stall_turn_threshold = 2;
    let mut offers = Vec::new();
    for turn in 1..=5 {
        let frames = world.answer(turn, "Hm.").await;
        offers.push(data(&frames, "data-contact-form").len());
    }
    assert_eq!(offers, [0, 0, 1, 0, 0]);
    let asked: Vec<bool> = world
        .requests()
        .iter()
        .filter(|request| request.get("tools").is_some())
        .map(|request| surroundings(request).contains("offering, in one sentence"))
        .collect();
    assert_eq!(asked, [false, false, true, false, false]);
    assert_eq!(
        world.json("select stall_offered_turn from sessions").await,
        3
    );
    // Whoever takes the offer is known by it.
    world.anthropic.push(speaking(
        "Gladly.",
        "request_handoff",
        json!({"reason": "stall_accepted"}),
    ));
    world.answer(6, "Yes, please.").await;
    assert_eq!(
        world.json("select trigger from handoff_records").await,
        "stall"
    );
}

#[tokio::test]
async fn a_handoff_of_an_answer_promises_what_its_record_keeps() {
    let world = TurnWorld::new().await;
    let days = Day::ALL.into();
    let hours = BusinessHours::new("UTC".parse().unwrap(), (0, 24), 24, days, [].into()).unwrap();
    let mut conn = world.pool().acquire().await.unwrap();
    business_hours::save(&mut conn, &hours).await.unwrap();
    for number in [1, 2] {
        let wish = json!({"reason": "explicit_wish", "name": format!("Ada {number}")});
        world
            .anthropic
            .push(speaking("Gladly.", "request_handoff", wish));
        let frames = world.answer(number, "I want to talk to somebody.").await;
        let kept = world
            .json(
                "select jsonb_build_object('status', status, 'promise', jsonb_build_object('text', promise_text,
                        'by', to_char(promise_by at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')))
                 from handoff_records",
            )
            .await;
        assert_eq!(data(&frames, "data-handoff"), [&kept]);
        let text = kept["promise"]["text"].as_str().unwrap();
        assert!(
            text.starts_with("We will get back to you today, "),
            "{text}"
        );
    }
    let reminders = "select to_jsonb(count(*)) from queue.jobs where kind = 'handoff.remind'";
    assert_eq!(world.json(reminders).await, 1);
}

#[tokio::test]
async fn a_handoff_is_recorded_with_the_answer_and_later_facts_are_added() {
    let world = TurnWorld::new().await;
    let handoff = |arguments: Value| speaking("Gladly.", "request_handoff", arguments);
    let wish = json!({"reason": "explicit_wish", "name": "Ada"});
    world.anthropic.push(handoff(wish));
    let frames = world.answer(1, "I want to talk to somebody.").await;
    assert_eq!(world.anthropic.calls(), 1);
    assert_eq!(data(&frames, "data-stage"), [&json!({"stage": 4})]);
    assert_eq!(
        data(&frames, "data-handoff"),
        [&json!({"status": "pending"})]
    );
    let form = data(&frames, "data-contact-form")[0];
    assert_eq!(form["reason"], "handoff");

    // Nobody takes the last stage back.
    let more = json!({"reason": "qualified_lead", "email": "ada@example.org", "need": "an audit"});
    let reply = Reply::content(vec![
        text("Noted."),
        call("set_stage", json!({"stage": "discover"})),
        call("request_handoff", more),
    ]);
    world.anthropic.push(reply);
    let frames = world.answer(2, "ada@example.org, for an audit.").await;
    assert!(data(&frames, "data-contact-form").is_empty());
    assert_eq!(world.json("select stage from sessions").await, 4);
    assert_eq!(
        world
            .json(
                "select jsonb_agg(jsonb_build_array(trigger, status, turn, lead))
                 from handoff_records"
            )
            .await,
        json!([["explicit_wish", "pending", 2,
                {"name": "Ada", "email": "ada@example.org", "need": "an audit"}]])
    );
}

#[tokio::test]
async fn a_visitor_is_not_left_with_a_handoff_that_there_is_not() {
    let world = TurnWorld::new().await;
    let bad = json!({"reason": "explicit_wish", "email": "ada at example"});
    world.anthropic.in_turn(
        "Call me",
        [
            speaking("Somebody will write.", "request_handoff", bad),
            Reply::text("Could you repeat your address?"),
        ],
    );
    let frames = world.answer(1, "Call me").await;
    assert_eq!(
        shown(&frames),
        "Somebody will write.\n\nCould you repeat your address?"
    );
    let requests = world.requests();
    let (text, is_error) = told(&requests[1])[0];
    assert!(is_error && text.contains("e-mail"), "{text}");
    assert_eq!(world.json("select count(*) from handoff_records").await, 0);
    assert_eq!(world.json("select stage from sessions").await, 1);
}

#[tokio::test]
async fn what_falls_out_of_the_window_is_in_the_summary() {
    let world = TurnWorld::new().await;
    world
        .anthropic
        .on_summary(Reply::text("They build bicycles."));
    for turn in 1..=5 {
        world.anthropic.push(Reply::text(format!("Answer {turn}.")));
        world.answer(turn, &format!("Question {turn}.")).await;
    }
    let requests = world.requests();
    let (summaries, answers): (Vec<&Value>, Vec<&Value>) = requests
        .iter()
        .partition(|request| request.get("tools").is_none());
    // Two exchanges at a time, when the second is about to fall out: at the third and at the fifth turn.
    assert_eq!(summaries.len(), 2);
    let material = |request: &Value| request["messages"][0]["content"][1]["text"].to_string();
    assert!(
        material(summaries[0]).contains("Question 1.")
            && material(summaries[0]).contains("Answer 2.")
    );
    assert!(!material(summaries[1]).contains("Question 2."));
    assert!(summaries[1].to_string().contains("They build bicycles."));
    let window: Vec<usize> = answers
        .iter()
        .map(|request| request["messages"].as_array().unwrap().len() / 2)
        .collect();
    assert_eq!(window, [0, 1, 2, 2, 2]);
    let noted: Vec<bool> = answers
        .iter()
        .map(|request| surroundings(request).contains("They build bicycles."))
        .collect();
    assert_eq!(noted, [false, false, false, true, true]);
    assert_eq!(
        world
            .json("select array_agg(turn order by turn) from checkpoint_writes where step = 'summarised'")
            .await,
        json!([3, 5])
    );
    assert_eq!(
        world
            .json("select array_agg(distinct turn) from model_calls where purpose = 'summary'")
            .await,
        json!([3, 5])
    );
    world.assert_bill_is_complete().await;
}

#[tokio::test]
async fn a_summary_that_fails_is_tried_again_and_delays_no_answer() {
    let world = TurnWorld::new().await;
    world
        .anthropic
        .on_summary(Reply::text("Half of").failing_after(1, "overloaded_error"));
    for turn in 1..=3 {
        world.answer(turn, "Hm.").await;
    }
    assert_eq!(
        world.json("select state->'summary' from checkpoints").await,
        json!(null)
    );
    world.anthropic.on_summary(Reply::text("They hum."));
    world.answer(4, "Hm.").await;
    assert_eq!(
        world.json("select state->'summary' from checkpoints").await,
        json!({"text": "They hum.", "through": 3})
    );
    // It had missed nothing.
    let requests = world.requests();
    let last = requests
        .iter()
        .rfind(|request| request.get("tools").is_none())
        .unwrap();
    let material = last["messages"][0]["content"][1]["text"].as_str().unwrap();
    assert_eq!(material.matches("visitor").count(), 3, "{material}");
    // The one that failed was billed.
    world.assert_bill_is_complete().await;
}

#[tokio::test]
async fn a_call_that_was_recorded_when_its_attempt_was_dropped_is_counted_once() {
    let world = TurnWorld::new().await;
    let slow = Pace {
        between_tokens: Duration::from_millis(20),
        ..Pace::default()
    };
    world.anthropic.push(Reply::words(30).paced(slow));
    let (key, job) = world.accept(1, QUESTION).await;
    let (outcome, ()) = tokio::join!(world.attempt(&key, job), async {
        world.until_text(&key, 1).await;
        sqlx::query(
            "insert into model_calls (session_id, turn, attempt, call, purpose, model, outcome,
                 input_tokens, output_tokens, cache_write_tokens, cache_read_tokens, cost_usd)
             values ('s1', 1, 1, 1, 'answer', 'm', 'ok', 1000000, 0, 0, 0, 1)",
        )
        .execute(world.pool())
        .await
        .unwrap();
    });
    assert_eq!(outcome.unwrap(), Outcome::Committed);
    let input = world.json("select input_tokens from turns").await;
    assert!((1..1_000_000).contains(&input.as_i64().unwrap()), "{input}");
}

#[tokio::test]
async fn a_case_study_that_fits_is_told_once() {
    let mut world = TurnWorld::new().await;
    let page = "---\ntitle: A bridge\nurl: /bridge\nkind: case_study\n---\n\n# A bridge\n\n\
        We moved a bridge to a new platform.\n";
    world.index("bridge.md", page).await;
    // Too far away for a passage, near enough to be told of.
    world.deps.turn.knowledge.config.relevance_threshold = 0.99;
    world.deps.turn.knowledge.config.proactive_threshold = 0.2;
    for turn in 1..=2 {
        world.anthropic.push(Reply::text("Yes."));
        world.answer(turn, "Can you move a bridge?").await;
    }
    let requests = world.requests();
    let told = |request: &Value| {
        let messages = request["messages"].as_array().unwrap();
        let newest = messages.last().unwrap()["content"].as_array().unwrap();
        let bridge = newest.iter().any(|block| {
            let source = block["source"].as_str().unwrap_or_default();
            source.starts_with("/bridge")
        });
        (bridge, surroundings(request).contains("case study"))
    };
    assert_eq!(told(&requests[0]), (true, true));
    assert_eq!(told(&requests[1]), (false, false));
}

#[tokio::test]
async fn what_a_turn_was_asked_with_is_recorded() {
    let world = TurnWorld::new().await;
    world.answer(1, "Hello").await;
    world.answer(2, QUESTION).await;
    let asked = world
        .json("select output from checkpoint_writes where turn = 2 and step = 'asked'")
        .await;
    assert_eq!(asked["window"], json!(["question-1", "answer-1"]));
    assert_eq!(asked["state"]["stage"], 1);
    assert_eq!(asked["page_url"], "https://site.example/start");
    assert_eq!(asked["locale"], "en");
    assert_eq!(asked["model"], "claude-haiku-4-5");
    assert_eq!(asked["rules"].as_str().unwrap().len(), 16);
}

#[tokio::test]
async fn a_call_with_what_postgres_can_not_keep_is_no_reason_to_fail() {
    let world = TurnWorld::new().await;
    world.anthropic.in_turn(
        "Hello",
        [
            Reply::content(vec![
                text("a\0b"),
                search("c\0d"),
                call("x\0y", json!({"k\0": ["v\0"]})),
            ]),
            Reply::text("Done."),
        ],
    );
    let frames = world.answer(1, "Hello").await;
    assert_eq!(shown(&frames), "a\u{fffd}b\n\nDone.");
}
