//! Whether the CRM can be reached and takes our token. Nothing is written there.

use secrecy::ExposeSecret;
use serde_json::json;
use workers::{clients::http_client, config::CrmConfig};

use super::{Context, Finding};

pub(super) async fn probe(context: &Context) -> Finding {
    match context.handoff.as_ref().map(|handoff| &handoff.crm) {
        None => Finding::not_configured(),
        Some(CrmConfig::None) => Finding::pass("none is wanted: CRM_PROVIDER=none"),
        Some(crm) => match ask(crm).await {
            Ok(status) => judge(crm, status),
            Err(error) => Finding::failed("it can't be reached", error),
        },
    }
}

/// The status of the CRM's answer. Errors leave out the address: it may hold a secret.
async fn ask(crm: &CrmConfig) -> reqwest::Result<u16> {
    let http = http_client()?;
    let request = match crm {
        CrmConfig::HubSpot {
            access_token,
            base_url,
        } => http
            // The look that a handoff begins with, at somebody who can't exist.
            .post(format!("{base_url}/crm/v3/objects/contacts/batch/read"))
            .bearer_auth(access_token.expose_secret())
            .json(&json!({
                "idProperty": "email",
                "properties": ["email"],
                "inputs": [{ "id": "nobody@company.invalid" }],
            })),
        CrmConfig::Webhook { url, .. } => http.head(url.clone()),
        CrmConfig::None => return Ok(0),
    };
    let response = request.send().await.map_err(reqwest::Error::without_url)?;
    Ok(response.status().as_u16())
}

fn judge(crm: &CrmConfig, status: u16) -> Finding {
    match (crm, status) {
        (CrmConfig::Webhook { .. }, _) => Finding::pass(format!(
            "the receiver of CRM_WEBHOOK_URL answers (HTTP {status} to HEAD)"
        )),
        // 404: nobody of that address is there, as it should be.
        (_, 200..=299 | 404) => {
            Finding::pass("the token of HUBSPOT_ACCESS_TOKEN may read contacts")
        }
        (_, 401 | 403) => Finding::fail(format!(
            "HubSpot refuses HUBSPOT_ACCESS_TOKEN (HTTP {status}): take the token of a private app that \
             may read and write contacts and notes"
        )),
        (_, status) => Finding::warn(format!("HubSpot answers HTTP {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Status, *};

    #[test]
    fn a_token_that_is_refused_fails_and_a_receiver_only_has_to_answer() {
        let hubspot = CrmConfig::HubSpot {
            access_token: "t".into(),
            base_url: String::new(),
        };
        for (status, judged) in [
            (200, Status::Pass),
            (404, Status::Pass),
            (401, Status::Fail),
            (403, Status::Fail),
            (503, Status::Warn),
        ] {
            assert_eq!(judge(&hubspot, status).status, judged, "{status}");
        }
    }
}
