//! What a person does on the page. Each is an ordinary form: it answers with the page, or with a
//! sentence that says why it could not be done.

use axum::{
    Form, Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Redirect, Response},
    routing::post,
};
use serde::Deserialize;

use super::{Shown, switches};
use crate::slack::{ANNA, AppAnswer, InboundError, SlackUser, USERS};

pub(super) fn routes() -> Router<Shown> {
    Router::new()
        .route("/switch", post(switch))
        .route("/slack/press", post(press))
        .route("/slack/reply", post(reply))
        .route("/slack/submit", post(submit))
        .route("/slack/close", post(close))
        .route_layer(middleware::from_fn(from_this_page_only))
}

/// Why something could not be done, in a sentence.
#[derive(Debug)]
pub(super) struct Refused(StatusCode, String);

impl Refused {
    fn because(sentence: impl Into<String>) -> Self {
        Self(StatusCode::UNPROCESSABLE_ENTITY, sentence.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

/// Other sites that are open in the developer's browser must not press our buttons.
async fn from_this_page_only(request: Request, next: Next) -> Response {
    if is_from_elsewhere(request.headers()) {
        return Refused(StatusCode::FORBIDDEN, "This is for the page itself.".into())
            .into_response();
    }
    next.run(request).await
}

fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let site = text(header::HeaderName::from_static("sec-fetch-site"));
    let is_other_origin = text(header::ORIGIN).is_some_and(|origin| {
        let from = origin.split_once("://").map(|(_, from)| from);
        from.is_none() || from != text(header::HOST)
    });
    is_other_origin || !matches!(site, None | Some("same-origin" | "none"))
}

#[derive(Debug, Deserialize)]
struct SwitchForm {
    service: String,
    trouble: String,
}

async fn switch(
    State(shown): State<Shown>,
    Form(form): Form<SwitchForm>,
) -> Result<Redirect, Refused> {
    let services = switches::all(&shown.people);
    let service = services.iter().find(|service| service.name == form.service);
    let service = service.ok_or_else(|| Refused::because("There is no such service."))?;
    let trouble = switches::read_form_value(&form.trouble);
    let trouble = trouble.map_err(|_| Refused::because("There is no such trouble."))?;
    service.switch.set(trouble);
    Ok(done(&shown))
}

/// A button of a message.
#[derive(Debug, Deserialize)]
struct Press {
    ts: String,
    action_id: String,
    person: Option<String>,
}

async fn press(State(shown): State<Shown>, Form(form): Form<Press>) -> Result<Redirect, Refused> {
    let slack = shown.people.slack.workspace();
    let user = user(form.person.as_deref());
    let answer = slack.press(&form.ts, &form.action_id, user).await?;
    accepted(&shown, &answer)
}

/// A reply in the thread of a message.
#[derive(Debug, Deserialize)]
struct Reply {
    ts: String,
    text: String,
    person: Option<String>,
}

async fn reply(State(shown): State<Shown>, Form(form): Form<Reply>) -> Result<Redirect, Refused> {
    let slack = shown.people.slack.workspace();
    let user = user(form.person.as_deref());
    let answer = slack.reply_in_thread(&form.ts, &form.text, user).await?;
    accepted(&shown, &answer)
}

/// A modal; its fields are named `block/action`.
async fn submit(
    State(shown): State<Shown>,
    Form(form): Form<Vec<(String, String)>>,
) -> Result<Redirect, Refused> {
    let view = form.iter().find(|(name, _)| name == "view");
    let (_, view) = view.ok_or_else(|| Refused::because("Which modal?"))?;
    let values: Vec<(&str, &str, &str)> = form
        .iter()
        .filter_map(|(name, value)| {
            let (block, action) = name.split_once('/')?;
            Some((block, action, value.as_str()))
        })
        .collect();
    let slack = shown.people.slack.workspace();
    let answer = slack.submit_view(view, &values).await?;
    accepted(&shown, &answer)
}

#[derive(Debug, Deserialize)]
struct Close {
    view: String,
}

async fn close(State(shown): State<Shown>, Form(form): Form<Close>) -> Result<Redirect, Refused> {
    let slack = shown.people.slack.workspace();
    match slack.close_view(&form.view).await? {
        Some(answer) => accepted(&shown, &answer),
        None => Ok(done(&shown)),
    }
}

/// The person who acts; the first one, if the form does not say.
fn user(id: Option<&str>) -> SlackUser {
    let named = USERS.into_iter().find(|user| Some(user.id) == id);
    named.unwrap_or(ANNA)
}

/// What Slack shows when the app does not take something.
fn accepted(shown: &Shown, answer: &AppAnswer) -> Result<Redirect, Refused> {
    shown.world.touch();
    if answer.is_ok() {
        return Ok(done(shown));
    }
    let because = answer.status.map_or_else(
        || "it did not answer within three seconds".to_owned(),
        |status| format!("it answered {status}"),
    );
    Err(Refused(
        StatusCode::BAD_GATEWAY,
        format!("growth-chat did not take it: {because}."),
    ))
}

impl From<InboundError> for Refused {
    fn from(error: InboundError) -> Self {
        Self::because(error.to_string())
    }
}

/// Back to the page, and other windows see it.
fn done(shown: &Shown) -> Redirect {
    shown.world.touch();
    Redirect::to("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                let name = header::HeaderName::from_static(name);
                (name, header::HeaderValue::from_static(value))
            })
            .collect()
    }

    #[test]
    fn another_site_is_told_from_this_one() {
        for (given, elsewhere) in [
            (vec![("host", "localhost:1")], false),
            (
                vec![
                    ("host", "localhost:1"),
                    ("origin", "http://localhost:1"),
                    ("sec-fetch-site", "same-origin"),
                ],
                false,
            ),
            (
                vec![("host", "localhost:1"), ("origin", "http://localhost:2")],
                true,
            ),
            (
                vec![("host", "localhost:1"), ("sec-fetch-site", "same-site")],
                true,
            ),
            (vec![("host", "localhost:1"), ("origin", "null")], true),
        ] {
            assert_eq!(is_from_elsewhere(&headers(&given)), elsewhere, "{given:?}");
        }
    }
}
