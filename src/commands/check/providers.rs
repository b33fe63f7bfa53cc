//! Whether the two providers of models take our keys. Both list their models for nothing.

use reqwest::{RequestBuilder, StatusCode};
use secrecy::ExposeSecret;
use workers::clients::http_client;

use super::{Context, Finding};

/// The variables of a provider.
struct Provider {
    key: &'static str,
    address: &'static str,
}

const ANTHROPIC: Provider = Provider {
    key: "ANTHROPIC_API_KEY",
    address: "ANTHROPIC_BASE_URL",
};
const OPENAI: Provider = Provider {
    key: "OPENAI_API_KEY",
    address: "OPENAI_EU_ENDPOINT",
};

pub(super) async fn model(context: &Context) -> Finding {
    let Some(config) = &context.model else {
        return Finding::not_configured();
    };
    ask(&ANTHROPIC, |http| {
        http.get(format!("{}/v1/models", config.base_url))
            .header("x-api-key", config.api_key.expose_secret())
            .header("anthropic-version", "2023-06-01")
    })
    .await
}

pub(super) async fn embeddings(context: &Context) -> Finding {
    let Some(config) = &context.embeddings else {
        return Finding::not_configured();
    };
    ask(&OPENAI, |http| {
        http.get(format!("{}/models", config.base_url))
            .bearer_auth(config.api_key.expose_secret())
    })
    .await
}

async fn ask(
    provider: &Provider,
    request: impl FnOnce(reqwest::Client) -> RequestBuilder,
) -> Finding {
    let http = match http_client() {
        Ok(http) => http,
        Err(error) => return Finding::failed("the system's trust roots can't be read", error),
    };
    // Without its address, which may hold a secret.
    match request(http)
        .send()
        .await
        .map_err(reqwest::Error::without_url)
    {
        Ok(response) => judge(provider, response.status()),
        Err(error) => {
            let what = format!("the address of {} can't be reached", provider.address);
            Finding::failed(&what, error)
        }
    }
}

fn judge(provider: &Provider, status: StatusCode) -> Finding {
    let Provider { key, address } = provider;
    match status.as_u16() {
        200..=299 => Finding::pass(format!("the key of {key} is taken")),
        status @ (401 | 403) => Finding::fail(format!(
            "the key of {key} is refused (HTTP {status}): set it to a key that is valid for {address}"
        )),
        429 => Finding::warn(format!("the limit of {key} is reached (HTTP 429)")),
        status @ 500.. => Finding::fail(format!(
            "the provider of {address} does not work at the moment (HTTP {status})"
        )),
        status => Finding::fail(format!(
            "{address} leads to something else than the API (HTTP {status} to the list of its models): look at its \
             path"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Status, *};

    #[test]
    fn a_key_has_to_be_taken_by_the_api_itself() {
        for (status, judged) in [
            (200, Status::Pass),
            (401, Status::Fail),
            (403, Status::Fail),
            (404, Status::Fail),
            (302, Status::Fail),
            (429, Status::Warn),
            (529, Status::Fail),
        ] {
            let finding = judge(&ANTHROPIC, StatusCode::from_u16(status).unwrap());
            assert_eq!(finding.status, judged, "{status}");
            assert!(finding.says.contains("ANTHROPIC_"), "{finding:?}");
        }
    }
}
