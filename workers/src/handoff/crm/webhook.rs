//! A CRM of one's own: a URL that is told of each lead in JSON, signed as Standard Webhooks has it.
//!
//! It can't be asked what it has. An attempt whose outcome is not known is therefore repeated, with
//! the same `webhook-id`, by which the receiver drops what it has already; a new revision of the facts
//! has a new one.

use std::time::Duration;

use futures::{FutureExt, future::BoxFuture};
use reqwest::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{clock::SharedClock, handoffs::Lead};
use url::Url;

use super::{CrmProvider, inert};
use crate::{
    clients::http::{read_body, retry_after, send},
    handoff::{Dossier, Receipt, SendError, Speaker},
    standard_webhooks::{WebhookSecret, signed},
};

/// The longest wait for an answer; Standard Webhooks recommends 15 to 30 s.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The most that is read of an answer, in bytes: an id and a URL.
const LARGEST_ANSWER: usize = 64 * 1024;
/// The longest id and URL that are kept of an answer, in bytes.
const LONGEST_ID: usize = 200;
const LONGEST_URL: usize = 2_000;
/// The longest value of a lead, and the longest message, in characters.
const LONGEST_VALUE: usize = 2_000;
const LONGEST_MESSAGE: usize = 8_000;

/// The receiver. A clone shares its connections.
#[derive(Debug, Clone)]
pub struct CrmWebhook {
    url: Url,
    secret: WebhookSecret,
    clock: SharedClock,
    http: reqwest::Client,
}

/// What a receiver may answer: where the record is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    id: Option<String>,
    url: Option<String>,
}

impl CrmWebhook {
    /// The receiver at a URL, which may be private: it is the operator's own.
    pub fn new(url: Url, secret: WebhookSecret, clock: SharedClock, http: reqwest::Client) -> Self {
        Self {
            url,
            secret,
            clock,
            http,
        }
    }

    async fn post(&self, id: &str, message: &Value) -> Result<Response, SendError> {
        let request = self.http.post(self.url.clone()).timeout(TIMEOUT);
        let body = message.to_string().into_bytes();
        let secrets = std::slice::from_ref(&self.secret);
        let request = signed(request, secrets, id, self.clock.now(), body);
        let response = send("crm", "webhook", request)
            .await
            .map_err(|error| not_answered(&error))?;
        let status = response.status();
        match status.as_u16() {
            200..300 => Ok(response),
            408 | 425 | 429 | 500.. => Err(SendError::Healable {
                reason: format!("the CRM's webhook answered {}", status.as_u16()),
                retry_after: retry_after(response.headers()),
            }),
            410 => Err(SendError::fatal(
                "the CRM's webhook answered 410: it is gone",
            )),
            other => Err(SendError::fatal(format!(
                "the CRM's webhook answered {other}"
            ))),
        }
    }

    async fn tell(&self, dossier: &Dossier) -> Result<Receipt, SendError> {
        let id = format!("{}-r{}", dossier.handoff_id, dossier.revision);
        let response = self.post(&id, &message(dossier)).await?;
        // It has the lead: an answer that can't be read costs no more than the link.
        let body = read_body("webhook", response, LARGEST_ANSWER).await;
        let answer: Answer = body
            .ok()
            .and_then(|body| serde_json::from_slice(&body).ok())
            .unwrap_or_default();
        let record = answer
            .id
            .filter(|id| (1..=LONGEST_ID).contains(&id.len()) && !id.contains(char::is_control));
        Ok(Receipt {
            reference: json!({ "id": record, "handoff_id": dossier.handoff_id }),
            provider_id: record,
            url: answer.url.filter(|url| is_link(url)),
        })
    }
}

impl CrmProvider for CrmWebhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn find<'a>(&'a self, _: &'a Dossier) -> BoxFuture<'a, Result<Option<Receipt>, SendError>> {
        std::future::ready(Ok(None)).boxed()
    }

    fn put<'a>(&'a self, dossier: &'a Dossier) -> BoxFuture<'a, Result<Receipt, SendError>> {
        self.tell(dossier).boxed()
    }

    fn forget<'a>(
        &'a self,
        reference: &'a Value,
        // The receiver knows the handoff.
        _address: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), SendError>> {
        async move {
            let Some(handoff_id) = reference["handoff_id"].as_str() else {
                return Err(SendError::NothingToSend {
                    reason: "another CRM has the record",
                });
            };
            let message = json!({
                "type": "handoff.erased",
                "timestamp": self.clock.now().to_rfc3339(),
                "data": { "id": reference["id"], "handoff_id": handoff_id },
            });
            self.post(&format!("{handoff_id}-erased"), &message).await?;
            Ok(())
        }
        .boxed()
    }
}

/// A request that got no answer: nobody knows what became of it, unless it was never sent.
fn not_answered(error: &reqwest::Error) -> SendError {
    if error.is_connect() {
        SendError::healable("the CRM's webhook was not reached")
    } else if error.is_builder() {
        SendError::fatal("the CRM's webhook could not be asked")
    } else if error.is_timeout() {
        SendError::unknown("the CRM's webhook did not answer in time")
    } else {
        SendError::unknown("the connection to the CRM's webhook broke")
    }
}

/// Whether people can be given it to click on.
fn is_link(text: &str) -> bool {
    text.len() <= LONGEST_URL
        && Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
}

/// A message of the conversation, as it is told.
#[derive(Serialize)]
struct Said<'a> {
    speaker: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    text: String,
    at: String,
}

/// The lead as the receiver is told of it. Its time is the handoff's: an attempt has one of its own.
fn message(dossier: &Dossier) -> Value {
    let transcript: Vec<Said<'_>> = dossier
        .transcript
        .iter()
        .map(|line| {
            let (speaker, name) = match &line.speaker {
                Speaker::Visitor => ("visitor", None),
                Speaker::Assistant => ("assistant", None),
                Speaker::Person(name) => ("person", Some(name.as_str())),
            };
            Said {
                speaker,
                name,
                text: inert::text(&line.text, LONGEST_MESSAGE),
                at: line.at.to_rfc3339(),
            }
        })
        .collect();
    let promise = dossier
        .promise
        .as_ref()
        .map(|promise| json!({ "text": promise.text, "by": promise.by.to_rfc3339() }));
    json!({
        "type": "handoff",
        "timestamp": dossier.created_at.to_rfc3339(),
        "data": {
            "handoff_id": dossier.handoff_id,
            "session_id": dossier.session_id,
            "revision": dossier.revision,
            "trigger": dossier.trigger.as_str(),
            "stage": dossier.stage,
            "lead": inert_lead(&dossier.lead),
            "consent": dossier.consent,
            "summary": dossier.summary.as_deref().map(|summary| inert::text(summary, LONGEST_MESSAGE)),
            "transcript": transcript,
            "page_url": dossier.page_url.as_deref().map(|page| inert::line(page, LONGEST_VALUE)),
            "locale": dossier.locale,
            "promise": promise,
        },
    })
}

/// The lead without what a spreadsheet would run.
pub(crate) fn inert_lead(lead: &Lead) -> Lead {
    let line = |value: &Option<String>| {
        let value = value.as_deref()?;
        Some(inert::line(value, LONGEST_VALUE))
    };
    let text = |value: &Option<String>| {
        let value = value.as_deref()?;
        Some(inert::text(value, LONGEST_MESSAGE))
    };
    Lead {
        name: line(&lead.name),
        email: line(&lead.email),
        company: line(&lead.company),
        phone: line(&lead.phone),
        need: text(&lead.need),
        timeline: line(&lead.timeline),
        budget: line(&lead.budget),
        message: text(&lead.message),
    }
}
