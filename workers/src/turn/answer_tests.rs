use store::knowledge::DocumentKind;

use super::*;

fn answer(reset: bool) -> Answer {
    let opening = Opening {
        key: TurnKey {
            session_id: "s".parse().unwrap(),
            turn: 3,
        },
        answer_id: "a".parse().unwrap(),
        stage: 1,
        attempt: 2,
        reset,
        notice: None,
    };
    Answer::new(opening, &Allowed::default())
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
    assert!(answer.say("").is_empty());
    assert_eq!(
        kinds(&answer.say("Hi")),
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
fn all_text_is_one_part() {
    let mut answer = answer(false);
    answer.say("It costs ");
    assert_eq!(
        answer.say("9,000 euros"),
        [Chunk::TextDelta {
            id: "answer".to_owned(),
            delta: "9,000 euros".to_owned(),
        }]
    );
    assert_eq!(answer.text(), "It costs 9,000 euros");
}

#[test]
fn what_is_said_after_a_search_is_a_paragraph_of_its_own() {
    let mut answer = answer(false);
    answer.begin_paragraph();
    answer.say("Let me look.");
    answer.begin_paragraph();
    answer.say("It costs ");
    answer.say("9,000 euros.");
    assert_eq!(answer.text(), "Let me look.\n\nIt costs 9,000 euros.");
}

#[test]
fn a_link_is_held_back_until_it_is_known_where_it_leads() {
    let mut answer = answer(false);
    answer.allow(&[passage("https://good.example/a")]);
    for delta in [
        "See [this](https://good",
        ".example/a) and [that](https://evil",
        ".example).",
    ] {
        answer.say(delta);
    }
    answer.settle();
    assert_eq!(
        answer.text(),
        "See [this](https://good.example/a) and that."
    );
    answer.say("And [");
    assert_eq!(kinds(&answer.settle()), ["text-delta"]);
}

#[test]
fn each_address_is_one_source_in_the_order_of_the_first_citation() {
    let mut answer = answer(false);
    answer.cite(&[2, 0]);
    answer.cite(&[2, 1, 99]);
    let sources = answer.sources(&[passage("/b"), passage("/a"), passage("/a")]);
    let told: Vec<_> = sources
        .iter()
        .map(|source| (source.source_id.as_str(), source.url.as_str()))
        .collect();
    assert_eq!(told, [("source-1", "/a"), ("source-2", "/b")]);
}

#[test]
fn what_follows_from_an_answer_is_told_at_its_end() {
    let consequences = Consequences {
        stage: Some(4),
        handoff: true,
        limit: None,
        contact_form: Some((ContactReason::Handoff, Some("Where?"))),
    };
    let source = Source {
        source_id: "source-1".to_owned(),
        url: "/a".to_owned(),
        title: None,
    };
    assert_eq!(
        kinds(&Answer::tail(&[source], consequences, FinishReason::Stop)),
        [
            "text-end",
            "source-url",
            "data-stage",
            "data-handoff",
            "data-contact-form",
            "finish-step",
            "finish"
        ]
    );
}

#[test]
fn what_was_stopped_before_a_word_is_begun_and_aborted() {
    assert_eq!(
        kinds(&answer(false).aborted_tail()),
        ["start", "data-session", "abort"]
    );
    let mut spoken = answer(false);
    spoken.say("Hi");
    assert_eq!(kinds(&spoken.aborted_tail()), ["text-end", "abort"]);
}
