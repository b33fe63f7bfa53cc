//! Whether the configured threshold was measured with what runs: asked when a worker starts.

use store::knowledge::{
    CalibrationState, KnowledgeError, SearchSettings, calibration_state, publish_settings,
};

use super::KnowledgeDeps;

impl KnowledgeDeps {
    /// What turns are searched with.
    pub fn search_settings(&self) -> SearchSettings {
        SearchSettings {
            model: self.embedder.model().to_owned(),
            dimensions: self.embedder.dimensions(),
            threshold: self.config.relevance_threshold,
        }
    }

    /// Tells the API what is searched with, and whether its threshold is calibrated; logs if it is
    /// not. It works all the same.
    pub async fn publish(&self) -> Result<CalibrationState, KnowledgeError> {
        let settings = self.search_settings();
        let table = &self.config.table;
        let mut conn = self.pool.acquire().await?;
        publish_settings(&mut conn, table, &settings).await?;
        let state = calibration_state(&mut conn, table, &settings).await?;
        if !state.is_calibrated() {
            tracing::warn!(
                model = settings.model,
                threshold = settings.threshold,
                reason = state.code(),
                "RAG_RELEVANCE_THRESHOLD is not calibrated: {state}"
            );
        }
        Ok(state)
    }
}
