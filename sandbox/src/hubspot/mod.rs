//! HubSpot's CRM: contacts by address, notes, associations, the account's details, and deletion for
//! good, with the service's refusals.
//!
//! It offers no search, as nothing of ours may rely on an index that lags behind.

mod answers;
mod portal;

use std::{collections::BTreeSet, io, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::Response,
};
use parking_lot::Mutex;
use serde_json::Value;

pub use self::portal::{Contact, Note};
use self::{
    answers::{answer, refusal},
    portal::Portal,
};
use crate::{
    mishap::{self, Asked},
    outside::{OutsideWorld, Service},
    serve::Served,
    switch::Switch,
};

/// The account's number.
pub const PORTAL: u64 = 140_000_001;

/// The stand-in, which serves until it is dropped.
#[derive(Debug)]
pub struct HubSpot {
    served: Served,
    state: Shared,
}

#[derive(Debug, Clone)]
struct Shared {
    world: OutsideWorld,
    switch: Switch,
    portal: Arc<Mutex<Portal>>,
}

impl HubSpot {
    /// Serves on a port, or with 0 on a free one.
    pub async fn start(world: OutsideWorld, port: u16) -> io::Result<Self> {
        let state = Shared {
            world,
            switch: Switch::default(),
            portal: Arc::default(),
        };
        let router = Router::new().fallback(serve).with_state(state.clone());
        let served = Served::start(router, port).await?;
        Ok(Self { served, state })
    }

    /// Its address, without a slash at its end.
    pub fn url(&self) -> String {
        self.served.url()
    }

    /// How it fails. A refusal by a code is a 400 with that category.
    pub fn switch(&self) -> &Switch {
        &self.state.switch
    }

    /// The contacts, the oldest first.
    pub fn contacts(&self) -> Vec<Contact> {
        self.state.portal.lock().contacts.iter().cloned().collect()
    }

    /// The notes, the oldest first.
    pub fn notes(&self) -> Vec<Note> {
        self.state.portal.lock().notes.iter().cloned().collect()
    }

    /// A contact that somebody made by hand.
    pub fn add_contact(&self, email: &str, properties: &[(&str, &str)]) -> Option<Contact> {
        let properties = properties
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Value::from(*value)))
            .collect();
        let made = self.state.portal.lock().upsert(email, &properties).ok()?;
        Some(made.0)
    }

    /// A note that somebody wrote by hand.
    pub fn add_note(&self, contact: u64, body: &str) -> Option<Note> {
        let contacts = BTreeSet::from([contact]);
        self.state.portal.lock().add_note(body, contacts).ok()
    }

    /// Somebody deletes a note.
    pub fn remove_note(&self, id: u64) {
        self.state.portal.lock().notes.retain(|note| note.id != id);
    }

    /// Refuses every value of a property from now on.
    pub fn refuse_property(&self, name: &str) {
        self.state.portal.lock().refused.insert(name.to_owned());
    }

    /// Whether what is wrong in a batch is told in a 207 instead of a 400.
    pub fn answer_partially(&self, partial: bool) {
        self.state.portal.lock().partial = partial;
    }

    /// Addresses that were deleted for good without being there: the service never takes them again.
    pub fn blocked(&self) -> Vec<String> {
        self.state.portal.lock().blocked.iter().cloned().collect()
    }
}

async fn serve(
    State(state): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let line = format!("{method} {}", uri.path());
    let recording = state.world.record(Service::HubSpot, &line, &body);
    recording.came_with(&headers);
    let trouble = state.switch.take();
    let take = || answer(&mut state.portal.lock(), &method, &uri, &headers, &body);
    let refuse = |code: &str| refusal(StatusCode::BAD_REQUEST, code, "It was told to refuse.");
    let asked = Asked {
        headers: &headers,
        body: &body,
    };
    mishap::meet(trouble, recording, asked, take, refuse).await
}
