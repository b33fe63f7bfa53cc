//! What the handlers of the handoff work with.

use jobs::Runtime;
use sqlx::PgPool;
use store::{bus::Bus, db::Database, ids::SharedEntropy};

use crate::{clients::http_client, config::HandoffConfig};

/// What the handlers of the handoff work with. A clone shares it.
#[derive(Debug, Clone)]
pub struct HandoffDeps {
    /// The database.
    pub pool: PgPool,
    /// Tells workers and clients.
    pub bus: Bus,
    /// For ids.
    pub entropy: SharedEntropy,
    /// The connections to the providers.
    pub http: reqwest::Client,
    /// How a handoff reaches people.
    pub config: HandoffConfig,
}

impl HandoffDeps {
    /// Makes the clients. Fails when the system's trust roots can't be read.
    pub fn build(
        config: HandoffConfig,
        database: &Database,
        bus: Bus,
        entropy: SharedEntropy,
    ) -> reqwest::Result<Self> {
        Ok(Self {
            pool: database.pool().clone(),
            bus,
            entropy,
            http: http_client()?,
            config,
        })
    }
}

/// Registers every handler of the handoff.
#[must_use]
pub fn register(runtime: Runtime, _deps: &HandoffDeps) -> Runtime {
    runtime
}
