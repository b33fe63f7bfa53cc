use chrono::DateTime;
use proptest::{collection::vec, option, prelude::*};
use sandbox::slack::check_blocks;
use store::{
    handoffs::{Channel, Lead},
    phrases::Language,
};

use super::*;
use crate::handoff::{Promise, Reference};

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000 + seconds, 0).unwrap()
}

fn said(speaker: Speaker, text: &str) -> Line {
    Line {
        speaker,
        text: text.to_owned(),
        at: at(0),
    }
}

fn dossier() -> Dossier {
    Dossier {
        session_id: "s-1".parse().unwrap(),
        handoff_id: "h-1".parse().unwrap(),
        revision: 1,
        trigger: Trigger::ContactForm,
        stage: 3,
        lead: Lead {
            name: Some("Ada Example".to_owned()),
            email: Some("ada@customer.example".to_owned()),
            ..Lead::default()
        },
        consent: true,
        summary: Some("Wants a quote.".to_owned()),
        transcript: vec![
            said(Speaker::Visitor, "Hello"),
            said(Speaker::Assistant, "Good day"),
        ],
        page_url: Some("https://company.example/prices".to_owned()),
        locale: Some("de".to_owned()),
        language: Language::German,
        promise: Some(Promise {
            text: "Heute bis 18:00 Uhr".to_owned(),
            by: at(3_600),
        }),
        created_at: at(0),
        first_attempt_at: at(1),
        attempt: 1,
        last_attempt: false,
        taken_by: None,
        references: Vec::new(),
        speaks: None,
        was_spoken_to: false,
        earlier_thread: None,
    }
}

fn in_crm(url: &str) -> Reference {
    Reference {
        channel: Channel::Crm,
        reference: json!({}),
        url: Some(url.to_owned()),
    }
}

fn action_ids(message: &Message) -> Vec<String> {
    let blocks = message.blocks.iter();
    let elements = blocks.flat_map(|block| block["elements"].as_array().into_iter().flatten());
    elements
        .filter_map(|element| element["action_id"].as_str().map(ToOwned::to_owned))
        .collect()
}

/// Every text object, with its type.
fn texts(value: &Value) -> Vec<(String, String)> {
    match value {
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(object) => {
            if let (Some(kind), Some(text)) = (
                value["type"].as_str(),
                object.get("text").and_then(Value::as_str),
            ) {
                return vec![(kind.to_owned(), text.to_owned())];
            }
            object.values().flat_map(texts).collect()
        }
        _ => Vec::new(),
    }
}

fn all_texts(message: &Message) -> Vec<(String, String)> {
    texts(&json!(message.blocks))
}

#[test]
fn people_see_who_it_is_what_it_is_about_and_by_when() {
    let message = message(&dossier(), &Face::New);
    let shown: Vec<String> = all_texts(&message)
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    let shown = shown.join("\n");
    for expected in [
        "Contact form: Ada Example",
        "E-mail\nada@customer.example",
        "Summary\nWants a quote.",
        "Page\nhttps://company.example/prices",
        "Conversation\nVisitor: Hello\nAssistant: Good day",
        "Stage 3 of 4",
        "Agreed to be contacted",
        "An answer is promised by <!date^1790003600^{date_short_pretty}, {time}|2026-09-21 15:13 UTC>",
        "Heute bis 18:00 Uhr",
    ] {
        assert!(shown.contains(expected), "{expected} in\n{shown}");
    }
    assert_eq!(
        message.mark().metadata()["event_payload"],
        json!({"session_id": "s-1", "handoff_id": "h-1", "part": "message"})
    );
}

#[test]
fn each_face_offers_what_can_be_done_next() {
    let by = || "Anna".to_owned();
    let mut dossier = dossier();
    for (face, expected) in [
        (Face::New, vec![TAKE_OVER, TAKEN]),
        (Face::Taken { by: by() }, vec![TAKE_OVER]),
        (Face::TakenOver { by: by() }, vec![REPLY, HAND_BACK]),
        (Face::HandedBack { by: by() }, vec![TAKE_OVER, TAKEN]),
    ] {
        let drawn = message(&dossier, &face);
        assert_eq!(action_ids(&drawn), expected, "{face:?}");
        assert_eq!(
            face != Face::New,
            format!("{:?}", drawn.blocks).contains("Anna")
        );
    }
    dossier.taken_by = Some(by());
    assert_eq!(Face::of(&dossier), Face::Taken { by: by() });
}

#[test]
fn the_crms_record_is_a_button_when_it_has_an_address() {
    let mut dossier = dossier();
    dossier.references = vec![in_crm("https://crm.example/contact/1")];
    let with = message(&dossier, &Face::New);
    assert_eq!(action_ids(&with), [TAKE_OVER, TAKEN, OPEN_CRM]);
    dossier.references = vec![in_crm("javascript:alert(1)")];
    let without = message(&dossier, &Face::New);
    assert_eq!(action_ids(&without), [TAKE_OVER, TAKEN]);
    assert!(format!("{:?}", without.blocks).contains("The CRM has it, too"));
}

#[test]
fn of_a_long_conversation_the_newest_lines_are_shown() {
    let mut dossier = dossier();
    dossier.transcript = (0..100)
        .map(|n| said(Speaker::Visitor, &format!("{n} {}", "word ".repeat(20))))
        .collect();
    let message = message(&dossier, &Face::New);
    let shown = all_texts(&message).into_iter();
    let excerpt = shown
        .map(|(_, text)| text)
        .find(|text| text.starts_with("Conversation"))
        .unwrap();
    assert!(
        excerpt.starts_with("Conversation\n…\nVisitor: "),
        "{excerpt}"
    );
    assert!(excerpt.contains("Visitor: 99 ") && !excerpt.contains("Visitor: 0 "));
}

#[test]
fn nobody_can_write_what_looks_like_somebody_elses_line() {
    let mut dossier = dossier();
    dossier.transcript = vec![said(
        Speaker::Visitor,
        "x\nAssistant: all is free\r\nAssistant: yes",
    )];
    let message = message(&dossier, &Face::New);
    let shown = all_texts(&message);
    assert!(!shown.iter().any(|(_, text)| text.contains("\nAssistant:")));
}

#[test]
fn a_page_that_is_no_address_of_the_web_is_shown_but_not_linked() {
    let mut dossier = dossier();
    dossier.page_url = Some("javascript:alert(1)".to_owned());
    let drawn = message(&dossier, &Face::New);
    assert!(!format!("{:?}", drawn.blocks).contains(OPEN_PAGE));
    assert!(
        all_texts(&drawn)
            .iter()
            .any(|(_, text)| text == "Page\njavascript:alert(1)")
    );
}

/// What visitors may try.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => ".{0,60}",
        2 => prop::sample::select(vec![
            "<!channel> <!here|x> <@U0ANNA> <#C0|x> <https://evil.example|bank>",
            "*bold* _it_ ~no~ `code` ```block``` > quote :tada: @channel",
            "\u{202e}txet desrever\u{202c}\u{2066}x\u{2069}",
            "=HYPERLINK(\"x\")\r\nBcc: x@y.example\r\n\r\n",
            "&lt;!channel&gt; &amp;amp;",
            "{\"type\":\"mrkdwn\"}\0\u{7}\u{1b}[31m",
            "",
            " \n\t ",
        ]).prop_map(ToOwned::to_owned),
        1 => "[<>&*😀x]{1,40}".prop_map(|part| part.repeat(300)),
    ]
}

/// Everything that others write about a handoff. A dossier itself is never printed.
#[derive(Debug, Clone)]
struct Written {
    facts: Vec<Option<String>>,
    said: Vec<(String, Option<String>)>,
    stage: i16,
}

fn anything_written() -> impl Strategy<Value = Written> {
    let facts = vec(option::of(hostile()), 14);
    let said = vec((hostile(), option::of(hostile())), 0..12);
    (facts, said, any::<i16>()).prop_map(|(facts, said, stage)| Written { facts, said, stage })
}

fn dossier_of(written: Written) -> Dossier {
    let mut facts = written.facts.into_iter();
    let mut next = || facts.next().flatten();
    let mut dossier = dossier();
    dossier.lead = Lead {
        name: next(),
        email: next(),
        company: next(),
        phone: next(),
        need: next(),
        timeline: next(),
        budget: next(),
        message: next(),
    };
    dossier.summary = next();
    dossier.page_url = next();
    dossier.locale = next();
    dossier.taken_by = next();
    dossier.promise = Some(Promise {
        text: next().unwrap_or_default(),
        by: at(0),
    });
    dossier.references = next().map(|link| in_crm(&link)).into_iter().collect();
    let said = written.said.into_iter();
    dossier.transcript = said
        .map(|(text, person)| Line {
            speaker: person.map_or(Speaker::Visitor, Speaker::Person),
            text,
            at: at(0),
        })
        .collect();
    dossier.stage = written.stage;
    dossier
}

fn any_face() -> impl Strategy<Value = Face> {
    (0..4, hostile()).prop_map(|(which, by)| match which {
        0 => Face::New,
        1 => Face::Taken { by },
        2 => Face::TakenOver { by },
        _ => Face::HandedBack { by },
    })
}

/// The words of ours with markup, of a message about nobody.
fn our_markup(face: &Face) -> Vec<String> {
    let mut blank = dossier();
    blank.lead = Lead::default();
    blank.promise = Some(Promise {
        text: String::new(),
        by: at(0),
    });
    let shown = all_texts(&message(&blank, face)).into_iter();
    shown
        .filter(|(kind, _)| kind == "mrkdwn")
        .map(|(_, text)| text)
        .collect()
}

proptest! {
    #[test]
    fn whatever_is_written_slack_takes_it_and_nothing_of_it_is_markup(
        written in anything_written(),
        face in any_face(),
    ) {
        let dossier = dossier_of(written);
        let drawn = message(&dossier, &face);
        prop_assert_eq!(check_blocks(&json!(drawn.blocks)), Ok(()));
        let ours = our_markup(&face);
        for (kind, text) in all_texts(&drawn) {
            if kind == "mrkdwn" {
                prop_assert!(ours.contains(&text), "{}", text);
                continue;
            }
            prop_assert!(!text.contains(['<', '>']), "{}", text);
            let entities = ["&amp;", "&lt;", "&gt;"];
            for (place, _) in text.match_indices('&') {
                prop_assert!(entities.iter().any(|it| text[place..].starts_with(it)), "{}", text);
            }
            prop_assert!(!text.contains(|sign: char| sign != '\n' && sign.is_control()));
            let turned = text.contains(['\u{202e}', '\u{2066}']);
            prop_assert!(!turned);
        }
        let notification = drawn.text();
        prop_assert!(!notification.is_empty() && units(notification) <= 200);
        for markup in ["<", ">", "*b", "_i", "`c", "://", "@channel", ":tada:"] {
            prop_assert!(!notification.contains(markup), "{}", notification);
        }
        let links = drawn.blocks.iter().flat_map(|block| {
            block["elements"].as_array().into_iter().flatten().chain([&block["accessory"]])
        });
        for link in links.filter_map(|element| element["url"].as_str()) {
            prop_assert!(link.starts_with("http://") || link.starts_with("https://"));
        }
        prop_assert!(drawn.arguments().to_string().len() < 60_000);
    }
}
