//! Which of the candidates are given to the model, and why: reciprocal rank fusion, the threshold,
//! near-duplicates, `RAG_TOP_K`. Pure.
//!
//! ```text
//! candidates ─▶ fused, best first ─▶ cosine below the threshold?  ─▶ BelowThreshold
//!                                    enough already?              ─▶ BeyondTopK
//!                                    like a chosen one?           ─▶ NearDuplicate
//!                                    else                         ─▶ Chosen
//! ```

use std::{cmp::Ordering, collections::HashSet};

use store::knowledge::{Candidate, DocumentKind};

use super::{
    Passage,
    duplicate::{Shingles, near_duplicates},
};

/// The `k` of reciprocal rank fusion, from the paper that introduced it (Cormack et al., 2009): how
/// little the first place is ahead of the second.
const FUSION_K: f64 = 60.0;

/// By which side chunks are searched for. A search of one side has no other candidates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SearchMode {
    /// By the embedding and by the words, fused.
    #[default]
    Hybrid,
    /// By the embedding only.
    Vector,
    /// By the words only. The threshold on the cosine holds here as well.
    Text,
}

/// What became of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is given to the model.
    Chosen,
    /// Its cosine similarity is below `RAG_RELEVANCE_THRESHOLD`.
    BelowThreshold,
    /// It says what a better one says.
    NearDuplicate {
        /// The better one's chunk.
        of: i64,
    },
    /// There were `RAG_TOP_K` better ones.
    BeyondTopK,
}

/// A candidate in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// What the model would get.
    pub passage: Passage,
    /// The chunk's document.
    pub document_id: i64,
    /// What the document was made of.
    pub document_source: String,
    /// The cosine similarity to the question.
    pub cosine: f64,
    /// Its place by the embedding, from 1.
    pub vector_rank: Option<u32>,
    /// Its place by the words, from 1.
    pub text_rank: Option<u32>,
    /// What its words count for; comparable within one search only.
    pub text_score: Option<f64>,
    /// Which words of the question it has, the rarest first; known to whoever asked for it.
    pub matched_terms: Vec<String>,
    /// The sum of both places' reciprocals: what the order is by.
    pub fused: f64,
    /// What became of it.
    pub verdict: Verdict,
}

/// What the ranking is told by the configuration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limits {
    pub(super) threshold: f64,
    pub(super) top_k: usize,
}

/// Puts the candidates in order, the best first, and judges each.
pub(super) fn judge(candidates: Vec<Candidate>, limits: Limits) -> Vec<Ranked> {
    let mut ranked: Vec<Ranked> = candidates.into_iter().map(Ranked::from).collect();
    ranked.sort_by(best_first);
    let mut chosen: Vec<(i64, Shingles)> = Vec::new();
    for one in &mut ranked {
        if one.cosine < limits.threshold {
            one.verdict = Verdict::BelowThreshold;
            continue;
        }
        // A visitor waits: what is not chosen anyhow is not compared.
        if chosen.len() == limits.top_k {
            one.verdict = Verdict::BeyondTopK;
            continue;
        }
        let shingles = Shingles::of(&one.passage.content);
        let like = chosen
            .iter()
            .find(|(_, other)| near_duplicates(other, &shingles));
        one.verdict = if let Some((of, _)) = like {
            Verdict::NearDuplicate { of: *of }
        } else {
            chosen.push((one.passage.chunk_id, shingles));
            Verdict::Chosen
        };
    }
    ranked
}

/// The passages among the judged, in order.
pub(super) fn chosen(ranked: &[Ranked]) -> Vec<Passage> {
    ranked
        .iter()
        .filter(|one| one.verdict == Verdict::Chosen)
        .map(|one| one.passage.clone())
        .collect()
}

/// The case study that fits best, if one reaches `threshold` and its document is not among the
/// chosen passages already.
pub(super) fn proactive(ranked: &[Ranked], threshold: f64) -> Option<Passage> {
    let told: HashSet<i64> = ranked
        .iter()
        .filter(|one| one.verdict == Verdict::Chosen)
        .map(|one| one.document_id)
        .collect();
    ranked
        .iter()
        .filter(|one| one.passage.kind == DocumentKind::CaseStudy && one.cosine >= threshold)
        .filter(|one| !told.contains(&one.document_id))
        .max_by(|one, other| one.cosine.total_cmp(&other.cosine))
        .map(|one| one.passage.clone())
}

/// By the fused places, then by the cosine; the chunk's number makes the order the same every time.
fn best_first(one: &Ranked, other: &Ranked) -> Ordering {
    other
        .fused
        .total_cmp(&one.fused)
        .then(other.cosine.total_cmp(&one.cosine))
        .then(one.passage.chunk_id.cmp(&other.passage.chunk_id))
}

fn reciprocal(rank: Option<u32>) -> f64 {
    rank.map_or(0.0, |rank| 1.0 / (FUSION_K + f64::from(rank)))
}

impl From<Candidate> for Ranked {
    fn from(candidate: Candidate) -> Self {
        Self {
            document_id: candidate.document_id,
            document_source: candidate.document_source.clone(),
            cosine: candidate.cosine,
            vector_rank: candidate.vector_rank,
            text_rank: candidate.text_rank,
            text_score: candidate.text_score,
            matched_terms: candidate.matched_terms.clone(),
            fused: reciprocal(candidate.vector_rank) + reciprocal(candidate.text_rank),
            verdict: Verdict::BeyondTopK,
            passage: Passage::from(candidate),
        }
    }
}

#[cfg(test)]
mod tests;
