//! `GET /demo`: a page with the widget. Not in production.

use axum::{extract::State as StateOf, response::Html};

use crate::state::State;

static PAGE: &str = include_str!("../../../widget/demo.html");

/// Fills in the site key. Legal keys need no escaping in HTML.
pub(crate) async fn get(StateOf(state): StateOf<State>) -> Html<String> {
    let token = state.config().widget_tokens.first();
    Html(PAGE.replace("{{WIDGET_TOKEN}}", token.map_or("", String::as_str)))
}
