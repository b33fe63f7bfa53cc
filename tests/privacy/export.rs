//! A copy of everything that is known of a visitor.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::TestSystem;

async fn told(system: &TestSystem) -> crate::support::ApiProcess {
    let api = system.serve().await;
    api.ask("s1", "m1", "What does a <b>sprint</b> cost?")
        .await
        .rest()
        .await;
    let details = json!({"email": "Ada@visitor.example", "name": "Ada", "message": "Call me", "consent": true});
    let response = api
        .post("/chat/s1/contact")
        .json(&details)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    let rating = json!({"turn": 1, "rating": "up", "comment": "very clear"});
    let response = api
        .post("/chat/s1/feedback")
        .json(&rating)
        .send()
        .await
        .unwrap();
    assert!(response.status().is_success());
    api
}

#[tokio::test]
async fn a_visitor_takes_along_what_was_said_rated_and_left() {
    let system = TestSystem::new().await;
    let api = told(&system).await;
    let response = api.get("/chat/s1/export").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(
        response.headers()["content-disposition"]
            .to_str()
            .unwrap()
            .starts_with("attachment")
    );
    let copy: Value = response.json().await.unwrap();
    let all = &copy["conversations"][0];
    assert_eq!(
        all["messages"][0]["text"],
        "What does a <b>sprint</b> cost?"
    );
    assert_eq!(all["messages"][1]["role"], "assistant");
    assert_eq!(all["feedback"][0]["comment"], "very clear");
    assert_eq!(all["handoffs"][0]["lead"]["email"], "Ada@visitor.example");

    let page = api
        .get("/chat/s1/export?format=html")
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        page.contains("&lt;b&gt;sprint&lt;/b&gt;") && !page.contains("<b>sprint"),
        "{page}"
    );

    let foreign = system
        .client
        .get(api.url("/chat/s1/export"))
        .header("x-widget-token", crate::support::TOKEN)
        .bearer_auth("CCCCCCCCCCCCCCCCCCCCCC")
        .send()
        .await
        .unwrap();
    assert_eq!(foreign.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_operator_finds_a_person_by_their_address_whatever_its_capitals() {
    let system = TestSystem::new().await;
    let _api = told(&system).await;
    for arguments in [
        &["export", "--email", "ada@VISITOR.example"][..],
        &["export", "--session", "s1"],
    ] {
        let said = system.run(arguments).await;
        assert!(said.status.success(), "{said:?}");
        let copy: Value = serde_json::from_slice(&said.stdout).unwrap();
        assert_eq!(
            copy["conversations"][0]["session"]["id"], "s1",
            "{arguments:?}"
        );
    }
    let said = system
        .run(&["export", "--email", "nobody@visitor.example"])
        .await;
    assert_eq!(said.status.code(), Some(1));
    assert!(said.stdout.is_empty());
}
