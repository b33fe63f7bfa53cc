//! The two deliveries that end in Slack: one message and one link, whatever gets lost on the way.

use std::time::Duration;

use sandbox::{
    outside::{OutsideWorld, Service},
    slack::{BOT_TOKEN, CHANNEL_ID, CHANNEL_NAME, PostedMessage, Slack as StandIn, Via, Workspace},
    switch::Trouble,
};
use serde_json::{Value, json};
use store::handoffs::Channel as Way;
use workers::{
    config::SlackConfig,
    handoff::{
        Channel, Dossier, Receipt, Reference, SendError,
        slack::{
            Destination, Mark, OPEN_CRM, Place, SlackClient, SlackMessage, SlackUpdate, TAKE_OVER,
            TAKEN, note,
        },
    },
};

use crate::{dossiers::dossier, support::http};

const RECORD: &str = "https://crm.example/contact/7";
const MANY: usize = 230;

/// Slack, and everything of ours that speaks with it.
pub(crate) struct Office {
    pub(crate) world: OutsideWorld,
    pub(crate) outside: StandIn,
    pub(crate) client: SlackClient,
    message: SlackMessage,
    update: SlackUpdate,
}

impl Office {
    pub(crate) async fn new() -> Self {
        Self::with(BOT_TOKEN, &format!("#{CHANNEL_NAME}")).await
    }

    async fn with(token: &str, channel: &str) -> Self {
        let world = OutsideWorld::default();
        let outside = StandIn::start(world.clone(), 0).await.unwrap();
        let config = SlackConfig {
            bot_token: token.into(),
            webhook_url: format!("{}/webhook", outside.url()).into(),
            base_url: format!("{}/api", outside.url()),
            channel: channel.to_owned(),
        };
        let client = SlackClient::new(&config, http());
        Self {
            world,
            outside,
            message: SlackMessage::with_client(client.clone()),
            update: SlackUpdate::with_client(client.clone()),
            client,
        }
    }

    pub(crate) fn workspace(&self) -> &Workspace {
        self.outside.workspace()
    }

    pub(crate) fn messages(&self) -> Vec<PostedMessage> {
        self.outside.messages()
    }

    /// The next call of this method fails like this.
    fn fail(&self, method: &str, trouble: Trouble) {
        self.workspace().switch_of(method).once(trouble);
    }

    fn requests(&self) -> Vec<String> {
        let received = self.world.received_by(Service::Slack);
        received.into_iter().map(|it| it.request_line).collect()
    }

    pub(crate) async fn post(&self, dossier: &Dossier) -> Result<Receipt, SendError> {
        self.message.send(dossier).await
    }

    async fn look(&self, dossier: &Dossier) -> Option<Receipt> {
        self.message.reconcile(dossier).await.unwrap()
    }
}

const POST: &str = "chat.postMessage";

fn refuse(code: &str) -> Trouble {
    Trouble::Refuse(code.to_owned())
}

fn last(mut dossier: Dossier) -> Dossier {
    dossier.last_attempt = true;
    dossier
}

/// The dossier of the update, when Slack and the CRM have answered.
fn both_done(mut dossier: Dossier, slack: Value) -> Dossier {
    let reference = |channel, reference, url| Reference {
        channel,
        reference,
        url,
    };
    dossier.references = vec![
        reference(Way::Slack, slack, None),
        reference(Way::Crm, json!({}), Some(RECORD.to_owned())),
    ];
    dossier
}

fn place(receipt: &Receipt) -> Place {
    serde_json::from_value(receipt.reference.clone()).unwrap()
}

fn is_unknown(result: &Result<Receipt, SendError>) -> bool {
    matches!(result, Err(SendError::Unknown { .. }))
}

#[tokio::test]
async fn a_lead_is_posted_once_with_buttons_that_name_it() {
    let office = Office::new().await;
    let receipt = office.post(&dossier("h-1")).await.unwrap();
    let [posted] = office.messages().try_into().unwrap();
    assert_eq!(posted.via, Via::Bot);
    let expected = json!({"via": "bot", "channel": CHANNEL_ID, "ts": posted.ts});
    assert_eq!(receipt.reference, expected);
    assert_eq!(receipt.provider_id, Some(posted.ts.clone()));
    for action in [TAKE_OVER, TAKEN] {
        assert_eq!(posted.button(action).unwrap()["value"], "s-1:h-1");
    }
    assert_eq!(posted.metadata["event_type"], "growth_chat_handoff");
    assert_eq!(office.requests(), ["POST /api/chat.postMessage"]);
}

#[tokio::test]
async fn a_message_whose_answer_was_lost_is_found_and_not_sent_again() {
    let office = Office::new().await;
    let dossier = dossier("h-1");
    office.fail(POST, Trouble::TakeAndCut);
    assert!(is_unknown(&office.post(&dossier).await));
    let found = office.look(&dossier).await.unwrap();
    assert_eq!(place(&found).ts, office.messages()[0].ts);
    assert_eq!(office.look(&crate::dossiers::dossier("h-2")).await, None);
}

#[tokio::test]
async fn a_message_that_was_lost_itself_is_not_found() {
    let office = Office::new().await;
    let dossier = dossier("h-1");
    office.fail(POST, Trouble::Status(504));
    assert!(is_unknown(&office.post(&dossier).await));
    assert_eq!(office.look(&dossier).await, None);
}

#[tokio::test]
async fn a_message_is_found_behind_a_page_of_others() {
    let office = Office::with(BOT_TOKEN, CHANNEL_ID).await;
    let ours = dossier("h-1");
    office.post(&ours).await.unwrap();
    for number in 0..MANY {
        let mark = Mark::new(
            &ours.session_id,
            &"h-2".parse().unwrap(),
            format!("n-{number}"),
        );
        let other = note(mark, "Somebody", "Something");
        office
            .client
            .post(&Destination::Channel, &other)
            .await
            .unwrap();
    }
    let before = office.requests().len();
    let found = office.look(&ours).await.unwrap();
    assert_eq!(place(&found).ts, office.messages()[0].ts);
    let asked = office.requests().split_off(before);
    assert_eq!(asked, ["POST /api/conversations.history"; 2]);
}

#[tokio::test]
async fn a_token_that_may_not_read_can_not_be_asked_and_the_lead_is_sent_again() {
    let office = Office::new().await;
    let dossier = dossier("h-1");
    office.post(&dossier).await.unwrap();
    office.fail("conversations.history", refuse("missing_scope"));
    assert_eq!(office.look(&dossier).await, None);
    office.fail("conversations.history", Trouble::Status(503));
    let error = office.message.reconcile(&dossier).await.unwrap_err();
    assert!(matches!(error, SendError::Healable { .. }), "{error:?}");
}

#[tokio::test]
async fn when_the_token_fails_for_good_the_webhook_takes_it_in_the_same_attempt() {
    for code in ["invalid_auth", "not_in_channel", "channel_not_found"] {
        let office = Office::new().await;
        let dossier = dossier("h-1");
        office.fail(POST, refuse(code));
        let receipt = office.post(&dossier).await.unwrap();
        assert_eq!(receipt.reference, json!({"via": "webhook"}));
        let [posted] = office.messages().try_into().unwrap();
        assert_eq!(posted.via, Via::Webhook);
        // It has no metadata, and is found by its buttons.
        let found = office.look(&dossier).await.unwrap();
        assert_eq!(place(&found).ts, posted.ts);
    }
}

#[tokio::test]
async fn what_fails_for_a_while_goes_by_the_webhook_only_in_the_last_attempt() {
    let office = Office::new().await;
    let dossier = dossier("h-1");
    for trouble in [
        Trouble::Status(500),
        refuse("service_unavailable"),
        Trouble::SlowDown(7),
    ] {
        office.fail(POST, trouble.clone());
        let failed = office.post(&dossier).await.unwrap_err();
        let SendError::Healable { retry_after, .. } = failed else {
            panic!("{trouble:?}: {failed:?}");
        };
        let expected = (trouble == Trouble::SlowDown(7)).then_some(Duration::from_secs(7));
        assert_eq!(retry_after, expected);
    }
    assert!(office.messages().is_empty());
    office.fail(POST, Trouble::Status(500));
    let receipt = office.post(&last(dossier)).await.unwrap();
    assert_eq!(receipt.reference, json!({"via": "webhook"}));
}

#[tokio::test]
async fn an_unknown_outcome_is_never_followed_by_the_webhook() {
    for trouble in [Trouble::TakeAndCut, Trouble::Status(502)] {
        let office = Office::new().await;
        office.fail(POST, trouble);
        assert!(is_unknown(&office.post(&last(dossier("h-1"))).await));
        assert!(!office.requests().contains(&"POST /webhook".to_owned()));
    }
}

#[tokio::test]
async fn when_slack_doubts_its_own_work_the_last_attempt_looks_before_the_webhook() {
    let office = Office::new().await;
    let dossier = dossier("h-1");
    office.fail(POST, refuse("internal_error"));
    assert!(is_unknown(&office.post(&dossier).await));
    office.fail(POST, refuse("fatal_error"));
    let receipt = office.post(&last(dossier.clone())).await.unwrap();
    assert_eq!(receipt.reference["via"], "webhook");
    office.fail(POST, refuse("internal_error"));
    let found = office.post(&last(dossier)).await.unwrap();
    assert_eq!(place(&found).ts, office.messages()[0].ts);
    assert_eq!(office.messages().len(), 1);
}

#[tokio::test]
async fn when_both_ways_fail_the_attempt_says_what_both_said() {
    let office = Office::new().await;
    let dossier = dossier("h-1");
    let webhook = office.outside.webhook_switch();
    let mut failures = Vec::new();
    for trouble in [
        refuse("no_service"),
        Trouble::SlowDown(9),
        Trouble::TakeAndCut,
    ] {
        office.fail(POST, refuse("invalid_auth"));
        webhook.once(trouble);
        failures.push(office.post(&dossier).await.unwrap_err());
    }
    let reason = "chat.postMessage: invalid_auth; webhook: ";
    assert_eq!(failures[0], SendError::fatal(format!("{reason}no_service")));
    let limited = SendError::Healable {
        reason: format!("{reason}status 429"),
        retry_after: Some(Duration::from_secs(9)),
    };
    assert_eq!(failures[1], limited);
    assert!(matches!(failures[2], SendError::Unknown { .. }));
}

#[tokio::test]
async fn nothing_secret_and_nobodys_words_are_in_a_failure() {
    let office = Office::with("xoxb-secret-and-wrong", "#new-leads").await;
    office
        .outside
        .webhook_switch()
        .once(refuse("Ada asked: <b>why</b>"));
    let failed = office.post(&dossier("h-1")).await.unwrap_err();
    let told = format!("{failed} {failed:?} {:?}", office.client);
    assert!(told.contains("invalid_auth"), "{told}");
    for secret in ["xoxb-secret", "/webhook", "asked", "Ada"] {
        assert!(!told.contains(secret), "{secret} in {told}");
    }
}

#[tokio::test]
async fn the_next_handoff_of_a_session_goes_into_the_thread_of_the_first() {
    let office = Office::new().await;
    let first = place(&office.post(&dossier("h-1")).await.unwrap());
    let mut second = dossier("h-2");
    second.earlier_thread = Some((first.channel.clone(), first.ts.clone()));
    office.fail(POST, Trouble::TakeAndCut);
    assert!(is_unknown(&office.post(&second).await));
    let found = place(&office.look(&second).await.unwrap());
    let [reply] = office.workspace().thread(&first.ts).try_into().unwrap();
    assert!(reply.broadcast);
    assert_eq!(found.ts, reply.ts);
    // Somebody has deleted the first one.
    office.client.delete(&first).await.unwrap();
    let mut third = dossier("h-3");
    third.earlier_thread = second.earlier_thread;
    let alone = place(&office.post(&third).await.unwrap());
    let alone = office.workspace().message(&alone.ts).unwrap();
    assert_eq!(alone.thread_ts, None);
}

#[tokio::test]
async fn the_crms_record_is_added_to_the_message() {
    let office = Office::new().await;
    let posted = office.post(&dossier("h-1")).await.unwrap();
    let mut done = both_done(dossier("h-1"), posted.reference.clone());
    done.taken_by = Some("Anna Example".to_owned());
    // A change is made again without looking: it comes to the same.
    office.fail("chat.update", Trouble::TakeAndCut);
    let lost = office.update.send(&done).await.unwrap_err();
    assert!(matches!(lost, SendError::Healable { .. }), "{lost:?}");
    assert_eq!(office.update.reconcile(&done).await.unwrap(), None);
    office.update.send(&done).await.unwrap();
    let [message] = office.messages().try_into().unwrap();
    assert_eq!(message.button(OPEN_CRM).unwrap()["url"], RECORD);
    assert!(message.button(TAKEN).is_none() && message.everything().contains("Anna Example"));
    // It is still found.
    assert!(office.look(&dossier("h-1")).await.is_some());
}

#[tokio::test]
async fn where_the_message_went_by_the_webhook_the_link_is_a_second_one_and_comes_once() {
    let office = Office::new().await;
    office.fail(POST, refuse("invalid_auth"));
    let posted = office.post(&dossier("h-1")).await.unwrap();
    let mut done = both_done(dossier("h-1"), posted.reference);
    office.fail(POST, Trouble::TakeAndCut);
    assert!(is_unknown(&office.update.send(&done).await));
    let found = office.update.reconcile(&done).await.unwrap().unwrap();
    let [_, link] = office.messages().try_into().unwrap();
    assert_eq!(link.button(OPEN_CRM).unwrap()["url"], RECORD);
    assert_eq!(place(&found).ts, link.ts);
    // Facts that come later don't bring it again.
    done.references.push(Reference {
        channel: Way::SlackUpdate,
        reference: found.reference,
        url: None,
    });
    let again = office.update.send(&done).await;
    assert!(matches!(again, Err(SendError::NothingToSend { .. })));
    assert_eq!(office.messages().len(), 2);
}

#[tokio::test]
async fn a_message_that_is_gone_or_can_not_be_changed_is_followed_by_a_second_one() {
    let office = Office::new().await;
    let posted = office.post(&dossier("h-1")).await.unwrap();
    let done = both_done(dossier("h-1"), posted.reference.clone());
    office.fail("chat.update", refuse("edit_window_closed"));
    let receipt = office.update.send(&done).await.unwrap();
    let in_thread = office.workspace().thread(&place(&posted).ts);
    assert_eq!(in_thread[0].ts, place(&receipt).ts);
    office.client.delete(&place(&posted)).await.unwrap();
    let receipt = office.update.send(&done).await.unwrap();
    let alone = office.workspace().message(&place(&receipt).ts).unwrap();
    assert_eq!(alone.thread_ts, None);
}

#[tokio::test]
async fn without_a_message_or_a_link_there_is_nothing_to_add() {
    let office = Office::new().await;
    let mut no_link = both_done(dossier("h-1"), json!({"via": "webhook"}));
    no_link.references[1].url = None;
    for dossier in [no_link, dossier("h-1")] {
        let nothing = office.update.send(&dossier).await;
        assert!(matches!(nothing, Err(SendError::NothingToSend { .. })));
    }
    assert!(office.requests().is_empty());
}

#[tokio::test]
async fn people_are_called_by_the_name_that_others_see() {
    let office = Office::new().await;
    let anna = sandbox::slack::ANNA;
    let name = office.client.user_name(anna.id).await.unwrap();
    assert_eq!(name, anna.display_name);
    let nobody = office.client.user_name("U0NOBODY").await.unwrap_err();
    assert_eq!(nobody.to_string(), "users.info: user_not_found");
    let identity = office.client.identity().await.unwrap();
    assert_eq!(identity.user_id, sandbox::slack::BOT_USER_ID);
}
