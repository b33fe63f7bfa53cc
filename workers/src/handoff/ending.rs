//! The end of an attempt: what came of it, as the database, the queue and the circuit are told.

use std::time::Duration;

use jobs::{Ended, HandlerResult, JobContext, JobError, Outcome, Retry};
use serde_json::Value;
use sqlx::PgConnection;
use store::{
    bus::Wake,
    handoffs::{
        self, AttemptEnd, AttemptOutcome, Channel as Way, Circuit, DeliveryStatus,
        PATIENCE_WITH_CIRCUITS, Told,
    },
};

use super::{
    HandoffDeps, Receipt, SendError,
    circuit::{self, Finding},
    deliver::{Job, lease_lost, spread},
};
use crate::commit::until_committed;

/// What an attempt was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Made {
    /// Its number, from 1.
    pub(super) number: i32,
    /// Which facts it told.
    pub(super) revision: i32,
    /// Whether everybody else waited for it.
    pub(super) is_probe: bool,
    /// Whether a failure that may heal costs the job no attempt: it was made for all the others.
    pub(super) is_free: bool,
    /// How long the provider took.
    pub(super) took: Duration,
}

/// What an attempt came to, ready to be committed.
#[derive(Clone)]
pub(super) struct Ending {
    job: Job,
    made: Made,
    end: AttemptEnd,
    /// What the channel has told; none: it failed.
    told: Option<Told>,
    finding: Option<Finding>,
    /// What the queue is told of a failure.
    failure: Option<(Retry, String)>,
}

impl Ending {
    pub(super) fn of(
        job: Job,
        made: Made,
        talked: Result<(AttemptOutcome, Receipt), SendError>,
    ) -> Self {
        let (outcome, finding) = judge(&talked);
        let revision = made.revision;
        let mut end = AttemptEnd {
            outcome,
            latency_ms: i32::try_from(made.took.as_millis()).unwrap_or(i32::MAX),
            provider_id: None,
            error: None,
        };
        let (mut told, mut failure) = (None, None);
        match talked {
            Ok((outcome, receipt)) => {
                // Slack is asked for the message alone: one of which nobody heard may tell older facts than
                // are known now. A CRM is asked for this very revision.
                let is_older =
                    outcome == AttemptOutcome::Found && job.way == Way::Slack && revision > 1;
                end.provider_id = receipt.provider_id;
                told = Some(Told {
                    status: DeliveryStatus::Delivered,
                    revision: if is_older { 1 } else { revision },
                    reference: receipt.reference,
                    url: receipt.url,
                });
            }
            Err(SendError::NothingToSend { reason }) => {
                end.error = Some(reason.to_owned());
                told = Some(Told {
                    status: DeliveryStatus::Skipped,
                    revision,
                    reference: Value::Null,
                    url: None,
                });
            }
            Err(error) => {
                let retry = match &error {
                    SendError::Final { .. } => Retry::Never,
                    SendError::Healable {
                        retry_after: Some(wait),
                        ..
                    } => Retry::NotBefore((*wait).min(PATIENCE_WITH_CIRCUITS)),
                    _ => Retry::AsPlanned,
                };
                end.error = Some(error.to_string());
                failure = Some((retry, error.to_string()));
            }
        }
        Self {
            job,
            made,
            end,
            told,
            finding,
            failure,
        }
    }

    /// Commits it, however long the database is away, and says what the queue is to do.
    pub(super) async fn commit(self, deps: &HandoffDeps, context: JobContext) -> HandlerResult {
        let committed = until_committed("the end of a delivery", || {
            let (pool, ending, fence) = (deps.pool.clone(), self.clone(), context.fence);
            async move {
                let mut transaction = pool.begin().await?;
                let mut after = Wake::default();
                let written = ending.write(&mut transaction).await?
                    && (ending.told.is_none()
                        || jobs::end(&mut transaction, fence, Ended::Done, &mut after).await?);
                if !written {
                    transaction.rollback().await?;
                    return Ok(None);
                }
                transaction.commit().await?;
                Ok(Some(after))
            }
        });
        let Some(after) = committed.await? else {
            return Err(lease_lost());
        };
        deps.bus.publish(&after);
        let (channel, outcome) = (self.job.way.as_str(), self.end.outcome.as_str());
        metrics::counter!("growth_chat_handoff_deliveries_total", "channel" => channel, "outcome" => outcome)
            .increment(1);
        tracing::info!(handoff_id = %self.job.key.handoff_id, channel, attempt = self.made.number, outcome,
            "an attempt to deliver a handoff ended");
        match self.failure {
            None => Ok(Outcome::Committed),
            // It finds the circuit as it left it.
            Some((Retry::AsPlanned | Retry::NotBefore(_), _)) if self.made.is_free => {
                Ok(Outcome::Snooze(spread(&*deps.entropy)))
            }
            Some((retry, reason)) => Err(JobError { retry, reason }),
        }
    }

    /// Writes it in the transaction; false: the lease was lost.
    async fn write(&self, conn: &mut PgConnection) -> sqlx::Result<bool> {
        let Job {
            key,
            lease,
            way,
            provider,
            ..
        } = &self.job;
        if !handoffs::hold_lease(conn, *lease).await? {
            return Ok(false);
        }
        handoffs::end_attempt(conn, key, *way, self.made.number, &self.end).await?;
        if let Some(told) = &self.told {
            handoffs::told(conn, key, *way, told).await?;
        }
        if let Some(finding) = self.finding {
            // The last row of all, because all deliveries share it; and not at all in good times.
            let (known, _) = handoffs::circuit(conn, provider, false).await?;
            if finding != Finding::Answers || known != Circuit::default() {
                let (mut known, now) = handoffs::circuit(conn, provider, true).await?;
                let id = key.handoff_id.as_str();
                if circuit::add(&mut known, id, self.made.is_probe, finding, now) {
                    handoffs::keep_circuit(conn, provider, &known).await?;
                }
            }
        }
        Ok(true)
    }
}

/// What came of an attempt, and what that says of the provider.
fn judge(
    talked: &Result<(AttemptOutcome, Receipt), SendError>,
) -> (AttemptOutcome, Option<Finding>) {
    match talked {
        Ok((outcome, _)) => (*outcome, Some(Finding::Answers)),
        Err(SendError::NothingToSend { .. }) => (AttemptOutcome::Skipped, None),
        Err(SendError::Final { .. }) => (AttemptOutcome::Refused, Some(Finding::Answers)),
        Err(SendError::Unknown { .. }) => (AttemptOutcome::Unknown, Some(Finding::Fails)),
        Err(SendError::Healable { retry_after, .. }) => {
            let finding = retry_after.map_or(Finding::Fails, Finding::PutsOff);
            (AttemptOutcome::Failed, Some(finding))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(way: Way) -> Job {
        Job {
            key: handoffs::HandoffKey {
                session_id: "s-1".parse().unwrap(),
                handoff_id: "h-1".parse().unwrap(),
            },
            lease: store::checkpoints::JobLease {
                job_id: 1,
                lease: 1,
            },
            way,
            provider: "slack",
            is_last: false,
        }
    }

    fn ending(
        way: Way,
        revision: i32,
        talked: Result<(AttemptOutcome, Receipt), SendError>,
    ) -> Ending {
        let made = Made {
            number: 1,
            revision,
            is_probe: false,
            is_free: false,
            took: Duration::from_millis(7),
        };
        Ending::of(job(way), made, talked)
    }

    fn failed(error: SendError) -> (AttemptOutcome, Option<Finding>, Retry) {
        let ending = ending(Way::Slack, 1, Err(error));
        assert!(ending.told.is_none());
        (
            ending.end.outcome,
            ending.finding,
            ending.failure.unwrap().0,
        )
    }

    #[test]
    fn what_was_taken_is_told_with_its_receipt() {
        let receipt = Receipt {
            reference: json!({"ts": "1.2"}),
            provider_id: Some("1.2".to_owned()),
            url: None,
        };
        let ending = ending(Way::Slack, 3, Ok((AttemptOutcome::Sent, receipt)));
        let told = ending.told.unwrap();
        assert_eq!((told.status, told.revision), (DeliveryStatus::Delivered, 3));
        assert_eq!(told.reference, json!({"ts": "1.2"}));
        assert_eq!(ending.end.provider_id.as_deref(), Some("1.2"));
        assert_eq!(ending.end.latency_ms, 7);
        assert!(ending.failure.is_none());
    }

    #[test]
    fn a_message_that_is_found_in_slack_may_tell_older_facts_and_a_record_does_not() {
        let told = |way, revision| {
            let found = Ok((AttemptOutcome::Found, Receipt::default()));
            ending(way, revision, found).told.unwrap().revision
        };
        assert_eq!(told(Way::Slack, 3), 1);
        assert_eq!(told(Way::Crm, 3), 3);
    }

    #[test]
    fn each_failure_is_tried_again_as_it_may_heal_and_says_what_it_says_of_the_provider() {
        let fails = Some(Finding::Fails);
        for (error, expected) in [
            (
                SendError::healable("status 500"),
                (AttemptOutcome::Failed, fails, Retry::AsPlanned),
            ),
            (
                SendError::unknown("no answer"),
                (AttemptOutcome::Unknown, fails, Retry::AsPlanned),
            ),
            (
                SendError::fatal("invalid_auth"),
                (
                    AttemptOutcome::Refused,
                    Some(Finding::Answers),
                    Retry::Never,
                ),
            ),
        ] {
            assert_eq!(failed(error), expected);
        }
        let wait = Duration::from_secs(30);
        let slow_down = |wait| SendError::Healable {
            reason: "status 429".to_owned(),
            retry_after: Some(wait),
        };
        assert_eq!(
            failed(slow_down(wait)),
            (
                AttemptOutcome::Failed,
                Some(Finding::PutsOff(wait)),
                Retry::NotBefore(wait)
            )
        );
        // Nobody waits for a day.
        let (_, _, retry) = failed(slow_down(Duration::from_hours(24)));
        assert_eq!(retry, Retry::NotBefore(PATIENCE_WITH_CIRCUITS));
    }

    #[test]
    fn what_a_channel_can_not_take_is_skipped_and_says_nothing_of_its_provider() {
        let nothing = SendError::NothingToSend {
            reason: "no CRM is configured",
        };
        let ending = ending(Way::Crm, 2, Err(nothing));
        let told = ending.told.unwrap();
        assert_eq!((told.status, told.revision), (DeliveryStatus::Skipped, 2));
        assert_eq!(ending.end.error.as_deref(), Some("no CRM is configured"));
        assert!(ending.finding.is_none() && ending.failure.is_none());
    }
}
