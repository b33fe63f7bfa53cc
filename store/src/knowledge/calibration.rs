//! Whether the relevance threshold was measured with what runs now.
//!
//! ```text
//!   growth-chat eval --save ──▶ knowledge_calibrations ─┐
//!   a worker's start ─────────▶ knowledge_settings ─────┼─▶ judge ──▶ /ready, check, a worker's log
//!   index ────────────────────▶ knowledge_documents ────┘
//! ```
//!
//! Cosines of two models can't be compared, and what "near" means depends on what else there is: a
//! calibration holds for its model, its dimensions and its corpus, and stops to hold when one of
//! them changes.

use std::fmt;

use sqlx::PgConnection;

use super::KnowledgeTable;

/// Two thresholds nearer than this are the same: they are proposed and written with three decimals.
const SAME_THRESHOLD: f64 = 0.000_5;
/// How many calibrations of a table are kept.
const KEPT: i64 = 100;

/// What a process searches with.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchSettings {
    /// The embeddings' model.
    pub model: String,
    /// Their length.
    pub dimensions: u16,
    /// The least cosine similarity of a passage, 0 to 1.
    pub threshold: f64,
}

/// A threshold, and what it was measured with.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// What was measured, and the threshold that it led to.
    pub settings: SearchSettings,
    /// The [`corpus_hash`] of what was searched.
    pub corpus_hash: Vec<u8>,
    /// The share of the answerable questions whose passage is found at the threshold, 0 to 1.
    pub recall: f64,
    /// The share of the unanswerable questions for which nothing is found, 0 to 1.
    pub abstention: f64,
    /// Among how many passages an answer had to be: the k of recall@k.
    pub passages: u16,
    /// How many questions were asked.
    pub questions: u32,
    /// The name of their set.
    pub question_set: String,
}

/// Whether a threshold is calibrated, and if not, why.
#[derive(Debug, Clone, PartialEq)]
pub enum CalibrationState {
    /// It was measured with this model and this corpus.
    Calibrated,
    /// There is nothing to measure with.
    NothingIndexed,
    /// It was never measured.
    Never,
    /// It was measured with another model, or with vectors of another length.
    OtherModel {
        /// That model.
        model: String,
        /// That length.
        dimensions: u16,
    },
    /// Documents were added, changed or removed since, or are cut in another way.
    OtherCorpus,
    /// The measured threshold is not the one in use.
    OtherThreshold {
        /// The one that was measured.
        measured: f64,
    },
}

impl CalibrationState {
    /// Whether the threshold can be relied on.
    pub fn is_calibrated(&self) -> bool {
        *self == Self::Calibrated
    }

    /// The stable name of the reason; it tells nothing of the configuration.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Calibrated => "calibrated",
            Self::NothingIndexed => "nothing_indexed",
            Self::Never => "never_calibrated",
            Self::OtherModel { .. } => "other_model",
            Self::OtherCorpus => "other_corpus",
            Self::OtherThreshold { .. } => "other_threshold",
        }
    }
}

impl fmt::Display for CalibrationState {
    /// A clause for an operator that says what to do as well.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const AGAIN: &str = "run `growth-chat eval FILE --save` again";
        match self {
            Self::Calibrated => f.write_str("calibrated for this model and corpus"),
            Self::NothingIndexed => f.write_str("nothing is indexed yet: run `growth-chat index`"),
            Self::Never => f.write_str("never measured: run `growth-chat eval FILE --save`"),
            Self::OtherModel { model, dimensions } => {
                write!(
                    f,
                    "measured with {model} ({dimensions} dimensions): {AGAIN}"
                )
            }
            Self::OtherCorpus => {
                write!(
                    f,
                    "the documents have changed since it was measured: {AGAIN}"
                )
            }
            Self::OtherThreshold { measured } => write!(
                f,
                "{measured:.3} was measured: set RAG_RELEVANCE_THRESHOLD to it, or {AGAIN}"
            ),
        }
    }
}

/// Holds what runs against the newest calibration. `corpus` is the [`corpus_hash`] of now.
pub fn judge(
    running: &SearchSettings,
    corpus: Option<&[u8]>,
    newest: Option<&Calibration>,
) -> CalibrationState {
    let Some(corpus) = corpus else {
        return CalibrationState::NothingIndexed;
    };
    let Some(newest) = newest else {
        return CalibrationState::Never;
    };
    let measured = &newest.settings;
    if (&measured.model, measured.dimensions) != (&running.model, running.dimensions) {
        return CalibrationState::OtherModel {
            model: measured.model.clone(),
            dimensions: measured.dimensions,
        };
    }
    if newest.corpus_hash != corpus {
        return CalibrationState::OtherCorpus;
    }
    if (measured.threshold - running.threshold).abs() >= SAME_THRESHOLD {
        return CalibrationState::OtherThreshold {
            measured: measured.threshold,
        };
    }
    CalibrationState::Calibrated
}

/// Whether a process that searches `table` with `running` has a calibrated threshold.
pub async fn calibration_state(
    conn: &mut PgConnection,
    table: &KnowledgeTable,
    running: &SearchSettings,
) -> sqlx::Result<CalibrationState> {
    let corpus = corpus_hash(&mut *conn).await?;
    let newest = newest_calibration(conn, table.as_str()).await?;
    Ok(judge(running, corpus.as_deref(), newest.as_ref()))
}

/// The same for what a worker published last; `None` if none ever did.
pub async fn published_state(conn: &mut PgConnection) -> sqlx::Result<Option<CalibrationState>> {
    let published = sqlx::query!(
        "select table_name, model, dimensions, threshold from knowledge_settings
         order by published_at desc, table_name limit 1"
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(published) = published else {
        return Ok(None);
    };
    let running = SearchSettings {
        model: published.model,
        dimensions: length(published.dimensions),
        threshold: published.threshold,
    };
    let corpus = corpus_hash(&mut *conn).await?;
    let newest = newest_calibration(conn, &published.table_name).await?;
    Ok(Some(judge(&running, corpus.as_deref(), newest.as_ref())))
}

/// Tells the other processes what `table` is searched with.
pub async fn publish_settings(
    conn: &mut PgConnection,
    table: &KnowledgeTable,
    settings: &SearchSettings,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into knowledge_settings (table_name, model, dimensions, threshold)
         values ($1, $2, $3, $4)
         on conflict on constraint knowledge_settings_pkey do update
            set model = excluded.model, dimensions = excluded.dimensions,
                threshold = excluded.threshold, published_at = now()",
        table.as_str(),
        settings.model,
        i32::from(settings.dimensions),
        settings.threshold,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The SHA-256 of all indexed documents' sources and fingerprints, which change with their text, the
/// model, the sizes of chunks and the rules of cutting; `None` if nothing is indexed. Reads a few
/// dozen bytes of each document.
pub async fn corpus_hash(conn: &mut PgConnection) -> sqlx::Result<Option<Vec<u8>>> {
    sqlx::query_scalar!(
        r#"select sha256(convert_to(string_agg(source || ' ' || encode(indexed_hash, 'hex'), E'\n'
                                               order by source collate "C"), 'UTF8'))
           from knowledge_documents where indexed_hash is not null"#
    )
    .fetch_one(conn)
    .await
}

/// Keeps a calibration of `table`, and the newest hundred of it in all.
pub async fn save_calibration(
    conn: &mut PgConnection,
    table: &KnowledgeTable,
    calibration: &Calibration,
) -> sqlx::Result<()> {
    sqlx::query!(
        "with superseded as (
             delete from knowledge_calibrations where calibration_id in (
                 select calibration_id from knowledge_calibrations where table_name = $1
                 order by calibration_id desc offset $11))
         insert into knowledge_calibrations (table_name, model, dimensions, corpus_hash, threshold,
                                             recall, abstention, passages, questions, question_set)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        table.as_str(),
        calibration.settings.model,
        i32::from(calibration.settings.dimensions),
        calibration.corpus_hash,
        calibration.settings.threshold,
        calibration.recall,
        calibration.abstention,
        i32::from(calibration.passages),
        i32::try_from(calibration.questions).unwrap_or(i32::MAX),
        calibration.question_set,
        KEPT - 1,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The newest calibration of a table of chunks.
async fn newest_calibration(
    conn: &mut PgConnection,
    table: &str,
) -> sqlx::Result<Option<Calibration>> {
    let row = sqlx::query!(
        "select model, dimensions, corpus_hash, threshold, recall, abstention, passages, questions,
                question_set
         from knowledge_calibrations where table_name = $1 order by calibration_id desc limit 1",
        table
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Calibration {
        settings: SearchSettings {
            model: row.model,
            dimensions: length(row.dimensions),
            threshold: row.threshold,
        },
        corpus_hash: row.corpus_hash,
        recall: row.recall,
        abstention: row.abstention,
        passages: length(row.passages),
        questions: u32::try_from(row.questions).unwrap_or_default(),
        question_set: row.question_set,
    }))
}

/// A small number as it stands in a row. One that does not fit was not written by us, and is equal
/// to none of ours.
fn length(stored: i32) -> u16 {
    u16::try_from(stored).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> SearchSettings {
        SearchSettings {
            model: "m".into(),
            dimensions: 8,
            threshold: 0.25,
        }
    }

    fn calibration() -> Calibration {
        Calibration {
            settings: running(),
            corpus_hash: vec![1, 2, 3],
            recall: 0.9,
            abstention: 0.95,
            passages: 5,
            questions: 60,
            question_set: "s".into(),
        }
    }

    fn judged(running: &SearchSettings, corpus: &[u8]) -> &'static str {
        judge(running, Some(corpus), Some(&calibration())).code()
    }

    #[test]
    fn a_calibration_holds_for_its_model_corpus_and_threshold_only() {
        let same = running();
        assert_eq!(judged(&same, &[1, 2, 3]), "calibrated");
        assert_eq!(judged(&same, &[1, 2, 4]), "other_corpus");
        for (model, dimensions) in [("n", 8), ("m", 9)] {
            let other = SearchSettings {
                model: model.into(),
                dimensions,
                ..running()
            };
            assert_eq!(judged(&other, &[1, 2, 3]), "other_model");
        }
        for (threshold, code) in [
            (0.2504, "calibrated"),
            (0.251, "other_threshold"),
            (0.249, "other_threshold"),
        ] {
            let other = SearchSettings {
                threshold,
                ..running()
            };
            assert_eq!(judged(&other, &[1, 2, 3]), code, "{threshold}");
        }
    }

    #[test]
    fn without_a_calibration_or_documents_nothing_is_calibrated() {
        assert_eq!(judge(&running(), Some(&[1]), None), CalibrationState::Never);
        let empty = judge(&running(), None, Some(&calibration()));
        assert_eq!(empty, CalibrationState::NothingIndexed);
    }
}
