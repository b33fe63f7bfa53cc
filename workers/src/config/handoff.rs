//! How a handoff reaches people: Slack, a CRM, mail, and the hours in which somebody answers.

use secrecy::SecretString;
use store::{handoffs::is_email, settings::Settings};
use url::Url;

use super::base_url;

/// Slack.
#[derive(Debug, Clone)]
pub struct SlackConfig {
    /// `SLACK_BOT_TOKEN`, a secret.
    pub bot_token: SecretString,
    /// `SLACK_WEBHOOK_URL`, a secret: the way that is left when the token fails.
    pub webhook_url: SecretString,
    /// `SLACK_API_BASE_URL`, with `/api` and without a slash at its end.
    pub base_url: String,
    /// `SLACK_CHANNEL`: its name with `#`, or its id.
    pub channel: String,
}

/// Where leads are kept.
#[derive(Debug, Clone)]
pub enum CrmConfig {
    /// `CRM_PROVIDER=none`.
    None,
    /// `CRM_PROVIDER=hubspot`.
    HubSpot {
        /// `HUBSPOT_ACCESS_TOKEN`, a secret.
        access_token: SecretString,
        /// `HUBSPOT_BASE_URL`, without a slash at its end.
        base_url: String,
    },
    /// `CRM_PROVIDER=webhook`.
    Webhook {
        /// `CRM_WEBHOOK_URL`: the operator's own, so it may be private.
        url: Url,
        /// `CRM_WEBHOOK_SECRET`, a secret: `whsec_` and base64 (Standard Webhooks).
        secret: SecretString,
    },
}

/// How mail is sent.
#[derive(Debug, Clone)]
pub struct SmtpConfig {
    /// `SMTP_HOST`.
    pub host: String,
    /// `SMTP_PORT`.
    pub port: u16,
    /// `SMTP_USERNAME`, a secret.
    pub username: SecretString,
    /// `SMTP_PASSWORD`, a secret.
    pub password: SecretString,
    /// `SMTP_FROM`: by default the user name.
    pub from: String,
    /// `SMTP_TLS`.
    pub tls: SmtpTls,
    /// `FALLBACK_EMAIL_ADDRESS`: who is written to when Slack and the CRM failed.
    pub fallback_address: String,
}

/// How the connection to the mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpTls {
    /// Plain at first, then STARTTLS, which must be there.
    StartTls,
    /// From the first byte.
    Implicit,
    /// Not at all: this machine only.
    None,
}

/// All of it.
#[derive(Debug, Clone)]
pub struct HandoffConfig {
    /// Slack.
    pub slack: SlackConfig,
    /// The CRM.
    pub crm: CrmConfig,
    /// Mail.
    pub smtp: SmtpConfig,
    /// `HANDOFF_RETRY_BACKOFF_SECONDS`.
    pub waits: Vec<i32>,
}

impl HandoffConfig {
    /// Reads the variables of the handoff.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let slack = SlackConfig::read(settings);
        let crm = CrmConfig::read(settings);
        let smtp = SmtpConfig::read(settings);
        let waits = store::handoffs::read_waits(settings);
        Some(Self {
            slack: slack?,
            crm: crm?,
            smtp: smtp?,
            waits,
        })
    }
}

impl SlackConfig {
    fn read(settings: &mut Settings) -> Option<Self> {
        let webhook_url = secret_url(
            settings,
            "SLACK_WEBHOOK_URL",
            "the URL of an incoming webhook of Slack",
        );
        let bot_token = settings.secret("SLACK_BOT_TOKEN", "the bot token of the Slack app");
        let base_url = base_url(settings, "SLACK_API_BASE_URL", "https://slack.com/api");
        let channel = settings.with_default(
            "SLACK_CHANNEL",
            "#new-leads".to_owned(),
            "a channel's name with '#', or its id",
            |channel| channel.len() <= 81 && !channel.contains(char::is_whitespace),
        );
        Some(Self {
            bot_token: bot_token?,
            webhook_url: webhook_url?,
            base_url,
            channel,
        })
    }
}

impl CrmConfig {
    fn read(settings: &mut Settings) -> Option<Self> {
        let provider = settings.with_default(
            "CRM_PROVIDER",
            "none".to_owned(),
            "hubspot, webhook or none",
            |provider| matches!(provider.as_str(), "hubspot" | "webhook" | "none"),
        );
        match provider.as_str() {
            "hubspot" => {
                let base_url = base_url(settings, "HUBSPOT_BASE_URL", "https://api.hubapi.com");
                let access_token = settings.secret(
                    "HUBSPOT_ACCESS_TOKEN",
                    "the access token of a private app of HubSpot (CRM_PROVIDER=hubspot)",
                );
                Some(Self::HubSpot {
                    access_token: access_token?,
                    base_url,
                })
            }
            "webhook" => {
                let rule = "an http or https URL (CRM_PROVIDER=webhook)";
                let url = settings.required::<Url>("CRM_WEBHOOK_URL", rule);
                if url
                    .as_ref()
                    .is_some_and(|url| !matches!(url.scheme(), "http" | "https"))
                {
                    settings.problem("CRM_WEBHOOK_URL", format!("is not valid: {rule}"));
                }
                let secret = settings.secret(
                    "CRM_WEBHOOK_SECRET",
                    "whsec_ and base64, as Standard Webhooks have it (CRM_PROVIDER=webhook)",
                );
                Some(Self::Webhook {
                    url: url?,
                    secret: secret?,
                })
            }
            _ => Some(Self::None),
        }
    }
}

impl SmtpConfig {
    fn read(settings: &mut Settings) -> Option<Self> {
        let host = settings.required::<String>("SMTP_HOST", "the name of the mail server");
        let port =
            settings.with_default("SMTP_PORT", 587, "a port from 1 to 65535", |port| *port > 0);
        let username = settings.secret("SMTP_USERNAME", "the user name at the mail server");
        let password = settings.secret("SMTP_PASSWORD", "the password at the mail server");
        let address = "an e-mail address";
        let fallback_address = settings.required::<String>("FALLBACK_EMAIL_ADDRESS", address);
        if fallback_address
            .as_ref()
            .is_some_and(|text| !is_email(text))
        {
            settings.problem("FALLBACK_EMAIL_ADDRESS", format!("is not valid: {address}"));
        }
        let from = settings
            .optional::<String>("SMTP_FROM", address)
            .or_else(|| settings.get("SMTP_USERNAME").map(ToOwned::to_owned));
        if from.as_ref().is_some_and(|from| !is_email(from)) {
            settings.problem(
                "SMTP_FROM",
                "is not valid: an e-mail address; it is needed when SMTP_USERNAME is none",
            );
        }
        let rule = "starttls, implicit or none (none for this machine only)";
        let tls = settings.with_default("SMTP_TLS", "starttls".to_owned(), rule, |tls| {
            matches!(tls.as_str(), "starttls" | "implicit" | "none")
        });
        let is_local = host
            .as_deref()
            .is_some_and(|host| matches!(host, "localhost" | "127.0.0.1" | "::1"));
        let tls = match tls.as_str() {
            "implicit" => SmtpTls::Implicit,
            "none" if is_local => SmtpTls::None,
            "none" => {
                settings.problem(
                    "SMTP_TLS",
                    "is none, which is for a mail server on this machine only",
                );
                SmtpTls::StartTls
            }
            _ => SmtpTls::StartTls,
        };
        Some(Self {
            host: host?,
            port,
            username: username?,
            password: password?,
            from: from?,
            tls,
            fallback_address: fallback_address?,
        })
    }
}

/// A URL that is a secret: whoever knows it may post.
fn secret_url(settings: &mut Settings, variable: &str, rule: &str) -> Option<SecretString> {
    let url = settings.required::<Url>(variable, rule)?;
    if matches!(url.scheme(), "http" | "https") {
        Some(SecretString::from(url.to_string()))
    } else {
        settings.problem(variable, format!("is not valid: {rule}"));
        None
    }
}
