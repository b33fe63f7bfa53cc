//! What a driver is asked to measure: the protocol between this program and the systems it compares.
//!
//! A driver is a program with `DATABASE_URL` in its environment (an empty database) and a measure as its
//! arguments. It installs its own schema, and its last line on the standard output is one JSON object;
//! the errors go to the standard error. Drivers are this program itself (`bench-all driver …`) and the
//! `run` scripts in `benches/peers/`.

use std::time::Duration;

use clap::Subcommand;
use serde::{Deserialize, Serialize};

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub(crate) enum Measure {
    /// Enqueue no-op jobs in bulk, then time one worker process until all are completed: [`Drained`]
    Drain {
        /// How many.
        #[arg(long)]
        jobs: u32,
        /// Renew the statistics between the enqueue and the start of the worker.
        #[arg(long)]
        analyze: bool,
    },
    /// The same for a worker that runs already, and has planned its statements while the tables were
    /// empty; the peers are not asked for it: [`Drained`]
    Warm {
        /// How many.
        #[arg(long)]
        jobs: u32,
    },
    /// Enqueue jobs 20 ms apart for an idle worker: [`Latencies`]
    Latency {
        /// How many.
        #[arg(long)]
        jobs: u32,
    },
    /// Insert one job a transaction on every connection while one worker consumes: [`Steady`]
    Steady {
        /// How long.
        #[arg(long)]
        seconds: u64,
        /// How many connections insert.
        #[arg(long)]
        connections: u32,
    },
    /// Start a worker, print `ready`, and do nothing until the standard input is closed
    Idle,
}

/// Between two jobs of [`Measure::Latency`].
pub(crate) const APART: Duration = Duration::from_millis(20);
/// How long after the last insert of [`Measure::Steady`] a completed job still counts.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// What a drain took, from the start of the worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Drained {
    pub(crate) jobs: u32,
    pub(crate) seconds: f64,
}

/// From just before the enqueue until the handler's first line, by one clock.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Latencies {
    pub(crate) latencies_ms: Vec<f64>,
}

/// How many jobs were inserted, and how many of them were completed [`GRACE`] later at most.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Steady {
    pub(crate) produced: u64,
    pub(crate) consumed: u64,
    pub(crate) seconds: f64,
}

impl Measure {
    /// The arguments that ask for it.
    pub(crate) fn arguments(self) -> Vec<String> {
        let mut words = Vec::new();
        let mut add = |word: &str| words.push(word.to_owned());
        match self {
            Self::Drain { jobs, analyze } => {
                add("drain");
                add("--jobs");
                add(&jobs.to_string());
                if analyze {
                    add("--analyze");
                }
            }
            Self::Warm { jobs } => {
                add("warm");
                add("--jobs");
                add(&jobs.to_string());
            }
            Self::Latency { jobs } => {
                add("latency");
                add("--jobs");
                add(&jobs.to_string());
            }
            Self::Steady {
                seconds,
                connections,
            } => {
                add("steady");
                add("--seconds");
                add(&seconds.to_string());
                add("--connections");
                add(&connections.to_string());
            }
            Self::Idle => add("idle"),
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        measure: Measure,
    }

    #[test]
    fn a_driver_reads_what_it_is_asked() {
        let measures = [
            Measure::Drain {
                jobs: 5,
                analyze: true,
            },
            Measure::Drain {
                jobs: 7,
                analyze: false,
            },
            Measure::Warm { jobs: 9 },
            Measure::Latency { jobs: 3 },
            Measure::Steady {
                seconds: 10,
                connections: 8,
            },
            Measure::Idle,
        ];
        for measure in measures {
            let words = std::iter::once("driver".to_owned()).chain(measure.arguments());
            assert_eq!(Line::try_parse_from(words).unwrap().measure, measure);
        }
    }
}
