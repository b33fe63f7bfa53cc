//! What becomes of a handoff, from what became of its deliveries (the table of docs/decisions/0018).
//!
//! Pure, and blind to the order in which things happened: it looks at where the deliveries are, so that it
//! comes to the same however often and whenever it is asked.

use store::handoffs::{Asked, Channel, Delivery, DeliveryStatus, HandoffStatus};

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Nothing: a delivery is still under way, and comes here when it ends.
    Wait,
    /// The CRM knows older facts: it is told again.
    TellCrmAgain,
    /// Both ways are closed: the e-mail goes out.
    SendEmail,
    /// This is what became of it.
    Settled(HandoffStatus),
}

/// How a way ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Pending,
    Delivered,
    Skipped,
    Failed,
}

impl Way {
    /// A delivery that was never asked for reached nobody.
    fn of(delivery: Option<&Delivery>) -> Self {
        match delivery.map(|delivery| delivery.status) {
            Some(DeliveryStatus::Pending) => Self::Pending,
            Some(DeliveryStatus::Delivered) => Self::Delivered,
            Some(DeliveryStatus::Skipped) => Self::Skipped,
            Some(DeliveryStatus::Dead | DeliveryStatus::Cancelled) | None => Self::Failed,
        }
    }
}

/// Decides what becomes of a handoff whose facts are at `revision`.
pub fn decide(deliveries: &[Delivery], revision: i32) -> Decision {
    let crm = find(deliveries, Channel::Crm);
    let email = find(deliveries, Channel::Email);
    let slack = Way::of(find(deliveries, Channel::Slack));
    match (slack, Way::of(crm)) {
        (Way::Pending, _) | (_, Way::Pending) => Decision::Wait,
        // What it did not take for the want of a fact may be known by now.
        (_, Way::Delivered | Way::Skipped) if crm.is_some_and(|crm| crm.revision < revision) => {
            Decision::TellCrmAgain
        }
        (Way::Delivered, Way::Delivered | Way::Skipped) => {
            Decision::Settled(HandoffStatus::Delivered)
        }
        (Way::Delivered, Way::Failed) | (Way::Failed | Way::Skipped, Way::Delivered) => {
            Decision::Settled(HandoffStatus::Degraded)
        }
        (Way::Failed | Way::Skipped, Way::Failed | Way::Skipped) => match email {
            None => Decision::SendEmail,
            Some(_) => match Way::of(email) {
                Way::Pending => Decision::Wait,
                Way::Delivered => Decision::Settled(HandoffStatus::Mailed),
                Way::Skipped | Way::Failed => Decision::Settled(HandoffStatus::Dead),
            },
        },
    }
}

/// What is to be added to the message in Slack, if anything is missing there: facts that came after it, or
/// the CRM's record. One update covers it all; one that failed is not repeated for the same.
pub fn update(deliveries: &[Delivery], revision: i32) -> Option<Asked> {
    let slack = find(deliveries, Channel::Slack)
        .filter(|slack| slack.status == DeliveryStatus::Delivered)?;
    let crm = find(deliveries, Channel::Crm).filter(|crm| crm.status == DeliveryStatus::Delivered);
    let needed = Asked {
        facts: revision,
        crm: crm.map_or(0, |crm| crm.revision),
    };
    let mut covered = find(deliveries, Channel::SlackUpdate)
        .map(|update| update.asked)
        .unwrap_or_default();
    covered.facts = covered.facts.max(slack.revision);
    (!covered.covers(needed)).then_some(needed)
}

/// What a channel owes.
pub(super) fn find(deliveries: &[Delivery], channel: Channel) -> Option<&Delivery> {
    deliveries
        .iter()
        .find(|delivery| delivery.channel == channel)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use serde_json::json;

    use super::*;

    use DeliveryStatus::{Cancelled, Dead, Delivered, Pending, Skipped};

    const ALL: [DeliveryStatus; 5] = [Pending, Delivered, Skipped, Dead, Cancelled];

    fn delivery(channel: Channel, status: DeliveryStatus, revision: i32) -> Delivery {
        Delivery {
            channel,
            status,
            revision,
            was_delivered: status == Delivered,
            reference: json!({}),
            url: None,
            asked: Asked::default(),
        }
    }

    fn handoff(
        slack: DeliveryStatus,
        crm: DeliveryStatus,
        email: Option<DeliveryStatus>,
    ) -> Vec<Delivery> {
        let mut deliveries = vec![
            delivery(Channel::Crm, crm, 1),
            delivery(Channel::Slack, slack, 1),
        ];
        deliveries.extend(email.map(|email| delivery(Channel::Email, email, 1)));
        deliveries
    }

    fn settled(status: HandoffStatus) -> Decision {
        Decision::Settled(status)
    }

    /// The table of the decision, line by line.
    fn by_the_table(
        slack: DeliveryStatus,
        crm: DeliveryStatus,
        email: Option<DeliveryStatus>,
    ) -> Decision {
        let failed = |status| matches!(status, Dead | Cancelled);
        let closed = |status| failed(status) || status == Skipped;
        if slack == Pending || crm == Pending {
            return Decision::Wait;
        }
        if slack == Delivered && (crm == Delivered || crm == Skipped) {
            return settled(HandoffStatus::Delivered);
        }
        if slack == Delivered && failed(crm) || closed(slack) && crm == Delivered {
            return settled(HandoffStatus::Degraded);
        }
        match email {
            None => Decision::SendEmail,
            Some(Pending) => Decision::Wait,
            Some(Delivered) => settled(HandoffStatus::Mailed),
            Some(_) => settled(HandoffStatus::Dead),
        }
    }

    #[test]
    fn every_combination_comes_to_what_the_table_says() {
        for slack in ALL {
            for crm in ALL {
                for email in [None].into_iter().chain(ALL.map(Some)) {
                    assert_eq!(
                        decide(&handoff(slack, crm, email), 1),
                        by_the_table(slack, crm, email),
                        "{slack:?} {crm:?} {email:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_handoff_without_deliveries_is_mailed() {
        assert_eq!(decide(&[], 1), Decision::SendEmail);
    }

    #[test]
    fn a_crm_that_knows_older_facts_or_took_none_is_told_again_before_anything_is_settled() {
        for (slack, crm) in [
            (Delivered, Delivered),
            (Dead, Delivered),
            (Delivered, Skipped),
            (Dead, Skipped),
        ] {
            assert_eq!(
                decide(&handoff(slack, crm, None), 2),
                Decision::TellCrmAgain
            );
        }
        // What failed is not repeated for it.
        assert_eq!(
            decide(&handoff(Delivered, Dead, None), 2),
            settled(HandoffStatus::Degraded)
        );
    }

    #[test]
    fn the_message_in_slack_is_updated_once_for_all_that_is_missing_in_it() {
        let needed = |deliveries: &[Delivery], revision| {
            update(deliveries, revision).map(|asked| (asked.facts, asked.crm))
        };
        assert_eq!(
            needed(&handoff(Delivered, Delivered, None), 1),
            Some((1, 1))
        );
        assert_eq!(needed(&handoff(Delivered, Skipped, None), 1), None);
        assert_eq!(needed(&handoff(Delivered, Dead, None), 1), None);
        assert_eq!(needed(&handoff(Delivered, Dead, None), 2), Some((2, 0)));
        assert_eq!(needed(&handoff(Dead, Delivered, None), 2), None);
        for status in ALL {
            let mut deliveries = handoff(Delivered, Delivered, None);
            let mut told = delivery(Channel::SlackUpdate, status, 0);
            told.asked = Asked { facts: 1, crm: 0 };
            deliveries.push(told);
            // A CRM that took it later makes another one; the same again, dead or not, makes none.
            assert_eq!(needed(&deliveries, 1), Some((1, 1)));
            deliveries[2].asked.crm = 1;
            assert_eq!(needed(&deliveries, 1), None);
        }
    }

    /// A handoff whose deliveries end one after the other, with settling whenever one has ended, and
    /// perhaps more than once: as the queue does it.
    struct Saga {
        deliveries: Vec<Delivery>,
        revision: i32,
        status: HandoffStatus,
        emails: usize,
        updates: usize,
        crm_told: usize,
    }

    impl Saga {
        fn new() -> Self {
            Self {
                deliveries: handoff(Pending, Pending, None),
                revision: 1,
                status: HandoffStatus::Pending,
                emails: 0,
                updates: 0,
                crm_told: 0,
            }
        }

        fn settle(&mut self) {
            match decide(&self.deliveries, self.revision) {
                Decision::Wait => {}
                Decision::TellCrmAgain => {
                    self.crm_told += 1;
                    self.set(Channel::Crm, Pending, 0);
                }
                Decision::SendEmail => {
                    self.emails += 1;
                    self.deliveries.push(delivery(Channel::Email, Pending, 0));
                }
                Decision::Settled(status) => {
                    self.status = status;
                    if let Some(asks) = update(&self.deliveries, self.revision) {
                        self.updates += 1;
                        let mut told = delivery(Channel::SlackUpdate, Pending, 0);
                        told.asked = asks;
                        self.deliveries
                            .retain(|delivery| delivery.channel != Channel::SlackUpdate);
                        self.deliveries.push(told);
                    }
                }
            }
        }

        fn set(&mut self, channel: Channel, status: DeliveryStatus, revision: i32) {
            for delivery in &mut self.deliveries {
                if delivery.channel == channel {
                    delivery.status = status;
                    delivery.revision = delivery.revision.max(revision);
                }
            }
        }

        fn pending(&self) -> Vec<Channel> {
            let pending = self.deliveries.iter();
            pending
                .filter(|delivery| delivery.status == Pending)
                .map(|delivery| delivery.channel)
                .collect()
        }
    }

    fn end() -> impl Strategy<Value = DeliveryStatus> {
        prop::sample::select(vec![Delivered, Skipped, Dead, Cancelled])
    }

    proptest! {
        #[test]
        fn where_a_handoff_ends_does_not_depend_on_the_order_and_at_most_one_e_mail_is_sent(
            slack in prop::sample::select(vec![Delivered, Dead, Cancelled]),
            crm in end(),
            email in end(),
            picks in vec(0..4_usize, 0..12),
            settlings in vec(1..3_usize, 12),
        ) {
            let mut saga = Saga::new();
            let mut picks = picks.into_iter();
            let mut settlings = settlings.into_iter();
            loop {
                let pending = saga.pending();
                if pending.is_empty() {
                    break;
                }
                let channel = pending[picks.next().unwrap_or(0) % pending.len()];
                let status = match channel {
                    Channel::Slack => slack,
                    Channel::Crm => crm,
                    Channel::Email => email,
                    Channel::SlackUpdate => Dead,
                };
                saga.set(channel, status, saga.revision);
                for _ in 0..settlings.next().unwrap_or(1) {
                    saga.settle();
                }
            }
            let reached_nobody = slack != Delivered && crm != Delivered;
            prop_assert_eq!(saga.emails, usize::from(reached_nobody));
            let expected = match by_the_table(slack, crm, reached_nobody.then_some(email)) {
                Decision::Settled(status) => status,
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(saga.status, expected);
            prop_assert_eq!(saga.updates, usize::from(slack == Delivered && crm == Delivered));
        }

        #[test]
        fn facts_that_arrive_at_any_time_reach_every_channel_that_took_the_handoff(
            facts in vec(0..6_usize, 0..5),
            picks in vec(0..4_usize, 40),
        ) {
            let mut saga = Saga::new();
            for (step, pick) in picks.into_iter().enumerate() {
                if facts.contains(&step) && saga.status == HandoffStatus::Pending {
                    saga.revision += 1;
                }
                let pending = saga.pending();
                let Some(channel) = pending.get(pick % pending.len().max(1)) else {
                    break;
                };
                saga.set(*channel, Delivered, saga.revision);
                saga.settle();
            }
            prop_assert_eq!(saga.status, HandoffStatus::Delivered);
            prop_assert_eq!(find(&saga.deliveries, Channel::Crm).unwrap().revision, saga.revision);
            let update = find(&saga.deliveries, Channel::SlackUpdate).unwrap();
            let all = Asked { facts: saga.revision, crm: saga.revision };
            prop_assert!(update.asked.covers(all));
            prop_assert_eq!(saga.emails, 0);
            prop_assert!(saga.crm_told < 5 && saga.updates <= 1);
        }

        #[test]
        fn what_an_operator_retries_later_completes_a_handoff_and_shows_the_button(
            first in prop::sample::select(vec![Channel::Slack, Channel::Crm]),
        ) {
            let mut saga = Saga::new();
            saga.set(Channel::Slack, Dead, 0);
            saga.set(Channel::Crm, Dead, 0);
            saga.settle();
            saga.set(Channel::Email, Delivered, 1);
            saga.settle();
            prop_assert_eq!(saga.status, HandoffStatus::Mailed);
            let second = if first == Channel::Slack { Channel::Crm } else { Channel::Slack };
            for (channel, status) in [
                (first, HandoffStatus::Degraded),
                (second, HandoffStatus::Delivered),
            ] {
                saga.set(channel, Pending, 0);
                saga.settle();
                saga.set(channel, Delivered, 1);
                saga.settle();
                prop_assert_eq!(saga.status, status);
            }
            prop_assert_eq!((saga.emails, saga.updates), (1, 1));
        }
    }
}
