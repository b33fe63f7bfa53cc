//! Whether Slack takes the bot token. Nothing is posted: the incoming webhook can't be tried without.

use anyhow::Context as _;
use secrecy::ExposeSecret;
use serde::Deserialize;
use workers::{clients::http_client, config::SlackConfig};

use super::{Context, Finding};

/// The scope without which nothing can be announced.
const NEEDED: &str = "chat:write";
/// The header in which Slack says what a token may do.
const SCOPES: &str = "x-oauth-scopes";

/// What `auth.test` answers.
#[derive(Debug, Deserialize)]
struct Answer {
    ok: bool,
    error: Option<String>,
}

pub(super) async fn probe(context: &Context) -> Finding {
    let Some(handoff) = &context.handoff else {
        return Finding::not_configured();
    };
    match ask(&handoff.slack).await {
        Ok((answer, scopes)) => judge(&answer, scopes.as_deref()),
        Err(error) => Finding::failed("the address of SLACK_API_BASE_URL can't be asked", error),
    }
}

async fn ask(slack: &SlackConfig) -> anyhow::Result<(Answer, Option<String>)> {
    let response = http_client()?
        .post(format!("{}/auth.test", slack.base_url))
        .bearer_auth(slack.bot_token.expose_secret())
        .send()
        .await
        .map_err(reqwest::Error::without_url)?;
    let scopes = response.headers().get(SCOPES);
    let scopes = scopes
        .and_then(|scopes| scopes.to_str().ok())
        .map(ToOwned::to_owned);
    let body = response
        .bytes()
        .await
        .map_err(reqwest::Error::without_url)?;
    // What is wrong with a body may quote it.
    let answer = serde_json::from_slice(&body)
        .ok()
        .context("the answer is not Slack's")?;
    Ok((answer, scopes))
}

fn judge(answer: &Answer, scopes: Option<&str>) -> Finding {
    let may = |scopes: &str| scopes.split(',').any(|scope| scope.trim() == NEEDED);
    match (answer, scopes) {
        (Answer { ok: true, .. }, Some(scopes)) if !may(scopes) => Finding::fail(format!(
            "the token of SLACK_BOT_TOKEN lacks {NEEDED}: add the scope to the app and install it again"
        )),
        (Answer { ok: true, .. }, _) => Finding::pass("the token of SLACK_BOT_TOKEN is good"),
        (Answer { error, .. }, _) => {
            // A code such as invalid_auth; whatever else it may be is not shown.
            let code = error.as_deref().filter(|code| {
                code.len() <= 64
                    && code
                        .bytes()
                        .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            });
            Finding::fail(format!(
                "the token of SLACK_BOT_TOKEN is refused ({}): take the bot token of the installed app",
                code.unwrap_or("without a reason")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Status, *};

    fn judged(answer: &str, scopes: Option<&str>) -> Finding {
        judge(&serde_json::from_str(answer).unwrap(), scopes)
    }

    #[test]
    fn a_token_has_to_be_taken_and_to_be_allowed_to_write() {
        for (answer, scopes, status) in [
            (r#"{"ok": true}"#, None, Status::Pass),
            (
                r#"{"ok": true}"#,
                Some("chat:write.public, chat:write"),
                Status::Pass,
            ),
            (r#"{"ok": true}"#, Some("chat:write.public"), Status::Fail),
            (
                r#"{"ok": false, "error": "invalid_auth"}"#,
                None,
                Status::Fail,
            ),
            (r#"{"ok": false}"#, None, Status::Fail),
        ] {
            assert_eq!(judged(answer, scopes).status, status, "{answer}");
        }
        assert!(
            judged(r#"{"ok": false, "error": "invalid_auth"}"#, None)
                .says
                .contains("invalid_auth")
        );
        let quoting = r#"{"ok": false, "error": "token xoxb-hunter2 is bad"}"#;
        assert!(!judged(quoting, None).says.contains("hunter2"));
    }
}
