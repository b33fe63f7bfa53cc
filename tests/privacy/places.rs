//! What is outside is erased with every name that it ever had; what can't be reached or isn't known of is named
//! in the receipt, and never said to be deleted.

use reqwest::StatusCode;
use sandbox::switch::Trouble;
use serde_json::{Value, json};
use sqlx::{PgPool, query, query_scalar};
use store::{
    privacy::{self, NewRequest, RequestedBy, Scope},
    webhooks::{NewAttempt, begin_attempt},
};
use tokio::time::{Duration, sleep, timeout};

use crate::support::{ApiProcess, PATIENCE, TestSystem};

async fn system() -> TestSystem {
    let mut system = TestSystem::new().await;
    system.set("PRIVACY_SECRET", &"a".repeat(32));
    system
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let holds = async {
        while !condition().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, holds)
        .await
        .unwrap_or_else(|_| panic!("it did not come to this: {what}"));
}

async fn leave_contact(api: &ApiProcess, email: &str) {
    let details = json!({"email": email, "name": "Jo", "consent": true});
    let left = api.post("/chat/s1/contact").json(&details).send();
    assert_eq!(left.await.unwrap().status(), StatusCode::ACCEPTED);
}

/// Has `s1` erased; the receipt.
async fn erased(pool: &PgPool) -> Value {
    let request: String = query_scalar("select ops.erase_session('s1')")
        .fetch_one(pool)
        .await
        .unwrap();
    let done = async {
        loop {
            let receipt: Option<Value> =
                query_scalar("select receipt from privacy_requests where request_id = $1")
                    .bind(&request)
                    .fetch_one(pool)
                    .await
                    .unwrap();
            if let Some(receipt) = receipt {
                return receipt;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, done).await.expect("no receipt")
}

/// `(system, state)` of everything that a receipt names.
fn states(receipt: &Value) -> Vec<(&str, &str)> {
    let outside = receipt["statement"]["outside"].as_array().unwrap();
    let word = |it: &'_ Value| -> &'static str {
        let words = [
            "slack", "crm", "email", "endpoint", "done", "remains", "pending",
        ];
        words.into_iter().find(|word| *it == **word).unwrap()
    };
    let mut states: Vec<_> = outside
        .iter()
        .map(|it| (word(&it["system"]), word(&it["state"])))
        .collect();
    states.sort_unstable();
    states
}

/// A handoff of `s1`, with attempts that SQL adds.
async fn handed_off(pool: &PgPool, lead: Value) {
    query("insert into sessions (session_id) values ('s1')")
        .execute(pool)
        .await
        .unwrap();
    query(
        "insert into handoff_records (session_id, handoff_id, trigger, lead)
         values ('s1', 'h1', 'contact_form', $1)",
    )
    .bind(lead)
    .execute(pool)
    .await
    .unwrap();
}

async fn delivery(pool: &PgPool, channel: &str, status: &str, reference: Value) {
    query(
        "insert into handoff_deliveries (session_id, handoff_id, channel, status, reference)
         values ('s1', 'h1', $1, $2, $3)",
    )
    .bind(channel)
    .bind(status)
    .bind(reference)
    .execute(pool)
    .await
    .unwrap();
}

async fn attempt(
    pool: &PgPool,
    channel: &str,
    number: i32,
    outcome: Option<&str>,
    address: Option<&str>,
) {
    query(
        "with asked as (update handoff_records set crm_asked = crm_asked || jsonb_build_object($2::int, $4::text)
                        where $4::text is not null)
         insert into handoff_attempts (session_id, handoff_id, channel, attempt, job_id, lease, started_at,
                                       ended_at, outcome)
         values ('s1', 'h1', $1, $2, 1, 1, now() - interval '1 hour',
                 case when $3::text is not null then now() - interval '1 hour' end, $3)",
    )
    .bind(channel)
    .bind(number)
    .bind(outcome)
    .bind(address)
    .execute(pool)
    .await
    .unwrap();
}

/// What an erasure of the person would keep of `s1`: the places, and the addresses to look for.
async fn remembered(pool: &PgPool) -> (Vec<Value>, Value) {
    let session_id = "s1".parse().unwrap();
    let request = NewRequest {
        request_id: "r1",
        scope: Scope::Person,
        session_id: Some(&session_id),
        email: None,
        requested_by: RequestedBy::Operator,
        waits: false,
    };
    let mut conn = pool.acquire().await.unwrap();
    privacy::add(&mut conn, &request).await.unwrap();
    privacy::remember_outside(&mut conn, "r1", &session_id)
        .await
        .unwrap();
    let (outside, addresses): (Value, Value) =
        sqlx::query_as("select outside, addresses from privacy_requests where request_id = 'r1'")
            .fetch_one(pool)
            .await
            .unwrap();
    (outside.as_array().unwrap().clone(), addresses)
}

const SENT: &str =
    "select count(*) from handoff_attempts where channel = 'crm' and outcome = 'sent'";

async fn count(pool: &PgPool, sql: &'static str) -> i64 {
    query_scalar(sql).fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn a_contact_goes_with_the_one_that_had_the_address_before_it_was_corrected() {
    let mut system = system().await;
    // Slack is tried again much later, so that the handoff stays open.
    system.set("HANDOFF_RETRY_BACKOFF_SECONDS", "600,600,600");
    system.people.slack.set_trouble(Some(Trouble::Status(500)));
    let pool = system.pool().await;
    let api = system.serve().await;
    api.ask("s1", "m1", "Hello").await.rest().await;
    let hubspot = &system.people.hubspot;
    leave_contact(&api, "first@visitor.example").await;
    until("the CRM has it", async || count(&pool, SENT).await == 1).await;
    leave_contact(&api, "second@visitor.example").await;
    system.people.slack.set_trouble(None);
    // What is on its way when the rows go would be waited for, a minute.
    until("both have reached everybody", async || {
        for due in [
            "update queue.jobs set run_at = now() where queue = 'handoff' and kind <> 'handoff.remind'",
            "select pg_notify('growth_chat', E'test\nq handoff')",
        ] {
            query(due).execute(&pool).await.unwrap();
        }
        let left = "select count(*) from queue.jobs where queue = 'handoff' and kind <> 'handoff.remind'";
        count(&pool, left).await == 0 && count(&pool, SENT).await == 2
    })
    .await;
    assert_eq!(hubspot.contacts().len(), 2);
    let receipt = erased(&pool).await;
    assert!(hubspot.contacts().is_empty(), "{:?}", hubspot.contacts());
    let all = [("crm", "done"), ("crm", "done"), ("slack", "done")];
    assert_eq!(states(&receipt), all, "{receipt}");
    assert!(hubspot.blocked().is_empty());
}

#[tokio::test]
async fn an_attempt_that_nobody_heard_of_is_looked_for_by_the_address_that_it_had() {
    let system = TestSystem::new().await;
    let pool = system.pool().await;
    handed_off(&pool, json!({"email": "second@visitor.example"})).await;
    delivery(
        &pool,
        "crm",
        "delivered",
        json!({"contact": "2", "note": "1"}),
    )
    .await;
    let (first, second) = (
        Some("first@visitor.example"),
        Some("second@visitor.example"),
    );
    attempt(&pool, "crm", 1, Some("failed"), first).await;
    attempt(&pool, "crm", 2, Some("unknown"), second).await;
    // It made the same record as the one before.
    attempt(&pool, "crm", 3, Some("sent"), second).await;
    let (outside, addresses) = remembered(&pool).await;
    let references: Vec<&Value> = outside.iter().map(|it| &it["reference"]).collect();
    assert_eq!(outside.len(), 2, "{outside:?}");
    assert!(
        references.contains(&&json!({"handoff_id": "h1", "attempt": 1})),
        "{outside:?}"
    );
    assert!(
        references.contains(&&json!({"contact": "2", "note": "1"})),
        "{outside:?}"
    );
    assert_eq!(addresses, json!({"h1/1": first}));
}

#[tokio::test]
async fn whatever_may_have_arrived_is_named_although_nobody_heard_of_it() {
    let system = TestSystem::new().await;
    let pool = system.pool().await;
    // Without an address, as a webhook takes it.
    handed_off(&pool, json!({"name": "Jo"})).await;
    for channel in ["crm", "email"] {
        delivery(&pool, channel, "pending", json!({})).await;
        attempt(&pool, channel, 1, Some("unknown"), None).await;
    }
    let endpoint: String = query_scalar(
        "select endpoint_id from ops.add_webhook_endpoint('https://hooks.example', array['handoff.created'])",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    let (session_id, handoff_id) = ("s1".parse().unwrap(), "h1".parse().unwrap());
    for number in [1, 2] {
        let new = NewAttempt {
            endpoint_id: &endpoint,
            event_id: "evt_1",
            event: "handoff.created",
            job_id: 1,
            attempt: number,
            handoff: Some((&session_id, &handoff_id)),
        };
        let begun = begin_attempt(&pool, &new).await.unwrap().unwrap();
        assert_eq!(begun.lead.unwrap().name.as_deref(), Some("Jo"));
    }
    let (outside, addresses) = remembered(&pool).await;
    let about = |system: &str| {
        let mut found = outside.iter().filter(|it| it["system"] == system);
        let one = found
            .next()
            .unwrap_or_else(|| panic!("{outside:?}"))
            .clone();
        assert!(found.next().is_none(), "{outside:?}");
        one
    };
    assert_eq!(
        about("crm")["reference"],
        json!({"handoff_id": "h1", "attempt": 1})
    );
    assert_eq!(about("crm")["state"], "pending");
    assert_eq!(about("email")["state"], "remains");
    assert_eq!(about("email")["error"], "nobody knows whether it was sent");
    assert_eq!(
        about("endpoint")["reference"],
        json!({"handoff_id": "h1", "endpoint_id": endpoint})
    );
    assert_eq!(about("endpoint")["state"], "remains");
    assert_eq!(addresses, json!({}));
}

#[tokio::test]
async fn a_mail_that_was_refused_is_not_named() {
    let system = TestSystem::new().await;
    let pool = system.pool().await;
    handed_off(&pool, json!({"name": "Jo"})).await;
    delivery(&pool, "email", "dead", json!({})).await;
    attempt(&pool, "email", 1, Some("refused"), None).await;
    delivery(&pool, "crm", "skipped", json!({})).await;
    attempt(&pool, "crm", 1, Some("skipped"), None).await;
    assert_eq!(remembered(&pool).await, (Vec::new(), json!({})));
}

#[tokio::test]
async fn a_message_that_the_webhook_took_and_nobody_finds_is_not_said_to_be_deleted() {
    let system = system().await;
    let pool = system.pool().await;
    handed_off(&pool, json!({"name": "Jo"})).await;
    delivery(&pool, "slack", "delivered", json!({"via": "webhook"})).await;
    attempt(&pool, "slack", 1, Some("sent"), None).await;
    let _worker = system.worker().await;
    let receipt = erased(&pool).await;
    assert_eq!(states(&receipt), [("slack", "remains")], "{receipt}");
    let text = receipt["text"].as_str().unwrap();
    assert!(
        text.contains("The message in Slack could not be deleted"),
        "{text}"
    );
}

#[tokio::test]
async fn an_address_can_be_given_where_no_list_of_processes_shows_it() {
    let system = system().await;
    let api = system.serve().await;
    api.ask("s1", "m1", "Hello").await.rest().await;
    leave_contact(&api, "jo@visitor.example").await;
    let input = "jo@visitor.example\n";
    let copy = system
        .run_with_input(&["export", "--email", "-"], input)
        .await;
    assert!(copy.status.success(), "{copy:?}");
    assert!(
        String::from_utf8(copy.stdout)
            .unwrap()
            .contains("jo@visitor.example")
    );
    let receipt = system
        .run_with_input(&["erase", "--email", "-"], input)
        .await;
    assert!(receipt.status.success(), "{receipt:?}");
    let receipt: Value = serde_json::from_slice(&receipt.stdout).unwrap();
    assert_eq!(receipt["statement"]["session_ids"], json!(["s1"]));
    let none = system
        .run_with_input(&["erase", "--email", "-"], "\n")
        .await;
    assert_eq!(none.status.code(), Some(1));
}
