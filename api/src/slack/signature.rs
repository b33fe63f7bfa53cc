//! Whether a request comes from Slack
//! (<https://docs.slack.dev/authentication/verifying-requests-from-slack>).

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// How far the time of a request may be from ours, in seconds: who has recorded one can't send it later.
const WINDOW: u64 = 300;
/// Bytes of an HMAC-SHA256.
const MAC_LEN: usize = 32;

/// What the headers of a request claim: that Slack has signed its body just now.
pub(super) struct Claim<'h> {
    mac: Vec<u8>,
    timestamp: &'h str,
}

impl<'h> Claim<'h> {
    /// Of a signature `v0=` and an HMAC-SHA256 in hex, and a time that is now. `None`: whatever the body
    /// is, Slack has not signed it.
    pub(super) fn read(signature: &str, timestamp: &'h str, now: DateTime<Utc>) -> Option<Self> {
        let digits = timestamp.bytes().all(|byte| byte.is_ascii_digit());
        let at = timestamp.parse::<i64>().ok().filter(|_| digits)?;
        let mac = unhex(signature.strip_prefix("v0=")?)?;
        let legal = mac.len() == MAC_LEN && now.timestamp().abs_diff(at) <= WINDOW;
        legal.then_some(Self { mac, timestamp })
    }

    /// Whether Slack, which knows the secret, has signed this body: `v0:timestamp:body`. Compares in
    /// constant time.
    pub(super) fn holds(&self, secret: &SecretString, body: &[u8]) -> bool {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()) else {
            return false;
        };
        mac.update(b"v0:");
        mac.update(self.timestamp.as_bytes());
        mac.update(b":");
        mac.update(body);
        mac.verify_slice(&self.mac).is_ok()
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let nibble = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|it| u8::try_from(it).ok())
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs
        .iter()
        .map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?));
    rest.is_empty().then(|| bytes.collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Slack's documentation.
    const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
    const TIMESTAMP: &str = "1531420618";
    const BODY: &[u8] = b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    const SIGNATURE: &str = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";

    fn valid(signature: &str, timestamp: &str, body: &[u8], now: i64) -> bool {
        let now = DateTime::from_timestamp(now, 0).unwrap();
        Claim::read(signature, timestamp, now).is_some_and(|it| it.holds(&SECRET.into(), body))
    }

    #[test]
    fn what_slack_has_signed_just_now_is_believed() {
        let at = 1_531_420_618;
        assert!(valid(SIGNATURE, TIMESTAMP, BODY, at));
        assert!(valid(SIGNATURE, TIMESTAMP, BODY, at + 300));
        assert!(valid(SIGNATURE, TIMESTAMP, BODY, at - 300));
        assert!(!valid(SIGNATURE, TIMESTAMP, BODY, at + 301));
        assert!(!valid(SIGNATURE, TIMESTAMP, BODY, at - 301));
    }

    #[test]
    fn what_is_old_or_ill_formed_is_refused_without_the_body() {
        let read = |signature: &str, timestamp: &str| {
            let now = DateTime::from_timestamp(1_531_420_618, 0).unwrap();
            Claim::read(signature, timestamp, now).is_some()
        };
        assert!(read(&format!("v0={}", "0".repeat(64)), TIMESTAMP));
        assert!(!read(SIGNATURE, "1531420317"));
        assert!(!read(SIGNATURE, ""));
        for bad in [
            "",
            "v0=",
            "v0=00",
            &SIGNATURE[3..],
            &format!("v0={}", "g".repeat(64)),
        ] {
            assert!(!read(bad, TIMESTAMP), "{bad}");
        }
    }

    #[test]
    fn whatever_differs_is_not_believed() {
        let now = 1_531_420_618;
        let upper = SIGNATURE.to_uppercase();
        let longer = format!("{SIGNATURE}00");
        for (signature, timestamp, body) in [
            (SIGNATURE, TIMESTAMP, &BODY[1..]),
            (SIGNATURE, "1531420619", BODY),
            (&SIGNATURE[..SIGNATURE.len() - 2], TIMESTAMP, BODY),
            (&SIGNATURE[..SIGNATURE.len() - 1], TIMESTAMP, BODY),
            (&SIGNATURE[3..], TIMESTAMP, BODY),
            (&longer, TIMESTAMP, BODY),
            (&upper, TIMESTAMP, BODY),
            ("v0=", TIMESTAMP, BODY),
            ("v0=zz", TIMESTAMP, BODY),
            ("v0=é", TIMESTAMP, BODY),
            ("", TIMESTAMP, BODY),
            (SIGNATURE, "", BODY),
            (SIGNATURE, "+1531420618", BODY),
            (SIGNATURE, "-1531420618", BODY),
            (SIGNATURE, "99999999999999999999", BODY),
        ] {
            assert!(
                !valid(signature, timestamp, body, now),
                "{signature} {timestamp}"
            );
        }
    }
}
