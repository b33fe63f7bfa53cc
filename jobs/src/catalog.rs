//! Every kind of job: the one place that names them all.

mod handoff;
mod people;
mod privacy;
mod webhook;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgConnection;
use store::{
    bus::Wake,
    ids::{SessionId, TurnKey},
    turn_control::{self, Unattended},
};

use crate::{
    enqueue::{EnqueueOptions, Enqueued, QueueError, enqueue_with},
    kind::JobKind,
    outcome::Ended,
    webhooks,
};
pub use handoff::{
    HandoffCrm, HandoffEmail, HandoffRemind, HandoffSettle, HandoffSlack, HandoffSlackUpdate,
};
pub use people::{
    AgentUnreachable, HandoffRelay, Notice, SlackFace, SlackNote, SlackOpenReply, SlackPerson,
};
pub use privacy::{PrivacyErase, RetentionSweep};
pub use webhook::{WebhookDeliver, WebhookRelease};

macro_rules! catalog {
    ($($kind:ty),+ $(,)?) => {
        /// The queues of all kinds; a queue of several kinds stands here several times.
        pub const QUEUES: &[&str] = &[$(<$kind>::QUEUE),+];

        /// The names of all kinds.
        pub const KINDS: &[&str] = &[$(<$kind>::KIND),+];

        /// Adds a job of a kind that is known by its name only: an operator's. Returns its queue as well,
        /// for the wake-up after the commit.
        pub async fn enqueue_raw(
            conn: &mut PgConnection,
            kind: &str,
            payload: Value,
            options: &EnqueueOptions,
        ) -> Result<(Enqueued, &'static str), QueueError> {
            $(
                if <$kind>::KIND == kind || <$kind>::ALIASES.contains(&kind) {
                    let job: $kind = serde_json::from_value(payload)
                        .map_err(|source| QueueError::Payload { kind: <$kind>::KIND, source })?;
                    let enqueued = enqueue_with(conn, &job, options).await?;
                    return Ok((enqueued, <$kind>::QUEUE));
                }
            )+
            Err(QueueError::UnknownKind {
                kind: kind.to_owned(),
                known: KINDS,
            })
        }

        /// What follows from the end of a job; see [`JobKind::ended`]. Returns whether its payload could be
        /// read; nothing follows from one that can't be, or from a kind that nobody knows.
        pub(crate) async fn ended(
            kind: &str,
            payload: &Value,
            ended: Ended,
            conn: &mut PgConnection,
            after: &mut Wake,
        ) -> sqlx::Result<bool> {
            $(
                if <$kind>::KIND == kind || <$kind>::ALIASES.contains(&kind) {
                    return match <$kind>::deserialize(payload) {
                        Ok(job) => job.ended(ended, conn, after).await.map(|()| true),
                        Err(_) => Ok(false),
                    };
                }
            )+
            Ok(false)
        }
    };
}

catalog!(
    TurnProcess,
    HandoffSlack,
    HandoffCrm,
    HandoffSlackUpdate,
    HandoffEmail,
    HandoffSettle,
    HandoffRemind,
    HandoffRelay,
    AgentUnreachable,
    SlackFace,
    SlackNote,
    SlackOpenReply,
    SlackPerson,
    WebhookDeliver,
    WebhookRelease,
    KnowledgeIndexDocument,
    SessionSweep,
    RetentionSweep,
    PrivacyErase,
    QueuePrune,
    BackupRun,
    BackupVerify
);

/// Kinds that are no more: jobs of theirs that are still there die, with this reason.
pub const RETIRED: &[&str] = &[];

/// What holds for a queue as a whole.
#[derive(Debug, Clone, Copy)]
pub struct QueueRules {
    /// The queue.
    pub queue: &'static str,
    /// Jobs that run at once in one process, unless `WORKER_CONCURRENCY` says otherwise.
    pub slots: usize,
    /// Jobs that run at once in the whole fleet; none: as many as there are slots.
    pub fleet: Option<u32>,
}

/// The rules of each queue that has some of its own.
pub const QUEUE_RULES: &[QueueRules] = &[
    // A turn mostly waits for the model.
    QueueRules {
        queue: TurnProcess::QUEUE,
        slots: 64,
        fleet: None,
    },
    // A delivery mostly waits for its provider.
    QueueRules {
        queue: HandoffSlack::QUEUE,
        slots: 16,
        fleet: None,
    },
    // Short, and somebody waits.
    QueueRules {
        queue: SlackOpenReply::QUEUE,
        slots: 8,
        fleet: None,
    },
    // One at a time for each endpoint, of which there are few; the others release.
    QueueRules {
        queue: WebhookDeliver::QUEUE,
        slots: 24,
        fleet: None,
    },
    // Bound by the provider's limits, which all processes share.
    QueueRules {
        queue: KnowledgeIndexDocument::QUEUE,
        slots: 8,
        fleet: Some(16),
    },
    // Never urgent.
    QueueRules {
        queue: QueuePrune::QUEUE,
        slots: 4,
        fleet: None,
    },
    // Each uses a whole processor; and two at once would be refused by the table of the runs.
    QueueRules {
        queue: BackupRun::QUEUE,
        slots: 1,
        fleet: Some(1),
    },
];

/// Answers one message of a visitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnProcess {
    /// The session.
    pub session_id: SessionId,
    /// The turn's number in it.
    pub turn: i32,
}

impl TurnProcess {
    /// The turn that the job answers.
    pub fn key(&self) -> TurnKey {
        TurnKey {
            session_id: self.session_id.clone(),
            turn: self.turn,
        }
    }
}

impl JobKind for TurnProcess {
    const KIND: &'static str = "turn.process";
    const QUEUE: &'static str = "turns";
    const RETRY_WAITS: &'static [i32] = &[1, 3, 9];
    const TIMEOUT: Duration = Duration::from_mins(2);

    fn unique_key(&self) -> Option<String> {
        Some(self.key().to_string())
    }

    fn serial_key(&self) -> Option<String> {
        Some(session_serial_key(&self.session_id))
    }

    /// A job that ends without an answer ends its turn, so that no client waits for ever. A handler
    /// that ends its own job has finished the turn before, which then stays as it is.
    async fn ended(
        &self,
        ended: Ended,
        conn: &mut PgConnection,
        after: &mut Wake,
    ) -> sqlx::Result<()> {
        let how = match ended {
            Ended::Done => return Ok(()),
            Ended::Dead => Unattended::Failed,
            Ended::Cancelled => Unattended::Cancelled,
        };
        let key = self.key();
        let ended = turn_control::end_unattended(conn, &key, how).await?;
        if webhooks::turn_ended(conn, &key, ended, after)
            .await
            .map_err(webhooks::database_error)?
        {
            after.turns.insert(key);
        }
        Ok(())
    }
}

/// The serial key of a session's turns. Its lock (see [`crate::lock_serial_key`]) is also what
/// orders everything else that changes a session's turns.
pub fn session_serial_key(session_id: &SessionId) -> String {
    format!("session:{session_id}")
}

/// Chunks and embeds one document of the knowledge base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnowledgeIndexDocument {
    /// The row in `knowledge_documents` that holds the text.
    pub document_id: i64,
    /// Hex SHA-256 of the text that is to be indexed.
    pub content_hash: String,
}

impl JobKind for KnowledgeIndexDocument {
    const KIND: &'static str = "knowledge.index_document";
    const QUEUE: &'static str = "knowledge";
    const RETRY_WAITS: &'static [i32] = &[1, 3, 9];
    const TIMEOUT: Duration = Duration::from_mins(5);

    fn unique_key(&self) -> Option<String> {
        Some(format!("{}:{}", self.document_id, self.content_hash))
    }

    fn serial_key(&self) -> Option<String> {
        Some(format!("document:{}", self.document_id))
    }
}

/// Closes the sessions that have been idle for `SESSION_TTL_HOURS`. [`crate::sweep_after`] adds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSweep {
    /// The full hour at which it is due, `2026-11-21T09:00Z`. It is a name: the sweep looks at the clock.
    pub due: String,
}

impl JobKind for SessionSweep {
    const KIND: &'static str = "session.sweep";
    const QUEUE: &'static str = "maintenance";
    const RETRY_WAITS: &'static [i32] = &[1, 3, 9];
    const TIMEOUT: Duration = Duration::from_mins(10);

    fn unique_key(&self) -> Option<String> {
        Some(self.due.clone())
    }
}

/// Deletes what the queue's own tables need not keep any longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuePrune {
    /// The date whose night it is of, `2026-11-21`.
    pub date: String,
}

impl JobKind for QueuePrune {
    const KIND: &'static str = "queue.prune";
    const QUEUE: &'static str = "maintenance";
    const RETRY_WAITS: &'static [i32] = &[1, 3, 9];
    const TIMEOUT: Duration = Duration::from_mins(10);

    fn unique_key(&self) -> Option<String> {
        Some(self.date.clone())
    }

    /// One at a time.
    fn serial_key(&self) -> Option<String> {
        Some(Self::KIND.to_owned())
    }
}

/// Makes the backup of a due time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRun {
    /// The time on the clock of [`BackupRun::time_zone`], `2026-11-21T02:00`.
    pub due: String,
    /// The zone's IANA name.
    pub time_zone: String,
}

impl JobKind for BackupRun {
    const KIND: &'static str = "backup.run";
    const QUEUE: &'static str = "backup";
    const RETRY_WAITS: &'static [i32] = &[60, 300, 900];
    const TIMEOUT: Duration = Duration::from_hours(6);

    fn unique_key(&self) -> Option<String> {
        Some(format!("{} {}", self.due, self.time_zone))
    }
}

/// Restores a backup into a scratch database, and compares it with its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupVerify {
    /// Its name, `2026-11-21` or `2026-11-21T0200`; none: the newest.
    pub name: Option<String>,
    /// Through all of `restore`, not only until the counts are compared.
    #[serde(default)]
    pub drill: bool,
    /// What asked for it: the run, or the date of the drill.
    pub by: String,
}

impl JobKind for BackupVerify {
    const KIND: &'static str = "backup.verify";
    const QUEUE: &'static str = "backup";
    const RETRY_WAITS: &'static [i32] = &[60, 300, 900];
    const TIMEOUT: Duration = Duration::from_hours(6);

    fn unique_key(&self) -> Option<String> {
        Some(self.by.clone())
    }
}
