//! The services by which a handoff reaches people, together, and the variables that lead to them.

use std::io;

use crate::{
    hubspot::HubSpot,
    outside::OutsideWorld,
    receiver::Receiver,
    slack::{BOT_TOKEN, SLACK_SIGNING_SECRET, Slack},
    smtp::{self, Smtp},
};

/// The stand-ins, which serve until they are dropped.
#[derive(Debug)]
pub struct People {
    /// Slack.
    pub slack: Slack,
    /// `HubSpot`.
    pub hubspot: HubSpot,
    /// A receiver of webhooks.
    pub receiver: Receiver,
    /// A mail server.
    pub smtp: Smtp,
}

impl People {
    /// Starts all of them on free ports.
    pub async fn start(world: &OutsideWorld) -> io::Result<Self> {
        Ok(Self {
            slack: Slack::start(world.clone(), 0).await?,
            hubspot: HubSpot::start(world.clone(), 0).await?,
            receiver: Receiver::start(world.clone(), 0).await?,
            smtp: Smtp::start(world.clone(), 0).await?,
        })
    }

    /// What a worker is told, with HubSpot as the CRM.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("SLACK_BOT_TOKEN", BOT_TOKEN.to_owned()),
            ("SLACK_WEBHOOK_URL", format!("{}/webhook", self.slack.url())),
            ("SLACK_API_BASE_URL", format!("{}/api", self.slack.url())),
            ("SLACK_SIGNING_SECRET", SLACK_SIGNING_SECRET.to_owned()),
            ("CRM_PROVIDER", "hubspot".to_owned()),
            ("HUBSPOT_BASE_URL", self.hubspot.url()),
            ("HUBSPOT_ACCESS_TOKEN", "pat-sandbox".to_owned()),
            ("SMTP_HOST", "127.0.0.1".to_owned()),
            ("SMTP_PORT", self.smtp.port().to_string()),
            ("SMTP_USERNAME", smtp::USERNAME.to_owned()),
            ("SMTP_PASSWORD", smtp::PASSWORD.to_owned()),
            ("SMTP_TLS", "none".to_owned()),
            ("FALLBACK_EMAIL_ADDRESS", "sales@company.example".to_owned()),
            ("BUSINESS_HOURS_TIMEZONE", "Europe/Berlin".to_owned()),
        ]
    }
}
