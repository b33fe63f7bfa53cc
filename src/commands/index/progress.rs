//! How far the indexing is: a bar at a terminal, a line now and then elsewhere.

use std::{
    fmt::Write as _,
    io::{self, Write},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// Between two lines.
const LINES: Duration = Duration::from_secs(2);

/// What has been done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Files and pages that were looked at.
    pub(super) looked: usize,
    /// Documents that are to be indexed.
    pub(super) staged: usize,
    /// Those whose jobs have ended.
    pub(super) ended: usize,
}

/// Where progress is told.
#[derive(Debug)]
pub(super) enum Progress {
    Bar(ProgressBar),
    Lines {
        begun: Instant,
        told: Instant,
        last: Counts,
    },
}

impl Progress {
    /// A bar for a person at a terminal.
    pub(super) fn new(is_terminal: bool) -> Self {
        if !is_terminal {
            let now = Instant::now();
            return Self::Lines {
                begun: now,
                told: now,
                last: Counts::default(),
            };
        }
        let style = ProgressStyle::with_template(
            "{bar:30} {pos} of {len} documents, {per_sec}, {eta} left ({msg} looked at)",
        );
        let bar = ProgressBar::new(0);
        Self::Bar(match style {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        })
    }

    /// Tells how far it is, if it is time.
    pub(super) fn tell(&mut self, counts: Counts, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Bar(bar) => {
                bar.set_length(u64::try_from(counts.staged).unwrap_or(u64::MAX));
                bar.set_position(u64::try_from(counts.ended).unwrap_or(u64::MAX));
                bar.set_message(counts.looked.to_string());
            }
            Self::Lines { begun, told, last } => {
                if told.elapsed() >= LINES && *last != counts {
                    *told = Instant::now();
                    *last = counts;
                    writeln!(out, "{}", line(counts, begun.elapsed()))?;
                }
            }
        }
        Ok(())
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn line(counts: Counts, took: Duration) -> String {
    let rate = counts.ended as f64 / took.as_secs_f64();
    let left = counts.staged.saturating_sub(counts.ended) as f64 / rate;
    let mut line = format!(
        "{} looked at, {} of {} documents indexed, {rate:.1} a second",
        counts.looked, counts.ended, counts.staged
    );
    if left.is_finite() {
        // Writing to a string can't fail.
        let _ = write!(line, ", {left:.0} s left");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_rate_and_the_time_left() {
        let counts = Counts {
            looked: 70,
            staged: 60,
            ended: 20,
        };
        assert_eq!(
            line(counts, Duration::from_secs(10)),
            "70 looked at, 20 of 60 documents indexed, 2.0 a second, 20 s left"
        );
        assert_eq!(
            line(
                Counts {
                    looked: 1,
                    ..Counts::default()
                },
                Duration::from_secs(1)
            ),
            "1 looked at, 0 of 0 documents indexed, 0.0 a second"
        );
    }
}
