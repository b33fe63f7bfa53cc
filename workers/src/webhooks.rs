//! Outgoing webhooks: tells the endpoints of others what happens (docs/decisions/0022).
//!
//! An attempt is begun and ended in the database, and holds no connection of it while it waits for the
//! receiver. What can't be told now is told later, before everything that happened after it: the jobs of an
//! endpoint have one serial key. What a receiver has had already it knows by the event's id.

use std::time::Duration;

use chrono::{DateTime, Utc};
use jobs::{
    HandlerResult, JobContext, JobError, JobKind, Outcome, Retry, Runtime, catalog::WebhookDeliver,
};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use sqlx::PgPool;
use store::{
    bus::Bus,
    clock::SharedClock,
    db::Database,
    webhooks::{self, AttemptEnd, Begun, NewAttempt, TestTarget},
};
use tokio::time::Instant;
use url::Url;

use crate::{
    clients::{
        guarded::{GuardedClient, Refused},
        http::{read_body, retry_after, send_to_registered},
    },
    config::OutgoingConfig,
    handlers::{webhook_deliver, webhook_release},
    handoff::crm::inert_lead,
    standard_webhooks::{WebhookSecret, signed},
};

/// The longest wait for an answer; Standard Webhooks recommends 15 to 30 s.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The most that is read of an answer, in bytes, so that the connection can be used again. Nothing in it
/// matters.
const LARGEST_ANSWER: usize = 16 * 1024;
/// The type of what a test sends.
const TEST: &str = "webhook.test";

/// What the deliveries work with. A clone shares it.
#[derive(Debug, Clone)]
pub struct WebhookDeps {
    pool: PgPool,
    bus: Bus,
    clock: SharedClock,
    sender: WebhookSender,
}

impl WebhookDeps {
    /// Makes the client. Fails when the system's trust roots can't be read.
    pub fn build(
        config: OutgoingConfig,
        database: &Database,
        bus: Bus,
        clock: SharedClock,
    ) -> reqwest::Result<Self> {
        let client = GuardedClient::new(config.rules)?;
        Ok(Self::with_client(
            client,
            database.pool().clone(),
            bus,
            clock,
        ))
    }

    /// With a client of one's own.
    pub fn with_client(client: GuardedClient, pool: PgPool, bus: Bus, clock: SharedClock) -> Self {
        Self {
            pool,
            bus,
            sender: WebhookSender {
                client,
                clock: clock.clone(),
            },
            clock,
        }
    }

    /// Tells an endpoint of an event, once.
    pub(crate) async fn deliver(&self, job: WebhookDeliver, context: JobContext) -> HandlerResult {
        let new = NewAttempt {
            endpoint_id: &job.endpoint_id,
            event_id: &job.event_id,
            event: job.event.as_str(),
            job_id: context.fence.id.0,
            attempt: context.attempt,
            handoff: job.handoff_id.as_ref().map(|id| (&job.session_id, id)),
        };
        let Some(begun) = webhooks::begin_attempt(&self.pool, &new).await? else {
            count("cancelled");
            return Ok(Outcome::Cancelled);
        };
        let message = message(&job, &begun);
        let started = Instant::now();
        let told = self
            .sender
            .send(&begun.url, &begun.secrets, &job.event_id, &message)
            .await;
        let failure = told.as_ref().err();
        let end = AttemptEnd {
            attempt_id: begun.attempt_id,
            endpoint_id: &job.endpoint_id,
            http_status: match &told {
                Ok(status) => Some(*status),
                Err(failure) => failure.status,
            },
            latency: started.elapsed(),
            error: failure.map(|failure| failure.reason.as_str()),
            gone: failure.is_some_and(|failure| failure.status == Some(410)),
        };
        // What the receiver has is not sent again because it could not be noted.
        let disabled = webhooks::end_attempt(&self.pool, &end).await.unwrap_or_else(|error| {
            tracing::warn!(error = %JobError::from(error), "an attempt of a webhook could not be noted");
            false
        });
        if disabled {
            count("disabled");
            tracing::error!(
                endpoint_id = job.endpoint_id,
                "an endpoint is disabled: see ops.webhook_endpoints"
            );
        }
        match told {
            Ok(_) => {
                count("delivered");
                Ok(Outcome::Done)
            }
            Err(failure) => {
                count("failed");
                Err(self.failed(&job, failure, disabled))
            }
        }
    }

    /// A failed attempt as the job keeps it. An event whose time is over has this one attempt: else what
    /// waited behind one that died would take days for each of its own.
    fn failed(&self, job: &WebhookDeliver, failure: NotTold, disabled: bool) -> JobError {
        let whole: i64 = WebhookDeliver::RETRY_WAITS
            .iter()
            .copied()
            .map(i64::from)
            .sum();
        let at = DateTime::parse_from_rfc3339(&job.at).ok();
        let is_over =
            at.is_some_and(|at| (self.clock.now() - at.with_timezone(&Utc)).num_seconds() > whole);
        let retry = match failure.retry_after {
            _ if disabled || is_over => Retry::Never,
            Some(wait) => Retry::NotBefore(wait),
            None => Retry::AsPlanned,
        };
        JobError {
            retry,
            reason: failure.reason,
        }
    }
}

/// Registers the handlers of both kinds.
#[must_use]
pub fn register(runtime: Runtime, deps: &WebhookDeps) -> Runtime {
    let runtime = webhook_release::register(runtime, deps.pool.clone(), deps.bus.clone());
    webhook_deliver::register(runtime, deps)
}

/// Sends signed messages to addresses that somebody else wrote. A clone shares its connections.
#[derive(Debug, Clone)]
pub struct WebhookSender {
    client: GuardedClient,
    clock: SharedClock,
}

/// A message was not taken. The reason is kept and shown to operators: a status, a kind of failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct NotTold {
    /// Why.
    pub reason: String,
    /// The status of the answer.
    pub status: Option<u16>,
    /// How long the receiver asked to be left alone.
    pub retry_after: Option<Duration>,
}

impl NotTold {
    fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            status: None,
            retry_after: None,
        }
    }
}

impl WebhookSender {
    /// Makes the client. Fails when the system's trust roots can't be read.
    pub fn build(config: OutgoingConfig, clock: SharedClock) -> reqwest::Result<Self> {
        let client = GuardedClient::new(config.rules)?;
        Ok(Self { client, clock })
    }

    /// Sends an endpoint a message that says nothing, once; returns the status of the answer.
    pub async fn test(&self, target: &TestTarget, id: &str) -> Result<u16, NotTold> {
        let message = json!({
            "type": TEST,
            "timestamp": self.clock.now().to_rfc3339(),
            "data": {},
        });
        self.send(&target.url, &target.secrets, id, &message).await
    }

    async fn send(
        &self,
        url: &str,
        secrets: &[String],
        id: &str,
        message: &Value,
    ) -> Result<u16, NotTold> {
        let url: Url = url.parse().map_err(|_| NotTold::new("its URL is none"))?;
        let secrets: Vec<WebhookSecret> = secrets
            .iter()
            .filter_map(|secret| WebhookSecret::parse(secret).ok())
            .collect();
        if secrets.is_empty() {
            return Err(NotTold::new("it has no secret to sign with"));
        }
        let request = self
            .client
            .request(Method::POST, &url)
            .map_err(|refused| NotTold::new(format!("its URL {refused}")))?
            .timeout(TIMEOUT);
        let body = message.to_string().into_bytes();
        let request = signed(request, &secrets, id, self.clock.now(), body);
        let response = send_to_registered("webhook", "deliver", request)
            .await
            .map_err(|error| not_answered(&error))?;
        answered(response).await
    }
}

async fn answered(response: Response) -> Result<u16, NotTold> {
    let status = response.status();
    let retry_after = retry_after(response.headers());
    // The status says it all; a longer answer ends the connection.
    let _ = read_body("webhook", response, LARGEST_ANSWER).await;
    if status.is_success() {
        return Ok(status.as_u16());
    }
    let what = match status.as_u16() {
        300..400 => ", a redirect, which is not followed",
        410 => ": it is gone",
        _ => "",
    };
    Err(NotTold {
        reason: format!("it answered {}{what}", status.as_u16()),
        status: Some(status.as_u16()),
        retry_after,
    })
}

fn not_answered(error: &reqwest::Error) -> NotTold {
    if let Some(refused) = Refused::behind(error) {
        return NotTold::new(format!("its name {refused}"));
    }
    NotTold::new(if error.is_timeout() {
        "it did not answer in time"
    } else if error.is_connect() {
        "it was not reached"
    } else {
        "the connection broke"
    })
}

/// The message. What is known of a visitor is read when it is told, and made inert.
fn message(job: &WebhookDeliver, begun: &Begun) -> Value {
    let mut data = job.data.clone();
    if let (Some(lead), Value::Object(fields)) = (&begun.lead, &mut data) {
        fields.insert("lead".to_owned(), json!(inert_lead(lead)));
        fields.insert("summary".to_owned(), json!(begun.summary));
    }
    json!({ "type": job.event.as_str(), "timestamp": job.at, "data": data })
}

fn count(outcome: &'static str) {
    metrics::counter!("growth_chat_webhook_deliveries_total", "outcome" => outcome).increment(1);
}
