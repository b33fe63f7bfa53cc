//! `POST /wake`, on the metrics port: somebody says that there is something to do.
//!
//! A process that lets the database sleep hears of nothing once the host of the database has cut its
//! LISTEN connection. This wakes it: it looks at everything and listens again. It is only a hint, as
//! every wake-up is; any number of them at once cost one look.

use axum::{extract::State as StateOf, http::StatusCode};
use store::bus::Bus;

pub(crate) async fn post(StateOf(bus): StateOf<Bus>) -> StatusCode {
    bus.look_at_everything();
    StatusCode::ACCEPTED
}
