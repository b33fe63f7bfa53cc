//! Takes everything that we wrote about a handoff out of Slack again.

use chrono::{DateTime, TimeDelta, Utc};
use store::ids::{HandoffId, SessionId};

use super::{
    client::{Place, SlackClient},
    error::{Class, SlackError},
    mark::is_of,
};

/// A message that went by the webhook has no name that we know, and neither has one whose answer was lost:
/// they are looked for until so long after the newest attempt. Reminder and link come within days, too.
const LOOKED_FOR: TimeDelta = TimeDelta::days(3);

/// What became of the messages of a handoff.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Erased {
    /// How many stand in the channel by themselves: known, or found.
    pub found: usize,
    /// How many were deleted now.
    pub deleted: usize,
    /// Those that Slack does not let us delete: a person has to.
    pub left: Vec<Place>,
    /// Why they could not be looked for, if they could not.
    pub not_looked: Option<SlackError>,
}

impl SlackClient {
    /// Deletes every message of ours about a handoff: those in the thread first, so that a repetition
    /// still finds the thread. `known`: the messages whose names we know; `attempts`: when the first attempt
    /// to post one may have begun, and when the newest one came to an end. What people wrote is theirs, and no
    /// app may delete it.
    pub async fn erase(
        &self,
        session_id: &SessionId,
        handoff_id: &HandoffId,
        known: &[Place],
        attempts: (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<Erased, SlackError> {
        let is_it = |message: &_| is_of(message, session_id, handoff_id);
        let mut erased = Erased::default();
        let mut in_channel = known.to_vec();
        let (since, until) = (attempts.0, attempts.1 + LOOKED_FOR);
        let found = self.search_channel(since, Some(until), usize::MAX, is_it);
        let (places, reason) = found.await?.into_parts();
        erased.not_looked = reason;
        in_channel.extend(places.into_iter().filter(|place| !known.contains(place)));
        erased.found = in_channel.len();
        for place in in_channel {
            let thread = self.search_thread(&place, usize::MAX, is_it);
            let (replies, reason) = thread.await?.into_parts();
            for reply in replies.into_iter().filter(|reply| *reply != place) {
                self.erase_one(reply, &mut erased).await?;
            }
            // It is gone, or has no thread.
            let reason = reason.filter(|error| !error.is_one_of(&["thread_not_found"]));
            erased.not_looked = reason.or(erased.not_looked);
            self.erase_one(place, &mut erased).await?;
        }
        Ok(erased)
    }

    async fn erase_one(&self, place: Place, erased: &mut Erased) -> Result<(), SlackError> {
        match self.delete(&place).await {
            Ok(there) => erased.deleted += usize::from(there),
            Err(error) if error.class() == Class::Final => {
                tracing::warn!(%error, "a message in Slack can't be deleted");
                erased.left.push(place);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
