//! How endpoints look to a person.

use std::fmt::Write as _;

use store::webhooks::{Attempt, Endpoint};

use crate::commands::terminal::printable;

/// A secret that was made just now.
pub(super) fn secret(id: &str, secret: &str) -> String {
    format!("endpoint  {id}\nsecret    {secret}\n\nThe secret is not shown again.\n")
}

/// A line an endpoint.
pub(super) fn table(endpoints: &[Endpoint]) -> String {
    if endpoints.is_empty() {
        return "no endpoints\n".to_owned();
    }
    let mut lines = format!(
        "{:<35}  {:<19} {:>7}  URL\n",
        "ENDPOINT", "STATUS", "WAITING"
    );
    for endpoint in endpoints {
        let _ = writeln!(
            lines,
            "{:<35}  {:<19} {:>7}  {}",
            endpoint.endpoint_id,
            status(endpoint),
            endpoint.waiting,
            printable(&endpoint.url),
        );
    }
    lines
}

fn status(endpoint: &Endpoint) -> String {
    match (&endpoint.status_reason, &endpoint.failing_since) {
        (Some(reason), _) => format!("{} ({reason})", endpoint.status),
        (None, Some(_)) => format!("{}, failing", endpoint.status),
        (None, None) => endpoint.status.clone(),
    }
}

/// All of one endpoint, then its newest attempts.
pub(super) fn page(endpoint: &Endpoint, attempts: &[Attempt]) -> String {
    let (events, status) = (endpoint.events.join(", "), status(endpoint));
    let (secrets, waiting) = (endpoint.secrets.to_string(), endpoint.waiting.to_string());
    let fields = [
        ("endpoint", Some(endpoint.endpoint_id.as_str())),
        ("url", Some(&endpoint.url)),
        (
            "for",
            Some(endpoint.description.as_str()).filter(|text| !text.is_empty()),
        ),
        ("events", Some(&events)),
        ("status", Some(&status)),
        ("secrets", Some(&secrets)),
        ("waiting", Some(&waiting)),
        ("since", Some(&endpoint.created_at)),
        ("failing", endpoint.failing_since.as_deref()),
        ("delivered", endpoint.last_delivered_at.as_deref()),
    ];
    let mut text = String::new();
    for (name, value) in fields {
        if let Some(value) = value {
            let _ = writeln!(text, "{name:<10} {}", printable(value));
        }
    }
    for attempt in attempts {
        let outcome = attempt.outcome.as_deref().unwrap_or("no outcome");
        let _ = write!(
            text,
            "{}  {:<17} {}  attempt {} of job {}: {outcome}",
            attempt.started_at, attempt.event, attempt.event_id, attempt.attempt, attempt.job_id,
        );
        if let Some(latency) = attempt.latency_ms {
            let _ = write!(text, " in {latency} ms");
        }
        if let Some(error) = &attempt.error {
            let _ = write!(text, ": {}", printable(error));
        }
        text.push('\n');
    }
    text
}
