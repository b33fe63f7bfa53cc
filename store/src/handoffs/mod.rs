//! Handoffs: somebody is to talk to a visitor, why, and what is known of them.
//!
//! A session has at most one open handoff; whatever makes another one adds to it. What a visitor wrote
//! into the contact form stands: what a model understood of the conversation does not replace it.

mod attempts;
mod circuits;
mod delivery;
mod key;
mod promise;
mod record;
mod settling;
mod waits;

use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, types::Json};

pub use self::attempts::{
    AttemptEnd, BegunAttempt, Told, begin_attempt, end_attempt, give_up, hold_lease, of_job,
    set_pending, told,
};
pub use self::circuits::{Circuit, circuit, keep_circuit};
pub use self::delivery::{AttemptOutcome, Channel, DeliveryStatus};
pub use self::key::HandoffKey;
pub use self::promise::promise;
pub use self::record::{Asked, Delivery, PATIENCE_WITH_CIRCUITS, Record, Said, deliveries, read};
pub use self::settling::{give_up_lost, has_deliveries, seal, settle};
pub use self::waits::read_waits;
pub use crate::protocol::HandoffStatus;
use crate::{
    business_hours::Promise,
    ids::{HandoffId, SessionId},
};

/// The longest e-mail address, in bytes (RFC 5321).
const LONGEST_EMAIL: usize = 254;

/// What is known of a visitor. It has no `Debug`, because it is about a person.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lead {
    /// How they are called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where mail reaches them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Whom they work for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub company: Option<String>,
    /// Where a call reaches them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    /// What they are looking for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub need: Option<String>,
    /// By when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeline: Option<String>,
    /// For how much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<String>,
    /// What they want to tell us, in their own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Why somebody is to talk to a visitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// We know what they need, and can help.
    QualifiedLead,
    /// They filled in the contact form.
    ContactForm,
    /// They took the offer that was made because the conversation led nowhere.
    Stall,
    /// They asked for a person.
    ExplicitWish,
}

impl Trigger {
    /// The name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QualifiedLead => "qualified_lead",
            Self::ContactForm => "contact_form",
            Self::Stall => "stall",
            Self::ExplicitWish => "explicit_wish",
        }
    }
}

/// A handoff as it is asked for. It has no `Debug`, because it is about a person.
#[derive(Clone)]
pub struct NewHandoff<'a> {
    /// The id that it gets, if the session has no open one.
    pub handoff_id: HandoffId,
    /// The session.
    pub session_id: &'a SessionId,
    /// The turn that asks for it; `None`: the contact form.
    pub turn: Option<i32>,
    /// Why. The first reason of an open handoff stands.
    pub trigger: Trigger,
    /// What is known of the visitor. What is not known leaves what was known.
    pub lead: &'a Lead,
    /// What the conversation was about.
    pub summary: Option<&'a str>,
    /// Whether the visitor has just agreed to be contacted.
    pub consent: bool,
    /// What they are told about a reply: see [`promise`](promise()). What was promised first stands.
    pub promise: Option<&'a Promise>,
}

/// The most messages of a conversation that go with a handoff, the newest of them.
const MOST_SAID: i64 = 60;
/// The most bytes of them together.
const MOST_SAID_BYTES: i64 = 64 * 1024;
/// The most characters of one of them: a visitor's has 4,000 at most.
const LONGEST_SAID: i32 = 8_000;

/// Opens a handoff, or adds to the session's open one, whose revision grows if that makes a difference.
/// Its page and its language are the session's, and so is its summary, unless there is a better one. What
/// was said so far goes with it. In the transaction that holds the lock of the session's serial key.
pub async fn open_or_update(
    conn: &mut PgConnection,
    new: &NewHandoff<'_>,
) -> sqlx::Result<(HandoffId, HandoffStatus)> {
    let row = sqlx::query!(
        r#"with said as (
               select role, author, left(body, $10) as body, created_at, turn, message_id,
                      sum(octet_length(left(body, $10))) over (order by turn desc, role, created_at desc, message_id desc)
                          as bytes
               from messages
               where session_id = $1 and status <> 'superseded'
               order by turn desc, role, created_at desc, message_id desc
               limit $8
           )
           insert into handoff_records as open
             (session_id, handoff_id, turn, trigger, lead, summary, page_url, locale, consent_at, transcript,
              promise_text, promise_by)
           select session_id, $2, $3, $4, $5,
                  coalesce($6, (select c.state -> 'summary' ->> 'text' from checkpoints c where c.session_id = $1)),
                  page_url, locale, case when $7 then now() end,
                  coalesce((select jsonb_agg(jsonb_build_object('role', role, 'author', author, 'text', body, 'at', created_at)
                                             order by turn, role desc, created_at, message_id)
                            from said where bytes <= $9), '[]'),
                  $11::text, $12::timestamptz
           from sessions where session_id = $1
           on conflict (session_id) where status = 'pending' and sealed_at is null do update
           set (lead, turn, summary, page_url, locale, consent_at, transcript, promise_text, promise_by, updated_at,
                revision) = (
               select merged.lead, coalesce(excluded.turn, open.turn), merged.summary, merged.page_url,
                      merged.locale, coalesce(excluded.consent_at, open.consent_at), excluded.transcript,
                      coalesce(open.promise_text, excluded.promise_text),
                      coalesce(open.promise_by, excluded.promise_by), now(),
                      open.revision + case when (merged.lead, merged.summary, merged.page_url, merged.locale)
                                                is distinct from (open.lead, open.summary, open.page_url, open.locale)
                                             or (open.consent_at is null and excluded.consent_at is not null)
                                           then 1 else 0 end
               from (select case when open.consent_at is not null and excluded.consent_at is null
                                 then excluded.lead || open.lead
                                 else open.lead || excluded.lead end as lead,
                            coalesce(excluded.summary, open.summary) as summary,
                            coalesce(excluded.page_url, open.page_url) as page_url,
                            coalesce(excluded.locale, open.locale) as locale) merged)
           returning handoff_id, status"#,
        new.session_id.as_str(),
        new.handoff_id.as_str(),
        new.turn,
        new.trigger.as_str(),
        Json(new.lead) as _,
        new.summary,
        new.consent,
        MOST_SAID,
        MOST_SAID_BYTES,
        LONGEST_SAID,
        new.promise.map(|promise| promise.text.as_str()),
        new.promise.map(|promise| promise.by),
    )
    .fetch_one(conn)
    .await?;
    let handoff_id = row
        .handoff_id
        .parse()
        .map_err(|bad| sqlx::Error::Decode(Box::new(bad)))?;
    Ok((handoff_id, status(&row.status)?))
}

/// The status by its name in the database, which is its name in JSON, too.
fn status(name: &str) -> sqlx::Result<HandoffStatus> {
    serde_json::from_value(name.into()).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// Whether a text has the form of an e-mail address that mail can be sent to. Whether there is such a
/// mailbox is not looked at.
pub fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let local_sign = |sign: char| sign.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(sign);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .chars()
                .all(|sign| sign.is_alphanumeric() || sign == '-')
    };
    text.len() <= LONGEST_EMAIL
        && (1..=64).contains(&local.len())
        && local.chars().all(local_sign)
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && domain.contains('.')
        && domain.split('.').all(label)
}

/// Whether a text may be a telephone number: some digits, and what people write between them.
pub fn is_phone(text: &str) -> bool {
    let digits = text.chars().filter(char::is_ascii_digit).count();
    (5..=20).contains(&digits)
        && text
            .chars()
            .all(|sign| sign.is_ascii_digit() || " +-()/.".contains(sign))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_known_is_not_written() {
        let lead = Lead {
            email: Some("a@b.example".to_owned()),
            ..Lead::default()
        };
        assert_eq!(
            serde_json::to_value(&lead).unwrap(),
            json!({"email": "a@b.example"})
        );
    }

    #[test]
    fn every_status_is_read_by_its_name_in_the_database() {
        for name in ["pending", "delivered", "degraded", "mailed", "dead"] {
            let read = status(name).unwrap();
            assert_eq!(serde_json::to_value(read).unwrap(), name);
        }
        assert!(status("lost").is_err());
    }

    #[test]
    fn an_address_that_mail_can_be_sent_to_is_told_from_others() {
        for good in [
            "a@b.de",
            "first.last+tag@mail.example.org",
            "jörg@münchen.example",
        ] {
            assert!(is_email(good), "{good}");
        }
        let long = format!("{}@b.de", "a".repeat(65));
        for bad in [
            "",
            "a",
            "@b.de",
            "a@",
            "a@b",
            "a b@c.de",
            "a@b..de",
            ".a@b.de",
            "a.@b.de",
            "a..b@c.de",
            "a@-b.de",
            "a@b.de\r\nBcc: x@y.de",
            "<a@b.de>",
            "a@b.de,c@d.de",
            &long,
        ] {
            assert!(!is_email(bad), "{bad}");
        }
    }

    #[test]
    fn a_telephone_number_is_digits_and_what_stands_between_them() {
        for good in ["+49 (0)89 / 123-456", "030 12345"] {
            assert!(is_phone(good), "{good}");
        }
        for bad in ["", "1234", "call me", "+49 89 123456 ext. 7"] {
            assert!(!is_phone(bad), "{bad}");
        }
    }
}
