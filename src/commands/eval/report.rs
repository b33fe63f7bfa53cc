//! What a measurement says, as JSON. `docs/evaluation.md` is made of it as well.

use serde::Serialize;
use workers::{
    evaluation::{
        Candidate, Evaluation, Figures, Judged, Outcome, Point, Proposal, QuestionSet,
        metrics::{at, curve, figures, propose},
        run::MODES,
    },
    hex::hex,
};

/// Thousandths between two thresholds of the printed curve.
const STEP: usize = 10;

/// A measurement.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The set's name.
    pub(super) question_set: String,
    pub(super) questions: usize,
    pub(super) answerable: usize,
    /// The embeddings' model.
    pub(super) model: String,
    pub(super) dimensions: u16,
    pub(super) table: String,
    pub(super) documents: usize,
    /// The hash of the indexed documents, in hexadecimal.
    pub(super) corpus: String,
    /// The k of recall@k.
    pub(super) passages: usize,
    pub(super) embedding_requests: usize,
    pub(super) embedding_tokens: u64,
    /// Each search by itself, the product's own first.
    pub(super) searches: Vec<Search>,
    /// By threshold, for the product's own search.
    pub(super) curve: Vec<Point>,
    pub(super) proposal: Option<Proposal>,
    /// At the threshold that is configured.
    pub(super) running: Point,
    /// The questions that the product's own search fails at the proposed threshold, or else at the
    /// running one.
    pub(super) failures: Vec<Failure>,
    /// Whether the proposal was kept as a calibration.
    pub(super) saved: bool,
}

/// One of the searches.
#[derive(Debug, Serialize)]
pub(super) struct Search {
    pub(super) name: &'static str,
    /// Without a threshold.
    #[serde(flatten)]
    pub(super) figures: Option<Figures>,
    /// At the proposed threshold, or else at the running one.
    pub(super) at_threshold: Point,
}

/// A question that is not answered as it should be.
#[derive(Debug, Serialize)]
pub(super) struct Failure {
    /// Its line in the file.
    pub(super) line: usize,
    pub(super) question: String,
    /// `not_found`, `too_low` (a right passage is among the first, but below the threshold), `too_late`
    /// (it comes after the first) or `answered` (although nothing answers it).
    pub(super) why: &'static str,
    /// The first right passage's place, from 1.
    pub(super) place: Option<usize>,
    /// Its cosine.
    pub(super) cosine: Option<f64>,
    /// What was given first, or else found first.
    pub(super) first: Option<String>,
    /// Its cosine.
    pub(super) first_cosine: Option<f64>,
}

impl Report {
    /// Computes everything from what was found.
    pub(super) fn new(set: &QuestionSet, evaluation: &Evaluation, table: &str, k: usize) -> Self {
        let own = evaluation.judged(0);
        let proposal = propose(&own, k);
        let running = evaluation.running.threshold;
        let threshold = proposal.map_or(running, |proposal| proposal.threshold);
        let searches = MODES.iter().enumerate().map(|(place, (_, name))| {
            let judged = evaluation.judged(place);
            Search {
                name,
                figures: figures(&judged, k),
                at_threshold: at(&judged, threshold, k),
            }
        });
        let failures = evaluation
            .outcomes
            .iter()
            .filter_map(|outcome| failure(outcome, threshold, k));
        Self {
            question_set: set.name.clone(),
            questions: set.questions.len(),
            answerable: set.answerable(),
            model: evaluation.running.model.clone(),
            dimensions: evaluation.running.dimensions,
            table: table.to_owned(),
            documents: evaluation.documents,
            corpus: hex(&evaluation.corpus_hash),
            passages: k,
            embedding_requests: evaluation.requests,
            embedding_tokens: evaluation.tokens,
            searches: searches.collect(),
            curve: curve(&own, k, STEP),
            proposal,
            running: at(&own, running, k),
            failures: failures.collect(),
            saved: false,
        }
    }
}

/// What is wrong with a question's answer; `None`: nothing.
fn failure(outcome: &Outcome, threshold: f64, k: usize) -> Option<Failure> {
    let [judged, ..] = &outcome.judged;
    if judged.succeeds(threshold, k) {
        return None;
    }
    let place = judged.first_right();
    let cosine = place.and_then(|place| cosine_at(judged, place));
    let why = match (judged.answerable, place) {
        (false, _) => "answered",
        (true, None) => "not_found",
        (true, Some(_)) if cosine < Some(threshold) => "too_low",
        (true, Some(_)) => "too_late",
    };
    let passes = |candidate: &Candidate| candidate.cosine >= threshold;
    let first = judged.ranking.iter().position(passes).unwrap_or_default();
    Some(Failure {
        line: outcome.question.line,
        question: outcome.question.text.clone(),
        why,
        place,
        cosine,
        first: outcome.urls.get(first).cloned(),
        first_cosine: cosine_at(judged, first + 1),
    })
}

fn cosine_at(judged: &Judged, place: usize) -> Option<f64> {
    let candidate = judged.ranking.get(place.checked_sub(1)?)?;
    Some(candidate.cosine)
}
