//! `GET /health`: the process answers. Nothing else is looked at.

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

/// The process answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`.
    status: &'static str,
}

/// Liveness
///
/// Looks at nothing but the process.
#[utoipa::path(
    get,
    path = "/health",
    tag = "service",
    responses((status = 200, description = "The process answers", body = Health)),
)]
pub(crate) async fn get() -> Json<Health> {
    Json(Health { status: "ok" })
}
