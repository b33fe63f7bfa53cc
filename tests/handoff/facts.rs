//! What is learned of a visitor while their handoff is on its way.

use sandbox::switch::Trouble;
use store::handoffs::Lead;

use super::support::{Leads, lead};

fn more() -> Lead {
    Lead {
        company: Some("Engines".to_owned()),
        ..lead("s1")
    }
}

#[tokio::test]
async fn facts_that_arrive_while_the_crm_is_away_reach_slack_and_the_crm_and_make_no_other_handoff()
{
    let leads = Leads::new().await;
    leads
        .system
        .people
        .hubspot
        .switch()
        .set(Some(Trouble::Status(500)));
    let _worker = leads.system.worker().await;
    let id = leads.open("s1").await;
    leads
        .until("Slack has it and the CRM waits", async || {
            let seen = leads.seen(&id).await;
            let tried = leads.tried(&id, "crm").await;
            let failed = tried.first().is_some_and(|first| first.outcome.is_some());
            (seen.slack.as_deref() == Some("delivered") && failed).then_some(())
        })
        .await;
    assert_eq!(leads.add("s1", &more()).await, id);
    leads.system.people.hubspot.switch().set(None);
    leads.until_quiet().await;
    let seen = leads.seen(&id).await;
    assert_eq!(seen.status, "delivered");
    let messages = leads.system.people.slack.messages();
    assert_eq!(messages.len(), 1);
    assert!(messages[0].everything().contains("Engines"));
    let contacts = leads.system.people.hubspot.contacts();
    assert_eq!(contacts.len(), 1);
    assert_eq!(contacts[0].get("company"), "Engines");
    assert_eq!(leads.system.people.hubspot.notes().len(), 1);
}

#[tokio::test]
async fn the_same_facts_again_are_no_news() {
    let leads = Leads::new().await;
    let id = leads.open("s1").await;
    assert_eq!(leads.add("s1", &lead("s1")).await, id);
    let revisions = "select sum(revision) from handoff_records";
    assert_eq!(leads.count(revisions).await, 1);
    assert_eq!(leads.add("s1", &more()).await, id);
    assert_eq!(leads.count(revisions).await, 2);
    assert_eq!(leads.count("select count(*) from queue.jobs").await, 2);
}

#[tokio::test]
async fn what_is_learned_after_a_handoff_makes_another_one_in_its_thread() {
    let leads = Leads::new().await;
    let _worker = leads.system.worker().await;
    let first = leads.open("s1").await;
    leads.until_quiet().await;
    assert_eq!(leads.seen(&first).await.status, "delivered");
    let second = leads.add("s1", &more()).await;
    assert_ne!(second, first);
    leads.until_quiet().await;
    assert_eq!(leads.seen(&second).await.status, "delivered");
    let messages = leads.system.people.slack.messages();
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[1].thread_ts.as_ref(), Some(&messages[0].ts));
    assert_eq!(leads.system.people.hubspot.contacts().len(), 1);
}

#[tokio::test]
async fn what_was_said_goes_with_the_handoff_up_to_a_limit_and_the_newest_of_it() {
    let leads = Leads::new().await;
    sqlx::query("insert into sessions (session_id) values ('s1')")
        .execute(&leads.pool)
        .await
        .unwrap();
    // 70 messages of 1 kB, the odd ones of the visitor; one of them was replaced.
    sqlx::query(
        "insert into messages (session_id, message_id, turn, role, body, status)
         select 's1', 'm' || n, (n + 1) / 2, case when n % 2 = 1 then 'user' else 'assistant' end,
                rpad('message ' || n || ' ', 1024, 'x'), case when n = 68 then 'superseded' else 'complete' end
         from generate_series(1, 70) n",
    )
    .execute(&leads.pool)
    .await
    .unwrap();
    leads.add("s1", &lead("s1")).await;
    let said: Vec<String> = sqlx::query_scalar(
        "select (line ->> 'role') || ' ' || split_part(line ->> 'text', ' ', 2)
         from handoff_records, jsonb_array_elements(transcript) with ordinality t (line, n) order by n",
    )
    .fetch_all(&leads.pool)
    .await
    .unwrap();
    assert_eq!(said.len(), 60);
    assert_eq!(
        (said[0].as_str(), said[59].as_str()),
        ("assistant 10", "assistant 70")
    );
    assert!(!said.contains(&"assistant 68".to_owned()));
    // Four bytes a sign: they would be 240 kB.
    sqlx::query("update messages set body = repeat('😀', 1000)")
        .execute(&leads.pool)
        .await
        .unwrap();
    leads.add("s1", &more()).await;
    let lines = "select jsonb_array_length(transcript)::bigint from handoff_records";
    assert_eq!(leads.count(lines).await, 16);
}

#[tokio::test]
async fn a_handoff_of_a_version_without_channels_is_delivered_with_its_next_facts() {
    let leads = Leads::new().await;
    for statement in [
        "insert into sessions (session_id) values ('s1')",
        "insert into handoff_records (session_id, handoff_id, trigger, lead)
         values ('s1', 'old', 'contact_form', '{\"email\": \"s1@visitor.example\"}')",
    ] {
        sqlx::query(statement).execute(&leads.pool).await.unwrap();
    }
    let _worker = leads.system.worker().await;
    assert_eq!(leads.add("s1", &more()).await.as_str(), "old");
    leads.until_quiet().await;
    let seen = leads.seen(&"old".parse().unwrap()).await;
    assert_eq!(seen.status, "delivered");
    assert_eq!(leads.system.people.slack.messages().len(), 1);
}
