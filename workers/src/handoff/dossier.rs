//! Everything that a channel may tell of a handoff.

use chrono::{DateTime, Utc};
use serde_json::Value;
use store::{
    handoffs::{self, Channel, Delivery, HandoffKey, Lead, Record, Trigger},
    ids::{HandoffId, SessionId},
    phrases::Language,
};

/// A handoff as it is told. It has no `Debug`, because it is about a person.
#[derive(Clone)]
pub struct Dossier {
    /// The session.
    pub session_id: SessionId,
    /// The handoff in it: the id by which every provider can tell a repetition.
    pub handoff_id: HandoffId,
    /// Which state of the facts this is, from 1.
    pub revision: i32,
    /// Why somebody is to talk to the visitor.
    pub trigger: Trigger,
    /// The stage of the conversation, 1–4.
    pub stage: i16,
    /// What is known of the visitor. It is as they wrote it: every channel makes it inert.
    pub lead: Lead,
    /// Whether they agreed to be contacted, in the contact form.
    pub consent: bool,
    /// What the conversation was about.
    pub summary: Option<String>,
    /// What was said, the oldest first; bounded.
    pub transcript: Vec<Line>,
    /// The page that they were on.
    pub page_url: Option<String>,
    /// Their language, as BCP 47.
    pub locale: Option<String>,
    /// The same, as far as we speak it.
    pub language: Language,
    /// What they were promised.
    pub promise: Option<Promise>,
    /// When the handoff was made.
    pub created_at: DateTime<Utc>,
    /// When the first attempt of this channel began: from then on the provider may have it.
    pub first_attempt_at: DateTime<Utc>,
    /// The number of this attempt of the channel, from 1, over all its jobs.
    pub attempt: i32,
    /// Whether the job has no attempt after this one.
    pub last_attempt: bool,
    /// Who takes care of it.
    pub taken_by: Option<String>,
    /// Who speaks with the visitor instead of the assistant.
    pub speaks: Option<String>,
    /// Whether a person has spoken with them.
    pub was_spoken_to: bool,
    /// What the channels that are done have told us.
    pub references: Vec<Reference>,
    /// The message in Slack of an earlier handoff of the session: `(channel, ts)`.
    pub earlier_thread: Option<(String, String)>,
}

/// What the visitor was promised.
#[derive(Clone)]
pub struct Promise {
    /// In their words.
    pub text: String,
    /// The latest time.
    pub by: DateTime<Utc>,
}

/// One message of the conversation.
#[derive(Clone)]
pub struct Line {
    /// Who said it.
    pub speaker: Speaker,
    /// What.
    pub text: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// Who said something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Speaker {
    /// The visitor.
    Visitor,
    /// The assistant.
    Assistant,
    /// A person of the company, by name.
    Person(String),
}

/// Where a channel has put the handoff.
#[derive(Debug, Clone)]
pub struct Reference {
    /// The channel.
    pub channel: Channel,
    /// What its provider calls it.
    pub reference: Value,
    /// Where a person finds it.
    pub url: Option<String>,
}

/// On which occasion a handoff is told.
#[derive(Debug, Clone)]
pub struct Occasion {
    /// When the first attempt of the channel began.
    pub first_attempt_at: DateTime<Utc>,
    /// The number of this attempt, from 1.
    pub attempt: i32,
    /// Whether the job has no attempt after this one.
    pub last_attempt: bool,
    /// Who speaks with the visitor instead of the assistant.
    pub speaks: Option<String>,
    /// Whether a person has spoken with them.
    pub was_spoken_to: bool,
}

impl Dossier {
    /// A handoff as it is known.
    pub fn new(
        key: &HandoffKey,
        record: Record,
        deliveries: Vec<Delivery>,
        occasion: Occasion,
    ) -> Self {
        Self {
            session_id: key.session_id.clone(),
            handoff_id: key.handoff_id.clone(),
            revision: record.revision,
            trigger: record.trigger,
            stage: record.stage,
            lead: record.lead,
            consent: record.consent,
            summary: record.summary,
            transcript: record.transcript.into_iter().map(Line::from).collect(),
            page_url: record.page_url,
            language: Language::of(record.locale.as_deref()),
            locale: record.locale,
            promise: record.promise.map(|(text, by)| Promise { text, by }),
            created_at: record.created_at,
            first_attempt_at: occasion.first_attempt_at,
            attempt: occasion.attempt,
            last_attempt: occasion.last_attempt,
            taken_by: record.taken_by,
            speaks: occasion.speaks,
            was_spoken_to: occasion.was_spoken_to,
            references: deliveries.into_iter().filter_map(reference).collect(),
            earlier_thread: record.earlier_thread,
        }
    }

    /// What a channel that is done has told us.
    pub fn reference(&self, channel: Channel) -> Option<&Reference> {
        self.references
            .iter()
            .find(|reference| reference.channel == channel)
    }
}

impl From<handoffs::Said> for Line {
    fn from(said: handoffs::Said) -> Self {
        let speaker = match (said.author, said.role.as_str()) {
            (Some(name), _) => Speaker::Person(name),
            (None, "user") => Speaker::Visitor,
            (None, _) => Speaker::Assistant,
        };
        Self {
            speaker,
            text: said.text,
            at: said.at,
        }
    }
}

fn reference(delivery: Delivery) -> Option<Reference> {
    delivery.was_delivered.then_some(Reference {
        channel: delivery.channel,
        reference: delivery.reference,
        url: delivery.url,
    })
}
