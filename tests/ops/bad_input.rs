//! What an operator may type by mistake: a sentence that helps, an exit code, and nothing changed.

use jobs::catalog;
use sqlx::query_scalar;

use super::Desk;

/// Refused by the program, with a sentence.
const REFUSED: i32 = 1;
/// Not understood: clap names the argument.
const USAGE: i32 = 2;

/// Stand for the names of the catalogue; of the kinds also for the one that only the database has.
const QUEUES: &str = "the queues are {}";
const KINDS: &str = "the kinds are {}";
const LIVING_KINDS: &str = "that can be enqueued: the kinds are {}";
const ID: &str = "a job's id is a whole number from 1 to 9223372036854775807";
const TIME: &str = "a number and s, m, h or d, such as 90s or 1h";
const DOCUMENT: &str = r#"{"document_id": 7, "content_hash": "abc"}"#;

/// The words behind `jobs`, the exit code, and what has to be said.
type Case = (&'static [&'static str], i32, &'static str);

const CASES: &[Case] = &[
    // Names that nobody knows.
    (&["list", "--queue", "turn"], REFUSED, QUEUES),
    (&["list", "--queue", ""], REFUSED, "there is no queue \"\""),
    (&["list", "--kind", "turn"], REFUSED, KINDS),
    (
        &["list", "--kind", ""],
        REFUSED,
        "there is no kind of job \"\"",
    ),
    (
        &["list", "--state", "lost"],
        USAGE,
        "scheduled, ready, blocked, running, dead",
    ),
    (
        &["list", "--state", ""],
        USAGE,
        "scheduled, ready, blocked, running, dead",
    ),
    (
        &["retry", "--kind", "turn", "--since", "1h"],
        REFUSED,
        KINDS,
    ),
    (&["pause", "turn"], REFUSED, QUEUES),
    (&["pause", ""], REFUSED, QUEUES),
    (&["pause", "turns; drop schema ops"], REFUSED, QUEUES),
    (&["resume", "turn"], REFUSED, QUEUES),
    (
        &["pause", "a\u{1b}[2Jb"],
        REFUSED,
        "there is no queue \"a\\u{1b}[2Jb\"",
    ),
    (&["add", "turn", "{}"], REFUSED, LIVING_KINDS),
    (&["add", "", "{}"], REFUSED, LIVING_KINDS),
    (&["tail", "--queue", "turn"], REFUSED, QUEUES),
    (&["tail", "--kind", "turn"], REFUSED, KINDS),
    (&["lst"], USAGE, "list"),
    // Jobs that are not there, and what is no id.
    (&["show", "99"], REFUSED, "job 99 is not known"),
    (
        &["show", "9223372036854775807"],
        REFUSED,
        "job 9223372036854775807 is not known",
    ),
    (&["retry", "99"], REFUSED, "job 99 is not known"),
    (&["cancel", "99"], REFUSED, "job 99 is not live"),
    (&["show", "0"], USAGE, ID),
    (&["show", "-1"], USAGE, ID),
    (&["show", "seven"], USAGE, ID),
    (&["show", ""], USAGE, ID),
    (&["retry", "9223372036854775808"], USAGE, ID),
    (&["retry", "2", "-1"], USAGE, ID),
    (&["cancel", "1.5"], USAGE, ID),
    (&["cancel", "-9"], USAGE, ID),
    // Numbers out of bounds.
    (&["list", "--limit", "0"], USAGE, "0 is not in 1..=10000"),
    (
        &["list", "--limit", "10001"],
        USAGE,
        "10001 is not in 1..=10000",
    ),
    (&["list", "--limit=-1"], USAGE, "-1 is not in 1..=10000"),
    (
        &["retry", "--kind", "turn.process", "--since", "-1h"],
        USAGE,
        TIME,
    ),
    (
        &["retry", "--kind", "turn.process", "--since", "1w"],
        USAGE,
        TIME,
    ),
    (
        &["retry", "--kind", "turn.process", "--since", ""],
        USAGE,
        TIME,
    ),
    (&["add", "turn.process", "{}", "--in", "-5"], USAGE, TIME),
    (&["add", "turn.process", "{}", "--in", "1.5h"], USAGE, TIME),
    (
        &["add", "turn.process", "{}", "--in", "\u{660}s"],
        USAGE,
        TIME,
    ),
    (
        &["add", "turn.process", "{}", "--priority", "32768"],
        USAGE,
        "32768 is not in -32768..=32767",
    ),
    (
        &["add", "knowledge.index_document", DOCUMENT, "--in", "367d"],
        REFUSED,
        "a job can't wait longer than 366 days",
    ),
    (
        &[
            "add",
            "knowledge.index_document",
            DOCUMENT,
            "--in",
            "99999999999999999999d",
        ],
        REFUSED,
        "a job can't wait longer than 366 days",
    ),
    (&["tail", "-n", "-1"], USAGE, "-1 is not in 0..=1000"),
    (&["tail", "-n", "1001"], USAGE, "1001 is not in 0..=1000"),
    (
        &["tail", "-n", "ten"],
        USAGE,
        "invalid digit found in string",
    ),
    // Payloads; no part of them is repeated.
    (
        &["add", "turn.process", ""],
        REFUSED,
        "the payload is not JSON: it ends too early",
    ),
    (
        &["add", "turn.process", r#"{"hush": "#],
        REFUSED,
        "the payload is not JSON: it ends too early",
    ),
    (
        &["add", "turn.process", "hush"],
        REFUSED,
        "the payload is not JSON: see line 1, column 1",
    ),
    (
        &["add", "turn.process", "{\n  \"hush\": 'x'}"],
        REFUSED,
        "the payload is not JSON: see line 2, column 11",
    ),
    (
        &["add", "turn.process", r#"{"turn": 1}"#],
        REFUSED,
        "the payload is not one of a turn.process job: missing field `session_id`",
    ),
    (
        &[
            "add",
            "turn.process",
            r#"{"session_id": "s", "turn": "hush"}"#,
        ],
        REFUSED,
        "the payload is not one of a turn.process job: expected i32",
    ),
    (
        &[
            "add",
            "turn.process",
            r#"{"session_id": "hush!", "turn": 1}"#,
        ],
        REFUSED,
        "the payload is not one of a turn.process job\n",
    ),
    (
        &["add", "turn.process", r#""hush""#],
        REFUSED,
        "the payload is not one of a turn.process job: expected struct TurnProcess",
    ),
    (
        &[
            "add",
            "knowledge.index_document",
            r#"{"document_id": 7, "content_hash": "hush\u0000"}"#,
        ],
        REFUSED,
        "the unique key of a knowledge.index_document job has to have 1 to 512 bytes and no control characters",
    ),
];

impl Desk {
    /// Everything that a command could have changed.
    async fn contents(&self) -> String {
        query_scalar(
            "select jsonb_build_array(
                 (select jsonb_agg(to_jsonb(job) order by id) from queue.jobs job),
                 (select jsonb_agg(to_jsonb(past) order by id) from queue.history past),
                 (select jsonb_agg(to_jsonb(paused)) from queue.paused),
                 (select jsonb_agg(to_jsonb(held)) from queue.unique_keys held),
                 (select jsonb_agg(to_jsonb(turn)) from turns turn))::text",
        )
        .fetch_one(&self.pool)
        .await
        .unwrap()
    }
}

fn sorted(names: &[&str]) -> String {
    let mut names = names.to_vec();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

#[tokio::test]
async fn every_mistake_is_answered_with_a_sentence_and_changes_nothing() {
    let desk = Desk::new().await;
    let before = desk.contents().await;
    let queues = QUEUES.replace("{}", &sorted(catalog::QUEUES));
    let kinds = KINDS.replace("{}", &sorted(&[catalog::KINDS, &["test.one"]].concat()));
    let living_kinds = LIVING_KINDS.replace("{}", &sorted(catalog::KINDS));
    for (words, code, said) in CASES {
        let said = match *said {
            QUEUES => &queues,
            KINDS => &kinds,
            LIVING_KINDS => &living_kinds,
            said => said,
        };
        let output = desk.run_words(words).await;
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(*code), "{words:?}: {complaint}");
        assert!(complaint.contains(said), "{words:?}: {complaint}");
        assert_eq!(output.stdout, b"", "{words:?}");
        let echoed = words[0] == "add" && complaint.contains("hush");
        assert!(!echoed, "{words:?}: {complaint}");
        let raw = complaint.contains('\u{1b}') || complaint.contains("panicked");
        assert!(!raw, "{words:?}: {complaint}");
    }
    assert_eq!(desk.contents().await, before);
}

#[tokio::test]
async fn a_payload_that_is_too_long_for_its_key_is_refused() {
    let desk = Desk::new().await;
    let hash = "f".repeat(600);
    let payload = format!(r#"{{"document_id": 7, "content_hash": "{hash}"}}"#);
    let output = desk
        .run_words(&["add", "knowledge.index_document", &payload])
        .await;
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(REFUSED), "{complaint}");
    assert!(complaint.contains("1 to 512 bytes"), "{complaint}");
    assert!(!complaint.contains(&hash), "{complaint}");
}
