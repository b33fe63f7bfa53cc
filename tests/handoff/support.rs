//! Leads on their way to people, and the time that passes for them.

use std::{collections::BTreeMap, future::Future, time::Duration};

use jobs::handoffs::open;
use sandbox::switch::Trouble;
use sqlx::PgPool;
use store::{
    bus::Wake,
    handoffs::{Lead, NewHandoff, Trigger},
    ids::{HandoffId, SessionId},
};
use tokio::time::Instant;

use crate::support::TestSystem;

/// Far more than anything takes, on a machine under load too.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// The default of `HANDOFF_RETRY_BACKOFF_SECONDS`.
pub(super) const WAITS: [i32; 3] = [1, 3, 9];

/// A handoff, as its row says.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Seen {
    pub(super) status: String,
    pub(super) slack: Option<String>,
    pub(super) crm: Option<String>,
    pub(super) slack_update: Option<String>,
    pub(super) email: Option<String>,
    pub(super) last_error: Option<String>,
    pub(super) dead_jobs: Vec<i64>,
}

/// An attempt of a channel.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct Tried {
    pub(super) attempt: i32,
    pub(super) outcome: Option<String>,
    /// Seconds since the handoff was made.
    pub(super) at: f64,
}

/// A system with its leads.
#[derive(Debug)]
pub(super) struct Leads {
    pub(super) system: TestSystem,
    pub(super) pool: PgPool,
}

/// What people and services have of a lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outside {
    pub(super) slack: usize,
    pub(super) contacts: usize,
    pub(super) notes: usize,
    /// What the CRM of one's own received, repetitions included, and how many ids it had.
    pub(super) webhooks: usize,
    pub(super) webhook_ids: usize,
    pub(super) mails: usize,
    pub(super) mail_ids: usize,
}

impl Leads {
    pub(super) async fn new() -> Self {
        Self::of(TestSystem::new().await).await
    }

    /// On a database server that the test may kill.
    pub(super) async fn with_own_server() -> Self {
        Self::of(TestSystem::with_own_server().await).await
    }

    /// With a CRM of one's own, which is told by a webhook.
    pub(super) async fn with_webhook() -> Self {
        let mut system = TestSystem::new().await;
        let url = system.people.receiver.url();
        for (name, value) in [
            ("CRM_PROVIDER", "webhook"),
            ("CRM_WEBHOOK_URL", &url),
            ("CRM_WEBHOOK_SECRET", sandbox::receiver::WEBHOOK_SECRET),
        ] {
            system.set(name, value);
        }
        Self::of(system).await
    }

    async fn of(system: TestSystem) -> Self {
        let pool = system.pool().await;
        Self { system, pool }
    }

    /// Opens the handoff of a new session, as the contact form does.
    pub(super) async fn open(&self, name: &str) -> HandoffId {
        sqlx::query("insert into sessions (session_id, stage) values ($1, 4)")
            .bind(name)
            .execute(&self.pool)
            .await
            .unwrap();
        self.add(name, &lead(name)).await
    }

    /// Opens or adds to the handoff of a session.
    pub(super) async fn add(&self, session: &str, lead: &Lead) -> HandoffId {
        let session_id: SessionId = session.parse().unwrap();
        let count: i64 = self.count("select count(*) from handoff_records").await;
        let new = NewHandoff {
            handoff_id: format!("h-{session}-{count}").parse().unwrap(),
            session_id: &session_id,
            turn: None,
            trigger: Trigger::ContactForm,
            lead,
            summary: Some("Wants an audit"),
            consent: true,
            promise: None,
        };
        let mut after = Wake::default();
        let mut transaction = self.pool.begin().await.unwrap();
        let (id, _) = open(&mut transaction, &new, &WAITS, &mut after)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        self.wake().await;
        id
    }

    /// Both Slack and the CRM meet this; `None`: they work again.
    pub(super) fn trouble(&self, trouble: Option<Trouble>) {
        let people = &self.system.people;
        people.slack.set_trouble(trouble.clone());
        people.hubspot.switch().set(trouble.clone());
        people.receiver.switch().set(trouble);
    }

    /// The workers look at the queue, as after a signal.
    pub(super) async fn wake(&self) {
        sqlx::query("select pg_notify('growth_chat', E'test\\nq handoff')")
            .execute(&self.pool)
            .await
            .unwrap();
    }

    /// Lets the time pass until the next job is due, if nothing can be done before.
    pub(super) async fn let_time_pass(&self) {
        self.pass("greatest(extract(epoch from min(run_at) - clock_timestamp()), 0)::float8")
            .await;
        self.wake().await;
    }

    /// Lets ten minutes pass as soon as nothing is under way, and more than ten.
    pub(super) async fn let_ten_minutes_pass(&self) {
        self.until("nothing is under way", async || {
            self.pass("610::float8").await.then_some(())
        })
        .await;
    }

    /// Moves all times back together, so that what lies between them stays as it is, if every job waits.
    /// What is due then is due now: a claimer does not look for what was due before it looked last.
    async fn pass(&self, seconds: &'static str) -> bool {
        let mut transaction = self.pool.begin().await.unwrap();
        // No job is claimed meanwhile, so that nothing else moves.
        let look = format!(
            "with jobs as (select state, run_at from queue.jobs where queue = 'handoff' order by id for update)
             select {seconds} from jobs having bool_and(state = 'scheduled')"
        );
        let seconds: Option<f64> = sqlx::query_scalar(sqlx::AssertSqlSafe(look))
            .fetch_optional(&mut *transaction)
            .await
            .unwrap()
            .flatten();
        let Some(seconds) = seconds else {
            return false;
        };
        for statement in [
            "update queue.jobs set run_at = greatest(run_at - make_interval(secs => $1), clock_timestamp())
             where queue = 'handoff'",
            "update queue.buckets set full_at = full_at - make_interval(secs => $1),
                                      deferred_until = deferred_until - make_interval(secs => $1)",
            "update provider_circuits set open_until = open_until - make_interval(secs => $1)",
            "update handoff_records set created_at = created_at - make_interval(secs => $1)",
            "update handoff_deliveries set created_at = created_at - make_interval(secs => $1)",
            "update handoff_attempts set started_at = started_at - make_interval(secs => $1),
                                         ended_at = ended_at - make_interval(secs => $1)",
        ] {
            sqlx::query(statement)
                .bind(seconds)
                .execute(&mut *transaction)
                .await
                .unwrap();
        }
        transaction.commit().await.unwrap();
        true
    }

    /// What a lost worker held can be taken over.
    pub(super) async fn let_leases_end(&self) {
        sqlx::query("update queue.jobs set lease_until = clock_timestamp() - interval '1 second' where state = 'running'")
            .execute(&self.pool)
            .await
            .unwrap();
    }

    pub(super) async fn seen(&self, id: &HandoffId) -> Seen {
        sqlx::query_as(
            "select status, slack, crm, slack_update, email, last_error, dead_jobs
             from ops.handoffs where handoff_id = $1",
        )
        .bind(id.as_str())
        .fetch_one(&self.pool)
        .await
        .unwrap()
    }

    /// Waits until no job of the handoffs is live, and lets the time pass for it.
    pub(super) async fn until_quiet(&self) {
        self.until("every job has ended", async || {
            self.let_time_pass().await;
            let live = "select count(*) from queue.jobs where queue = 'handoff'";
            (self.count(live).await == 0).then_some(())
        })
        .await;
    }

    pub(super) async fn until<T, F: Future<Output = Option<T>>>(
        &self,
        what: &str,
        mut condition: impl FnMut() -> F,
    ) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            if Instant::now() >= deadline {
                let state = self.state().await;
                panic!("waited in vain until {what}: {state}");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    pub(super) async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    /// For whoever reads of a failed test.
    async fn state(&self) -> String {
        let rows: Vec<String> = sqlx::query_scalar(
            "select to_jsonb(j)::text from (select kind, state, attempt, run_at - now() as due, errors -> -1 as error from queue.jobs) j
             union all select to_jsonb(h)::text from ops.handoffs h where status = 'pending'
             union all select to_jsonb(c)::text from ops.circuits c",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap();
        rows.join("\n")
    }

    /// The attempts of a channel.
    pub(super) async fn tried(&self, id: &HandoffId, channel: &str) -> Vec<Tried> {
        sqlx::query_as(
            "select a.attempt, a.outcome, extract(epoch from a.started_at - r.created_at)::float8 as at
             from handoff_attempts a join handoff_records r using (session_id, handoff_id)
             where a.handoff_id = $1 and a.channel = $2 order by a.attempt",
        )
        .bind(id.as_str())
        .bind(channel)
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    /// What became of a lead outside.
    pub(super) fn outside(&self, session: &str, id: &HandoffId) -> Outside {
        let people = &self.system.people;
        let messages = people.slack.messages().into_iter().filter(|message| {
            message.thread_ts.is_none()
                && (message.metadata.to_string().contains(id.as_str())
                    || message.blocks.to_string().contains(id.as_str()))
        });
        let email = email(session);
        let contacts: Vec<u64> = people
            .hubspot
            .contacts()
            .into_iter()
            .filter(|contact| contact.get("email") == email)
            .map(|contact| contact.id)
            .collect();
        let notes = people.hubspot.notes().into_iter();
        let notes = notes.filter(|note| contacts.iter().any(|id| note.contacts.contains(id)));
        let mut webhook_ids: BTreeMap<String, usize> = BTreeMap::new();
        for delivery in people.receiver.deliveries() {
            if delivery.body.to_string().contains(id.as_str()) {
                *webhook_ids.entry(delivery.id).or_default() += 1;
            }
        }
        let mut mail_ids: BTreeMap<String, usize> = BTreeMap::new();
        for mail in people.smtp.mails() {
            if mail.message_id.starts_with(id.as_str()) {
                *mail_ids.entry(mail.message_id).or_default() += 1;
            }
        }
        Outside {
            slack: messages.count(),
            contacts: contacts.len(),
            notes: notes.count(),
            webhooks: webhook_ids.values().sum(),
            webhook_ids: webhook_ids.len(),
            mails: mail_ids.values().sum(),
            mail_ids: mail_ids.len(),
        }
    }
}

pub(super) fn email(session: &str) -> String {
    format!("{session}@visitor.example")
}

/// Somebody who wants to be called.
pub(super) fn lead(session: &str) -> Lead {
    Lead {
        name: Some(format!("Visitor {session}")),
        email: Some(email(session)),
        message: Some("Call me.".to_owned()),
        ..Lead::default()
    }
}
