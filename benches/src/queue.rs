//! Our queue beside its peers and beside what is possible: drain, enqueue → start, steady load.

use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::{
    bench::Bench,
    comparison::{Better, Cell, times_better},
    contender::{BASELINE_HISTORY, Contender, OURS},
    measure::{Drained, Latencies, Measure, Steady},
    progress::progress,
    report::{Report, median, percentile},
};

/// A system that has not drained its queue by then is stopped.
const DEADLINE: Duration = Duration::from_mins(3);
/// Connections that insert under steady load.
const PRODUCERS: u32 = 8;

/// What a contender's runs of a measure gave.
enum Outcome {
    /// The median of each figure.
    Medians(Vec<f64>),
    TooSlow,
    Failed(String),
}

/// A contender, its figures of each run, and how that ended before the last run.
struct Runs<'b> {
    contender: &'b Contender,
    taken: Vec<Vec<f64>>,
    ended: Option<Outcome>,
}

/// The outcomes of a measure.
struct Contest<'b>(Vec<(&'b Contender, Outcome)>);

impl Contest<'_> {
    /// A column of one of the figures; `bound`: what a system that was stopped did not reach.
    fn cells(&self, figure: usize, bound: f64) -> Vec<(String, Cell)> {
        let cell = |outcome: &Outcome| match outcome {
            Outcome::Medians(figures) => Cell::Figure(figures[figure]),
            Outcome::TooSlow => Cell::Worse(bound),
            Outcome::Failed(reason) => Cell::Failed(reason.clone()),
        };
        self.0
            .iter()
            .map(|(contender, outcome)| (contender.name.clone(), cell(outcome)))
            .collect()
    }

    fn figure(&self, name: &str, figure: usize) -> Option<f64> {
        let found = self.0.iter().find(|(contender, _)| contender.name == name);
        match found {
            Some((_, Outcome::Medians(figures))) => figures.get(figure).copied(),
            _ => None,
        }
    }

    /// The best of the peers: its name and its figure.
    fn best_peer(&self, figure: usize, better: Better) -> Option<(&str, f64)> {
        let peers = self.0.iter().filter(|(contender, _)| contender.is_peer);
        let figures = peers.filter_map(|(contender, outcome)| match outcome {
            Outcome::Medians(figures) => Some((contender.name.as_str(), figures[figure])),
            _ => None,
        });
        match better {
            Better::More => figures.max_by(|(_, one), (_, other)| one.total_cmp(other)),
            Better::Less => figures.min_by(|(_, one), (_, other)| one.total_cmp(other)),
        }
    }

    /// Holds how many times better ours is than the best peer against an aim.
    fn beats_peers(
        &self,
        report: &mut Report,
        what: &str,
        figure: usize,
        better: Better,
        aim: f64,
    ) {
        let ours = self.figure(OURS, figure);
        let peer = self.best_peer(figure, better);
        let times = match (ours, peer) {
            (Some(ours), Some((_, theirs))) => times_better(ours, theirs, better),
            _ => None,
        };
        let beside = peer.map_or("no peer".to_owned(), |(name, _)| name.to_owned());
        let what = format!("{what}: times better than the best peer ({beside})");
        report.at_least(what, times, aim, "×");
    }
}

/// Runs a measure of every contender, one after the other, as often as figures are taken.
async fn contest<T: DeserializeOwned>(
    bench: &Bench,
    measure: Measure,
    takes_part: impl Fn(&Contender) -> bool,
    figures: impl Fn(T) -> Vec<f64>,
) -> anyhow::Result<Contest<'_>> {
    let arena = bench.arena().await?;
    let (contenders, _) = bench.contenders().await?;
    let mut all: Vec<Runs<'_>> = contenders
        .iter()
        .filter(|contender| takes_part(contender))
        .map(|contender| Runs {
            contender,
            taken: Vec::new(),
            ended: None,
        })
        .collect();
    for _ in 0..bench.scale.runs {
        for Runs {
            contender,
            taken,
            ended,
        } in all.iter_mut().filter(|runs| runs.ended.is_none())
        {
            let ground = arena.fresh().await?;
            let answer = contender
                .measure(&bench.watchdog, measure, &ground.url, DEADLINE)
                .await;
            match answer {
                Ok(Some(answer)) => {
                    let figures = figures(answer);
                    progress(&format!("  {}: {figures:.1?}", contender.name));
                    taken.push(figures);
                }
                Ok(None) => *ended = Some(Outcome::TooSlow),
                Err(error) => {
                    progress(&format!("  {} failed: {error:#}", contender.name));
                    *ended = Some(Outcome::Failed(format!("{error:#}")));
                }
            }
            arena.clear(ground).await?;
        }
    }
    let outcomes = all.into_iter().map(|runs| {
        let medians = || Outcome::Medians(medians(&runs.taken));
        (runs.contender, runs.ended.unwrap_or_else(medians))
    });
    Ok(Contest(outcomes.collect()))
}

/// The median of each figure.
fn medians(runs: &[Vec<f64>]) -> Vec<f64> {
    let figures = runs.iter().map(Vec::len).min().unwrap_or(0);
    (0..figures)
        .map(|figure| median(&mut runs.iter().map(|run| run[figure]).collect::<Vec<_>>()))
        .collect()
}

/// No-op jobs of a bulk insert, with the statistics of before it and with fresh ones.
pub(crate) async fn drain(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let jobs = bench.scale.drain_jobs;
    let [stale, fresh] = [false, true].map(|analyze| Measure::Drain { jobs, analyze });
    for (measure, what) in [
        (stale, "drain, stale statistics"),
        (fresh, "drain, fresh statistics"),
        (Measure::Warm { jobs }, "drain, running worker"),
    ] {
        let per_second = |drained: Drained| vec![f64::from(drained.jobs) / drained.seconds];
        let with_peers = !matches!(measure, Measure::Warm { .. });
        let takes_part =
            |contender: &Contender| !contender.only_single && (with_peers || !contender.is_peer);
        let contest = contest(bench, measure, takes_part, per_second).await?;
        let ours = contest.figure(OURS, 0);
        let share = ours
            .zip(contest.figure(BASELINE_HISTORY, 0))
            .map(|(ours, baseline)| 100.0 * ours / baseline);
        report.at_least(format!("{what}: of {BASELINE_HISTORY}"), share, 80.0, "%");
        if with_peers {
            contest.beats_peers(report, what, 0, Better::More, 1.5);
        }
        report.comparison.column(
            format!("{what}, jobs/s"),
            Better::More,
            contest.cells(0, f64::from(jobs) / DEADLINE.as_secs_f64()),
        );
    }
    report.comparison.absent(&bench.contenders().await?.1);
    report.note(format!(
        "Drain: {jobs} no-op jobs, inserted in bulk with no worker running; from the start of one worker process until \
         the tables say that all are completed. Stale: the statistics are those of empty tables. Running worker: it has planned \
         its statements while the tables were empty, and is there when the jobs come. Every system is tuned by its \
         documentation. `{BASELINE_HISTORY}` gives the same promises as ours for such a job (a lease, a \
         fenced completion, a row of history) and nothing else; the aim is held against it."
    ));
    Ok(())
}

/// From just before the enqueue until the handler's first line, on an idle worker.
pub(crate) async fn latency(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let jobs = bench.scale.latency_jobs;
    let percentiles = |answer: Latencies| {
        let mut latencies = answer.latencies_ms;
        [0.5, 0.99]
            .map(|share| percentile(&mut latencies, share))
            .into()
    };
    let contest = contest(bench, Measure::Latency { jobs }, |_| true, percentiles).await?;
    for (figure, (name, aim)) in [("p50", 2.0), ("p99", 5.0)].into_iter().enumerate() {
        let what = format!("enqueue → start, {name}");
        report.at_most(what.clone(), contest.figure(OURS, figure), aim, "ms");
        contest.beats_peers(report, &what, figure, Better::Less, 1.0);
        report.comparison.column(
            format!("{what}, ms"),
            Better::Less,
            contest.cells(figure, DEADLINE.as_secs_f64() * 1_000.0),
        );
    }
    report.comparison.absent(&bench.contenders().await?.1);
    report.note(format!(
        "Enqueue → start: {jobs} jobs 20 ms apart, each in a transaction of its own, for an idle worker; from just before \
         the enqueue (its commit is part of it) until the handler's first line, by the clock of one process. `{OURS}`: the \
         worker hears of the job by NOTIFY, as all peers do."
    ));
    Ok(())
}

/// As many single inserts as the database takes, while one worker consumes.
pub(crate) async fn steady(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let measure = Measure::Steady {
        seconds: bench.scale.steady_seconds,
        connections: PRODUCERS,
    };
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let figures = |steady: Steady| {
        vec![
            steady.consumed as f64 / steady.seconds,
            100.0 * steady.consumed as f64 / steady.produced as f64,
        ]
    };
    let contest = contest(bench, measure, |_| true, figures).await?;
    report.at_least(
        "steady: consumed of what was produced",
        contest.figure(OURS, 1),
        99.9,
        "%",
    );
    contest.beats_peers(report, "steady", 0, Better::More, 3.0);
    let consumed = contest.cells(0, 0.0);
    let column = &mut report.comparison;
    column.column("steady, jobs/s", Better::More, consumed);
    column.column("steady, consumed %", Better::More, contest.cells(1, 0.0));
    column.absent(&bench.contenders().await?.1);
    report.note(format!(
        "Steady: {PRODUCERS} connections insert one job a transaction for {} s while one worker consumes; completed jobs a \
         second, and their share of all that were inserted, at most 1 s after the last.",
        bench.scale.steady_seconds
    ));
    Ok(())
}
