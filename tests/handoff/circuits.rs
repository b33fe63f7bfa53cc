//! An outage that many leads meet.

use sandbox::{outside::Service, switch::Trouble};

use super::support::Leads;

/// More than open a circuit, and more than one worker's slots.
const MANY: usize = 40;

async fn open_many(leads: &Leads) {
    for n in 0..MANY {
        leads.open(&format!("s{n}")).await;
    }
}

fn requests(leads: &Leads, service: Service) -> usize {
    leads.system.world.received_by(service).len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_burns_few_attempts_and_everybody_is_told_when_it_is_over() {
    let leads = Leads::new().await;
    leads.trouble(Some(Trouble::Status(503)));
    open_many(&leads).await;
    let mut worker = leads.system.worker().await;
    // Two minutes of outage, for which each of them would have died five times over.
    leads
        .until("two minutes have passed", async || {
            leads.let_time_pass().await;
            let passed = "select count(*) from handoff_records where created_at < now() - interval '2 minutes'";
            (leads.count(passed).await == i64::try_from(MANY).unwrap()).then_some(())
        })
        .await;
    let open = "select count(*) from ops.circuits where state <> 'closed'";
    assert_eq!(leads.count(open).await, 2);
    let burnt = leads.count("select count(*) from handoff_attempts").await;
    // Those that opened the two circuits, and their probes.
    assert!(burnt < 60, "{burnt} attempts");
    let dead = "select count(*) from queue.history where outcome = 'dead'";
    assert_eq!(leads.count(dead).await, 0);

    leads.trouble(None);
    leads.until_quiet().await;
    let delivered = "select count(*) from handoff_records where status = 'delivered'";
    assert_eq!(leads.count(delivered).await, i64::try_from(MANY).unwrap());
    assert_eq!(leads.system.people.slack.messages().len(), MANY);
    assert_eq!(leads.system.people.hubspot.contacts().len(), MANY);
    assert_eq!(leads.system.people.smtp.mails(), []);
    assert_eq!(leads.count(open).await, 0);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_longer_than_ten_minutes_for_a_provider_that_is_away() {
    let leads = Leads::new().await;
    leads.trouble(Some(Trouble::Status(503)));
    open_many(&leads).await;
    let _worker = leads.system.worker().await;
    leads
        .until("both are left alone", async || {
            leads.let_time_pass().await;
            let open = "select count(*) from ops.circuits where state <> 'closed'";
            (leads.count(open).await == 2).then_some(())
        })
        .await;
    leads.let_ten_minutes_pass().await;
    leads.until_quiet().await;
    let mailed = "select count(*) from handoff_records where status = 'mailed'";
    assert_eq!(leads.count(mailed).await, i64::try_from(MANY).unwrap());
    assert_eq!(leads.system.people.smtp.mails().len(), MANY);
    let asked = requests(&leads, Service::Slack) + requests(&leads, Service::HubSpot);
    assert!(asked < 300, "{asked} requests");
}

#[tokio::test]
async fn a_provider_that_says_when_is_asked_no_sooner_by_anybody() {
    let leads = Leads::new().await;
    let hubspot = leads.system.people.hubspot.switch();
    hubspot.set(Some(Trouble::SlowDown(30)));
    let _worker = leads.system.worker().await;
    let first = leads.open("s1").await;
    leads
        .until("it was told to wait", async || {
            let tried = leads.tried(&first, "crm").await;
            tried.first()?.outcome.clone()
        })
        .await;
    hubspot.set(None);
    let asked = requests(&leads, Service::HubSpot);
    let second = leads.open("s2").await;
    leads
        .until("the second one was put off", async || {
            let put_off = "select count(*) from queue.jobs
                where kind = 'handoff.crm' and state = 'scheduled' and attempt = 0";
            (leads.count(put_off).await == 1).then_some(())
        })
        .await;
    assert_eq!(requests(&leads, Service::HubSpot), asked);
    leads.until_quiet().await;
    for id in [first, second] {
        assert_eq!(leads.seen(&id).await.status, "delivered");
        let tried = leads.tried(&id, "crm").await;
        assert!(tried.last().unwrap().at >= 29.0, "{tried:?}");
    }
}
