//! The table of systems: a row for each, a column for each figure, and how many times better ours is.

use std::fmt::Write as _;

use crate::contender::{Absent, OURS};

/// What a system's runs gave.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    /// The median of its runs.
    Figure(f64),
    /// It was stopped after a time in which it did not even get this far: the figure is a bound.
    Worse(f64),
    /// Why there is no figure.
    Failed(String),
}

/// Which of two figures is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
}

#[derive(Debug)]
struct Column {
    title: String,
    better: Better,
    cells: Vec<(String, Cell)>,
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    columns: Vec<Column>,
    absent: Vec<(String, String)>,
}

impl Comparison {
    /// Adds a column; the first system in `cells` comes first in the table.
    pub(crate) fn column(
        &mut self,
        title: impl Into<String>,
        better: Better,
        cells: Vec<(String, Cell)>,
    ) {
        let title = title.into();
        self.columns.push(Column {
            title,
            better,
            cells,
        });
    }

    /// Names the systems that could not take part.
    pub(crate) fn absent(&mut self, absent: &[Absent]) {
        self.absent = absent
            .iter()
            .map(|absent| (absent.name.clone(), absent.reason.clone()))
            .collect();
    }

    /// The table, and the failures and absences below it; empty if nothing was compared.
    pub(crate) fn markdown(&self) -> String {
        if self.columns.is_empty() {
            return String::new();
        }
        let mut systems: Vec<&str> = Vec::new();
        for (system, _) in self.columns.iter().flat_map(|column| &column.cells) {
            if !systems.contains(&system.as_str()) {
                systems.push(system);
            }
        }
        let mut text = String::from("| system |");
        for column in &self.columns {
            let _ = write!(text, " {} |", column.title);
        }
        text.push_str("\n|---|");
        text.push_str(&"---|".repeat(self.columns.len()));
        let mut failures = String::new();
        for system in systems {
            let _ = write!(text, "\n| {system} |");
            for column in &self.columns {
                let _ = write!(text, " {} |", column.shown(system));
                if let Some(Cell::Failed(reason)) = column.cell(system) {
                    let _ = writeln!(failures, "- {system}, {}: {reason}", column.title);
                }
            }
        }
        for (name, _) in &self.absent {
            let _ = write!(
                text,
                "\n| {name} |{}",
                " absent |".repeat(self.columns.len())
            );
        }
        text.push_str(
            "\n\nIn brackets: how many times better ours is than that system, in the same run.\n",
        );
        for (name, reason) in &self.absent {
            let _ = writeln!(text, "- {name} is absent: {reason}");
        }
        text.push_str(&failures);
        text
    }
}

impl Column {
    fn cell(&self, system: &str) -> Option<&Cell> {
        let cell = self.cells.iter().find(|(name, _)| name == system);
        cell.map(|(_, cell)| cell)
    }

    fn shown(&self, system: &str) -> String {
        match self.cell(system) {
            None => "—".to_owned(),
            Some(Cell::Failed(_)) => "failed".to_owned(),
            Some(Cell::Worse(bound)) => {
                let sign = if self.better == Better::More {
                    "<"
                } else {
                    ">"
                };
                format!("{sign} {}", number(*bound))
            }
            Some(Cell::Figure(figure)) => match self.cell(OURS) {
                Some(Cell::Figure(ours)) if system != OURS => {
                    match times_better(*ours, *figure, self.better) {
                        Some(times) => format!("{} ({times:.2} ×)", number(*figure)),
                        None => number(*figure),
                    }
                }
                _ => number(*figure),
            },
        }
    }
}

/// How many times better one figure is than another; none where one of them is nothing.
pub(crate) fn times_better(ours: f64, theirs: f64, better: Better) -> Option<f64> {
    let times = match better {
        Better::More => ours / theirs,
        Better::Less => theirs / ours,
    };
    (times.is_finite() && times > 0.0).then_some(times)
}

/// Three digits or so, and thousands apart.
pub(crate) fn number(figure: f64) -> String {
    if figure.abs() < 100.0 {
        return format!("{figure:.1}");
    }
    let digits = format!("{figure:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_shows_how_many_times_better_ours_is() {
        let mut comparison = Comparison::default();
        let cells = vec![
            (OURS.to_owned(), Cell::Figure(30_000.0)),
            ("fast".to_owned(), Cell::Figure(60_000.0)),
            ("slow".to_owned(), Cell::Worse(250.0)),
            ("broken".to_owned(), Cell::Failed("no table".to_owned())),
        ];
        comparison.column("drain, jobs/s", Better::More, cells);
        let cells = vec![
            (OURS.to_owned(), Cell::Figure(2.0)),
            ("fast".to_owned(), Cell::Figure(5.0)),
        ];
        comparison.column("p50, ms", Better::Less, cells);
        comparison.absent(&[Absent {
            name: "gone".to_owned(),
            reason: "npm is missing".to_owned(),
        }]);
        assert_eq!(
            comparison.markdown(),
            "| system | drain, jobs/s | p50, ms |\n\
             |---|---|---|\n\
             | growth-chat | 30,000 | 2.0 |\n\
             | fast | 60,000 (0.50 ×) | 5.0 (2.50 ×) |\n\
             | slow | < 250 | — |\n\
             | broken | failed | — |\n\
             | gone | absent | absent |\n\n\
             In brackets: how many times better ours is than that system, in the same run.\n\
             - gone is absent: npm is missing\n\
             - broken, drain, jobs/s: no table\n"
        );
    }

    #[test]
    fn thousands_are_apart() {
        let shown = [0.0, 1.25, 99.96, 100.4, 1_000.0, 1_234_567.0].map(number);
        assert_eq!(shown, ["0.0", "1.2", "100.0", "100", "1,000", "1,234,567"]);
    }
}
