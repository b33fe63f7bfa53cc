use store::knowledge::DocumentKind;

use super::*;

fn answer(reset: bool) -> Answer {
    Answer::new(Opening {
        key: TurnKey {
            session_id: "s".parse().unwrap(),
            turn: 3,
        },
        answer_id: "a".parse().unwrap(),
        stage: 1,
        attempt: 2,
        reset,
    })
}

fn started() -> ModelEvent {
    ModelEvent::Started {
        model: "m".to_owned(),
        usage: Usage {
            input_tokens: 40,
            output_tokens: 1,
            cache_write_tokens: 2,
            cache_read_tokens: 3,
        },
    }
}

fn text(block: u32, text: &str) -> ModelEvent {
    ModelEvent::TextDelta {
        block,
        text: text.to_owned(),
    }
}

fn citation(passage: u32) -> ModelEvent {
    ModelEvent::Citation {
        block: 0,
        source: String::new(),
        title: None,
        cited_text: String::new(),
        search_result_index: passage,
    }
}

fn finished(stop_reason: StopReason) -> ModelEvent {
    ModelEvent::Finished {
        stop_reason,
        usage: Usage {
            input_tokens: 40,
            output_tokens: 9,
            ..Usage::default()
        },
    }
}

fn passage(url: &str) -> Passage {
    Passage {
        chunk_id: 1,
        url: url.to_owned(),
        title: url.to_uppercase(),
        heading_path: Vec::new(),
        content: String::new(),
        score: 0.5,
        kind: DocumentKind::Page,
    }
}

fn kinds(chunks: &[Chunk]) -> Vec<String> {
    chunks
        .iter()
        .map(|chunk| {
            let json: serde_json::Value = serde_json::from_str(&chunk.to_json()).unwrap();
            json["type"].as_str().unwrap().to_owned()
        })
        .collect()
}

#[test]
fn nothing_is_shown_before_the_first_text() {
    let mut answer = answer(true);
    assert!(answer.take(started()).is_empty());
    assert!(answer.take(citation(0)).is_empty());
    assert_eq!(
        kinds(&answer.take(text(0, "Hi"))),
        [
            "start",
            "data-session",
            "data-reset",
            "start-step",
            "text-start",
            "text-delta"
        ]
    );
}

#[test]
fn blocks_of_text_become_one_part() {
    let mut answer = answer(false);
    answer.take(text(0, "It costs "));
    assert_eq!(
        answer.take(text(1, "9,000 euros")),
        [Chunk::TextDelta {
            id: "answer".to_owned(),
            delta: "9,000 euros".to_owned(),
        }]
    );
    assert_eq!(answer.text(), "It costs 9,000 euros");
}

#[test]
fn each_address_is_one_source_in_the_order_of_the_first_citation() {
    let mut answer = answer(false);
    for passage in [2, 0, 2, 1, 99] {
        answer.take(citation(passage));
    }
    let sources = answer.sources(&[passage("/b"), passage("/a"), passage("/a")]);
    let told: Vec<_> = sources
        .iter()
        .map(|source| (source.source_id.as_str(), source.url.as_str()))
        .collect();
    assert_eq!(told, [("source-1", "/a"), ("source-2", "/b")]);
}

#[test]
fn an_answer_that_was_cut_off_is_billed_by_its_length() {
    let mut answer = answer(false);
    answer.take(started());
    assert_eq!(answer.usage().output, 1);
    answer.take(text(0, "éé"));
    answer.take(text(0, "1234567"));
    assert_eq!(answer.usage().output, 3);
    assert_eq!(answer.usage().total(), 40 + 3 + 2 + 3);
    answer.take(finished(StopReason::EndTurn));
    assert_eq!(answer.usage().total(), 49);
}

#[test]
fn a_refusal_in_mid_answer_is_explained_behind_what_was_said() {
    let mut answer = answer(false);
    answer.take(text(0, "Well,"));
    answer.take(finished(StopReason::Refusal));
    assert!(answer.text().starts_with("Well,\n\nI'm sorry"));
    assert_eq!(answer.finish_reason(), FinishReason::ContentFilter);
}

#[test]
fn a_character_that_postgres_can_not_keep_is_replaced() {
    let mut answer = answer(false);
    answer.take(text(0, "a\0b"));
    assert_eq!(answer.text(), "a\u{fffd}b");
}

#[test]
fn what_was_stopped_before_a_word_is_begun_and_aborted() {
    assert_eq!(
        kinds(&answer(false).aborted_tail()),
        ["start", "data-session", "abort"]
    );
    let mut spoken = answer(false);
    spoken.take(text(0, "Hi"));
    assert_eq!(kinds(&spoken.aborted_tail()), ["text-end", "abort"]);
}
