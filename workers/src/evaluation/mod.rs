//! How good the search is, measured on questions whose sources are known.
//!
//! ```text
//!   a file ──▶ question_set ──▶ run: embed, rank ──▶ Judged ──▶ metrics ──▶ figures, curve, proposal ──▶ plot
//! ```
//!
//! [`metrics`] is pure: it sees rankings of passages, each right or wrong, with its cosine. [`run`]
//! makes them with the search that turns use and the configured provider.

pub mod metrics;
pub mod plot;
pub mod question_set;
pub mod run;
mod sources;

pub use metrics::{Candidate, Figures, Judged, Point, Proposal};
pub use question_set::{Question, QuestionSet, QuestionSetError};
pub use run::{EvaluateError, Evaluation, Evaluator, Outcome};
pub use sources::{KnownDocument, UnknownSource};
