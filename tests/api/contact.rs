//! The visitor leaves contact details.

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use reqwest::{StatusCode, header};
use serde_json::{Value, json};
use store::business_hours::{self, BusinessHours, Day, Promise};

use super::support::{App, OTHER_SECRET, TOKEN, assert_problem, body_of};

const REMINDERS: &str = "select count(*) from queue.jobs where kind = 'handoff.remind'";

/// Hours on every day of the week, by the clock of UTC.
async fn work(app: &App, hours: (u8, u8)) {
    let days = Day::ALL.into();
    let hours = BusinessHours::new("UTC".parse().unwrap(), hours, hours.1, days, [].into());
    let mut conn = app.pool.acquire().await.unwrap();
    business_hours::save(&mut conn, &hours.unwrap())
        .await
        .unwrap();
}

fn details() -> Value {
    json!({
        "name": "Ada", "email": "ada@visitor.example", "company": "Engines", "phone": "+44 20 7946 0000",
        "message": "Call me,\nplease.", "consent": true
    })
}

async fn leave(app: &App, path: &str, details: &Value) -> Value {
    let response = app.post(path).json(details).send().await.unwrap();
    body_of(response, StatusCode::ACCEPTED).await
}

#[tokio::test]
async fn contact_details_make_one_handoff_and_the_same_again_changes_nothing() {
    let app = App::start().await;
    let message = json!({
        "session_id": "s1", "message_id": "m1", "message": "Hello",
        "page_url": "https://www.company.example/pricing", "locale": "de"
    });
    let request = app
        .post("/chat")
        .header(header::ACCEPT, "application/json")
        .json(&message);
    body_of(request.send().await.unwrap(), StatusCode::ACCEPTED).await;

    let first = leave(&app, "/chat/s1/contact", &details()).await;
    assert_eq!(first["status"], "pending");
    // No worker has told of its hours.
    assert_eq!(first["promise"], Value::Null);
    assert_eq!(app.count(REMINDERS).await, 0);
    let second = leave(&app, "/api/v1/chat/s1/contact", &details()).await;
    assert_eq!(second, first);

    let kept: Value = sqlx::query_scalar(
        "select jsonb_agg(jsonb_build_object('id', handoff_id, 'trigger', trigger, 'turn', turn,
                'lead', lead, 'page', page_url, 'locale', locale, 'consent', consent_at is not null))
         from handoff_records where session_id = 's1'",
    )
    .fetch_one(&app.pool)
    .await
    .unwrap();
    assert_eq!(
        kept,
        json!([{
            "id": first["handoff_id"], "trigger": "contact_form", "turn": null,
            "lead": {
                "name": "Ada", "email": "ada@visitor.example", "company": "Engines",
                "phone": "+44 20 7946 0000", "message": "Call me,\nplease."
            },
            "page": "https://www.company.example/pricing", "locale": "de", "consent": true
        }])
    );
    let transcript = app.get("/chat/s1").send().await.unwrap();
    let session = body_of(transcript, StatusCode::OK).await["session"].clone();
    assert_eq!(session["stage"], 4);
    assert_eq!(session["status"], "open");
    assert_eq!(session["handoff"], "pending");
}

#[tokio::test]
async fn a_reply_is_promised_in_the_visitors_language_and_the_promise_stands() {
    let app = App::start().await;
    work(&app, (0, 24)).await;
    let message =
        json!({"session_id": "s1", "message_id": "m1", "message": "Hallo", "locale": "de-AT"});
    let request = app
        .post("/chat")
        .header(header::ACCEPT, "application/json")
        .json(&message);
    body_of(request.send().await.unwrap(), StatusCode::ACCEPTED).await;
    let first = leave(&app, "/chat/s1/contact", &details()).await;
    let text = first["promise"]["text"].as_str().unwrap();
    assert!(text.starts_with("Wir melden uns heute, "), "{text}");
    assert!(
        text.ends_with(", bis 24 Uhr bei Ihnen (Zeitzone UTC)."),
        "{text}"
    );
    let by: DateTime<Utc> = first["promise"]["by"].as_str().unwrap().parse().unwrap();
    let is_midnight = by.time() == NaiveTime::MIN;
    assert!(is_midnight && by.to_rfc3339().ends_with("+00:00"), "{by}");

    // Other hours, more facts: what was said stands, and people are reminded of it once.
    work(&app, (0, 1)).await;
    let mut more = details();
    more["message"] = json!("And another thing.");
    assert_eq!(leave(&app, "/chat/s1/contact", &more).await, first);
    let (kept_text, kept_by, created_at, remind_at): (
        String,
        DateTime<Utc>,
        DateTime<Utc>,
        DateTime<Utc>,
    ) = sqlx::query_as(
        "select promise_text, promise_by, r.created_at, j.run_at
             from handoff_records r, queue.jobs j where j.kind = 'handoff.remind'",
    )
    .fetch_one(&app.pool)
    .await
    .unwrap();
    assert_eq!((kept_text.as_str(), kept_by), (text, by));
    let promise = Promise {
        text: kept_text,
        by,
        made_at: created_at,
    };
    let planned = created_at + promise.remind_after();
    assert!(
        (remind_at - planned).abs() < TimeDelta::seconds(1),
        "{remind_at} {planned}"
    );
    assert_eq!(app.count(REMINDERS).await, 1);

    // A reload of the page knows it, too.
    let transcript = app.get("/chat/s1").send().await.unwrap();
    let session = body_of(transcript, StatusCode::OK).await["session"].clone();
    assert_eq!(session["promise"], first["promise"]);
}

#[tokio::test]
async fn hours_of_a_newer_version_promise_nothing_and_harm_nobody() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    sqlx::query("insert into business_hours (hours) values ('{\"timezone\": \"Mars/Olympus\"}')")
        .execute(&app.pool)
        .await
        .unwrap();
    let taken = leave(&app, "/chat/s1/contact", &details()).await;
    assert_eq!(taken["promise"], Value::Null);
    // A promise that becomes possible later is made then.
    work(&app, (0, 24)).await;
    let taken = leave(&app, "/chat/s1/contact", &details()).await;
    assert!(taken["promise"]["text"].is_string(), "{taken}");
    assert_eq!(app.count(REMINDERS).await, 1);
}

#[tokio::test]
async fn what_the_form_says_stands_against_what_a_model_understood() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    let mut conn = app.pool.acquire().await.unwrap();
    let session_id = "s1".parse().unwrap();
    let understood = |email: &str, need: &str| store::handoffs::Lead {
        email: Some(email.to_owned()),
        need: Some(need.to_owned()),
        ..store::handoffs::Lead::default()
    };
    for (round, lead) in [
        understood("wrong@visitor.example", "an audit"),
        understood("worse@visitor.example", "two audits"),
    ]
    .into_iter()
    .enumerate()
    {
        let new = store::handoffs::NewHandoff {
            handoff_id: format!("h{round}").parse().unwrap(),
            session_id: &session_id,
            turn: Some(1),
            trigger: store::handoffs::Trigger::QualifiedLead,
            lead: &lead,
            summary: Some("Wants an audit"),
            consent: false,
            promise: None,
        };
        let (id, _) = store::handoffs::open_or_update(&mut conn, &new)
            .await
            .unwrap();
        assert_eq!(id.as_str(), "h0");
        let taken = leave(&app, "/chat/s1/contact", &details()).await;
        assert_eq!(taken["handoff_id"], "h0");
    }
    let (lead, trigger, turn): (Value, String, i32) =
        sqlx::query_as("select lead, trigger, turn from handoff_records")
            .fetch_one(&app.pool)
            .await
            .unwrap();
    assert_eq!(lead["email"], "ada@visitor.example");
    assert_eq!(lead["need"], "an audit");
    assert_eq!((trigger.as_str(), turn), ("qualified_lead", 1));
}

#[tokio::test]
async fn a_closed_session_takes_contact_details_and_stays_closed() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    let response = app.post("/chat/s1/close").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    leave(&app, "/chat/s1/contact", &details()).await;
    let closed = "select count(*) from sessions where status = 'closed' and stage = 4";
    assert_eq!(app.count(closed).await, 1);
}

#[tokio::test]
async fn contact_details_at_the_same_moment_make_one_handoff() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    let details = details();
    let all = futures::future::join_all((0..16).map(|_| leave(&app, "/chat/s1/contact", &details)));
    let taken = all.await;
    assert!(taken.iter().all(|one| *one == taken[0]), "{taken:?}");
    assert_eq!(app.count("select count(*) from handoff_records").await, 1);
}

#[tokio::test]
async fn nobody_leaves_details_in_a_session_of_somebody_else() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    let url = app.url("/chat/s1/contact");
    let post = || {
        app.client
            .post(&url)
            .header("x-widget-token", TOKEN)
            .json(&details())
    };
    assert_problem(post().send().await.unwrap(), 404, "session_not_found").await;
    let other = post().bearer_auth(OTHER_SECRET).send().await.unwrap();
    assert_problem(other, 404, "session_not_found").await;
    let unknown = app
        .post("/chat/s2/contact")
        .json(&details())
        .send()
        .await
        .unwrap();
    assert_problem(unknown, 404, "session_not_found").await;
    let without_key = app.client.post(&url).json(&details()).send().await.unwrap();
    assert_problem(without_key, 403, "widget_token").await;
    assert_eq!(app.count("select count(*) from handoff_records").await, 0);
    assert_eq!(
        app.count("select count(*) from sessions where stage = 4")
            .await,
        0
    );
}

#[tokio::test]
async fn hostile_details_are_refused() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    let with = |field: &str, value: Value| {
        let mut details = details();
        details[field] = value;
        details.to_string().into_bytes()
    };
    let cases: Vec<(Vec<u8>, u16, &str)> = vec![
        (b"".to_vec(), 400, "invalid_json"),
        (b"[]".to_vec(), 422, "invalid_body"),
        (
            br#"["Ada", "ada@visitor.example"]"#.to_vec(),
            422,
            "invalid_body",
        ),
        (b"{\"email\":\"\xc3\x28\"}".to_vec(), 400, "invalid_json"),
        (br#"{"consent":true}"#.to_vec(), 422, "invalid_body"),
        (with("consent", json!(false)), 422, "consent_required"),
        (with("consent", json!(null)), 422, "invalid_body"),
        (with("consent", json!("yes")), 422, "invalid_body"),
        (with("email", json!("ada")), 422, "invalid_email"),
        (
            with("email", json!("a@b.example\r\nBcc: c@d.example")),
            422,
            "invalid_email",
        ),
        (
            with("email", json!("a@b.example\u{0}")),
            400,
            "invalid_text",
        ),
        (with("name", json!("Ada\nLovelace")), 422, "invalid_body"),
        (with("name", json!("x".repeat(201))), 422, "invalid_body"),
        (with("company", json!("\u{0}")), 400, "invalid_text"),
        (
            with("phone", json!("javascript:alert(1)")),
            422,
            "invalid_body",
        ),
        (
            with("message", json!("x".repeat(2_001))),
            422,
            "invalid_body",
        ),
        (with("message", json!({"$ne": 1})), 422, "invalid_body"),
        (
            with("padding", json!("x".repeat(20_000))),
            413,
            "body_too_large",
        ),
    ];
    for (body, status, code) in cases {
        let request = app
            .post("/chat/s1/contact")
            .header(header::CONTENT_TYPE, "application/json")
            .body(body);
        assert_problem(request.send().await.unwrap(), status, code).await;
    }
    let form = app
        .post("/chat/s1/contact")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body("email=a%40b.example&consent=true");
    assert_problem(form.send().await.unwrap(), 415, "unsupported_media_type").await;
    assert_eq!(app.count("select count(*) from handoff_records").await, 0);
}
