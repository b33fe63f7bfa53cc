//! The door that Slack comes in by: signatures, repetitions, and what is not of Slack's form.

use reqwest::StatusCode;
use sandbox::slack::{SLACK_SIGNING_SECRET, signature};
use serde_json::{Value, json};

use super::{
    people::{ADA, button, form, handed_off, jobs, now, reply_event, said, signed, write},
    support::{App, assert_problem, body_of},
};

#[tokio::test]
async fn without_a_signing_secret_there_is_no_such_page() {
    let app = App::start_with(|config| config.slack_signing_secret = None).await;
    for path in ["/slack/events", "/slack/interactions"] {
        let response = signed(&app, path, "{}".to_owned()).send().await.unwrap();
        assert_problem(response, 404, "not_found").await;
    }
}

#[tokio::test]
async fn slack_is_answered_its_challenge() {
    let app = App::start().await;
    let body = json!({"type": "url_verification", "challenge": "c", "token": "t"}).to_string();
    let response = signed(&app, "/slack/events", body).send().await.unwrap();
    let answer = body_of(response, StatusCode::OK).await;
    assert_eq!(answer, json!({"challenge": "c"}));
}

#[tokio::test]
async fn what_slack_has_not_signed_just_now_is_refused_and_changes_nothing() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    handed_off(&app, "s1").await;
    let body = reply_event("Ev1", ADA, "reply: Hi").to_string();
    let (now, sign) = (now(), signature);
    let wrong = [
        (now, sign("another secret", now, &body)),
        (now - 301, sign(SLACK_SIGNING_SECRET, now - 301, &body)),
        (now + 400, sign(SLACK_SIGNING_SECRET, now + 400, &body)),
        (now - 1, sign(SLACK_SIGNING_SECRET, now, &body)),
        (
            now,
            sign(SLACK_SIGNING_SECRET, now, &body).replacen("v0", "v1", 1),
        ),
        (now, String::new()),
    ];
    for (at, signature) in wrong {
        let request = app
            .client
            .post(app.url("/slack/events"))
            .header("x-slack-request-timestamp", at)
            .header("x-slack-signature", signature)
            .body(body.clone());
        assert_problem(request.send().await.unwrap(), 401, "invalid_signature").await;
    }
    let bare = app.client.post(app.url("/slack/events")).body(body.clone());
    assert_problem(bare.send().await.unwrap(), 401, "invalid_signature").await;
    assert_eq!(said(&app, "s1").await.len(), 1);

    let right = signed(&app, "/slack/events", body).send().await.unwrap();
    assert_eq!(right.status(), StatusCode::OK);
    assert_eq!(said(&app, "s1").await.len(), 2);
}

#[tokio::test]
async fn what_slack_repeats_is_done_once() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    handed_off(&app, "s1").await;
    for _ in 0..3 {
        assert_eq!(
            write(&app, "Ev1", ADA, "reply: Hi").await.status(),
            StatusCode::OK
        );
    }
    // All at once, as repetitions after time-outs are.
    let again = (0..8).map(|_| write(&app, "Ev2", ADA, "reply: There"));
    for response in futures::future::join_all(again).await {
        assert_eq!(response.status(), StatusCode::OK);
    }
    let texts: Vec<String> = said(&app, "s1")
        .await
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    assert_eq!(texts, ["Hello", "Hi", "There"]);

    let press = form(&button("s1", "hand_back", ADA, "1.2.3"));
    for _ in 0..2 {
        let response = signed(&app, "/slack/interactions", press.clone())
            .send()
            .await;
        assert_eq!(response.unwrap().status(), StatusCode::OK);
    }
    let notices = jobs(&app, "slack.note").await;
    let of = |what: &str| {
        notices
            .iter()
            .filter(|it| it["notice"]["what"] == what)
            .count()
    };
    assert_eq!((of("taken_over"), of("handed_back")), (1, 1));
}

#[tokio::test]
async fn what_is_not_of_slacks_form_is_never_a_mistake_of_ours() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    handed_off(&app, "s1").await;
    let long = "x".repeat(100_000);
    let odd: Vec<Value> = vec![
        json!(null),
        json!(1),
        json!([]),
        json!({}),
        json!({"type": "event_callback"}),
        json!({"type": "event_callback", "event_id": 5, "event": {}}),
        json!({"type": "block_actions", "user": {"id": "U"}, "actions": 5}),
        json!({"type": "view_submission", "user": {"id": "U"}, "view": {"id": "V", "callback_id": "reply", "private_metadata": "no"}}),
        reply_event(&long, ADA, "reply: x"),
        reply_event("Ev\u{0}", ADA, "reply: x"),
        reply_event("Ev1", "U\u{0}", "reply: x"),
        button("s1\u{0}", "take_over", ADA, "1.1"),
        button("s1", "take_over", &long, "1.2"),
        button(&long, "take_over", ADA, "1.3"),
        button("s1", "take_over", ADA, &long),
    ];
    for payload in odd {
        for (path, body) in [
            ("/slack/events", payload.to_string()),
            ("/slack/interactions", form(&payload)),
            ("/slack/interactions", payload.to_string()),
        ] {
            let response = signed(&app, path, body).send().await.unwrap();
            let status = response.status();
            // An event of a kind that we do not know is fine.
            assert!(
                status.is_client_error() || status == StatusCode::OK,
                "{status} {path} {payload}"
            );
        }
    }
    assert_eq!(said(&app, "s1").await.len(), 1);
    for (path, body) in [
        ("/slack/events", "{"),
        ("/slack/interactions", "payload=%7B"),
    ] {
        let response = signed(&app, path, body.to_owned()).send().await.unwrap();
        assert!(response.status().is_client_error());
    }
    let huge = "x".repeat(1024 * 1024 + 1);
    let response = signed(&app, "/slack/events", huge).send().await.unwrap();
    assert_problem(response, 413, "body_too_large").await;
}

#[tokio::test]
async fn words_that_the_database_can_not_keep_are_kept_as_far_as_they_can_be() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    handed_off(&app, "s1").await;
    let response = write(&app, "Ev1", ADA, "reply: a\u{0}b &lt;i&gt; <@U1>").await;
    assert_eq!(response.status(), StatusCode::OK);
    let last = said(&app, "s1").await.pop().unwrap();
    assert_eq!(
        last,
        ("Ada".to_owned(), "a\u{fffd}b <i> @colleague".to_owned())
    );
}

#[tokio::test]
async fn a_button_of_a_session_that_is_gone_changes_nothing() {
    let app = App::start().await;
    for action in ["take_over", "taken", "reply", "hand_back"] {
        let body = form(&button("gone", action, ADA, action));
        let response = signed(&app, "/slack/interactions", body)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{action}");
    }
    assert_eq!(app.count("select count(*) from sessions").await, 0);
    assert_eq!(app.count("select count(*) from slack_threads").await, 0);
}

#[tokio::test]
async fn a_database_that_is_busy_has_slack_come_again_in_time() {
    let app = App::start().await;
    app.accept("s1", "m1", "Hello").await;
    handed_off(&app, "s1").await;
    let mut holder = app.pool.begin().await.unwrap();
    jobs::lock_serial_key(&mut holder, "session:s1")
        .await
        .unwrap();
    let began = tokio::time::Instant::now();
    let response = write(&app, "Ev1", ADA, "reply: Hi").await;
    assert_problem(response, 503, "unavailable").await;
    assert!(began.elapsed() < std::time::Duration::from_secs(3));
    holder.rollback().await.unwrap();
    // The repetition waits for the first one, if that is not done yet, and finds it done.
    assert_eq!(
        write(&app, "Ev1", ADA, "reply: Hi").await.status(),
        StatusCode::OK
    );
    assert_eq!(said(&app, "s1").await.len(), 2);
}
