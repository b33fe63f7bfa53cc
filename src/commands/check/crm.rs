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
            Err(error) => Finding::failed(&format!("{} can't be reached", address(crm)), error),
        },
    }
}

/// The variable that leads to it.
fn address(crm: &CrmConfig) -> &'static str {
    match crm {
        CrmConfig::Webhook { .. } => "the receiver of CRM_WEBHOOK_URL",
        CrmConfig::HubSpot { .. } | CrmConfig::None => "the address of HUBSPOT_BASE_URL",
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
        // 207: nobody of that address is there, as it should be.
        (_, 200..=299) => Finding::pass("the token of HUBSPOT_ACCESS_TOKEN may read contacts"),
        (_, 401 | 403) => Finding::fail(format!(
            "HubSpot refuses HUBSPOT_ACCESS_TOKEN (HTTP {status}): take the token of a private app that \
             may read and write contacts and notes"
        )),
        (_, 429) => Finding::warn("HubSpot's limit is reached (HTTP 429)"),
        (_, 500..) => Finding::fail(format!(
            "HubSpot does not work at the moment (HTTP {status})"
        )),
        (_, status) => Finding::fail(format!(
            "HUBSPOT_BASE_URL leads to something else than HubSpot's API (HTTP {status} to a look at a contact)"
        )),
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
            (207, Status::Pass),
            (404, Status::Fail),
            (401, Status::Fail),
            (403, Status::Fail),
            (429, Status::Warn),
            (503, Status::Fail),
        ] {
            assert_eq!(judge(&hubspot, status).status, judged, "{status}");
        }
    }
}
