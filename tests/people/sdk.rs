//! The chat class of npm's `ai`, majors 6 and 7, in a conversation that a person takes over.

use reqwest::StatusCode;
use sandbox::anthropic::Reply;

use super::support::{reply, take_over};
use crate::support::{
    TOKEN, TestSystem,
    tools::{Clients, skip},
};

#[tokio::test]
async fn ai_6_and_ai_7_speak_with_a_person() {
    match Clients::installed().await {
        Ok(clients) => {
            tokio::join!(speaks(&clients, "6"), speaks(&clients, "7"));
        }
        Err(reason) => skip("ai_6_and_ai_7_speak_with_a_person", &reason),
    }
}

async fn speaks(clients: &Clients, major: &str) {
    let system = TestSystem::new().await;
    system.anthropic.push(Reply::text("Good day."));
    let api = system.serve().await;
    let pool = system.pool().await;
    let url = api.url("");
    let variables = [
        ("BASE_URL", url.as_str()),
        ("WIDGET_TOKEN", TOKEN),
        ("AI_MAJOR", major),
    ];
    let mut script = clients.start("person", &variables);
    script.printed("ANSWERED").await;
    let session: String = sqlx::query_scalar("select session_id from sessions")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(take_over(&api, &session, 1).await, StatusCode::OK);
    script.printed("RELAYED").await;
    assert_eq!(reply(&api, 1, "reply: It is me").await, StatusCode::OK);
    let result = script.succeeded().await;
    assert_eq!(result["answer"], "It is me");
    assert_ne!(result["author"], "assistant");
    assert_eq!(system.anthropic.calls(), 1);
}
