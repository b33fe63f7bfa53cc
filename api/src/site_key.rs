//! Which site a request is from: the site key of its widget.

use axum::{
    extract::{Request, State as StateOf},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{
    problem::{Code, Problem},
    state::State,
};

/// The header of the site key.
pub(crate) const WIDGET_TOKEN: &str = "x-widget-token";

/// Lets only requests pass that carry a site key, and notes which.
pub(crate) async fn require_widget_token(
    StateOf(state): StateOf<State>,
    mut request: Request,
    next: Next,
) -> Response {
    let token = request.headers().get(WIDGET_TOKEN);
    let site = token.and_then(|token| state.widget_tokens().accept(token.as_bytes()));
    match site {
        Some(site) => {
            request.extensions_mut().insert(site);
            next.run(request).await
        }
        None => Problem::new(Code::WidgetToken).into_response(),
    }
}
