//! How a handoff reaches people: Slack, a CRM, mail, and the hours in which somebody answers.

use std::net::IpAddr;

use lettre::Address;
use secrecy::{ExposeSecret, SecretString};
use store::{business_hours::BusinessHours, handoffs::is_email, settings::Settings};
use url::{Host, Url};

use super::{base_url, business_hours};
use crate::standard_webhooks::WebhookSecret;

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
        secret: WebhookSecret,
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
    /// `SMTP_FROM`: by default the user name. Its domain is in ASCII.
    pub from: Address,
    /// `SMTP_TLS`.
    pub tls: SmtpTls,
    /// `FALLBACK_EMAIL_ADDRESS`: who is written to when Slack and the CRM failed. Its domain is in ASCII.
    pub fallback_address: Address,
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
    /// `BUSINESS_HOURS_…`, `BUSINESS_DAYS`, `BUSINESS_HOLIDAYS`: when somebody replies.
    pub hours: BusinessHours,
}

impl HandoffConfig {
    /// Reads the variables of the handoff.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let slack = SlackConfig::read(settings);
        let crm = CrmConfig::read(settings);
        let smtp = SmtpConfig::read(settings);
        let waits = store::handoffs::read_waits(settings);
        let hours = business_hours::read(settings);
        Some(Self {
            slack: slack?,
            crm: crm?,
            smtp: smtp?,
            waits,
            hours: hours?,
        })
    }
}

impl SlackConfig {
    fn read(settings: &mut Settings) -> Option<Self> {
        let webhook_url = secret_url(
            settings,
            "SLACK_WEBHOOK_URL",
            "the URL of an incoming webhook of Slack, from the app's page Incoming Webhooks",
        );
        let bot_token = settings.secret(
            "SLACK_BOT_TOKEN",
            "the bot token (xoxb-…) of the Slack app, from its page OAuth & Permissions",
        );
        let base_url = base_url(settings, "SLACK_API_BASE_URL", "https://slack.com/api");
        let channel = settings.with_default(
            "SLACK_CHANNEL",
            "#new-leads".to_owned(),
            "a channel's name with '#', or its id, such as C0123456789",
            |channel| is_channel(channel),
        );
        Some(Self {
            bot_token: bot_token?,
            webhook_url: webhook_url?,
            base_url,
            channel,
        })
    }
}

/// Whether it is a channel's name behind a `#`, or an id. Slack's names are up to 80 lower-case letters of any
/// script, digits, `-` and `_`.
fn is_channel(channel: &str) -> bool {
    let legal = |letter: char| {
        !letter.is_uppercase() && (letter.is_alphanumeric() || letter == '-' || letter == '_')
    };
    match channel.strip_prefix('#') {
        Some(name) => (1..=80).contains(&name.chars().count()) && name.chars().all(legal),
        None => {
            channel.starts_with(['C', 'D', 'G'])
                && (9..=32).contains(&channel.len())
                && channel
                    .bytes()
                    .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        }
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
                let rule = "whsec_ and the base64 of 24 to 64 bytes, as Standard Webhooks has it \
                            (CRM_PROVIDER=webhook)";
                let secret = settings.secret("CRM_WEBHOOK_SECRET", rule);
                let secret = secret.and_then(|secret| {
                    let parsed = WebhookSecret::parse(secret.expose_secret()).ok();
                    if parsed.is_none() {
                        settings.problem("CRM_WEBHOOK_SECRET", format!("is not valid: {rule}"));
                    }
                    parsed
                });
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
    /// Reads the variables of mail.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let rule = "the name or the IP address of the mail server, without a scheme and a port";
        let host = settings.required::<String>("SMTP_HOST", rule);
        let host = host.and_then(|text| {
            let host = mail_host(&text);
            if host.is_none() {
                settings.problem("SMTP_HOST", format!("is not valid: {rule}"));
            }
            host
        });
        let port =
            settings.with_default("SMTP_PORT", 587, "a port from 1 to 65535", |port| *port > 0);
        let username = settings.secret("SMTP_USERNAME", "the user name at the mail server");
        let password = settings.secret("SMTP_PASSWORD", "the password at the mail server");
        let rule = "an e-mail address";
        let fallback_address = settings.required::<String>("FALLBACK_EMAIL_ADDRESS", rule);
        let fallback_address = fallback_address.and_then(|text| {
            let address = mail_address(&text);
            if address.is_none() {
                settings.problem("FALLBACK_EMAIL_ADDRESS", format!("is not valid: {rule}"));
            }
            address
        });
        let from = settings
            .optional::<String>("SMTP_FROM", rule)
            .or_else(|| settings.get("SMTP_USERNAME").map(ToOwned::to_owned));
        let from = from.and_then(|text| {
            let address = mail_address(&text);
            if address.is_none() {
                settings.problem(
                    "SMTP_FROM",
                    "is not valid: an e-mail address; it is needed when SMTP_USERNAME is none",
                );
            }
            address
        });
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

/// A host's name as it is looked up, in ASCII, or an IP address without brackets.
fn mail_host(text: &str) -> Option<String> {
    if text.parse::<IpAddr>().is_ok() {
        return Some(text.to_owned());
    }
    match Host::parse(text).ok()? {
        Host::Domain(name) if name.len() <= 253 => Some(name),
        _ => None,
    }
}

/// An address in ASCII that mail can be sent to: a domain is converted as mail servers know it, and a
/// mailbox with other letters is none, because many servers can't take it.
pub(crate) fn mail_address(text: &str) -> Option<Address> {
    let (user, domain) = text.rsplit_once('@')?;
    if !is_email(text) || !user.is_ascii() {
        return None;
    }
    let domain = Host::parse(domain).ok()?.to_string();
    Address::new(user, domain).ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_server_is_a_name_or_an_address_and_nothing_more() {
        for (text, host) in [
            ("smtp.company.example", Some("smtp.company.example")),
            ("SMTP.größe.example", Some("smtp.xn--gre-6ka8i.example")),
            ("localhost", Some("localhost")),
            ("192.0.2.1", Some("192.0.2.1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("https://smtp.company.example", None),
            ("smtp.company.example:587", None),
            ("[::1]", None),
            ("a b", None),
            ("a\nb", None),
            (&*"a".repeat(100_000), None),
        ] {
            assert_eq!(mail_host(text).as_deref(), host, "{text:.40}");
        }
    }

    #[test]
    fn a_channel_is_a_name_behind_its_sign_or_an_id() {
        for (channel, legal) in [
            ("#new-leads", true),
            ("#größe_1", true),
            ("C0123456789", true),
            ("G0123456789", true),
            ("new-leads", false),
            ("#", false),
            ("#New", false),
            ("#a b", false),
            ("#a.b", false),
            ("C", false),
            ("c0123456789", false),
        ] {
            assert_eq!(is_channel(channel), legal, "{channel}");
        }
        assert!(!is_channel(&format!("#{}", "a".repeat(81))));
    }
}
