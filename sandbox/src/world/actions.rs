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

pub(super) fn routes() -> Router<Shown> {
    Router::new()
        .route("/switch", post(switch))
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
