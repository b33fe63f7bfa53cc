//! What is stored of each kind: jobs outlive the version that enqueued them.

use jobs::{
    JobKind,
    catalog::{
        AgentUnreachable, BackupRun, BackupVerify, HandoffRelay, HandoffRemind,
        KnowledgeIndexDocument, Notice, QueuePrune, SessionSweep, SlackFace, SlackNote,
        SlackOpenReply, SlackPerson, TurnProcess, WebhookDeliver, WebhookRelease,
    },
};
use serde_json::{Value, json};

/// All that a job keeps of its kind.
fn stored<J: JobKind>(job: &J) -> Value {
    json!({
        "kind": J::KIND,
        "queue": J::QUEUE,
        "waits": J::RETRY_WAITS,
        "unique": job.unique_key(),
        "serial": job.serial_key(),
        "payload": serde_json::to_value(job).unwrap(),
    })
}

#[test]
fn a_turn_is_stored_as_it_always_was() {
    let job = TurnProcess {
        session_id: "s-1".parse().unwrap(),
        turn: 7,
    };
    let expected = json!({
        "kind": "turn.process",
        "queue": "turns",
        "waits": [1, 3, 9],
        "unique": "s-1/7",
        "serial": "session:s-1",
        "payload": { "session_id": "s-1", "turn": 7 },
    });
    assert_eq!(stored(&job), expected);
    let read: TurnProcess = serde_json::from_value(expected["payload"].clone()).unwrap();
    assert_eq!(read, job);
}

#[test]
fn the_indexing_of_a_document_is_stored_as_it_always_was() {
    let job = KnowledgeIndexDocument {
        document_id: 3,
        content_hash: "abc".to_owned(),
    };
    let expected = json!({
        "kind": "knowledge.index_document",
        "queue": "knowledge",
        "waits": [1, 3, 9],
        "unique": "3:abc",
        "serial": "document:3",
        "payload": { "document_id": 3, "content_hash": "abc" },
    });
    assert_eq!(stored(&job), expected);
    let read: KnowledgeIndexDocument = serde_json::from_value(expected["payload"].clone()).unwrap();
    assert_eq!(read, job);
}

#[test]
fn a_night_of_pruning_is_stored_as_it_always_was() {
    let job = QueuePrune {
        date: "2026-11-21".to_owned(),
    };
    let expected = json!({
        "kind": "queue.prune",
        "queue": "maintenance",
        "waits": [1, 3, 9],
        "unique": "2026-11-21",
        "serial": "queue.prune",
        "payload": { "date": "2026-11-21" },
    });
    assert_eq!(stored(&job), expected);
    let read: QueuePrune = serde_json::from_value(expected["payload"].clone()).unwrap();
    assert_eq!(read, job);
}

#[test]
fn a_sweep_of_the_sessions_is_stored_as_it_always_was() {
    let job = SessionSweep {
        due: "2026-11-21T09:00Z".to_owned(),
    };
    let expected = json!({
        "kind": "session.sweep",
        "queue": "maintenance",
        "waits": [1, 3, 9],
        "unique": "2026-11-21T09:00Z",
        "serial": null,
        "payload": { "due": "2026-11-21T09:00Z" },
    });
    assert_eq!(stored(&job), expected);
    let read: SessionSweep = serde_json::from_value(expected["payload"].clone()).unwrap();
    assert_eq!(read, job);
}

#[test]
fn a_reminder_of_a_promise_is_stored_as_it_always_was() {
    let job = HandoffRemind {
        session_id: "s-1".parse().unwrap(),
        handoff_id: "h-1".parse().unwrap(),
    };
    let expected = json!({
        "kind": "handoff.remind",
        "queue": "handoff",
        "waits": [1, 3, 9, 60],
        "unique": "h-1",
        "serial": null,
        "payload": { "session_id": "s-1", "handoff_id": "h-1" },
    });
    assert_eq!(stored(&job), expected);
    let read: HandoffRemind = serde_json::from_value(expected["payload"].clone()).unwrap();
    assert_eq!(read, job);
}

#[test]
fn a_backup_is_stored_as_it_always_was() {
    let job = BackupRun {
        due: "2026-11-21T02:00".to_owned(),
        time_zone: "Europe/Berlin".to_owned(),
    };
    let expected = json!({
        "kind": "backup.run",
        "queue": "backup",
        "waits": [60, 300, 900],
        "unique": "2026-11-21T02:00 Europe/Berlin",
        "serial": null,
        "payload": { "due": "2026-11-21T02:00", "time_zone": "Europe/Berlin" },
    });
    assert_eq!(stored(&job), expected);
    let read: BackupRun = serde_json::from_value(expected["payload"].clone()).unwrap();
    assert_eq!(read, job);
}

#[test]
fn what_an_endpoint_is_told_is_stored_as_it_always_was() {
    let job = WebhookDeliver {
        endpoint_id: "we_1".to_owned(),
        event_id: "evt_1".to_owned(),
        event: store::webhooks::EventType::TurnCompleted,
        at: "2026-11-21T09:00:00.000Z".to_owned(),
        session_id: "s-1".parse().unwrap(),
        handoff_id: None,
        data: json!({ "turn": 1 }),
    };
    let expected = json!({
        "kind": "webhook.deliver",
        "queue": "webhooks",
        "waits": [1, 3, 9, 60, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400],
        "unique": null,
        "serial": "webhook:we_1",
        "payload": {
            "endpoint_id": "we_1", "event_id": "evt_1", "event": "turn.completed",
            "at": "2026-11-21T09:00:00.000Z", "session_id": "s-1", "data": { "turn": 1 },
        },
    });
    assert_eq!(stored(&job), expected);
    let read: WebhookDeliver = serde_json::from_value(expected["payload"].clone()).unwrap();
    assert_eq!(read, job);
}

#[test]
fn the_proof_of_a_backup_is_stored_as_it_always_was() {
    let job = BackupVerify {
        name: Some("2026-11-21".to_owned()),
        drill: false,
        by: "a run".to_owned(),
    };
    let expected = json!({
        "kind": "backup.verify",
        "queue": "backup",
        "waits": [60, 300, 900],
        "unique": "a run",
        "serial": null,
        "payload": { "name": "2026-11-21", "drill": false, "by": "a run" },
    });
    assert_eq!(stored(&job), expected);
    let read: BackupVerify = serde_json::from_value(expected["payload"].clone()).unwrap();
    assert_eq!(read, job);
}

#[test]
fn the_release_of_deliveries_is_stored_as_it_always_was() {
    let job = WebhookRelease {
        endpoint_ids: vec!["we_1".to_owned()],
    };
    let expected = json!({
        "kind": "webhook.release",
        "queue": "webhooks",
        "waits": [1, 3, 9, 60, 300],
        "unique": null,
        "serial": null,
        "payload": { "endpoint_ids": ["we_1"] },
    });
    assert_eq!(stored(&job), expected);
    let read: WebhookRelease = serde_json::from_value(expected["payload"].clone()).unwrap();
    assert_eq!(read, job);
}

/// What is read back is what was stored.
fn is_kept<J: JobKind + PartialEq + std::fmt::Debug>(job: &J, expected: &Value) {
    assert_eq!(stored(job), *expected);
    let read: J = serde_json::from_value(expected["payload"].clone()).unwrap();
    assert_eq!(read, *job);
}

#[test]
fn what_follows_when_a_person_speaks_is_stored_as_it_always_was() {
    let session = || "s-1".parse().unwrap();
    let handoff = || "h-1".parse().unwrap();
    is_kept(
        &HandoffRelay {
            session_id: session(),
            turn: 7,
        },
        &json!({
            "kind": "handoff.relay", "queue": "handoff", "waits": [1, 3, 9, 60, 300],
            "unique": "s-1/7", "serial": "relay:s-1", "payload": { "session_id": "s-1", "turn": 7 },
        }),
    );
    is_kept(
        &AgentUnreachable {
            session_id: session(),
            turn: 7,
        },
        &json!({
            "kind": "agent.unreachable", "queue": "people", "waits": [1, 3, 9, 60, 300],
            "unique": "s-1/7", "serial": null, "payload": { "session_id": "s-1", "turn": 7 },
        }),
    );
    is_kept(
        &SlackFace {
            session_id: session(),
            handoff_id: handoff(),
        },
        &json!({
            "kind": "slack.face", "queue": "handoff", "waits": [1, 3, 9, 60, 300], "unique": null,
            "serial": null, "payload": { "session_id": "s-1", "handoff_id": "h-1" },
        }),
    );
    is_kept(
        &SlackNote {
            session_id: session(),
            cause: "Ev1".to_owned(),
            notice: Notice::TakenOver {
                by: "U1".to_owned(),
            },
        },
        &json!({
            "kind": "slack.note", "queue": "handoff", "waits": [1, 3, 9, 60, 300, 1800, 3600],
            "unique": "Ev1", "serial": null,
            "payload": { "session_id": "s-1", "cause": "Ev1", "notice": { "what": "taken_over", "by": "U1" } },
        }),
    );
    is_kept(
        &SlackOpenReply {
            session_id: session(),
            handoff_id: handoff(),
            by: "U1".to_owned(),
            trigger_id: "1.2".to_owned(),
        },
        &json!({
            "kind": "slack.open_reply", "queue": "people", "waits": [], "unique": null, "serial": null,
            "payload": { "session_id": "s-1", "handoff_id": "h-1", "by": "U1", "trigger_id": "1.2" },
        }),
    );
    is_kept(
        &SlackPerson {
            user_id: "U1".to_owned(),
        },
        &json!({
            "kind": "slack.person", "queue": "people", "waits": [1, 3, 9, 60], "unique": "U1",
            "serial": null, "payload": { "user_id": "U1" },
        }),
    );
}
