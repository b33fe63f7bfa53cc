//! What a measurement says, for people.

use std::io::{self, Write};

use workers::evaluation::{Point, metrics::LEAST_ABSTENTION};

use super::report::{Failure, Report};

/// Prints the figures, the curve, the proposal and what failed; `brief`: the proposal only.
pub(super) fn print(report: &Report, brief: bool, out: &mut impl Write) -> io::Result<()> {
    if brief {
        return print_proposal(report, out);
    }
    print_searches(report, out)?;
    print_curve(report, out)?;
    writeln!(out)?;
    print_proposal(report, out)?;
    print_failures(&report.failures, out)
}

/// What was measured, and each search by itself.
fn print_searches(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let unanswerable = report.questions - report.answerable;
    writeln!(
        out,
        "{}: {} questions, {} of them answerable, {unanswerable} not",
        report.question_set, report.questions, report.answerable
    )?;
    writeln!(
        out,
        "{} documents in {}, {} with {} dimensions; {} embedding request(s), {} tokens",
        report.documents,
        report.table,
        report.model,
        report.dimensions,
        report.embedding_requests,
        report.embedding_tokens
    )?;
    let k = report.passages;
    let (threshold, which) = match report.proposal {
        Some(proposal) => (proposal.threshold, "proposed"),
        None => (report.running.threshold, "running"),
    };
    writeln!(
        out,
        "\n{:<10}{:>10}{:>8}   at the {which} threshold {threshold:.3}: recall@{k}, abstention, precision",
        "search",
        format!("recall@{k}"),
        "MRR"
    )?;
    for search in &report.searches {
        let (recall, mrr) = search.figures.map_or((None, None), |figures| {
            (Some(figures.recall), Some(figures.mrr))
        });
        let Point {
            recall: found,
            abstention,
            precision,
            ..
        } = search.at_threshold;
        writeln!(
            out,
            "{:<10}{:>10}{:>8}   {:>38}{:>12}{:>11}",
            search.name,
            percent(recall),
            mrr.map_or_else(|| "–".to_owned(), |mrr| format!("{mrr:.3}")),
            percent(found),
            percent(abstention),
            percent(precision)
        )?;
    }
    Ok(())
}

/// The part of the curve in which something changes.
fn print_curve(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let recall = format!("recall@{}", report.passages);
    writeln!(
        out,
        "\n{:<10}{recall:>10}{:>12}{:>11}",
        "threshold", "abstention", "precision"
    )?;
    let mut before: Option<&Point> = None;
    let mut gap = false;
    for point in &report.curve {
        let same = before.is_some_and(|before| {
            (before.recall, before.abstention) == (point.recall, point.abstention)
        });
        if same {
            gap = true;
            continue;
        }
        if gap {
            writeln!(out, "…")?;
        }
        gap = false;
        before = Some(point);
        writeln!(
            out,
            "{:<10.3}{:>10}{:>12}{:>11}",
            point.threshold,
            percent(point.recall),
            percent(point.abstention),
            percent(point.precision)
        )?;
    }
    Ok(())
}

fn print_proposal(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let Some(proposal) = report.proposal else {
        return writeln!(
            out,
            "No threshold can be proposed: a set needs questions that something answers and some \
             that nothing answers."
        );
    };
    writeln!(
        out,
        "Proposed: RAG_RELEVANCE_THRESHOLD={:.3} (recall@{} {}, abstention {}): the best recall of \
         all thresholds with an abstention of {} or more. Running: {:.3} ({}, {}).",
        proposal.threshold,
        report.passages,
        percent(Some(proposal.recall)),
        percent(Some(proposal.abstention)),
        percent(Some(LEAST_ABSTENTION)),
        report.running.threshold,
        percent(report.running.recall),
        percent(report.running.abstention),
    )?;
    if report.saved {
        writeln!(out, "Saved as the calibration of this model and corpus.")?;
    }
    Ok(())
}

fn print_failures(failures: &[Failure], out: &mut impl Write) -> io::Result<()> {
    if failures.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nFailed at that threshold:")?;
    for failure in failures {
        let why = failure.why.replace('_', " ");
        write!(out, "line {}: {} – {why}", failure.line, failure.question)?;
        if let (Some(place), Some(cosine)) = (failure.place, failure.cosine) {
            write!(out, ", place {place}, {cosine:.3}")?;
        }
        if let (Some(first), Some(cosine)) = (&failure.first, failure.first_cosine) {
            write!(out, "; first: {first}, {cosine:.3}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), |share| format!("{:.1} %", share * 100.0))
}
