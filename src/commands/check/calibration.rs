//! Whether `RAG_RELEVANCE_THRESHOLD` was measured with this model and this corpus.

use store::knowledge::{CalibrationState, calibration_state};

use super::{Context, Finding};

pub(super) async fn probe(context: &Context) -> Finding {
    let Some(deps) = &context.knowledge else {
        return Finding::not_configured();
    };
    let settings = deps.search_settings();
    let state = async {
        let mut conn = deps.pool.acquire().await?;
        calibration_state(&mut conn, &deps.config.table, &settings).await
    };
    match state.await {
        Ok(state) => judge(&state, settings.threshold),
        Err(error) => Finding::failed("it can't be looked at", error),
    }
}

fn judge(state: &CalibrationState, threshold: f64) -> Finding {
    let says = format!("RAG_RELEVANCE_THRESHOLD {threshold:.3}: {state}");
    if state.is_calibrated() {
        Finding::pass(says)
    } else {
        Finding::warn(says)
    }
}
