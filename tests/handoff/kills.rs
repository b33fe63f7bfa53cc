//! The worker is killed at every point of a delivery, again and again: a matrix of handoffs.
//!
//! A point is reached by what the stand-ins do, or by a lock that keeps a transaction from its commit;
//! there is no code in the product for it. All handoffs of a round stand at the point when the worker dies,
//! and another worker takes over.

use std::sync::atomic::{AtomicI64, Ordering};

use futures::future::join_all;
use sandbox::{
    outside::{Outcome, Service},
    switch::Trouble,
};
use store::ids::HandoffId;

use super::{
    lock::Lock,
    support::{Leads, Outside},
};

/// Handoffs of a round: one fewer than open a circuit, so that each keeps to its schedule.
const AT_ONCE: usize = 4;
/// Systems of each CRM, and how often each goes through all the points.
const SYSTEMS: usize = 2;
const ROUNDS: usize = 2;

/// A way to people, as far as a kill is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Slack,
    Crm,
    Email,
}

impl Way {
    fn channel(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Crm => "crm",
            Self::Email => "email",
        }
    }
}

/// Where the worker dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Point {
    /// Between two attempts, after so many have failed.
    Wait(i64),
    /// The provider has not taken it.
    BeforeSend(Way),
    /// The provider has taken it and not said so. HubSpot has taken the first of its requests; each of the
    /// others is lost in the tests of `workers`.
    AfterSend(Way),
    /// The provider has said so, and the database does not know.
    BeforeCommit(Way),
    /// The provider has refused, and the database does not know.
    BeforeCommitOfFailure,
}

const POINTS: [Point; 13] = [
    Point::Wait(1),
    Point::Wait(2),
    Point::Wait(3),
    Point::BeforeSend(Way::Slack),
    Point::BeforeSend(Way::Crm),
    Point::BeforeSend(Way::Email),
    Point::AfterSend(Way::Slack),
    Point::AfterSend(Way::Crm),
    Point::AfterSend(Way::Email),
    Point::BeforeCommit(Way::Slack),
    Point::BeforeCommit(Way::Crm),
    Point::BeforeCommit(Way::Email),
    Point::BeforeCommitOfFailure,
];

/// The CRM of a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CrmKind {
    HubSpot,
    Webhook,
}

/// What happens to the way that the point is on, and to the other ones.
impl Point {
    /// The way that the worker dies on, if it is one.
    fn way(self) -> Option<Way> {
        match self {
            Self::Wait(_) | Self::BeforeCommitOfFailure => None,
            Self::BeforeSend(way) | Self::AfterSend(way) | Self::BeforeCommit(way) => Some(way),
        }
    }

    /// Whether the provider had it when the worker died.
    fn was_taken(self) -> bool {
        matches!(self, Self::AfterSend(_) | Self::BeforeCommit(_))
    }

    /// What becomes of a handoff: the other ways fail for good, and the way of the point is healthy again
    /// for the next worker.
    fn status(self) -> &'static str {
        match self.way() {
            Some(Way::Slack | Way::Crm) => "degraded",
            None | Some(Way::Email) => "mailed",
        }
    }

    /// What there is outside in the end. Only what can't be asked has it twice, with the same id.
    fn outside(self, crm: CrmKind) -> Outside {
        let way = self.way();
        let mails = usize::from(self.status() == "mailed");
        let twice = |way_of_it| 1 + usize::from(self.was_taken() && way == Some(way_of_it));
        let by = |kind| usize::from(way == Some(Way::Crm) && crm == kind);
        Outside {
            slack: usize::from(way == Some(Way::Slack)),
            contacts: by(CrmKind::HubSpot),
            notes: by(CrmKind::HubSpot),
            webhooks: by(CrmKind::Webhook) * twice(Way::Crm),
            webhook_ids: by(CrmKind::Webhook),
            mails: mails * twice(Way::Email),
            mail_ids: mails,
        }
    }
}

/// A system whose worker dies again and again.
struct Killings {
    leads: Leads,
    crm: CrmKind,
    name: String,
    /// The first job of the round.
    first_job: AtomicI64,
}

impl Killings {
    fn first_job(&self) -> i64 {
        self.first_job.load(Ordering::SeqCst)
    }

    fn service(&self, way: Way) -> Service {
        match (way, self.crm) {
            (Way::Slack, _) => Service::Slack,
            (Way::Crm, CrmKind::HubSpot) => Service::HubSpot,
            (Way::Crm, CrmKind::Webhook) => Service::Webhook,
            (Way::Email, _) => Service::Mail,
        }
    }

    fn set(&self, way: Way, trouble: Option<Trouble>) {
        let people = &self.leads.system.people;
        match (way, self.crm) {
            (Way::Slack, _) => people.slack.set_trouble(trouble),
            (Way::Crm, CrmKind::HubSpot) => people.hubspot.switch().set(trouble),
            (Way::Crm, CrmKind::Webhook) => people.receiver.switch().set(trouble),
            (Way::Email, _) => people.smtp.switch().set(trouble),
        }
    }

    /// Every way but one fails for good, which is quick; the one meets this.
    fn set_all_but(&self, way: Way, trouble: Option<Trouble>) {
        for other in [Way::Slack, Way::Crm] {
            self.set(other, Some(Trouble::Refuse("action_prohibited".to_owned())));
        }
        self.set(Way::Email, None);
        self.set(way, trouble);
    }

    /// What is sent, as opposed to what is looked up, meets this.
    fn set_sending(&self, way: Way, trouble: Option<Trouble>) {
        if way == Way::Slack {
            self.set(Way::Slack, None);
            let workspace = self.leads.system.people.slack.workspace();
            workspace.switch_of("chat.postMessage").set(trouble);
        } else {
            self.set(way, trouble);
        }
    }

    /// Waits until so many requests of a service are under way.
    async fn until_under_way(&self, way: Way) {
        let service = self.service(way);
        self.leads
            .until("the provider has all requests", async || {
                self.let_turns_come().await;
                let received = self.leads.system.world.received_by(service);
                let running = received
                    .iter()
                    .filter(|exchange| exchange.outcome == Outcome::Running);
                (running.count() >= AT_ONCE).then_some(())
            })
            .await;
    }

    /// Waits until the mail server has the text of so many mails of the round: a request of its begins long
    /// before that.
    async fn until_mailed(&self, number: usize) {
        let round = format!("h-{}-{number}-", self.name);
        self.leads
            .until("the mail server has all mails", async || {
                self.let_turns_come().await;
                let mails = self.leads.system.people.smtp.mails();
                let of_round = mails
                    .iter()
                    .filter(|mail| mail.message_id.starts_with(&round));
                (of_round.count() >= AT_ONCE).then_some(())
            })
            .await;
    }

    /// Whatever waits for its rate is due. Leases stay as they are: their worker lives.
    async fn let_turns_come(&self) {
        for statement in [
            "update queue.buckets set full_at = now(), deferred_until = now()",
            "update queue.jobs set run_at = clock_timestamp()
             where id = any(array(select id from queue.jobs where state = 'scheduled' and queue = 'handoff'
                                  order by id for update skip locked))",
        ] {
            sqlx::query(statement)
                .execute(&self.leads.pool)
                .await
                .unwrap();
        }
        self.leads.wake().await;
    }

    /// Waits until every handoff has so many failed attempts on each way, and none is under way.
    async fn until_tried(&self, attempts: i64) {
        self.leads
            .until("the attempts have failed", async || {
                let (tried, waiting, busy): (i64, i64, i64) = sqlx::query_as(
                    "select (select count(*) from (
                                 select from handoff_attempts
                                 where channel in ('slack', 'crm') and outcome is not null and job_id >= $2
                                 group by handoff_id, channel having count(*) >= $1) tried),
                            (select count(*) from queue.jobs where queue = 'handoff' and state = 'scheduled'),
                            (select count(*) from queue.jobs where queue = 'handoff' and state <> 'scheduled')",
                )
                .bind(attempts)
                .bind(self.first_job())
                .fetch_one(&self.leads.pool)
                .await
                .unwrap();
                let all = tried == i64::try_from(2 * AT_ONCE).unwrap();
                if all && waiting > 0 && busy == 0 {
                    return Some(());
                }
                if !all {
                    self.leads.let_time_pass().await;
                }
                None
            })
            .await;
    }

    /// Has the handoffs of a round reach the point, and returns when they stand there.
    async fn reach(&self, point: Point, number: usize, lock: Option<&Lock>) {
        match (point, lock) {
            (Point::Wait(failed), _) => self.until_tried(failed).await,
            (Point::AfterSend(Way::Email), _) => self.until_mailed(number).await,
            (Point::BeforeCommitOfFailure, Some(lock)) => {
                self.until_waited_for(lock, 2 * AT_ONCE).await;
            }
            (_, Some(lock)) => self.until_waited_for(lock, AT_ONCE).await,
            (_, None) => self.until_under_way(point.way().unwrap()).await,
        }
    }

    /// What the services do until the worker dies.
    fn prepare(&self, point: Point) {
        match point {
            Point::Wait(_) | Point::BeforeCommitOfFailure => {
                self.set(Way::Email, None);
                for way in [Way::Slack, Way::Crm] {
                    self.set(way, Some(Trouble::Status(500)));
                }
            }
            Point::BeforeSend(way) => self.set_all_but(way, Some(Trouble::Hang)),
            Point::AfterSend(way) => {
                self.set_all_but(way, None);
                self.set_sending(way, Some(Trouble::TakeAndHang));
            }
            Point::BeforeCommit(way) => self.set_all_but(way, None),
        }
    }

    /// The way of the point works again.
    fn heal(&self, point: Point) {
        if let Some(way) = point.way() {
            self.set(way, None);
            self.set_sending(way, None);
        }
    }

    async fn round(&self, point: Point, number: usize) {
        let leads = &self.leads;
        self.prepare(point);
        // Every round is about its own failures.
        sqlx::query("delete from provider_circuits")
            .execute(&leads.pool)
            .await
            .unwrap();
        let last = "select coalesce(max(id), 0) from (select id from queue.history union all select id from queue.jobs) job";
        let first = leads.count(last).await + 1;
        self.first_job.store(first, Ordering::SeqCst);
        let mut worker = leads.system.worker().await;
        let lock = match point {
            Point::BeforeCommit(way) => Some(Lock::of_ends(leads, way.channel()).await),
            // What an attempt found out about its provider is the last thing that it writes.
            Point::BeforeCommitOfFailure => Some(
                Lock::take(
                    leads,
                    "lock table provider_circuits in share row exclusive mode",
                )
                .await,
            ),
            _ => None,
        };
        let mut handoffs: Vec<(String, HandoffId)> = Vec::new();
        for n in 0..AT_ONCE {
            let session = format!("{}-{number}-{n}", self.name);
            let id = leads.open(&session).await;
            handoffs.push((session, id));
        }
        self.reach(point, number, lock.as_ref()).await;
        worker.kill().await;
        self.heal(point);
        if let Some(lock) = lock {
            lock.release().await;
        }
        leads.let_leases_end().await;
        let mut worker = leads.system.worker().await;
        leads.until_quiet().await;
        worker.kill().await;
        for (session, id) in &handoffs {
            let seen = leads.seen(id).await;
            assert_eq!(seen.status, point.status(), "{point:?} {seen:?}");
            let outside = leads.outside(session, id);
            assert_eq!(outside, point.outside(self.crm), "{point:?} {:?}", self.crm);
            self.assert_attempts(point, id).await;
        }
    }

    async fn until_waited_for(&self, lock: &Lock, by: usize) {
        let turns = async {
            loop {
                self.let_turns_come().await;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = lock.until_waited_for(&self.leads, by) => {}
            () = turns => {}
        }
    }

    /// A wait that was cut short by nobody is as long as it should be, and no attempt is made twice.
    async fn assert_attempts(&self, point: Point, id: &HandoffId) {
        for channel in ["slack", "crm"] {
            let tried = self.leads.tried(id, channel).await;
            let numbers: Vec<i32> = tried.iter().map(|tried| tried.attempt).collect();
            let expected: Vec<i32> = (1..=i32::try_from(tried.len()).unwrap()).collect();
            assert_eq!(numbers, expected, "{point:?}");
            assert!(tried.len() <= 4, "{point:?}: {tried:?}");
            if matches!(point, Point::Wait(_)) {
                assert_eq!(tried.len(), 4, "{point:?}: {tried:?}");
                for (pair, wait) in tried.windows(2).zip([1.0, 3.0, 9.0]) {
                    let waited = pair[1].at - pair[0].at;
                    assert!(waited >= wait, "{point:?}: {tried:?}");
                }
            }
        }
    }
}

async fn killings(crm: CrmKind, system: usize) -> usize {
    let leads = match crm {
        CrmKind::HubSpot => Leads::new().await,
        CrmKind::Webhook => Leads::with_webhook().await,
    };
    let killings = Killings {
        leads,
        crm,
        name: format!("{crm:?}{system}").to_lowercase(),
        first_job: AtomicI64::new(0),
    };
    let mut runs = 0;
    for round in 0..ROUNDS {
        for (place, point) in POINTS.into_iter().enumerate() {
            killings.round(point, round * POINTS.len() + place).await;
            runs += AT_ONCE;
        }
    }
    runs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lead_reaches_people_once_wherever_the_worker_is_killed_in_each_of_416_handoffs() {
    let systems = [CrmKind::HubSpot, CrmKind::Webhook]
        .into_iter()
        .flat_map(|crm| (0..SYSTEMS).map(move |system| killings(crm, system)));
    let runs: usize = join_all(systems).await.into_iter().sum();
    assert_eq!(runs, 416);
}
