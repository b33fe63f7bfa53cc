//! What an operator sees and does.

use sandbox::switch::Trouble;
use store::ids::HandoffId;

use super::support::{Leads, Seen};

/// Refused for good, so that no waits are needed.
fn refuse() -> Trouble {
    Trouble::Refuse("action_prohibited".to_owned())
}

async fn retry(leads: &Leads, job: i64) {
    sqlx::query("select ops.retry_job($1)")
        .bind(job)
        .execute(&leads.pool)
        .await
        .unwrap();
}

fn button(leads: &Leads) -> bool {
    let messages = leads.system.people.slack.messages();
    let [message] = messages.as_slice() else {
        panic!("{} messages", messages.len());
    };
    let contact = leads.system.people.hubspot.contacts()[0].id;
    let buttons = message.buttons().into_iter();
    let mut links = buttons.filter_map(|button| Some(button["url"].as_str()?.to_owned()));
    links.any(|url| url.contains(&contact.to_string()))
}

async fn settled(leads: &Leads, id: &HandoffId) -> Seen {
    leads.until_quiet().await;
    leads.seen(id).await
}

#[tokio::test]
async fn a_lead_that_only_the_crm_took_is_degraded_and_a_retry_completes_it_with_its_button() {
    let leads = Leads::new().await;
    let _worker = leads.system.worker().await;
    leads.system.people.slack.set_trouble(Some(refuse()));
    let id = leads.open("s1").await;
    let seen = settled(&leads, &id).await;
    assert_eq!(
        (
            seen.status.as_str(),
            seen.slack.as_deref(),
            seen.crm.as_deref()
        ),
        ("degraded", Some("dead"), Some("delivered"))
    );
    assert_eq!((&seen.email, &seen.slack_update), (&None, &None));
    assert!(seen.last_error.unwrap().contains("action_prohibited"));
    assert_eq!(leads.system.people.smtp.mails(), []);
    let [dead] = seen.dead_jobs[..] else {
        panic!("{:?}", seen.dead_jobs);
    };

    leads.system.people.slack.set_trouble(None);
    retry(&leads, dead).await;
    let seen = settled(&leads, &id).await;
    assert_eq!(
        (
            seen.status.as_str(),
            seen.slack.as_deref(),
            seen.slack_update.as_deref()
        ),
        ("delivered", Some("delivered"), Some("delivered"))
    );
    assert!(button(&leads));
    assert_eq!(leads.system.people.smtp.mails(), []);
}

#[tokio::test]
async fn a_lead_that_only_slack_took_gets_its_button_when_the_crm_takes_it_later() {
    let leads = Leads::new().await;
    let _worker = leads.system.worker().await;
    leads.system.people.hubspot.switch().set(Some(refuse()));
    let id = leads.open("s1").await;
    let seen = settled(&leads, &id).await;
    assert_eq!(
        (seen.status.as_str(), &seen.slack_update),
        ("degraded", &None)
    );

    leads.system.people.hubspot.switch().set(None);
    retry(&leads, seen.dead_jobs[0]).await;
    let seen = settled(&leads, &id).await;
    assert_eq!(seen.status, "delivered");
    assert!(button(&leads));
}

#[tokio::test]
async fn a_lead_that_reached_nobody_is_mailed_by_a_retry_and_never_twice() {
    let leads = Leads::new().await;
    let _worker = leads.system.worker().await;
    leads.trouble(Some(refuse()));
    leads
        .system
        .people
        .smtp
        .switch()
        .set(Some(Trouble::Refuse("550".to_owned())));
    let id = leads.open("s1").await;
    let seen = settled(&leads, &id).await;
    assert_eq!(
        (seen.status.as_str(), seen.email.as_deref()),
        ("dead", Some("dead"))
    );

    leads.system.people.smtp.switch().set(None);
    let email = seen.dead_jobs.into_iter().max().unwrap();
    retry(&leads, email).await;
    let seen = settled(&leads, &id).await;
    assert_eq!(seen.status, "mailed");
    assert_eq!(leads.system.people.smtp.mails().len(), 1);

    // Whatever is settled again from here on: the e-mail was one for ever.
    for job in seen.dead_jobs {
        retry(&leads, job).await;
        assert_eq!(settled(&leads, &id).await.status, "mailed");
    }
    assert_eq!(leads.system.people.smtp.mails().len(), 1);
}

#[tokio::test]
async fn what_an_operator_cancels_or_breaks_counts_as_failed() {
    let leads = Leads::new().await;
    // No worker yet: the jobs wait.
    let id = leads.open("s1").await;
    for statement in [
        "select ops.cancel_job(id)::text from queue.jobs where kind = 'handoff.slack'",
        "update queue.jobs set payload = '{}' where kind = 'handoff.crm' returning id::text",
    ] {
        let done: Vec<String> = sqlx::query_scalar(statement)
            .fetch_all(&leads.pool)
            .await
            .unwrap();
        assert_eq!(done.len(), 1);
    }
    let _worker = leads.system.worker().await;
    let seen = settled(&leads, &id).await;
    assert_eq!(
        (
            seen.status.as_str(),
            seen.slack.as_deref(),
            seen.crm.as_deref()
        ),
        ("mailed", Some("cancelled"), Some("dead"))
    );
    let outside = leads.outside("s1", &id);
    assert_eq!((outside.slack, outside.contacts, outside.mails), (0, 0, 1));
}

#[tokio::test]
async fn nothing_of_a_person_is_in_the_views_of_operators() {
    let leads = Leads::new().await;
    let _worker = leads.system.worker().await;
    leads.trouble(Some(refuse()));
    let id = leads.open("s1").await;
    assert_eq!(settled(&leads, &id).await.status, "mailed");
    let rows: Vec<String> = sqlx::query_scalar(
        "select to_jsonb(v)::text from ops.handoffs v union all select to_jsonb(v)::text from ops.handoff_deliveries v
         union all select to_jsonb(v)::text from ops.handoff_attempts v union all select to_jsonb(v)::text from ops.circuits v",
    )
    .fetch_all(&leads.pool)
    .await
    .unwrap();
    assert!(rows.len() >= 7, "{rows:?}");
    for row in rows {
        for private in ["visitor.example", "Visitor s1", "Call me", "audit"] {
            assert!(!row.contains(private), "{row}");
        }
    }
}
