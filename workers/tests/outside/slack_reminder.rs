//! A promise that nobody is about to keep is told in Slack, once.

use jobs::Outcome;
use sandbox::{
    postgres::TestDatabase,
    slack::{PostedMessage, Via},
    switch::Trouble,
};
use serde_json::{Value, json};
use sqlx::PgPool;
use store::handoffs::HandoffKey;
use workers::{
    handlers::handoff_remind::{Attempt, remind},
    handoff::slack::{Place, TAKEN},
};

use crate::{dossiers::dossier, slack::Office};

const FIRST: Attempt = Attempt {
    is_first: true,
    is_last: false,
};
const AGAIN: Attempt = Attempt {
    is_first: false,
    is_last: false,
};

struct Promised {
    _database: TestDatabase,
    pool: PgPool,
    office: Office,
    key: HandoffKey,
    message: Place,
}

impl Promised {
    /// A handoff whose message is in Slack, and which nobody has taken.
    async fn new() -> Self {
        let database = TestDatabase::create().await.unwrap();
        let pool = database.pool().await.unwrap();
        let office = Office::new().await;
        let dossier = dossier("h-1");
        let posted = office.post(&dossier).await.unwrap();
        let promised = Self {
            _database: database,
            pool,
            office,
            key: HandoffKey {
                session_id: dossier.session_id,
                handoff_id: dossier.handoff_id,
            },
            message: serde_json::from_value(posted.reference.clone()).unwrap(),
        };
        promised
            .run("insert into sessions (session_id) values ('s-1')")
            .await;
        promised
            .run(
                "insert into handoff_records (session_id, handoff_id, trigger, promise_text, promise_by)
                 values ('s-1', 'h-1', 'contact_form', 'today', now() + interval '10 minutes')",
            )
            .await;
        promised
            .run(
                "insert into handoff_deliveries (session_id, handoff_id, channel)
                 values ('s-1', 'h-1', 'slack')",
            )
            .await;
        promised.slack_says("delivered", &posted.reference).await;
        promised
    }

    async fn run(&self, sql: &'static str) {
        sqlx::query(sql).execute(&self.pool).await.unwrap();
    }

    async fn slack_says(&self, status: &str, reference: &Value) {
        sqlx::query("update handoff_deliveries set status = $1, reference = $2")
            .bind(status)
            .bind(reference)
            .execute(&self.pool)
            .await
            .unwrap();
    }

    async fn remind(&self, attempt: Attempt) -> jobs::HandlerResult {
        remind(&self.pool, &self.office.client, &self.key, attempt).await
    }

    fn in_thread(&self) -> Vec<PostedMessage> {
        self.office.workspace().thread(&self.message.ts)
    }
}

#[tokio::test]
async fn nobody_has_taken_it_and_the_thread_and_the_channel_are_told_once() {
    let promised = Promised::new().await;
    let posting = promised.office.workspace().switch_of("chat.postMessage");
    posting.once(Trouble::TakeAndCut);
    promised.remind(FIRST).await.unwrap_err();
    assert_eq!(promised.remind(AGAIN).await.unwrap(), Outcome::Done);
    let [reminder] = promised.in_thread().try_into().unwrap();
    assert!(reminder.broadcast);
    assert_eq!(reminder.button(TAKEN).unwrap()["value"], "s-1:h-1");
}

#[tokio::test]
async fn what_was_lost_on_the_way_is_sent_again() {
    let promised = Promised::new().await;
    let posting = promised.office.workspace().switch_of("chat.postMessage");
    posting.once(Trouble::Status(504));
    promised.remind(FIRST).await.unwrap_err();
    assert_eq!(promised.remind(AGAIN).await.unwrap(), Outcome::Done);
    assert_eq!(promised.in_thread().len(), 1);
}

#[tokio::test]
async fn nothing_is_said_of_what_is_taken_was_not_promised_or_is_gone() {
    let promised = Promised::new().await;
    for change in [
        "update handoff_records set taken_by = 'Anna', taken_at = now()",
        "update handoff_records set taken_by = null, taken_at = null, promise_text = null, promise_by = null",
        "delete from handoff_records",
    ] {
        promised.run(change).await;
        assert_eq!(promised.remind(FIRST).await.unwrap(), Outcome::Done);
    }
    assert!(promised.in_thread().is_empty());
}

#[tokio::test]
async fn a_reminder_waits_for_the_message_that_it_is_about_but_not_for_ever() {
    let promised = Promised::new().await;
    promised.slack_says("pending", &json!({})).await;
    let waits = promised.remind(FIRST).await.unwrap();
    assert!(matches!(waits, Outcome::Snooze(_)), "{waits:?}");
    promised
        .run("update handoff_records set created_at = now() - interval '1 hour'")
        .await;
    assert_eq!(promised.remind(FIRST).await.unwrap(), Outcome::Done);
    let reminder = promised.office.messages().pop().unwrap();
    assert_eq!(reminder.thread_ts, None);
}

#[tokio::test]
async fn without_a_token_the_webhook_reminds() {
    let promised = Promised::new().await;
    promised
        .slack_says("delivered", &json!({"via": "webhook"}))
        .await;
    let posting = promised.office.workspace().switch_of("chat.postMessage");
    posting.set(Some(Trouble::Refuse("token_revoked".to_owned())));
    assert_eq!(promised.remind(FIRST).await.unwrap(), Outcome::Done);
    assert_eq!(promised.office.messages().pop().unwrap().via, Via::Webhook);
}
