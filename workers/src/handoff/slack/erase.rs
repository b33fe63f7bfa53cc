//! Takes everything that we wrote about a handoff out of Slack again.

use chrono::{DateTime, TimeDelta, Utc};
use store::ids::{HandoffId, SessionId};

use super::{
    client::{Place, SlackClient},
    error::{Class, SlackError},
    mark::{Found, is_of},
};

/// A message that went by the webhook has no name that we know, and neither has one whose answer was lost:
/// they are looked for until this time after the newest one that we know of: reminders are in nobody's list.
const LOOKED_FOR: TimeDelta = TimeDelta::days(3);

/// What became of the messages of a handoff.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Erased {
    /// How many were deleted now.
    pub deleted: usize,
    /// Those that Slack does not let us delete: a person has to.
    pub left: Vec<Place>,
    /// Why they could not be looked for, if they could not.
    pub not_looked: Option<SlackError>,
    /// Whether there were more messages than are looked through.
    pub too_many: bool,
}

impl SlackClient {
    /// Deletes every message of ours about a handoff: those in the thread first, so that a repetition
    /// still finds the thread. `known`: the messages whose names we know; the others were written from `since`
    /// until about `newest`. What people wrote is theirs, and no app may delete it.
    pub async fn erase(
        &self,
        session_id: &SessionId,
        handoff_id: &HandoffId,
        known: &[Place],
        since: DateTime<Utc>,
        newest: DateTime<Utc>,
    ) -> Result<Erased, SlackError> {
        let is_it = |message: &_| is_of(message, session_id, handoff_id);
        let mut erased = Erased::default();
        let mut in_channel = known.to_vec();
        let until = newest + LOOKED_FOR;
        let found = self.search_channel(since, Some(until), usize::MAX, is_it);
        match found.await? {
            Found::Places(places, all) => {
                erased.too_many |= !all;
                in_channel.extend(places.into_iter().filter(|place| !known.contains(place)));
            }
            Found::NotAsked(reason) => erased.not_looked = Some(reason),
        }
        for place in in_channel {
            match self.search_thread(&place, usize::MAX, is_it).await? {
                Found::Places(replies, all) => {
                    erased.too_many |= !all;
                    for reply in replies.into_iter().filter(|reply| *reply != place) {
                        self.erase_one(reply, &mut erased).await?;
                    }
                }
                // It is gone, or has no thread.
                Found::NotAsked(error) if error.is_one_of(&["thread_not_found"]) => {}
                Found::NotAsked(reason) => erased.not_looked = Some(reason),
            }
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
