//! What the handlers of the handoff work with.

use jobs::Runtime;
use sqlx::PgPool;
use store::{bus::Bus, business_hours, db::Database, ids::SharedEntropy};

use crate::{
    clients::http_client,
    config::HandoffConfig,
    handlers::{
        agent_unreachable, handoff_crm, handoff_email, handoff_relay, handoff_remind,
        handoff_settle, handoff_slack, handoff_slack_update, slack_face, slack_note,
        slack_open_reply, slack_person,
    },
};

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

    /// Keeps the business hours in the database, where a promise is made from them.
    pub async fn tell_hours(&self) -> sqlx::Result<()> {
        let mut conn = self.pool.acquire().await?;
        business_hours::save(&mut conn, &self.config.hours).await
    }
}

/// Registers every handler of the handoff.
#[must_use]
pub fn register(runtime: Runtime, deps: &HandoffDeps) -> Runtime {
    let runtime = handoff_slack::register(runtime, deps);
    let runtime = handoff_crm::register(runtime, deps);
    let runtime = handoff_slack_update::register(runtime, deps);
    let runtime = handoff_email::register(runtime, deps);
    let runtime = handoff_remind::register(runtime, deps);
    let runtime = handoff_relay::register(runtime, deps);
    let runtime = agent_unreachable::register(runtime, deps);
    let runtime = slack_face::register(runtime, deps);
    let runtime = slack_note::register(runtime, deps);
    let runtime = slack_open_reply::register(runtime, deps);
    let runtime = slack_person::register(runtime, deps);
    handoff_settle::register(runtime, deps)
}
