//! Whatever becomes of a lead, nobody learns of it who should not: not from a provider that fails and
//! repeats what it was sent, with the token that came with it.

use sandbox::{
    outside::{Exchange, Service},
    receiver::WEBHOOK_SECRET,
    switch::Trouble,
};
use store::{handoffs::Lead, ids::HandoffId};

use super::support::Leads;
use crate::support::{
    SystemProcess, TestSystem,
    discretion::{Discretion, SECRETS, VISITORS},
};

/// A lead all of whose details are the visitor's own words.
fn lead(session: &str) -> Lead {
    let words = |what: &str| Some(format!("{VISITORS}: {what}"));
    Lead {
        name: Some(format!("{VISITORS} {session}")),
        email: Some(format!("{session}.{VISITORS}@visitor.example")),
        company: words("company"),
        phone: Some(format!("+49 30 {VISITORS}")),
        need: words("need"),
        timeline: words("timeline"),
        budget: words("budget"),
        message: words("message"),
    }
}

/// A session in which the visitor has said something, and its handoff.
async fn open(leads: &Leads, session: &str) -> HandoffId {
    sqlx::query("insert into sessions (session_id, stage) values ($1, 4)")
        .bind(session)
        .execute(&leads.pool)
        .await
        .unwrap();
    sqlx::query(
        "insert into messages (session_id, message_id, role, turn, body)
         values ($1, 'm-1', 'user', 1, $2)",
    )
    .bind(session)
    .bind(format!("{VISITORS}: call me"))
    .execute(&leads.pool)
    .await
    .unwrap();
    leads.add(session, &lead(session)).await
}

/// A system whose secrets are marked, with these variables more.
async fn marked(variables: &[(&str, &str)]) -> (Leads, Discretion) {
    let mut system = TestSystem::new().await;
    let receiver = system.people.receiver.url();
    for (name, value) in variables {
        system.set(name, &value.replace("RECEIVER", &receiver));
    }
    let discretion = Discretion::seed(&mut system).await;
    let pool = system.pool().await;
    (Leads { system, pool }, discretion)
}

/// All channels meet the trouble while a lead is on its way, and the mail server another one.
async fn meet(leads: &Leads, session: &str, trouble: &Trouble, of_mail: &Trouble) -> String {
    leads.trouble(Some(trouble.clone()));
    let mail = leads.system.people.smtp.switch();
    mail.set(Some(of_mail.clone()));
    let id = open(leads, session).await;
    leads.until_quiet().await;
    leads.seen(&id).await.status
}

/// What services have repeated of what they were asked.
fn quotes(leads: &Leads, service: Service) -> Vec<Exchange> {
    let mut received = leads.system.world.received_by(service);
    received.retain(|exchange| exchange.answer.contains(VISITORS));
    received
}

async fn look(discretion: &Discretion, leads: &Leads, worker: &SystemProcess) {
    discretion.look_through(&leads.system, &[worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_that_refuse_a_lead_and_quote_it_make_nobody_tell() {
    let (leads, discretion) = marked(&[]).await;
    let worker = leads.system.worker().await;
    for status in [200, 400, 401, 404, 409, 413, 500] {
        let session = format!("s{status}");
        let (trouble, of_mail) = (Trouble::Quote(status), Trouble::Quote(554));
        let ended = meet(&leads, &session, &trouble, &of_mail).await;
        assert_eq!(ended, "dead", "{status}");
    }
    let dead = "select count(*) from queue.history where outcome = 'dead' and errors <> '[]'";
    assert!(leads.count(dead).await >= 3 * 7);
    look(&discretion, &leads, &worker).await;
    let job = "select max(id) from queue.history where outcome = 'dead'";
    let job = leads.count(job).await.to_string();
    for words in [
        &["jobs", "list", "--failed", "--json"][..],
        &["jobs", "list", "--state", "dead"],
        &["jobs", "show", &job],
        &["jobs", "show", &job, "--json"],
        &["sessions", "list"],
        &["sessions", "show", "s400"],
        &["sessions", "show", "s400", "--json"],
    ] {
        let output = leads.system.run(words).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {said}");
        assert!(!output.stdout.is_empty(), "{words:?}");
        discretion.look_at_output(&output);
    }
    // What was looked for was there to be found.
    for service in [Service::Slack, Service::HubSpot] {
        let quotes = quotes(&leads, service);
        assert!(quotes.len() >= 7, "{service:?}: {}", quotes.len());
        // The incoming webhook's secret is its address.
        let with_token = quotes.iter().filter(|quote| quote.answer.contains(SECRETS));
        assert!(with_token.count() >= 7, "{service:?}");
    }
    assert_eq!(quotes(&leads, Service::Mail).len(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_that_slow_down_refuse_or_cut_the_connection_make_nobody_tell() {
    let (leads, discretion) = marked(&[]).await;
    let worker = leads.system.worker().await;
    let refused = format!("{VISITORS} is no word of ours");
    let of_mail = format!("550 5.1.1 {VISITORS}@visitor.example {SECRETS}: no such mailbox");
    for (session, trouble, of_mail) in [
        (
            "refused",
            Trouble::Refuse(refused),
            Trouble::Refuse(of_mail),
        ),
        ("bare", Trouble::Status(503), Trouble::Status(550)),
        ("cut", Trouble::TakeAndCut, Trouble::Quote(550)),
    ] {
        let ended = meet(&leads, session, &trouble, &of_mail).await;
        assert_eq!(ended, "dead", "{session}");
    }
    // They take it after all, a minute later.
    let people = &leads.system.people;
    for switch in [people.slack.switch(), people.hubspot.switch()] {
        switch.once(Trouble::SlowDown(60));
        switch.once(Trouble::Quote(429));
    }
    leads.trouble(None);
    let id = open(&leads, "later").await;
    leads.until_quiet().await;
    assert_eq!(leads.seen(&id).await.status, "delivered");
    look(&discretion, &leads, &worker).await;
    assert_eq!(quotes(&leads, Service::Mail).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_that_never_answer_make_nobody_tell() {
    let (leads, discretion) = marked(&[("HANDOFF_RETRY_BACKOFF_SECONDS", "1")]).await;
    let people = &leads.system.people;
    for (switch, silence) in [
        (people.slack.switch(), Trouble::TakeAndHang),
        (people.hubspot.switch(), Trouble::Hang),
    ] {
        switch.once(silence);
        switch.set(Some(Trouble::Quote(400)));
    }
    people.slack.webhook_switch().set(Some(Trouble::Quote(400)));
    people.smtp.switch().once(Trouble::Hang);
    let worker = leads.system.worker().await;
    let id = open(&leads, "s1").await;
    leads.until_quiet().await;
    assert_eq!(leads.seen(&id).await.status, "mailed");
    let silent = "select count(*) from handoff_attempts where error ~ 'time-out|in time|silent'";
    assert_eq!(leads.count(silent).await, 3);
    look(&discretion, &leads, &worker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crm_of_ones_own_that_quotes_a_lead_makes_nobody_tell() {
    let (leads, discretion) = marked(&[
        ("CRM_PROVIDER", "webhook"),
        ("CRM_WEBHOOK_URL", "RECEIVER/leads"),
        ("CRM_WEBHOOK_SECRET", WEBHOOK_SECRET),
    ])
    .await;
    let worker = leads.system.worker().await;
    for (status, expected) in [
        (200, "degraded"),
        (301, "dead"),
        (400, "dead"),
        (410, "dead"),
        (503, "dead"),
    ] {
        let session = format!("s{status}");
        let (trouble, of_mail) = (Trouble::Quote(status), Trouble::Quote(554));
        let ended = meet(&leads, &session, &trouble, &of_mail).await;
        assert_eq!(ended, expected, "{status}");
    }
    look(&discretion, &leads, &worker).await;
    assert!(quotes(&leads, Service::Webhook).len() >= 5);
}

#[tokio::test]
async fn a_database_that_quotes_a_lead_makes_nobody_tell() {
    let (leads, discretion) = marked(&[]).await;
    // Postgres says in the details of an error which row it refuses: all of it.
    sqlx::query("alter table handoff_records add constraint unsettled check (status = 'pending')")
        .execute(&leads.pool)
        .await
        .unwrap();
    let worker = leads.system.worker().await;
    open(&leads, "s1").await;
    leads
        .until("it can't be settled", async || {
            leads.let_time_pass().await;
            let failed =
                "select count(*) from queue.jobs where kind = 'handoff.settle' and errors <> '[]'";
            (leads.count(failed).await > 0).then_some(())
        })
        .await;
    look(&discretion, &leads, &worker).await;
}

#[tokio::test]
async fn a_check_of_services_that_quote_what_they_refuse_tells_nothing() {
    let (leads, discretion) = marked(&[]).await;
    for trouble in [Some(Trouble::Quote(403)), Some(Trouble::Quote(200)), None] {
        leads.trouble(trouble);
        for words in [&["check"][..], &["check", "--json"]] {
            discretion.look_at_output(&leads.system.run(words).await);
        }
    }
    let asked =
        [Service::Slack, Service::HubSpot].map(|service| leads.system.world.received_by(service));
    for asked in asked {
        assert!(asked.iter().any(|it| it.answer.contains(SECRETS)));
    }
}
