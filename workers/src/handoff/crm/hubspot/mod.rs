//! HubSpot: a contact by e-mail address, and a note on it with the conversation.
//!
//! ```text
//! contact by address? ── write what is empty ── our note? ──┬── none: make it, with its association
//!                                                           └── an older revision: replace its text
//! ```
//! Each step looks before it writes, so an attempt that died anywhere can be made again: there is one
//! contact and one note. The search API is not used: its index is seconds behind.

mod api;
mod contact;
mod note;

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use reqwest::Method;
use secrecy::SecretString;
use serde_json::{Value, json};
use store::handoffs::{Channel, is_email};
use tokio::{sync::OnceCell, time::Instant};

use self::{
    api::{Api, Call, CallError, Effect, id},
    contact::Plan,
    note::Note,
};
use super::{CrmProvider, inert};
use crate::handoff::{Dossier, Receipt, SendError};

/// How long looking for what is there may take, and how long making it: both fit into the time-out of
/// the job.
const FIND_WITHIN: Duration = Duration::from_secs(14);
const PUT_WITHIN: Duration = Duration::from_secs(28);
/// The interface where no other is named.
const UI_DOMAIN: &str = "app.hubspot.com";

/// The account. A clone shares its connections and what is known of it.
#[derive(Debug, Clone)]
pub struct HubSpot {
    api: Api,
    /// Where the account's records are shown: `https://app.hubspot.com/contacts/123`.
    pages: Arc<OnceCell<String>>,
}

impl HubSpot {
    /// The account of an access token. `base_url` has no slash at its end.
    pub fn new(access_token: SecretString, base_url: String, http: reqwest::Client) -> Self {
        Self {
            api: Api {
                http,
                access_token,
                base_url,
            },
            pages: Arc::default(),
        }
    }

    async fn find_now(&self, dossier: &Dossier) -> Result<Option<Receipt>, SendError> {
        let deadline = Instant::now() + FIND_WITHIN;
        let email = address(dossier)?;
        let Some(contact) = self.api.find_contact(deadline, email).await? else {
            return Ok(None);
        };
        let note = self
            .api
            .find_note(deadline, &contact.id, &dossier.handoff_id)
            .await?;
        match note {
            Some(note) if note.revision >= dossier.revision => {
                let made = known(dossier).made;
                let receipt = self
                    .receipt(deadline, &contact.id, &note.id, made, None)
                    .await;
                Ok(Some(receipt))
            }
            _ => Ok(None),
        }
    }

    async fn put_now(&self, dossier: &Dossier) -> Result<Receipt, SendError> {
        let deadline = Instant::now() + PUT_WITHIN;
        let email = address(dossier)?;
        let known = known(dossier);
        let existing = self.api.find_contact(deadline, email).await?;
        let ours =
            known.made && existing.as_ref().map(|contact| &contact.id) == known.contact.as_ref();
        let plan = Plan {
            email,
            lead: &dossier.lead,
            existing: existing.as_ref(),
            ours,
        };
        let written = self
            .api
            .write_contact(deadline, plan, dossier.handoff_id.as_str())
            .await?;
        let contact = &written.id;
        let note = match known.note {
            Some(note) => {
                if known.contact.as_ref() != Some(contact) {
                    self.api.associate(deadline, &note, contact).await?;
                }
                // Which revision it tells is not known: it is told again.
                Some(Note {
                    id: note,
                    revision: 0,
                })
            }
            // The first attempt of the first facts: nobody can have made it.
            None if dossier.attempt <= 1 && dossier.revision <= 1 => None,
            None => {
                self.api
                    .find_note(deadline, contact, &dossier.handoff_id)
                    .await?
            }
        };
        let body = note::render(dossier, &written.dropped);
        let note = match note {
            Some(note) if note.revision >= dossier.revision => note.id,
            Some(note) if self.api.update_note(deadline, &note.id, &body).await? => note.id,
            _ => {
                self.api
                    .create_note(deadline, contact, dossier, &body)
                    .await?
            }
        };
        let made = ours || written.new;
        Ok(self
            .receipt(deadline, contact, &note, made, written.url)
            .await)
    }

    async fn receipt(
        &self,
        deadline: Instant,
        contact: &str,
        note: &str,
        made: bool,
        url: Option<String>,
    ) -> Receipt {
        let url = match url.as_deref().and_then(note::link) {
            Some(url) => Some(url),
            None => self.page(deadline, contact).await,
        };
        Receipt {
            reference: json!({ "contact": contact, "note": note, "made": made }),
            provider_id: Some(contact.to_owned()),
            url,
        }
    }

    /// The page of a contact. The lead is in the CRM already: without it people find it by themselves.
    async fn page(&self, deadline: Instant, contact: &str) -> Option<String> {
        let pages = self
            .pages
            .get_or_try_init(|| self.ask_for_pages(deadline))
            .await;
        match pages {
            Ok(pages) => Some(format!("{pages}/record/0-1/{contact}")),
            Err(error) => {
                tracing::warn!(%error, "the page of a contact is not known");
                None
            }
        }
    }

    async fn ask_for_pages(&self, deadline: Instant) -> Result<String, SendError> {
        let what = "looking at the account";
        let call = Call {
            what,
            method: Method::GET,
            path: "/account-info/v3/details",
            body: None,
            effect: Effect::Looks,
        };
        let account = self.api.call(deadline, call).await?;
        let portal = id(&account["portalId"]).ok_or_else(|| {
            SendError::healable(format!("HubSpot: {what}: its answer names no account"))
        })?;
        let domain = account["uiDomain"].as_str().unwrap_or(UI_DOMAIN);
        note::link(&format!("https://{domain}/contacts/{portal}"))
            .ok_or_else(|| SendError::healable(format!("HubSpot: {what}: its domain is none")))
    }

    async fn forget_now(&self, reference: &Value, address: Option<&str>) -> Result<(), SendError> {
        let deadline = Instant::now() + PUT_WITHIN;
        // By its id and never by the address: HubSpot puts an address that it does not have on a list
        // of those that it will never take.
        let contact = match (id(&reference["contact"]), address) {
            (Some(contact), _) => contact,
            (None, Some(address)) => match self.api.find_contact(deadline, address.trim()).await? {
                Some(contact) => contact.id,
                None => return Ok(()),
            },
            // Without an address no attempt has made one.
            (None, None) if reference["attempt"].is_number() => return Ok(()),
            (None, None) => {
                return Err(SendError::NothingToSend {
                    reason: "another CRM has the record",
                });
            }
        };
        let call = Call {
            what: "deleting the contact for good",
            method: Method::POST,
            path: "/crm/v3/objects/contacts/gdpr-delete",
            body: Some(json!({ "objectId": contact })),
            effect: Effect::Writes,
        };
        match self.api.call(deadline, call).await {
            Ok(_) | Err(CallError::NotFound(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl CrmProvider for HubSpot {
    fn name(&self) -> &'static str {
        "hubspot"
    }

    fn find<'a>(
        &'a self,
        dossier: &'a Dossier,
    ) -> BoxFuture<'a, Result<Option<Receipt>, SendError>> {
        self.find_now(dossier).boxed()
    }

    fn put<'a>(&'a self, dossier: &'a Dossier) -> BoxFuture<'a, Result<Receipt, SendError>> {
        self.put_now(dossier).boxed()
    }

    fn forget<'a>(
        &'a self,
        reference: &'a Value,
        address: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), SendError>> {
        self.forget_now(reference, address).boxed()
    }
}

/// What an earlier delivery of the handoff has told us.
#[derive(Debug, Default)]
struct Known {
    contact: Option<String>,
    note: Option<String>,
    /// Whether we made the contact.
    made: bool,
}

fn known(dossier: &Dossier) -> Known {
    let Some(reference) = dossier.reference(Channel::Crm) else {
        return Known::default();
    };
    let reference = &reference.reference;
    Known {
        contact: id(&reference["contact"]),
        note: id(&reference["note"]),
        made: reference["made"] == true,
    }
}

/// The address that names the contact.
fn address(dossier: &Dossier) -> Result<&str, SendError> {
    let email = dossier
        .lead
        .email
        .as_deref()
        .map(str::trim)
        .unwrap_or_default();
    if email.is_empty() {
        return Err(SendError::NothingToSend {
            reason: "the lead has no e-mail address",
        });
    }
    if !is_email(email) {
        return Err(SendError::fatal("the lead's e-mail address is none"));
    }
    if inert::is_formula(email) {
        return Err(SendError::fatal(
            "the lead's e-mail address begins like a formula",
        ));
    }
    Ok(email)
}
