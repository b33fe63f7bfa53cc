//! From a question to the passages that may answer it.
//!
//! The question is embedded before a connection is taken. Candidates come from the vectors and from the
//! full text ([`mod@store::knowledge`]), [`super::rank`] decides which of them a turn gets.

use serde::{Deserialize, Serialize};
use store::knowledge::{Candidate, DocumentKind, KnowledgeError, Search, search};

use super::{
    KnowledgeDeps,
    rank::{Limits, Ranked, SearchMode, chosen, judge, proactive},
};
use crate::clients::{ProviderError, RetryClass, embeddings::MAX_INPUT_TOKENS};

/// How many candidates each side gives; twice `RAG_TOP_K` if that is more. Beyond them a place adds
/// less than a hundredth to what the first one has.
pub(crate) const CANDIDATES: u16 = 40;

/// A passage of the knowledge base. It is recorded with the turn's step, so its JSON is kept stable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Passage {
    /// The chunk. It is gone when its document is indexed again.
    pub chunk_id: i64,
    /// What a citation links to: the document's url, with the heading as its fragment.
    pub url: String,
    /// The document's title.
    pub title: String,
    /// The headings above the text, outermost first.
    pub heading_path: Vec<String>,
    /// The text.
    pub content: String,
    /// The cosine similarity to the question, 0 to 1.
    pub score: f64,
    /// What the document is.
    pub kind: DocumentKind,
}

/// There are no passages because something failed.
#[derive(Debug, thiserror::Error)]
pub enum RetrieveError {
    /// The question could not be embedded.
    #[error("the question could not be embedded")]
    Embedding(#[from] ProviderError),
    /// The knowledge base could not be searched.
    #[error("the knowledge base could not be searched")]
    Search(#[from] KnowledgeError),
}

impl RetrieveError {
    /// Whether the same question may be answered later.
    pub fn retry(&self) -> RetryClass {
        match self {
            Self::Embedding(error) => error.retry(),
            Self::Search(KnowledgeError::Database(_) | KnowledgeError::Conflict) => {
                RetryClass::LATER
            }
            Self::Search(_) => RetryClass::Never,
        }
    }
}

/// What a turn is given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Retrieved {
    /// The best passages that reach the threshold, at most `RAG_TOP_K`, the best first.
    pub passages: Vec<Passage>,
    /// A case study that fits and that the passages don't have already (FR-18, seed 000).
    pub proactive: Option<Passage>,
}

/// The passages that may answer `question`. A blank question has none, without a call.
///
/// Of a question with more than 8,192 bytes only the beginning is embedded, so that it never has
/// more tokens than the provider takes; a message of 4,000 characters gets there in few scripts.
pub async fn retrieve(
    deps: &KnowledgeDeps,
    question: &str,
    locale: Option<&str>,
) -> Result<Retrieved, RetrieveError> {
    match embed_question(deps, question).await? {
        Some(embedding) => Ok(nearest(deps, embedding, question, locale).await?),
        None => Ok(Retrieved::default()),
    }
}

/// The first half of [`retrieve`]: the call of the provider. `None`: the question is blank.
pub async fn embed_question(
    deps: &KnowledgeDeps,
    question: &str,
) -> Result<Option<Vec<f32>>, ProviderError> {
    let question = embedded_part(question);
    if question.is_empty() {
        return Ok(None);
    }
    let embedded = deps.embedder.embed(&[question]).await?;
    Ok(embedded.vectors.into_iter().next())
}

/// What of a question is embedded: as much as the provider takes in any script.
pub(crate) fn embedded_part(question: &str) -> &str {
    question[..question.floor_char_boundary(MAX_INPUT_TOKENS)].trim()
}

/// The second half of [`retrieve`]: the search, in one round trip. `locale`: the language that the
/// question probably has, as a tag.
pub async fn nearest(
    deps: &KnowledgeDeps,
    embedding: Vec<f32>,
    question: &str,
    locale: Option<&str>,
) -> Result<Retrieved, KnowledgeError> {
    let least_cosine = deps
        .config
        .relevance_threshold
        .min(deps.config.proactive_threshold);
    let wanted = Search {
        least_cosine,
        explain: false,
        ..wanted(deps, embedding, question, locale, SearchMode::Hybrid)
    };
    let ranked = find(deps, wanted).await?;
    Ok(Retrieved {
        passages: chosen(&ranked),
        proactive: proactive(&ranked, deps.config.proactive_threshold),
    })
}

/// All candidates of a search, the best first, with what the running configuration makes of each.
pub async fn rank(
    deps: &KnowledgeDeps,
    embedding: Vec<f32>,
    question: &str,
    locale: Option<&str>,
    mode: SearchMode,
) -> Result<Vec<Ranked>, KnowledgeError> {
    find(deps, wanted(deps, embedding, question, locale, mode)).await
}

async fn find(deps: &KnowledgeDeps, wanted: Search<'_>) -> Result<Vec<Ranked>, KnowledgeError> {
    let candidates = {
        let mut conn = deps.pool.acquire().await?;
        search(&mut conn, &deps.config.table, wanted).await?
    };
    let limits = Limits {
        threshold: deps.config.relevance_threshold,
        top_k: deps.config.top_k.into(),
    };
    Ok(judge(candidates, limits))
}

fn wanted<'w>(
    deps: &'w KnowledgeDeps,
    embedding: Vec<f32>,
    question: &'w str,
    locale: Option<&'w str>,
    mode: SearchMode,
) -> Search<'w> {
    let depth = CANDIDATES.max(deps.config.top_k.saturating_mul(2));
    Search {
        embedding,
        model: deps.embedder.model(),
        question,
        locale,
        nearest: if mode == SearchMode::Text { 0 } else { depth },
        texts: if mode == SearchMode::Vector { 0 } else { depth },
        least_cosine: -1.0,
        ef_search: deps.config.ef_search,
        explain: true,
    }
}

impl From<Candidate> for Passage {
    fn from(chunk: Candidate) -> Self {
        Self {
            chunk_id: chunk.chunk_id,
            url: citation_url(&chunk.url, chunk.heading_path.last().map(String::as_str)),
            title: chunk.title,
            heading_path: chunk.heading_path,
            content: chunk.content,
            score: chunk.cosine,
            kind: chunk.kind,
        }
    }
}

/// The document's url with the innermost heading as its fragment. A page that spells it otherwise
/// opens at its top.
fn citation_url(url: &str, heading: Option<&str>) -> String {
    let slug = heading.map(fragment).unwrap_or_default();
    if slug.is_empty() || url.contains('#') {
        url.to_owned()
    } else {
        format!("{url}#{slug}")
    }
}

/// A heading as a fragment, spelled as GitHub and most static site generators do.
pub(crate) fn fragment(heading: &str) -> String {
    heading
        .trim()
        .chars()
        .filter_map(|sign| match sign {
            ' ' | '-' => Some('-'),
            '_' => Some('_'),
            _ if sign.is_alphanumeric() => Some(sign),
            _ => None,
        })
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_citation_leads_to_the_heading() {
        for (url, heading, citation) in [
            ("a.md", None, "a.md"),
            (
                "a.md",
                Some("What it costs: a day"),
                "a.md#what-it-costs-a-day",
            ),
            (
                "https://x.org/a",
                Some("Über uns"),
                "https://x.org/a#über-uns",
            ),
            ("a.md#top", Some("B"), "a.md#top"),
            ("a.md", Some("???"), "a.md"),
        ] {
            assert_eq!(citation_url(url, heading), citation);
        }
    }

    #[test]
    fn a_recorded_passage_is_read_back_as_it_was() {
        let passage = Passage {
            chunk_id: 7,
            url: "a.md#b".into(),
            title: "A".into(),
            heading_path: vec!["B".into()],
            content: "Text".into(),
            score: 0.75,
            kind: DocumentKind::CaseStudy,
        };
        let json = serde_json::to_value(&passage).unwrap();
        assert_eq!(json["kind"], "case_study");
        assert_eq!(serde_json::from_value::<Passage>(json).unwrap(), passage);
    }
}
