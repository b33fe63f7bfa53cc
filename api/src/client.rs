//! No request gets to the chat without somebody whose limits it counts for.

use std::net::SocketAddr;

use axum::{
    extract::{ConnectInfo, Request, State as StateOf},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{
    problem::{Code, Problem},
    state::State,
};

/// Notes the client of a request, or refuses it.
pub(crate) async fn require_client(
    StateOf(state): StateOf<State>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    // Whoever serves the router says who connected; without, nobody is believed.
    let client =
        peer.and_then(|ConnectInfo(peer)| state.edge().client(peer.ip(), request.headers()));
    match client {
        Some(client) => {
            state.bus().touch();
            request.extensions_mut().insert(client);
            next.run(request).await
        }
        None => Problem::new(Code::EdgeRequired).into_response(),
    }
}
