//! A receiver of signed webhooks (Standard Webhooks): a CRM of one's own, a registered endpoint.
//!
//! It takes every path, as many endpoints of one host. What it has with a good signature it keeps; a
//! repetition, which has the id of something that it has, is counted and answered as well, as the
//! specification wants it of receivers.

use std::{collections::VecDeque, io, sync::Arc, time::SystemTime};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{
    mishap::{self, Asked},
    outside::{OutsideWorld, Service},
    serve::Served,
    switch::Switch,
};

/// The secret of the generic webhook, as Standard Webhooks writes it.
pub const WEBHOOK_SECRET: &str = "whsec_c2FuZGJveC1zYW5kYm94LXNhbmRib3gtMTIzNA==";
/// How many deliveries are kept; the oldest go first.
const KEPT: usize = 1_000;
/// How many secrets are known at most; the oldest go first.
const KEPT_SECRETS: usize = 100;
/// How far the time of an attempt may be from ours, in seconds.
const TOLERANCE: u64 = 5 * 60;

/// An attempt to deliver something, with a good signature.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Delivery {
    /// Counts all of them from 1.
    pub number: u64,
    /// The path that it came to.
    pub path: String,
    /// `webhook-id`: the same for all attempts.
    pub id: String,
    /// `webhook-timestamp`: of this attempt, in seconds since 1970.
    pub timestamp: u64,
    /// How many signatures it came with.
    pub signatures: usize,
    /// Which of the known secrets fit, the newest known first: their places.
    pub fitting: Vec<usize>,
    /// Whether something with this id was taken before, on this path.
    pub repeated: bool,
    /// The body.
    pub body: Value,
}

/// The stand-in, which serves until it is dropped.
#[derive(Debug)]
pub struct Receiver {
    served: Served,
    state: Shared,
}

#[derive(Debug, Clone)]
struct Shared {
    world: OutsideWorld,
    switch: Switch,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The newest first.
    secrets: VecDeque<String>,
    deliveries: VecDeque<Delivery>,
    received: u64,
    /// Those that came without a good signature.
    refused: u64,
}

impl Receiver {
    /// Serves on a port, or with 0 on a free one. It knows the secret of the generic webhook.
    pub async fn start(world: OutsideWorld, port: u16) -> io::Result<Self> {
        let state = Shared {
            world,
            switch: Switch::default(),
            kept: Arc::default(),
        };
        let router = Router::new().fallback(receive).with_state(state.clone());
        let served = Served::start(router, port).await?;
        let receiver = Self { served, state };
        receiver.know(WEBHOOK_SECRET);
        Ok(receiver)
    }

    /// Its address, without a slash at its end.
    pub fn url(&self) -> String {
        self.served.url()
    }

    /// How it fails.
    pub fn switch(&self) -> &Switch {
        &self.state.switch
    }

    /// Takes what is signed with this secret from now on, too.
    pub fn know(&self, secret: &str) {
        let mut kept = self.state.kept.lock();
        kept.secrets.push_front(secret.to_owned());
        kept.secrets.truncate(KEPT_SECRETS);
    }

    /// Takes what is signed with this secret no longer.
    pub fn forget(&self, secret: &str) {
        self.state
            .kept
            .lock()
            .secrets
            .retain(|known| known != secret);
    }

    /// What was taken, the oldest first, repetitions among it.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.state.kept.lock().deliveries.iter().cloned().collect()
    }

    /// What was taken at one path, without repetitions, in the order in which it was first taken.
    pub fn taken_at(&self, path: &str) -> Vec<Delivery> {
        let mut taken = self.deliveries();
        taken.retain(|delivery| delivery.path == path && !delivery.repeated);
        taken
    }

    /// How many requests had no good signature.
    pub fn refused(&self) -> u64 {
        self.state.kept.lock().refused
    }
}

async fn receive(
    State(state): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let line = format!("{method} {}", uri.path());
    let recording = state.world.record(Service::Webhook, &line, &body);
    recording.came_with(&headers);
    let trouble = state.switch.take();
    let take = || match state.take(uri.path(), &headers, &body) {
        Some(delivery) => {
            let answer = json!({
                "id": format!("rec_{}", delivery.number),
                "url": format!("https://crm.example/records/{}", delivery.number),
            });
            Json(answer).into_response()
        }
        None => StatusCode::UNAUTHORIZED.into_response(),
    };
    let refuse = |code: &str| (StatusCode::BAD_REQUEST, code.to_owned()).into_response();
    let asked = Asked {
        headers: &headers,
        body: &body,
    };
    mishap::meet(trouble, recording, asked, take, refuse).await
}

impl Shared {
    /// Keeps a request whose signature is good; none: it is not.
    fn take(&self, path: &str, headers: &HeaderMap, body: &[u8]) -> Option<Delivery> {
        let mut kept = self.kept.lock();
        let Some(mut delivery) = verified(&kept.secrets, headers, body) else {
            kept.refused += 1;
            return None;
        };
        path.clone_into(&mut delivery.path);
        kept.received += 1;
        delivery.number = kept.received;
        delivery.repeated = kept
            .deliveries
            .iter()
            .any(|earlier| earlier.path == delivery.path && earlier.id == delivery.id);
        if kept.deliveries.len() == KEPT {
            kept.deliveries.pop_front();
        }
        kept.deliveries.push_back(delivery.clone());
        Some(delivery)
    }
}

/// Reads a request as a receiver has to: a time that is near, and a signature by one of the secrets.
fn verified(secrets: &VecDeque<String>, headers: &HeaderMap, body: &[u8]) -> Option<Delivery> {
    let header = |name: &str| headers.get(name)?.to_str().ok();
    let id = header("webhook-id")?;
    let timestamp: u64 = header("webhook-timestamp")?.parse().ok()?;
    if now().abs_diff(timestamp) > TOLERANCE {
        return None;
    }
    let signatures: Vec<Vec<u8>> = header("webhook-signature")?
        .split(' ')
        .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok())
        .collect();
    let fits = |secret: &String| {
        let key = STANDARD.decode(secret.strip_prefix("whsec_")?).ok()?;
        signatures.iter().find(|signature| {
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key) else {
                return false;
            };
            mac.update(format!("{id}.{timestamp}.").as_bytes());
            mac.update(body);
            mac.verify_slice(signature).is_ok()
        })?;
        Some(())
    };
    let fitting: Vec<usize> = secrets
        .iter()
        .enumerate()
        .filter_map(|(place, secret)| fits(secret).map(|()| place))
        .collect();
    if fitting.is_empty() {
        return None;
    }
    Some(Delivery {
        number: 0,
        path: String::new(),
        id: id.to_owned(),
        timestamp,
        signatures: signatures.len(),
        fitting,
        repeated: false,
        body: serde_json::from_slice(body).unwrap_or(Value::Null),
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "a receiver outside has a clock of its own"
)]
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::client;

    async fn post(receiver: &Receiver, id: &str, timestamp: u64, signature: &str) -> u16 {
        client()
            .post(format!("{}/crm", receiver.url()))
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body("{}")
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    }

    fn signature(id: &str, timestamp: u64) -> String {
        let key = STANDARD
            .decode(WEBHOOK_SECRET.strip_prefix("whsec_").unwrap())
            .unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(format!("{id}.{timestamp}.{{}}").as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }

    #[tokio::test]
    async fn only_what_is_signed_and_fresh_is_taken_and_a_repetition_is_told() {
        let receiver = Receiver::start(OutsideWorld::default(), 0).await.unwrap();
        let now = now();
        let good = signature("m", now);
        assert_eq!(post(&receiver, "m", now, &good).await, 200);
        assert_eq!(
            post(&receiver, "m", now, &format!("v1,AAAA {good}")).await,
            200
        );
        assert_eq!(post(&receiver, "n", now, &good).await, 401);
        assert_eq!(post(&receiver, "m", now, "v1,AAAA").await, 401);
        let old = now - TOLERANCE - 1;
        assert_eq!(post(&receiver, "m", old, &signature("m", old)).await, 401);
        let repeated: Vec<bool> = receiver.deliveries().iter().map(|it| it.repeated).collect();
        assert_eq!(repeated, [false, true]);
        assert_eq!(receiver.taken_at("/crm").len(), 1);
        assert_eq!(receiver.refused(), 3);
    }

    #[tokio::test]
    async fn a_secret_that_is_forgotten_opens_nothing() {
        let receiver = Receiver::start(OutsideWorld::default(), 0).await.unwrap();
        receiver.forget(WEBHOOK_SECRET);
        let now = now();
        assert_eq!(post(&receiver, "m", now, &signature("m", now)).await, 401);
    }
}
