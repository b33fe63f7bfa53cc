//! Signs what is sent to receivers of webhooks, as Standard Webhooks has it
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).
//!
//! A message has an id that stays over all its attempts, by which its receiver drops a repetition, and
//! the time of this attempt, by which they drop a replay. Both are signed with the body. While a secret
//! is replaced there are several: each signs, and the receiver needs to know one of them.

use std::fmt;

use base64::{
    Engine,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::RequestBuilder;
use sha2::Sha256;

/// The header with the message's id.
pub const ID: &str = "webhook-id";
/// The header with the time of the attempt, in seconds since 1970.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// The header with the signatures.
pub const SIGNATURE: &str = "webhook-signature";
/// What a secret begins with.
const PREFIX: &str = "whsec_";
/// The least and the most bytes of a secret.
const LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;

/// A secret that is shared with a receiver. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Vec<u8>);

/// A text is no secret of Standard Webhooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret is whsec_ and the base64 of 24 to 64 bytes")]
pub struct BadSecret;

impl WebhookSecret {
    /// Reads `whsec_` and base64; with or without the padding at its end.
    pub fn parse(text: &str) -> Result<Self, BadSecret> {
        const LENIENT: GeneralPurpose = GeneralPurpose::new(
            &base64::alphabet::STANDARD,
            GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
        );
        let encoded = text.strip_prefix(PREFIX).ok_or(BadSecret)?;
        let bytes = LENIENT.decode(encoded).map_err(|_| BadSecret)?;
        if LENGTHS.contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(BadSecret)
        }
    }

    fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

/// The value of [`SIGNATURE`]: a signature by each secret, in their order. `id` has no full stop, which
/// parts what is signed.
pub fn sign(secrets: &[WebhookSecret], id: &str, timestamp: i64, body: &[u8]) -> String {
    let signatures: Vec<String> = secrets
        .iter()
        .map(|secret| secret.sign(id, timestamp, body))
        .collect();
    signatures.join(" ")
}

/// Adds a body of JSON and the headers that vouch for it.
pub(crate) fn signed(
    request: RequestBuilder,
    secrets: &[WebhookSecret],
    id: &str,
    at: DateTime<Utc>,
    body: Vec<u8>,
) -> RequestBuilder {
    let timestamp = at.timestamp();
    request
        .header("content-type", "application/json")
        .header(ID, id)
        .header(TIMESTAMP, timestamp)
        .header(SIGNATURE, sign(secrets, id, timestamp, &body))
        .body(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;

    #[test]
    fn the_example_of_the_specification_is_signed_as_it_says() {
        let secret = WebhookSecret::parse(SECRET).unwrap();
        let signature = sign(
            &[secret],
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            BODY,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn the_newest_secret_signs_first_and_each_of_the_others_too() {
        let new = WebhookSecret::parse(SECRET).unwrap();
        let old = WebhookSecret::parse("whsec_c2FuZGJveC1zYW5kYm94LXNhbmRib3gtMTIzNA==").unwrap();
        let both = sign(&[new.clone(), old.clone()], "m", 1, BODY);
        let (first, second) = both.split_once(' ').unwrap();
        assert_eq!(first, sign(&[new], "m", 1, BODY));
        assert_eq!(second, sign(&[old], "m", 1, BODY));
    }

    #[test]
    fn id_time_and_body_all_change_the_signature() {
        let secret = [WebhookSecret::parse(SECRET).unwrap()];
        let signature = sign(&secret, "m", 1, BODY);
        assert_ne!(signature, sign(&secret, "n", 1, BODY));
        assert_ne!(signature, sign(&secret, "m", 2, BODY));
        assert_ne!(signature, sign(&secret, "m", 1, b"{}"));
    }

    #[test]
    fn what_is_no_secret_is_refused_and_a_secret_is_not_shown() {
        for bad in [
            "",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_",
            "whsec_c2hvcnQ=",
            "whsec_not base64 at all, it has spaces",
        ] {
            assert_eq!(WebhookSecret::parse(bad), Err(BadSecret), "{bad}");
        }
        let shown = format!("{:?}", WebhookSecret::parse(SECRET).unwrap());
        assert_eq!(shown, "WebhookSecret(…)");
    }
}
