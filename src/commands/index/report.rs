//! What has become of everything, in the end.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::Duration,
};

use workers::knowledge::ingest::{Skipped, StageSummary};

/// Names that are listed for one reason. A folder of pictures need not fill the screen.
const LISTED: usize = 20;

/// What has become of the staged documents.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    pub(super) indexed: usize,
    /// By source, why.
    pub(super) failed: BTreeMap<String, String>,
    pub(super) waiting: usize,
}

/// Writes the table, then what was left out and why.
pub(super) fn report(
    staged: &StageSummary,
    worked: &Outcomes,
    took: Duration,
    out: &mut impl Write,
) -> io::Result<()> {
    for (what, count) in [
        ("indexed", worked.indexed),
        ("unchanged", staged.unchanged),
        ("removed", staged.removed.len()),
        ("left out", staged.skipped.len()),
        ("failed", worked.failed.len()),
        ("still waiting", worked.waiting),
    ] {
        writeln!(out, "{what:<14}{count:>6}")?;
    }
    writeln!(out, "{:<14}{:>6.1} s", "took", took.as_secs_f64())?;
    list(
        "left out",
        staged.skipped.iter().filter(|it| !it.reason.is_error()),
        out,
    )?;
    list(
        "error",
        staged.skipped.iter().filter(|it| it.reason.is_error()),
        out,
    )?;
    for (source, why) in &worked.failed {
        writeln!(out, "failed: {source}: {why}")?;
    }
    Ok(())
}

/// One line each, the first of each reason.
fn list<'s>(
    word: &str,
    skipped: impl Iterator<Item = &'s Skipped>,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut by_reason: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for skipped in skipped {
        let names = by_reason.entry(skipped.reason.to_string()).or_default();
        names.push(&skipped.what);
    }
    for (reason, names) in by_reason {
        for name in names.iter().take(LISTED) {
            writeln!(out, "{word}: {name} {reason}")?;
        }
        if names.len() > LISTED {
            writeln!(out, "{word}: and {} more: {reason}", names.len() - LISTED)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use workers::knowledge::ingest::SkipReason;

    use super::*;

    #[test]
    fn what_was_left_out_is_listed_by_its_reason() {
        let skip = |what: String, reason| Skipped { what, reason };
        let mut skipped: Vec<Skipped> = (0..25)
            .map(|number| skip(format!("{number:02}.png"), SkipReason::OtherFormat))
            .collect();
        skipped.push(skip("a.md".into(), SkipReason::NotUtf8));
        let staged = StageSummary {
            skipped,
            ..StageSummary::default()
        };
        let mut out = Vec::new();
        report(
            &staged,
            &Outcomes::default(),
            Duration::from_secs(1),
            &mut out,
        )
        .unwrap();
        let told = String::from_utf8(out).unwrap();
        assert!(told.contains("left out          26"), "{told}");
        assert!(told.contains("left out: 00.png is of a format"), "{told}");
        assert!(!told.contains("20.png"), "{told}");
        assert!(told.contains("left out: and 5 more"), "{told}");
        assert!(told.contains("error: a.md is not UTF-8 text"), "{told}");
    }
}
