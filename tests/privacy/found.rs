//! A person is found by their address, wherever they left it, and nobody else is.

use sandbox::postgres::TestDatabase;
use serde_json::{Value, json};
use sqlx::{PgPool, query, query_scalar};
use store::{
    privacy::{Address, Found, sessions_of_email},
    settings::Settings,
};
use workers::privacy::{here::erase_here, secret::PrivacySecret};

use super::marker::tables_with;
use crate::support::TestSystem;

const ANN: &str = "ann@example.com";

/// A session in which this was written.
async fn wrote(pool: &PgPool, session: &str, text: &str) {
    query("insert into sessions (session_id, status) values ($1, 'open')")
        .bind(session)
        .execute(pool)
        .await
        .unwrap();
    query(
        "insert into messages (session_id, message_id, turn, role, body) values ($1, 'm', 1, 'user', $2)",
    )
    .bind(session)
    .bind(text)
    .execute(pool)
    .await
    .unwrap();
}

/// Contact details that were left in it.
async fn left(pool: &PgPool, session: &str, lead: Value) {
    query(
        "insert into handoff_records (session_id, handoff_id, trigger, lead)
         values ($1, 'h-' || $1, 'contact_form', $2)",
    )
    .bind(session)
    .bind(lead)
    .execute(pool)
    .await
    .unwrap();
}

async fn find(pool: &PgPool, address: &str) -> Found {
    let mut conn = pool.acquire().await.unwrap();
    let address = Address::parse(address).unwrap();
    sessions_of_email(&mut conn, &address, None).await.unwrap()
}

fn names<'a>(sessions: impl IntoIterator<Item = &'a store::ids::SessionId>) -> Vec<&'a str> {
    sessions
        .into_iter()
        .map(store::ids::SessionId::as_str)
        .collect()
}

fn secret() -> PrivacySecret {
    let variable = ("PRIVACY_SECRET".to_owned(), "a".repeat(32));
    PrivacySecret::read(&mut Settings::new([variable])).unwrap()
}

#[tokio::test]
async fn neither_a_copy_nor_an_erasure_reaches_whoever_has_a_similar_address() {
    let mut system = TestSystem::new().await;
    system.set("PRIVACY_SECRET", &"a".repeat(32));
    let pool = system.pool().await;
    wrote(&pool, "ann", "Write to Ann@Example.com.").await;
    wrote(&pool, "joann", "my address is joann@example.com").await;
    left(&pool, "joann", json!({"email": "joann@example.com"})).await;
    wrote(&pool, "australia", "the mail is ann@example.com.au").await;
    let before = tables_with(&pool, "nn@example.com").await;

    let copy = system.run(&["export", "--email", ANN]).await;
    assert!(copy.status.success(), "{copy:?}");
    let copy = String::from_utf8(copy.stdout).unwrap();
    assert!(copy.contains("Ann@Example.com"), "{copy}");
    assert!(!copy.contains("joann") && !copy.contains(".au"), "{copy}");

    let dry = system
        .run_with_input(&["erase", "--email", "-", "--dry-run"], "ANN@example.com\n")
        .await;
    assert!(dry.status.success(), "{dry:?}");
    let dry: Value = serde_json::from_slice(&dry.stdout).unwrap();
    assert_eq!(dry["sessions"].as_array().unwrap().len(), 1, "{dry}");
    assert_eq!(dry["sessions"][0]["session_id"], "ann");
    let longer = dry["in_longer_address"].as_array().unwrap();
    assert_eq!(longer.len(), 2, "{dry}");
    assert_eq!(longer[1]["handoffs"][0]["handoff_id"], "h-joann");
    assert!(!dry.to_string().contains('@'), "{dry}");
    let dry = system
        .run(&["erase", "--session", "joann", "--dry-run", "--text"])
        .await;
    let dry = String::from_utf8(dry.stdout).unwrap();
    assert!(dry.starts_with("1 session would be erased\n"), "{dry}");
    assert!(dry.contains("  session joann  began 2"), "{dry}");
    assert!(dry.contains("    handoff h-joann  made 2"), "{dry}");
    assert_eq!(tables_with(&pool, "nn@example.com").await, before);

    let erased = system.run(&["erase", "--email", ANN, "--wait", "0"]).await;
    let said = String::from_utf8(erased.stderr).unwrap();
    assert!(said.contains("what is here is erased"), "{said}");
    let rest: Vec<String> = query_scalar("select session_id from messages order by 1")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(rest, ["australia", "joann"]);
    let leads: i64 = query_scalar("select count(*) from handoff_records")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(leads, 1);
}

#[tokio::test]
async fn whoever_only_names_the_address_keeps_their_own_lead_until_an_operator_decides() {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool().await.unwrap();
    wrote(&pool, "bob", "my colleague is ann@example.com").await;
    left(&pool, "bob", json!({"email": "bob@example.com"})).await;
    let found = find(&pool, ANN).await;
    assert_eq!(names(&found.of_others), ["bob"]);
    assert_eq!(names(&found.theirs), Vec::<&str>::new());

    let request: String = query_scalar("select ops.erase_email($1)")
        .bind(ANN)
        .fetch_one(&pool)
        .await
        .unwrap();
    for _ in 0..2 {
        erase_here(&pool, &request, Some(&secret())).await.unwrap();
    }
    let rest: i64 = query_scalar("select count(*) from messages")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(rest, 1);
    let asked: Vec<String> =
        query_scalar("select session_id from ops.privacy_requests where status = 'waiting'")
            .fetch_all(&pool)
            .await
            .unwrap();
    assert_eq!(asked, ["bob"]);
}

#[tokio::test]
async fn an_address_is_found_in_everything_that_a_visitor_left() {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool().await.unwrap();
    left(&pool, "form", json!({"email": "Ann@Example.com "})).await;
    left(
        &pool,
        "note",
        json!({"name": "A", "message": "or write to ann@example.com"}),
    )
    .await;
    left(&pool, "transcript", json!({})).await;
    let said = json!([{"role": "user", "text": "I am ann@example.com"}]);
    query("update handoff_records set transcript = $1 where session_id = 'transcript'")
        .bind(said)
        .execute(&pool)
        .await
        .unwrap();
    left(&pool, "corrected", json!({"email": "anne@example.com"})).await;
    query("update handoff_records set crm_asked = $1 where session_id = 'corrected'")
        .bind(json!({"1": ANN}))
        .execute(&pool)
        .await
        .unwrap();
    wrote(&pool, "comment", "hello").await;
    query(
        "with turn as (insert into turns (session_id, turn, status, message_id, answer_id, finished_at)
                       values ('comment', 1, 'answered', 'm', 'a', now()))
         insert into feedback (session_id, turn, rating, comment) values ('comment', 1, 'up', $1)",
    )
    .bind("tell ann@example.com")
    .execute(&pool)
    .await
    .unwrap();
    // What we know ourselves is nobody's.
    wrote(&pool, "answer", "hello").await;
    query("update messages set role = 'assistant', body = $1 where session_id = 'answer'")
        .bind(ANN)
        .execute(&pool)
        .await
        .unwrap();
    let found = find(&pool, ANN).await;
    assert_eq!(
        names(&found.theirs),
        ["comment", "corrected", "form", "note", "transcript"]
    );
}

#[tokio::test]
async fn capitals_that_the_database_does_not_know_are_known() {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool().await.unwrap();
    wrote(&pool, "s1", "an MÜLLER@BÜCHER.example, bitte").await;
    left(&pool, "s2", json!({"email": "Müller@Bücher.EXAMPLE"})).await;
    let found = find(&pool, "müller@bücher.example").await;
    assert_eq!(names(&found.theirs), ["s1", "s2"]);
}

#[tokio::test]
async fn what_was_written_after_the_wish_stays() {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool().await.unwrap();
    wrote(&pool, "before", ANN).await;
    let request: String = query_scalar("select ops.erase_email($1)")
        .bind(format!("  {ANN}\n"))
        .fetch_one(&pool)
        .await
        .unwrap();
    wrote(&pool, "after", ANN).await;
    erase_here(&pool, &request, Some(&secret())).await.unwrap();
    let rest: Vec<String> = query_scalar("select session_id from messages")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(rest, ["after"]);
}

#[tokio::test]
async fn what_is_no_whole_address_is_refused_in_sql() {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool().await.unwrap();
    for text in [
        "e@",
        "@example.com",
        "Ann <ann@example.com>",
        "ann@example",
        "a..b@example.com",
        "ann@-example.com",
        "ann@example.com, joann@example.com",
    ] {
        let refused = query("select ops.erase_email($1)")
            .bind(text)
            .execute(&pool)
            .await;
        let error = refused.expect_err(text).to_string();
        assert!(error.contains("that is no e-mail address"), "{error}");
        assert!(!error.contains(text), "{error}");
    }
    for text in ["o'neil+x@mail.example.co.uk", "müller@bücher.example"] {
        assert!(Address::parse(text).is_some());
        query("select ops.erase_email($1)")
            .bind(text)
            .execute(&pool)
            .await
            .unwrap();
    }
}
