//! `GET /ready`: whether what the API depends on is there.

use std::time::Duration;

use axum::{Json, extract::State as StateOf, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;
use store::{
    backups::newest,
    knowledge::{CalibrationState, published_state},
    migration::is_migrated,
};
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
    /// The knowledge base; not told while the database is not there. It never makes the API unready.
    #[serde(skip_serializing_if = "Option::is_none")]
    knowledge: Option<KnowledgeReadiness>,
    /// The backups; not told while the database is not there. They never make the API unready.
    #[serde(skip_serializing_if = "Option::is_none")]
    backup: Option<BackupReadiness>,
}

/// Each dependency.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Checks {
    /// Whether the database answers and has the schema that this version needs: `ok`, `failed`, or
    /// `outdated` until `growth-chat migrate` has run.
    database: &'static str,
    /// Whether wake-ups arrive: `ok`; `reconnecting` while streams are only read once a second; `pooled` if
    /// that stays so, because the database's URL leads to a pooler.
    listener: &'static str,
}

/// Whether answers come from knowledge whose relevance was measured.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KnowledgeReadiness {
    /// Whether the workers' relevance threshold was measured with their model and the present
    /// documents.
    calibrated: bool,
    /// Why not: `no_worker` (none has started yet), `nothing_indexed`, `never_calibrated`,
    /// `other_model`, `other_corpus` or `other_threshold`.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
}

/// How old the newest backup is that was restored for a proof.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BackupReadiness {
    /// The moment that is in it; none: no backup was ever verified.
    verified: Option<DateTime<Utc>>,
    /// How long ago that was, in seconds.
    age_seconds: Option<i64>,
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
    let knowledge = match database {
        "ok" => knowledge(state.pool()).await,
        _ => None,
    };
    let backup = match database {
        "ok" => backup(state.pool()).await,
        _ => None,
    };
    let listener = match (state.bus().is_listening(), state.bus().is_deaf()) {
        (true, false) => "ok",
        (true, true) => "pooled",
        (false, _) => "reconnecting",
    };
    let (code, status) = if database == "ok" {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
    };
    let readiness = Readiness {
        status,
        checks: Checks { database, listener },
        knowledge,
        backup,
    };
    (code, Json(readiness))
}

/// How old the newest verified backup is, by the database's clock. A failure is logged and not told.
async fn backup(pool: &PgPool) -> Option<BackupReadiness> {
    match timeout(PATIENCE, newest(pool)).await {
        Ok(Ok(newest)) => Some(BackupReadiness {
            verified: newest.verified,
            age_seconds: newest
                .verified
                .map(|verified| (newest.now - verified).num_seconds()),
        }),
        Ok(Err(error)) => {
            tracing::warn!(error = chain(&error), "the backups can't be looked at");
            None
        }
        Err(_) => {
            tracing::warn!("the backups take too long to look at");
            None
        }
    }
}

/// What the workers' settings and the newest calibration say. A failure is logged and not told.
async fn knowledge(pool: &PgPool) -> Option<KnowledgeReadiness> {
    let state = async {
        let mut conn = pool.acquire().await?;
        published_state(&mut conn).await
    };
    match timeout(PATIENCE, state).await {
        Ok(Ok(state)) => {
            let calibrated = state.as_ref().is_some_and(CalibrationState::is_calibrated);
            let why = state.as_ref().map_or("no_worker", CalibrationState::code);
            Some(KnowledgeReadiness {
                calibrated,
                why: (!calibrated).then_some(why),
            })
        }
        Ok(Err(error)) => {
            tracing::warn!(error = chain(&error), "the calibration can't be looked at");
            None
        }
        Err(_) => {
            tracing::warn!("the calibration takes too long to look at");
            None
        }
    }
}
