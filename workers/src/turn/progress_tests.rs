use proptest::prelude::*;
use serde_json::{Value, json};
use store::{checkpoints::ConversationState, ids::TurnKey, turns::TurnUsage};

use super::*;
use crate::{
    conversation::Stage,
    turn::{answer::Opening, links::Allowed},
};

const LIMITS: ConversationConfig = ConversationConfig {
    context_window_turns: 10,
    max_tokens_per_session: 16_000,
    max_tool_calls_per_turn: 1,
    stall_turn_threshold: 6,
};

fn progress() -> Progress {
    let opening = Opening {
        key: TurnKey {
            session_id: "s".parse().unwrap(),
            turn: 1,
        },
        answer_id: "a".parse().unwrap(),
        stage: 1,
        attempt: 1,
        reset: false,
        notice: None,
    };
    Progress::new(
        Conversation::begin(ConversationState::default(), 1, 6),
        Answer::new(opening, &Allowed::default()),
    )
}

/// A call that says this and calls these tools.
fn called(progress: &mut Progress, text: &str, tools: &[(&str, Value)], stop: &str) -> Called {
    progress.answer.say(text);
    let text = (!text.is_empty()).then(|| Said::Text {
        text: text.to_owned(),
    });
    let tools = tools.iter().map(|(name, input)| Said::Call {
        id: format!("of-{name}"),
        name: (*name).to_owned(),
        input: input.clone(),
    });
    Called {
        model: "m".to_owned(),
        stop_reason: StopReason::from(stop.to_owned()),
        said: text.into_iter().chain(tools).collect(),
        cited: Vec::new(),
        usage: TurnUsage::default().into(),
    }
}

fn search(query: &str) -> (&'static str, Value) {
    ("retrieve_knowledge", json!({"query": query}))
}

fn stage(stage: &str) -> (&'static str, Value) {
    ("set_stage", json!({"stage": stage}))
}

fn handoff(arguments: Value) -> (&'static str, Value) {
    ("request_handoff", arguments)
}

/// Whether the model is called again after one call like this.
fn again(text: &str, tools: &[(&str, Value)], stop: &str) -> bool {
    let mut progress = progress();
    let called = called(&mut progress, text, tools, stop);
    progress.plan(&called, &LIMITS).again
}

#[test]
fn one_call_is_enough_when_the_model_has_spoken() {
    let wish = handoff(json!({"reason": "explicit_wish"}));
    assert!(!again("Hello.", &[], "end_turn"));
    assert!(!again("Hello.", &[stage("qualify")], "tool_use"));
    assert!(!again(
        "Hello.",
        &[stage("qualify"), wish.clone()],
        "tool_use"
    ));
    // A stage that can't be moved to is no reason to speak again.
    assert!(!again("Hello.", &[stage("handed_off")], "tool_use"));
    assert!(again("", &[stage("qualify")], "tool_use"));
    assert!(again(" \n", &[wish], "tool_use"));
}

#[test]
fn the_model_is_called_again_for_what_it_waits_for() {
    assert!(again("Let me look.", &[search("x")], "tool_use"));
    assert!(again("Let me look.", &[("unknown", json!({}))], "tool_use"));
    // Otherwise the visitor was told of a handoff that there is not.
    let refused = handoff(json!({"reason": "explicit_wish", "email": "nowhere"}));
    assert!(again("Somebody will call.", &[refused], "tool_use"));
    let without_need = handoff(json!({"reason": "qualified_lead"}));
    assert!(again("Somebody will call.", &[without_need], "tool_use"));
}

#[test]
fn searches_beyond_the_limit_are_answered_with_an_error_and_counted() {
    let mut progress = progress();
    let tools = [search("a"), search("b"), search("c")];
    let called = called(&mut progress, "", &tools, "tool_use");
    let plan = progress.plan(&called, &LIMITS);
    assert_eq!((plan.again, plan.ignored, progress.searches), (true, 2, 1));
    let searched: Vec<bool> = plan
        .tasks
        .iter()
        .map(|(_, task)| matches!(task, Task::Search(_)))
        .collect();
    assert_eq!(searched, [true, false, false]);
    assert!(matches!(plan.tasks[1].1, Task::Tell { is_error: true, .. }));
}

#[test]
fn a_model_that_calls_for_ever_has_to_answer() {
    let mut progress = progress();
    let mut calls = 0;
    loop {
        calls += 1;
        let may_call = progress.may_call(&LIMITS);
        let called = called(&mut progress, "", &[search("x")], "tool_use");
        let plan = progress.plan(&called, &LIMITS);
        assert_eq!(plan.again, may_call);
        if !plan.again {
            break;
        }
    }
    // A search, the word that there are no more, and the answer.
    assert_eq!(calls, 3);
}

#[test]
fn a_paused_answer_is_continued_three_times() {
    let mut progress = progress();
    let again: Vec<bool> = (0..4)
        .map(|_| {
            let called = called(&mut progress, "More. ", &[], "pause_turn");
            progress.plan(&called, &LIMITS).again
        })
        .collect();
    assert_eq!(again, [true, true, true, false]);
    assert_eq!(progress.finish_reason, FinishReason::Other);
    assert!(progress.may_call(&LIMITS));
}

#[test]
fn what_was_cut_off_is_not_gone_on_with_and_what_was_refused_moves_nothing() {
    for (stop, finish_reason, moved) in [
        ("max_tokens", FinishReason::Length, Stage::Qualify),
        (
            "model_context_window_exceeded",
            FinishReason::Length,
            Stage::Qualify,
        ),
        ("refusal", FinishReason::ContentFilter, Stage::Discover),
    ] {
        let mut progress = progress();
        let tools = [stage("qualify"), search("x")];
        let called = called(&mut progress, "Well", &tools, stop);
        assert!(!progress.plan(&called, &LIMITS).again, "{stop}");
        assert_eq!(progress.finish_reason, finish_reason, "{stop}");
        assert_eq!(progress.conversation.stage(), moved, "{stop}");
    }
}

/// What a model may do in a call.
fn any_call() -> impl Strategy<Value = (String, Vec<(&'static str, Value)>, &'static str)> {
    let tool = prop_oneof![
        Just(search("x")),
        Just(stage("qualify")),
        Just(stage("nonsense")),
        Just(handoff(json!({"reason": "explicit_wish"}))),
        Just(handoff(
            json!({"reason": "explicit_wish", "session_id": "s2"})
        )),
        Just(("unknown", Value::Null)),
    ];
    let stop = prop_oneof![
        4 => Just("tool_use"),
        1 => Just("pause_turn"),
        1 => Just("end_turn"),
        1 => Just("something_new"),
    ];
    (
        prop_oneof![Just(String::new()), Just("Well. ".to_owned())],
        prop::collection::vec(tool, 0..4),
        stop,
    )
}

proptest! {
    #[test]
    fn whatever_a_model_does_a_turn_ends(
        most in 0_u16..4,
        calls in prop::collection::vec(any_call(), 20),
    ) {
        let limits = ConversationConfig { max_tool_calls_per_turn: most, ..LIMITS };
        let mut progress = progress();
        let (mut made, mut searched, mut refused) = (0, 0, 0);
        for (text, tools, stop) in calls {
            made += 1;
            let may_call = progress.may_call(&limits);
            let wanted = tools.iter().filter(|(name, _)| *name == "retrieve_knowledge").count();
            let called = called(&mut progress, &text, &tools, stop);
            let plan = progress.plan(&called, &limits);
            // Every call of a tool has a result.
            prop_assert_eq!(plan.tasks.len(), tools.len());
            let searches = |(_, task): &&(String, Task)| matches!(task, Task::Search(_));
            let allowed = plan.tasks.iter().filter(searches).count();
            prop_assert_eq!(allowed + usize::from(plan.ignored), wanted);
            searched += allowed;
            refused += usize::from(plan.ignored);
            // A model that may not call any more is not waited for.
            prop_assert!(may_call || !plan.again || tools.is_empty());
            if !plan.again {
                break;
            }
        }
        // The answer, the rounds of tools, and the pauses.
        prop_assert!(made <= 1 + usize::from(most) + 1 + 3, "{} calls", made);
        prop_assert!(searched <= usize::from(most));
        prop_assert!(refused == 0 || searched == usize::from(most));
    }
}
