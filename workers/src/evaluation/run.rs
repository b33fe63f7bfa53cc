//! Asks the questions of a set, with the search that turns use.

use futures::{StreamExt, TryStreamExt, stream};
use store::knowledge::{KnowledgeError, SearchSettings, corpus_hash, document_sources};

use super::{
    Candidate, Judged, KnownDocument, Question, QuestionSet, UnknownSource,
    sources::{answers, unknown_sources},
};
use crate::{
    clients::ProviderError,
    knowledge::{
        KnowledgeDeps, Ranked, SearchMode, Verdict, rank,
        retrieve::{CANDIDATES, embedded_part},
    },
};

/// Searches under way at once: some of the pool's connections stay free.
const SEARCHES: usize = 4;

/// The searches that are compared, the product's own first.
pub const MODES: [(SearchMode, &str); 3] = [
    (SearchMode::Hybrid, "hybrid"),
    (SearchMode::Vector, "vector"),
    (SearchMode::Text, "text"),
];

/// There is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// Nothing can be found.
    #[error("nothing is indexed: run `growth-chat index` first")]
    NothingIndexed,
    /// Some questions expect what is not there.
    #[error("{} of the expected sources are not indexed", .0.len())]
    UnknownSources(Vec<UnknownSource>),
    /// The questions could not be embedded.
    #[error("the questions could not be embedded")]
    Embedding(#[from] ProviderError),
    /// The knowledge base could not be searched.
    #[error("the knowledge base could not be searched")]
    Search(#[from] KnowledgeError),
}

/// What is measured with.
#[derive(Debug)]
pub struct Evaluator {
    deps: KnowledgeDeps,
}

/// What was measured.
#[derive(Debug)]
pub struct Evaluation {
    /// What runs.
    pub running: SearchSettings,
    /// [`corpus_hash`] of what was searched.
    pub corpus_hash: Vec<u8>,
    /// How many documents that is.
    pub documents: usize,
    /// Requests to the provider of the embeddings.
    pub requests: usize,
    /// Tokens that it billed.
    pub tokens: u64,
    /// The questions in their order, with what each search of [`MODES`] found.
    pub outcomes: Vec<Outcome>,
}

/// What was found for a question.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The question.
    pub question: Question,
    /// By each search of [`MODES`].
    pub judged: [Judged; MODES.len()],
    /// The citations of what the product's own search found, in the order of its ranking.
    pub urls: Vec<String>,
}

impl Evaluation {
    /// The rankings of one of [`MODES`].
    pub fn judged(&self, mode: usize) -> Vec<Judged> {
        let of_mode = |outcome: &Outcome| outcome.judged.get(mode).cloned().unwrap_or_default();
        self.outcomes.iter().map(of_mode).collect()
    }
}

impl Evaluator {
    /// Measures with what a turn searches with, except for the threshold and `RAG_TOP_K`: everything
    /// is wanted, and near-duplicates are to be told as far down as a threshold may reach. The number
    /// of candidates stays what it is.
    pub fn new(deps: &KnowledgeDeps) -> Self {
        let mut deps = deps.clone();
        deps.config.relevance_threshold = 0.0;
        deps.config.top_k = deps.config.top_k.max(CANDIDATES / 2);
        Self { deps }
    }

    /// Asks all questions. Nothing is paid before the set was held against what is indexed.
    pub async fn run(
        &self,
        set: &QuestionSet,
        threshold: f64,
    ) -> Result<Evaluation, EvaluateError> {
        let (known, corpus_hash) = self.known().await?;
        let corpus_hash = corpus_hash.ok_or(EvaluateError::NothingIndexed)?;
        let unknown = unknown_sources(set, &known);
        if !unknown.is_empty() {
            return Err(EvaluateError::UnknownSources(unknown));
        }
        let texts: Vec<&str> = set
            .questions
            .iter()
            .map(|question| embedded_part(&question.text))
            .collect();
        let embedded = self.deps.embedder.embed(&texts).await?;
        let asked = set.questions.iter().zip(embedded.vectors);
        let outcomes = stream::iter(asked)
            .map(|(question, vector)| self.ask(question, vector))
            .buffered(SEARCHES)
            .try_collect()
            .await?;
        Ok(Evaluation {
            running: SearchSettings {
                threshold,
                ..self.deps.search_settings()
            },
            corpus_hash,
            documents: known.len(),
            requests: embedded.requests,
            tokens: embedded.tokens,
            outcomes,
        })
    }

    /// What is indexed.
    async fn known(&self) -> Result<(Vec<KnownDocument>, Option<Vec<u8>>), KnowledgeError> {
        let mut conn = self.deps.pool.acquire().await?;
        let hash = corpus_hash(&mut conn).await?;
        let model = self.deps.embedder.model();
        let known = document_sources(&mut conn, &self.deps.config.table, model).await?;
        let known = known.into_iter().map(|document| KnownDocument {
            source: document.source,
            url: document.url,
            headings: document.headings,
        });
        Ok((known.collect(), hash))
    }

    async fn ask(&self, question: &Question, vector: Vec<f32>) -> Result<Outcome, KnowledgeError> {
        let mut judged: [Judged; MODES.len()] = Default::default();
        let mut urls = Vec::new();
        for (place, (mode, _)) in MODES.into_iter().enumerate() {
            let locale = question.locale.as_deref();
            let ranking = rank(&self.deps, vector.clone(), &question.text, locale, mode).await?;
            let kept: Vec<&Ranked> = ranking
                .iter()
                .filter(|found| !matches!(found.verdict, Verdict::NearDuplicate { .. }))
                .collect();
            if place == 0 {
                urls = kept.iter().map(|found| found.passage.url.clone()).collect();
            }
            judged[place] = Judged {
                answerable: question.is_answerable(),
                ranking: kept
                    .into_iter()
                    .map(|found| Candidate {
                        right: answers(question, found),
                        cosine: found.cosine,
                    })
                    .collect(),
            };
        }
        Ok(Outcome {
            question: question.clone(),
            judged,
            urls,
        })
    }
}
