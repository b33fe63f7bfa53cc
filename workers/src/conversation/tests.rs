use proptest::prelude::*;

use super::*;

/// What a model and a visitor may do in a turn.
#[derive(Debug, Clone, Copy)]
enum Event {
    SetStage(WantedStage),
    Handoff(HandoffReason),
    Tell(u8),
}

fn event() -> impl Strategy<Value = Event> {
    let stage = prop_oneof![
        Just(WantedStage::Discover),
        Just(WantedStage::Qualify),
        Just(WantedStage::Propose),
    ];
    let reason = prop_oneof![
        Just(HandoffReason::QualifiedLead),
        Just(HandoffReason::ExplicitWish),
        Just(HandoffReason::StallAccepted),
    ];
    prop_oneof![
        6 => stage.prop_map(Event::SetStage),
        1 => reason.prop_map(Event::Handoff),
        2 => any::<u8>().prop_map(Event::Tell),
    ]
}

fn end() -> impl Strategy<Value = TurnEnd> {
    prop_oneof![
        8 => Just(TurnEnd::Answered),
        1 => Just(TurnEnd::Limited),
        1 => Just(TurnEnd::Cancelled),
    ]
}

fn request(reason: HandoffReason) -> HandoffRequest {
    HandoffRequest {
        summary: None,
        reason,
        lead: Lead::default(),
    }
}

fn at(stage: i16) -> ConversationState {
    ConversationState {
        stage,
        ..ConversationState::default()
    }
}

proptest! {
    #[test]
    fn any_history_keeps_the_rules(
        threshold in 0_u32..5,
        turns in prop::collection::vec((prop::collection::vec(event(), 0..4), end()), 1..40),
    ) {
        let mut state = ConversationState::default();
        // What the rules say, counted apart from the code under test.
        let mut unproposed = 0;
        let mut offered = None;
        for (turn, (events, end)) in (1_i32..).zip(turns) {
            let mut conversation = Conversation::begin(state.clone(), turn, threshold);
            let due = state.stage < 3 && offered.is_none() && unproposed >= threshold;
            prop_assert_eq!(conversation.offers_person(), due);
            for event in events {
                let before = conversation.stage();
                let handed_off = conversation.handoff().is_some();
                match event {
                    Event::SetStage(wanted) => {
                        let to = Stage::from(wanted);
                        let verdict = conversation.set_stage(wanted);
                        let legal = before == to || before.may_move_to(to);
                        prop_assert_eq!(verdict.accepted, legal);
                        prop_assert_eq!(conversation.stage(), if legal { to } else { before });
                    }
                    Event::Handoff(reason) => {
                        let verdict = conversation.request_handoff(request(reason));
                        // Nobody said what they need.
                        let legal = handed_off || reason != HandoffReason::QualifiedLead;
                        prop_assert_eq!(verdict.accepted, legal);
                        prop_assert_eq!(
                            conversation.stage(),
                            if legal { Stage::HandedOff } else { before }
                        );
                    }
                    Event::Tell(number) => {
                        let url = format!("/case/{number}");
                        if conversation.may_tell(&url) {
                            conversation.tells(url);
                        }
                    }
                }
            }
            let after = conversation.end(end);
            match end {
                TurnEnd::Cancelled => prop_assert_eq!(&after, &state),
                TurnEnd::Limited => prop_assert_eq!(after.stage, conversation.stage().number()),
                TurnEnd::Answered => {
                    unproposed = if conversation.stage() >= Stage::Propose { 0 } else { unproposed + 1 };
                    if due {
                        prop_assert!(offered.replace(turn).is_none());
                    }
                }
            }
            prop_assert_eq!(after.stall_offered_turn, offered);
            prop_assert_eq!(after.turns_without_proposal, unproposed);
            // The end of the road.
            prop_assert!(state.stage != 4 || after.stage == 4);
            prop_assert!(after.case_studies_told.len() <= MOST_TOLD);
            let mut told = after.case_studies_told.clone();
            told.sort();
            told.dedup();
            prop_assert_eq!(told.len(), after.case_studies_told.len());
            state = after;
        }
    }
}

#[test]
fn an_offer_is_accepted_only_after_it_was_made() {
    let mut unasked = Conversation::begin(at(1), 3, 6);
    unasked.request_handoff(request(HandoffReason::StallAccepted));
    assert!(unasked.handoff().unwrap().trigger == Trigger::ExplicitWish);
    let state = ConversationState {
        stall_offered_turn: Some(2),
        ..at(1)
    };
    let mut offered = Conversation::begin(state, 3, 6);
    offered.request_handoff(request(HandoffReason::StallAccepted));
    assert!(offered.handoff().unwrap().trigger == Trigger::Stall);
}

#[test]
fn a_second_request_adds_to_the_first() {
    let mut conversation = Conversation::begin(at(3), 1, 6);
    let first = conversation.request_handoff(request(HandoffReason::ExplicitWish));
    assert!(first.text.contains("contact form"), "{}", first.text);
    let mut second = request(HandoffReason::QualifiedLead);
    second.lead.email = Some("ada@example.org".to_owned());
    let second = conversation.request_handoff(second);
    assert!(second.text.contains("get in touch"), "{}", second.text);
    let handoff = conversation.handoff().unwrap();
    assert!(handoff.trigger == Trigger::ExplicitWish && !conversation.lacks_contact());
}

#[test]
fn a_summary_outlives_an_answer_that_was_stopped() {
    let mut conversation = Conversation::begin(at(2), 9, 6);
    conversation.set_stage(WantedStage::Propose);
    let summary = Summary {
        text: "They sell bicycles.".to_owned(),
        through: 5,
    };
    conversation.summarised(summary.clone());
    let expected = ConversationState {
        summary: Some(summary),
        ..at(2)
    };
    assert_eq!(conversation.end(TurnEnd::Cancelled), expected);
}
