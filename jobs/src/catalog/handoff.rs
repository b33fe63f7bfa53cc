//! The kinds that bring a handoff to people (docs/decisions/0018).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use store::{
    bus::Wake,
    handoffs::Channel,
    ids::{HandoffId, SessionId},
};

use crate::{
    handoffs,
    kind::{JobKind, UniqueFor},
    outcome::Ended,
    rate::Rate,
};

/// The queue of all of them.
pub(super) const QUEUE: &str = "handoff";
/// The default of `HANDOFF_RETRY_BACKOFF_SECONDS` (seed 000).
const WAITS: &[i32] = &[1, 3, 9];
/// One attempt: a provider's time-out (10 s), the same to ask it first, and the database.
pub(super) const TIMEOUT: Duration = Duration::from_secs(45);
/// Slack takes about one message a second in a channel (<https://docs.slack.dev/apis/web-api/rate-limits>).
pub(super) const SLACK_POST: Rate = Rate::one_each(Duration::from_secs(1));
/// Private apps of HubSpot may make 100 calls in 10 s; a delivery makes three, and one more to look first.
const CRM: Rate = Rate {
    every: Duration::from_millis(500),
    burst: 5,
};
/// `chat.update` is a method of tier 3: 50 a minute.
pub(super) const SLACK_CHANGE: Rate = Rate::one_each(Duration::from_millis(1_200));
/// What shares the rate of messages.
pub(super) const SLACK_POST_KEY: &str = "slack.post";
/// What shares the rate of changes.
pub(super) const SLACK_CHANGE_KEY: &str = "slack.change";

/// A delivery by one channel: the end of its job is followed by `handoff.settle`, however it ended.
macro_rules! delivery {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $channel:expr, $waits:expr, $unique:expr, $rate:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $name {
            /// The session.
            pub session_id: SessionId,
            /// The handoff in it.
            pub handoff_id: HandoffId,
        }

        impl JobKind for $name {
            const KIND: &'static str = $kind;
            const QUEUE: &'static str = QUEUE;
            const RETRY_WAITS: &'static [i32] = $waits;
            const TIMEOUT: Duration = TIMEOUT;
            const UNIQUE: UniqueFor = $unique;
            const RATE: Option<Rate> = match $rate {
                Some((rate, _)) => Some(rate),
                None => None,
            };
            const FOLLOWS_UP: bool = true;

            fn unique_key(&self) -> Option<String> {
                Some(self.handoff_id.to_string())
            }

            fn rate_key(&self) -> Option<String> {
                let rate: Option<(Rate, &str)> = $rate;
                rate.map(|(_, key)| key.to_owned())
            }

            async fn ended(
                &self,
                ended: Ended,
                conn: &mut PgConnection,
                after: &mut Wake,
            ) -> sqlx::Result<()> {
                handoffs::delivery_ended(conn, &self.session_id, &self.handoff_id, $channel, ended, after).await
            }
        }
    };
}

delivery!(
    /// Posts the handoff's message in Slack.
    HandoffSlack, "handoff.slack", Channel::Slack, WAITS, UniqueFor::Live, Some((SLACK_POST, SLACK_POST_KEY))
);
delivery!(
    /// Makes the lead's record in the CRM.
    HandoffCrm, "handoff.crm", Channel::Crm, WAITS, UniqueFor::Live, Some((CRM, "crm"))
);
delivery!(
    /// Adds the CRM's record, and what was learned since, to the message in Slack.
    HandoffSlackUpdate, "handoff.slack_update", Channel::SlackUpdate, WAITS, UniqueFor::Live, Some((SLACK_CHANGE, SLACK_CHANGE_KEY))
);
delivery!(
    /// Sends the e-mail, when both Slack and the CRM failed for good: once for ever.
    HandoffEmail, "handoff.email", Channel::Email, EMAIL_WAITS, UniqueFor::Ever, None::<(Rate, &str)>
);

/// 1, 3, 9 s, then growing, then hourly until a day is over (02-queue, the catalogue).
const EMAIL_WAITS: &[i32] = &[
    1, 3, 9, 60, 300, 1_800, 3_600, 3_600, 3_600, 3_600, 3_600, 3_600, 3_600, 3_600, 3_600, 3_600,
    3_600, 3_600, 3_600, 3_600, 3_600, 3_600, 3_600, 3_600, 3_600, 3_600, 3_600, 3_600, 3_600,
];

/// Decides what becomes of a handoff, from what became of its deliveries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandoffSettle {
    /// The session.
    pub session_id: SessionId,
    /// The handoff in it.
    pub handoff_id: HandoffId,
}

impl JobKind for HandoffSettle {
    const KIND: &'static str = "handoff.settle";
    const QUEUE: &'static str = QUEUE;
    const RETRY_WAITS: &'static [i32] = &[1, 3, 9];
    const TIMEOUT: Duration = Duration::from_secs(30);

    // It has no serial key although it is serial. It is enqueued where jobs end, with their rows locked, and
    // the lock of a serial key comes before all rows (docs/decisions/0006). Its handler locks the handoff.
}

/// Reminds people in Slack of a promise that is about to be broken: once for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandoffRemind {
    /// The session.
    pub session_id: SessionId,
    /// The handoff in it.
    pub handoff_id: HandoffId,
}

impl JobKind for HandoffRemind {
    const KIND: &'static str = "handoff.remind";
    const QUEUE: &'static str = QUEUE;
    const RETRY_WAITS: &'static [i32] = &[1, 3, 9, 60];
    const TIMEOUT: Duration = TIMEOUT;
    const UNIQUE: UniqueFor = UniqueFor::Ever;
    const RATE: Option<Rate> = Some(SLACK_POST);

    fn unique_key(&self) -> Option<String> {
        Some(self.handoff_id.to_string())
    }

    fn rate_key(&self) -> Option<String> {
        Some(SLACK_POST_KEY.to_owned())
    }
}
