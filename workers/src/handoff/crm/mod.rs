//! The CRM: where a lead is kept. One file a provider: another one is a file, a variant of
//! [`CrmConfig`] and a line in [`Crm::new`].

mod hubspot;
mod inert;
mod webhook;

use std::{fmt::Debug, sync::Arc};

use futures::future::BoxFuture;
use serde_json::Value;
use store::{clock::SystemClock, handoffs};

pub(crate) use self::webhook::inert_lead;
pub use self::{hubspot::HubSpot, webhook::CrmWebhook};
use super::{Channel, Dossier, Receipt, SendError};
use crate::config::{CrmConfig, HandoffConfig};

/// A place where leads are kept. It holds no connection of the database, and repeats nothing by itself.
pub trait CrmProvider: Debug + Send + Sync {
    /// Its name, by which the fleet remembers its failures.
    fn name(&self) -> &'static str;

    /// The record, if the provider has this revision of the handoff already. `None` by a provider that
    /// can't be asked.
    fn find<'a>(
        &'a self,
        dossier: &'a Dossier,
    ) -> BoxFuture<'a, Result<Option<Receipt>, SendError>>;

    /// Makes the record, or brings it up to date. To do it again changes nothing.
    fn put<'a>(&'a self, dossier: &'a Dossier) -> BoxFuture<'a, Result<Receipt, SendError>>;

    /// Deletes for good what the provider keeps of a person. `reference` is that of the receipt; if nobody
    /// ever had one, it names the handoff only, and the record may be known by its `address`. To do it again
    /// changes nothing.
    fn forget<'a>(
        &'a self,
        reference: &'a Value,
        address: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), SendError>>;
}

/// The channel to the CRM that is configured, if one is. A clone shares its connections.
#[derive(Debug, Clone)]
pub struct Crm {
    provider: Option<Arc<dyn CrmProvider>>,
}

impl Crm {
    /// The CRM of the configuration.
    pub fn new(config: &HandoffConfig, http: reqwest::Client) -> Self {
        let provider: Option<Arc<dyn CrmProvider>> = match &config.crm {
            CrmConfig::None => None,
            CrmConfig::HubSpot {
                access_token,
                base_url,
            } => Some(Arc::new(HubSpot::new(
                access_token.clone(),
                base_url.clone(),
                http,
            ))),
            CrmConfig::Webhook { url, secret } => Some(Arc::new(CrmWebhook::new(
                url.clone(),
                secret.clone(),
                Arc::new(SystemClock),
                http,
            ))),
        };
        Self { provider }
    }

    /// Deletes for good what the CRM keeps of a person: `reference` is what the delivery was told, `address`
    /// what the record is looked for by if it was told nothing.
    pub async fn forget(&self, reference: &Value, address: Option<&str>) -> Result<(), SendError> {
        self.configured()?.forget(reference, address).await
    }

    fn configured(&self) -> Result<&dyn CrmProvider, SendError> {
        self.provider.as_deref().ok_or(SendError::NothingToSend {
            reason: "no CRM is configured",
        })
    }
}

impl Channel for Crm {
    const CHANNEL: handoffs::Channel = handoffs::Channel::Crm;

    fn provider(&self) -> &'static str {
        self.provider.as_deref().map_or("none", CrmProvider::name)
    }

    async fn reconcile(&self, dossier: &Dossier) -> Result<Option<Receipt>, SendError> {
        self.configured()?.find(dossier).await
    }

    async fn send(&self, dossier: &Dossier) -> Result<Receipt, SendError> {
        self.configured()?.put(dossier).await
    }
}
