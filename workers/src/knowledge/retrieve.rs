//! From a question to the passages that may answer it.
//!
//! The question is embedded before a connection is taken. This is the seam for the hybrid search:
//! whatever ranks passages, a turn gets them as [`Passage`]s.

use serde::{Deserialize, Serialize};
use store::knowledge::{DocumentKind, FoundChunk, KnowledgeError, Search, search};

use super::KnowledgeDeps;
use crate::clients::{ProviderError, RetryClass, embeddings::MAX_INPUT_TOKENS};

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

/// The passages nearest to `question` that reach the threshold, the nearest first, at most
/// `RAG_TOP_K`. A blank question has none, without a call.
///
/// Of a question with more than 8,192 bytes only the beginning is embedded, so that it never has
/// more tokens than the provider takes; a message of 4,000 characters gets there in few scripts.
pub async fn retrieve(deps: &KnowledgeDeps, question: &str) -> Result<Vec<Passage>, RetrieveError> {
    match embed_question(deps, question).await? {
        Some(embedding) => Ok(nearest(deps, embedding).await?),
        None => Ok(Vec::new()),
    }
}

/// The first half of [`retrieve`]: the call of the provider. `None`: the question is blank.
pub async fn embed_question(
    deps: &KnowledgeDeps,
    question: &str,
) -> Result<Option<Vec<f32>>, ProviderError> {
    let question = question[..question.floor_char_boundary(MAX_INPUT_TOKENS)].trim();
    if question.is_empty() {
        return Ok(None);
    }
    let embedded = deps.embedder.embed(&[question]).await?;
    Ok(embedded.vectors.into_iter().next())
}

/// The second half of [`retrieve`]: the search.
pub async fn nearest(
    deps: &KnowledgeDeps,
    embedding: Vec<f32>,
) -> Result<Vec<Passage>, KnowledgeError> {
    let wanted = Search {
        embedding,
        model: deps.embedder.model(),
        top_k: deps.config.top_k,
        threshold: deps.config.relevance_threshold,
        ef_search: deps.config.ef_search,
    };
    let mut conn = deps.pool.acquire().await.map_err(KnowledgeError::from)?;
    let found = search(&mut conn, &deps.config.table, wanted).await?;
    Ok(found.into_iter().map(passage).collect())
}

fn passage(chunk: FoundChunk) -> Passage {
    Passage {
        chunk_id: chunk.chunk_id,
        url: citation_url(&chunk.url, chunk.heading_path.last().map(String::as_str)),
        title: chunk.title,
        heading_path: chunk.heading_path,
        content: chunk.content,
        score: chunk.cosine,
        kind: chunk.kind,
    }
}

/// The document's url with the innermost heading as its fragment, spelled as GitHub and most static
/// site generators do. A page that spells it otherwise opens at its top.
fn citation_url(url: &str, heading: Option<&str>) -> String {
    let slug: String = heading
        .unwrap_or_default()
        .trim()
        .chars()
        .filter_map(|sign| match sign {
            ' ' | '-' => Some('-'),
            '_' => Some('_'),
            _ if sign.is_alphanumeric() => Some(sign),
            _ => None,
        })
        .flat_map(char::to_lowercase)
        .collect();
    if slug.is_empty() || url.contains('#') {
        url.to_owned()
    } else {
        format!("{url}#{slug}")
    }
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
