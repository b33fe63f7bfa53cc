//! `GET /ready`: whether what the API depends on is there.

use std::time::Duration;

use axum::{Json, extract::State as StateOf, http::StatusCode};
use serde::Serialize;
use store::db::is_migrated;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::{problem::chain, state::State};

/// A database that needs longer for nothing is not there.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the API depends on.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// `ready`, or `unavailable` when the database is not there.
    status: &'static str,
    /// Each dependency.
    checks: Checks,
}

/// Each dependency.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Checks {
    /// Whether the database answers and has the schema that this version needs: `ok`, `failed`, or
    /// `outdated` until `growth-chat migrate` has run.
    database: &'static str,
    /// Whether wake-ups arrive: `ok`, or `reconnecting` while streams are only read once a second.
    listener: &'static str,
}

/// Readiness
///
/// 503 while the database does not answer.
#[utoipa::path(
    get,
    path = "/ready",
    tag = "service",
    responses(
        (status = 200, description = "Everything is there", body = Readiness),
        (status = 503, description = "The database is not there", body = Readiness),
    ),
)]
pub(crate) async fn get(StateOf(state): StateOf<State>) -> (StatusCode, Json<Readiness>) {
    let database = match timeout(PATIENCE, is_migrated(state.pool())).await {
        Ok(Ok(true)) => "ok",
        Ok(Ok(false)) => "outdated",
        Ok(Err(error)) => {
            tracing::warn!(error = chain(&error), "the database does not answer");
            "failed"
        }
        Err(_) => {
            tracing::warn!("the database takes too long to answer");
            "failed"
        }
    };
    let listener = if state.bus().is_listening() {
        "ok"
    } else {
        "reconnecting"
    };
    let (code, status) = if database == "ok" {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
    };
    let readiness = Readiness {
        status,
        checks: Checks { database, listener },
    };
    (code, Json(readiness))
}
