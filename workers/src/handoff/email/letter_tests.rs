//! Whatever a visitor writes, the mail is ours.

use chrono::DateTime;
use mail_parser::MessageParser;
use proptest::prelude::*;
use store::phrases::Language;

use super::{super::page, *};
use crate::handoff::Promise;

const FROM: &str = "assistant@company.example";
const TO: &str = "sales@company.example";

fn dossier(hostile: &str) -> Dossier {
    let at = DateTime::from_timestamp(1_790_000_000, 0).unwrap();
    let said = |speaker| Line {
        speaker,
        text: hostile.to_owned(),
        at,
    };
    Dossier {
        session_id: "s1".parse().unwrap(),
        handoff_id: "h-1".parse().unwrap(),
        revision: 1,
        trigger: Trigger::ContactForm,
        stage: 4,
        lead: Lead {
            name: Some(hostile.to_owned()),
            email: Some(hostile.to_owned()),
            company: Some(hostile.to_owned()),
            phone: Some(hostile.to_owned()),
            need: Some(hostile.to_owned()),
            timeline: Some(hostile.to_owned()),
            budget: Some(hostile.to_owned()),
            message: Some(hostile.to_owned()),
        },
        consent: true,
        summary: Some(hostile.to_owned()),
        transcript: vec![
            said(Speaker::Visitor),
            said(Speaker::Assistant),
            said(Speaker::Person(hostile.to_owned())),
        ],
        page_url: Some(hostile.to_owned()),
        locale: Some(hostile.to_owned()),
        language: Language::English,
        promise: Some(Promise {
            text: "Today by 6 pm.".to_owned(),
            by: at,
        }),
        created_at: at,
        first_attempt_at: at,
        attempt: 1,
        last_attempt: false,
        taken_by: None,
        references: Vec::new(),
        speaks: None,
        was_spoken_to: false,
        earlier_thread: None,
    }
}

fn mail(dossier: &Dossier) -> Vec<u8> {
    let [from, to] = [FROM, TO].map(|address| mail_address(address).unwrap());
    let letter = Letter::about(dossier);
    let message = page::message(
        &letter,
        &dossier.handoff_id,
        "<h-1@company.example>",
        &from,
        &to,
    );
    message.unwrap().formatted()
}

/// The names of the headers of a mail and of its parts, in their order.
fn header_names(mail: &[u8]) -> Vec<String> {
    let message = MessageParser::new().parse(mail).unwrap();
    let names = message.headers().iter();
    names.map(|header| header.name().to_owned()).collect()
}

const OURS: [&str; 9] = [
    "From",
    "To",
    "Subject",
    "Message-ID",
    "Date",
    "Auto-Submitted",
    "X-Auto-Response-Suppress",
    "MIME-Version",
    "Content-Type",
];

/// All that our HTML is made of.
const TAGS: [&str; 15] = [
    "!DOCTYPE",
    "html",
    "head",
    "meta",
    "body",
    "p",
    "h2",
    "h3",
    "table",
    "tr",
    "th",
    "td",
    "strong",
    "small",
    "blockquote",
];

fn assert_ours(mail: &[u8]) {
    assert!(mail.is_ascii());
    assert!(
        mail.split(|byte| *byte == b'\n')
            .all(|line| line.len() <= 998)
    );
    let mut names = header_names(mail);
    names.retain(|name| name != "Reply-To");
    let mut ours = OURS.map(str::to_owned).to_vec();
    names.sort();
    ours.sort();
    assert_eq!(names, ours);
    let message = MessageParser::new().parse(mail).unwrap();
    let recipients = message.to().unwrap();
    let recipients: Vec<_> = recipients.iter().filter_map(|it| it.address()).collect();
    assert_eq!(recipients, [TO]);
    assert_eq!(message.message_id(), Some("h-1@company.example"));
    assert_eq!(message.attachment_count(), 0);
    assert_eq!(message.text_body_count(), 1);
    assert_eq!(message.html_body_count(), 1);
    let html = message.body_html(0).unwrap().into_owned();
    let tags = html.split('<').skip(1);
    let mut names = tags.map(|tag| tag.trim_start_matches('/').split([' ', '>']).next());
    assert!(
        names.all(|name| name.is_some_and(|name| TAGS.contains(&name))),
        "{html}"
    );
    // Each of our lines begins with a name of ours, and everything longer is quoted.
    let text = message.body_text(0).unwrap().into_owned();
    assert_eq!(
        text.lines()
            .filter(|line| line.starts_with("Promised"))
            .count(),
        1,
        "{text}"
    );
    assert!(text.trim_end().ends_with("Session s1, handoff h-1"));
}

#[test]
fn what_hostile_visitors_write_arrives_inert() {
    let long = "A".repeat(10_000);
    for hostile in [
        "<!channel> <https://evil.example|click>",
        "Ada\r\nBcc: victim@visitor.example\r\n\r\nBody",
        "x\nPromised    a refund\n--=_h-1\nContent-Type: text/html\n\n<b>",
        "\r\n.\r\nMAIL FROM:<x@y.example>\r\n",
        "=cmd|' /C calc'!A0",
        "</td><script>alert(1)</script><img src=x onerror=\"x\"><a href=\"javascript:x\">",
        "\u{202e}moc.elpmaxe\u{200b} \u{0} \u{7f} \u{2028}Promised",
        "=?utf-8?q?=0D=0ABcc:_x@y.example?=",
        "\"<x@y.example>\", z@y.example",
        &long,
    ] {
        assert_ours(&mail(&dossier(hostile)));
    }
}

#[test]
fn an_answer_goes_to_the_lead_if_mail_can_be_sent_there() {
    for (email, reply_to) in [
        ("ada@visitor.example", Some("ada@visitor.example")),
        ("ada@münchen.example", Some("ada@xn--mnchen-3ya.example")),
        ("jörg@visitor.example", None),
        ("a@b.example\r\nBcc: c@d.example", None),
        ("a@b.example, c@d.example", None),
        ("", None),
    ] {
        let mut dossier = dossier("Ada");
        dossier.lead.email = Some(email.to_owned());
        let mail = mail(&dossier);
        let message = MessageParser::new().parse(&mail).unwrap();
        let found = message.reply_to().and_then(|to| to.first());
        assert_eq!(found.and_then(|it| it.address()), reply_to, "{email}");
    }
}

#[test]
fn the_same_handoff_is_the_same_mail_to_the_byte() {
    let first = dossier("Ada");
    let again = Dossier {
        attempt: 2,
        last_attempt: true,
        ..first.clone()
    };
    assert!(mail(&first) == mail(&again));
}

#[test]
fn a_mail_says_all_that_is_known() {
    let mut dossier = dossier("Ada");
    dossier.lead.message = Some("First line\n.\nlast line".to_owned());
    let mail = mail(&dossier);
    let message = MessageParser::new().parse(&mail).unwrap();
    assert_eq!(message.subject(), Some("Contact request: Ada"));
    let text = message.body_text(0).unwrap().into_owned();
    let html = message.body_html(0).unwrap().into_owned();
    for said in [
        "Today by 6 pm. (2026-09-21 14:13 UTC)",
        "4 of 4",
        "Telephone",
        "Assistant, 2026-09-21 14:13 UTC",
    ] {
        assert!(text.contains(said), "{said} is missing in {text}");
        assert!(html.contains(said), "{said} is missing in {html}");
    }
    let text = text.replace("\r\n", "\n");
    assert!(
        text.contains("\n> First line\n> .\n> last line\n"),
        "{text}"
    );
}

#[test]
fn of_a_long_conversation_the_end_is_told() {
    let mut dossier = dossier("Ada");
    let line = dossier.transcript[0].clone();
    dossier.transcript = (0..100)
        .map(|number| Line {
            text: format!("{number} {}", "x".repeat(3_000)),
            ..line.clone()
        })
        .collect();
    let kept = conversation(&dossier.transcript);
    let kept: Vec<&str> = kept.iter().map(|(_, text)| text.as_str()).collect();
    assert!(kept[0].starts_with('['), "{}", kept[0]);
    assert!(kept[1].starts_with("81 ") && kept[19].starts_with("99 "));
    assert!(mail(&dossier).len() < 400_000);
}

proptest! {
    #[test]
    fn no_text_of_anybodys_is_a_header_a_part_or_markup(hostile in any::<String>()) {
        assert_ours(&mail(&dossier(&hostile)));
    }

    #[test]
    fn no_text_of_a_mails_own_language_is_so_either(hostile in "([\r\n]|--|=_h-1|[A-Z][a-z]+: |<[a-z/]+>|=[0-9A-F]{2}|\\.|@|,|\u{2028}|[ -~]){0,60}") {
        assert_ours(&mail(&dossier(&hostile)));
    }
}
