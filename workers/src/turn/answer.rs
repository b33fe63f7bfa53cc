//! An answer while it comes: from text to the stream's chunks and to what is kept. Nothing is shown
//! before the first text, so that an attempt that fails before it is not seen.
//!
//! What follows from an answer – its sources, the stage, a handoff, the contact form – is told in its
//! last frames, which are written in the transaction that makes it true.

use std::collections::BTreeSet;

use store::{
    business_hours::Promise,
    ids::{MessageId, TurnKey},
    protocol::{
        Chunk, ContactFormData, ContactReason, FinishReason, HandoffData, HandoffStatus, LimitData,
        NoticeData, NoticeKind, ReplyPromise, ResetData, SessionData, StageData, True,
    },
    transcript::Source,
    turn_control::CANCELLED,
};

use super::{
    confidential::Confidential,
    links::{Allowed, LinkFilter},
    prompt,
};
use crate::knowledge::Passage;

/// The one text part of an answer. Citations cut the model's text into blocks in the middle of
/// sentences; a client renders each part as a paragraph, so they are put together again.
const TEXT_PART: &str = "answer";

/// What the first frames say.
pub(super) struct Opening {
    pub(super) key: TurnKey,
    pub(super) answer_id: MessageId,
    pub(super) stage: i16,
    pub(super) attempt: i32,
    /// Whether clients may have seen an earlier attempt.
    pub(super) reset: bool,
    /// What the visitor is told in the session's first turn.
    pub(super) notice: Option<String>,
}

impl Opening {
    fn chunks(&self) -> Vec<Chunk> {
        let mut chunks = vec![
            Chunk::Start {
                message_id: self.answer_id.clone(),
            },
            Chunk::DataSession {
                data: SessionData {
                    session_id: self.key.session_id.clone(),
                    turn: self.key.turn,
                    stage: self.stage,
                },
                transient: True,
            },
        ];
        if self.reset {
            chunks.push(Chunk::DataReset {
                data: ResetData {
                    attempt: self.attempt,
                },
                transient: True,
            });
        }
        if let Some(text) = &self.notice {
            chunks.push(Chunk::DataNotice {
                data: NoticeData {
                    kind: NoticeKind::Privacy,
                    text: text.clone(),
                },
            });
        }
        chunks
    }
}

/// What follows from an answer, as clients are told.
#[derive(Default)]
pub(super) struct Consequences {
    /// The conversation's new stage.
    pub(super) stage: Option<i16>,
    /// Whether people take over; what is promised is known when the handoff is made.
    pub(super) handoff: bool,
    /// The limit that answered.
    pub(super) limit: Option<LimitData>,
    /// The contact form: why, and what stands above it.
    pub(super) contact_form: Option<(ContactReason, Option<&'static str>)>,
}

impl Consequences {
    fn chunks(self) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        if let Some(data) = self.limit {
            chunks.push(Chunk::DataLimit {
                data,
                transient: True,
            });
        }
        if let Some(stage) = self.stage {
            chunks.push(Chunk::DataStage {
                data: StageData { stage },
            });
        }
        if self.handoff {
            chunks.push(Chunk::DataHandoff {
                data: HandoffData {
                    status: HandoffStatus::Pending,
                    promise: None,
                },
            });
        }
        if let Some((reason, text)) = self.contact_form {
            chunks.push(Chunk::DataContactForm {
                data: ContactFormData {
                    reason,
                    text: text.map(str::to_owned),
                },
            });
        }
        chunks
    }
}

/// Tells in the last frames what is promised to whom people take over.
pub(super) fn promise(tail: &mut [Chunk], promise: Option<&Promise>) {
    for chunk in tail {
        if let Chunk::DataHandoff { data } = chunk {
            data.promise = promise.map(ReplyPromise::from);
        }
    }
}

/// The answer so far. It has no `Debug`, because it holds text.
pub(super) struct Answer {
    opening: Opening,
    /// Everything that is shown passes it.
    links: LinkFilter,
    confidential: Confidential,
    text: String,
    /// Whether what comes next is a paragraph of its own.
    new_paragraph: bool,
    /// Numbers of the passages that were cited, in the order of the first citation.
    cited: Vec<u32>,
}

impl Answer {
    /// An answer whose links lead only to what is `allowed`, and to what passages name.
    pub(super) fn new(opening: Opening, allowed: &Allowed) -> Self {
        Self {
            opening,
            links: LinkFilter::new(allowed),
            confidential: Confidential::default(),
            text: String::new(),
            new_paragraph: false,
            cited: Vec::new(),
        }
    }

    /// The answer may lead to what these passages name.
    pub(super) fn allow(&mut self, passages: &[Passage]) {
        for passage in passages {
            self.links.allow_passage(&passage.url, &passage.content);
        }
    }

    /// More text; gives what the client sees of it.
    pub(super) fn say(&mut self, delta: &str) -> Vec<Chunk> {
        if delta.is_empty() {
            return Vec::new();
        }
        let mut shown = String::new();
        if std::mem::take(&mut self.new_paragraph) && self.has_text() {
            shown = self.links.push("\n\n");
        }
        shown.push_str(&self.links.push(delta));
        self.show(shown)
    }

    /// The model has come to an end for now: gives what was held back of its text.
    pub(super) fn settle(&mut self) -> Vec<Chunk> {
        let rest = self.links.finish();
        self.show(rest)
    }

    fn show(&mut self, delta: String) -> Vec<Chunk> {
        let delta = self.confidential.keep(delta);
        if delta.is_empty() {
            return Vec::new();
        }
        let mut chunks = Vec::new();
        if !self.has_text() {
            chunks = self.opening.chunks();
            chunks.push(Chunk::StartStep);
            chunks.push(Chunk::TextStart {
                id: TEXT_PART.to_owned(),
            });
        }
        self.text.push_str(&delta);
        chunks.push(Chunk::TextDelta {
            id: TEXT_PART.to_owned(),
            delta,
        });
        chunks
    }

    /// What comes next is a paragraph of its own.
    pub(super) fn begin_paragraph(&mut self) {
        self.new_paragraph = true;
    }

    /// The answer rests on these passages, by their numbers in the request.
    pub(super) fn cite(&mut self, passages: &[u32]) {
        for passage in passages {
            if !self.cited.contains(passage) {
                self.cited.push(*passage);
            }
        }
    }

    /// Whether the client has seen something of it.
    pub(super) fn has_text(&self) -> bool {
        !self.text.is_empty()
    }

    /// Whether there is a word in it.
    pub(super) fn is_spoken(&self) -> bool {
        !self.text.trim().is_empty()
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The passages that were cited, each address once, in the order of the first citation.
    pub(super) fn sources(&self, passages: &[Passage]) -> Vec<Source> {
        let mut seen = BTreeSet::new();
        self.cited
            .iter()
            .filter_map(|index| passages.get(usize::try_from(*index).ok()?))
            .filter(|passage| seen.insert(passage.url.as_str()))
            .zip(1..)
            .map(|(passage, number)| Source {
                source_id: format!("source-{number}"),
                url: passage.url.clone(),
                title: Some(prompt::title(passage)),
            })
            .collect()
    }

    /// The last frames of an answer that is whole.
    pub(super) fn tail(
        sources: &[Source],
        consequences: Consequences,
        finish_reason: FinishReason,
    ) -> Vec<Chunk> {
        let mut chunks = vec![Chunk::TextEnd {
            id: TEXT_PART.to_owned(),
        }];
        chunks.extend(sources.iter().map(|source| Chunk::SourceUrl {
            source_id: source.source_id.clone(),
            url: source.url.clone(),
            title: source.title.clone(),
        }));
        chunks.extend(consequences.chunks());
        chunks.push(Chunk::FinishStep);
        chunks.push(Chunk::Finish { finish_reason });
        chunks
    }

    /// The last frames of an answer that was stopped; all of them, if there was none yet.
    pub(super) fn aborted_tail(&self) -> Vec<Chunk> {
        let mut chunks = if self.has_text() {
            vec![Chunk::TextEnd {
                id: TEXT_PART.to_owned(),
            }]
        } else {
            self.opening.chunks()
        };
        chunks.push(Chunk::Abort {
            reason: CANCELLED.to_owned(),
        });
        chunks
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
