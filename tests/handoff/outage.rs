//! The database goes away while a lead is on its way.

use super::{lock::Lock, support::Leads};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_lost_after_slack_took_a_lead_costs_no_second_message() {
    let leads = Leads::with_own_server().await;
    let lock = Lock::of_ends(&leads, "slack").await;
    let _worker = leads.system.worker().await;
    let id = leads.open("s1").await;
    lock.until_waited_for(&leads, 1).await;
    assert_eq!(leads.system.people.slack.messages().len(), 1);
    // The transaction is lost, and the lock with it.
    leads.system.server().kill().await.unwrap();
    leads.system.server().restart().await.unwrap();
    leads
        .until("it is delivered", async || {
            (leads.seen(&id).await.status == "delivered").then_some(())
        })
        .await;
    let outcomes: Vec<Option<String>> = leads
        .tried(&id, "slack")
        .await
        .into_iter()
        .map(|tried| tried.outcome)
        .collect();
    assert_eq!(outcomes, [Some("sent".to_owned())]);
    assert_eq!(leads.system.people.slack.messages().len(), 1);
}
