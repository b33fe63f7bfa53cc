//! Measures the built program from outside: one command, its tables, `docs/benchmarks.md`.
//!
//! `cargo bench-all` builds the release binary, starts private Postgres servers that write durably (fsync
//! and `synchronous_commit` on) and the stand-ins for the outside world, and takes each figure several
//! times. Machines are shared: only the ratios within one run mean something.
//!
//! `cargo bench-all NAME…` takes the named benchmarks only, `--quick` makes everything small; both leave
//! `docs/benchmarks.md` alone, but for `--write`.

mod arena;
mod backup;
mod bench;
mod comparison;
mod contender;
mod drivers;
mod footprint;
mod growth;
mod handoff;
mod idle;
mod indexing;
mod measure;
mod open_clients;
mod procfs;
mod progress;
mod proxy;
mod queue;
mod redis;
mod report;
mod retention;
mod retrieval;
mod streaming;
mod system;
mod takeover;
mod turn_overhead;
mod wire;

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand};
use futures::future::{FutureExt, LocalBoxFuture};

use crate::{
    bench::{Bench, Scale},
    measure::Measure,
    report::Report,
};

type Benchmark = for<'a> fn(&'a Bench, &'a mut Report) -> LocalBoxFuture<'a, anyhow::Result<()>>;

/// Every benchmark, in the order in which they are taken.
const BENCHMARKS: &[(&str, Benchmark)] = &[
    ("footprint", |bench, report| {
        footprint::measure(bench, report).boxed_local()
    }),
    ("turn", |bench, report| {
        turn_overhead::measure(bench, report).boxed_local()
    }),
    ("streaming", |bench, report| {
        streaming::measure(bench, report).boxed_local()
    }),
    ("clients", |bench, report| {
        open_clients::measure(bench, report).boxed_local()
    }),
    ("takeover", |bench, report| {
        takeover::measure(bench, report).boxed_local()
    }),
    ("retrieval", |bench, report| {
        retrieval::measure(bench, report).boxed_local()
    }),
    ("indexing", |bench, report| {
        indexing::measure(bench, report).boxed_local()
    }),
    ("drain", |bench, report| {
        queue::drain(bench, report).boxed_local()
    }),
    ("latency", |bench, report| {
        queue::latency(bench, report).boxed_local()
    }),
    ("steady", |bench, report| {
        queue::steady(bench, report).boxed_local()
    }),
    ("idle", |bench, report| {
        idle::measure(bench, report).boxed_local()
    }),
    ("retention", |bench, report| {
        retention::measure(bench, report).boxed_local()
    }),
    ("backup", |bench, report| {
        backup::measure(bench, report).boxed_local()
    }),
    ("growth", |bench, report| {
        growth::measure(bench, report).boxed_local()
    }),
    ("handoff", |bench, report| {
        handoff::measure(bench, report).boxed_local()
    }),
];

/// Take the benchmarks, and write `docs/benchmarks.md` if it was all of them.
#[derive(Debug, Parser)]
#[command(name = "bench-all", args_conflicts_with_subcommands = true)]
struct Cli {
    /// The benchmarks to take [default: all]
    names: Vec<String>,
    /// Make everything small: whether it works, not how fast it is
    #[arg(long)]
    quick: bool,
    /// Compare with these peers only, comma-separated; `none` for no peer
    #[arg(long, value_delimiter = ',', value_name = "PEER")]
    peers: Vec<String>,
    /// Write `docs/benchmarks.md` although only some were taken; the others' figures stay there
    #[arg(long, conflicts_with_all = ["quick", "peers", "history_rows"])]
    write: bool,
    /// Finished jobs in the history that `growth` makes
    #[arg(long, value_name = "ROWS")]
    history_rows: Option<i64>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Be the driver of a queue that this program links
    #[command(hide = true)]
    Driver {
        system: drivers::System,
        #[command(subcommand)]
        measure: Measure,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider was installed already"))?;
    let cli = Cli::parse();
    match cli.command {
        // In one line: that is what the report says of a driver that failed.
        Some(Command::Driver { system, measure }) => drivers::main(system, measure)
            .await
            .map_err(|error| anyhow::Error::msg(format!("{error:#}").replace('\n', " "))),
        None => bench_all(cli).await,
    }
}

async fn bench_all(cli: Cli) -> anyhow::Result<()> {
    let names: Vec<&str> = BENCHMARKS.iter().map(|(name, _)| *name).collect();
    for name in &cli.names {
        ensure!(
            names.contains(&name.as_str()),
            "no benchmark is called {name}: there are {}",
            names.join(", ")
        );
    }
    let mut scale = if cli.quick { Scale::QUICK } else { Scale::FULL };
    scale.history_rows = cli.history_rows.unwrap_or(scale.history_rows);
    let whole =
        cli.names.is_empty() && cli.peers.is_empty() && cli.history_rows.is_none() && !cli.quick;
    let bench = Bench::new(scale, cli.peers)?;
    let mut report = Report::default();
    for (name, benchmark) in BENCHMARKS {
        if cli.names.is_empty() || cli.names.iter().any(|wanted| wanted == name) {
            progress::progress(name);
            benchmark(&bench, &mut report).await.context(*name)?;
            report.close(name);
        }
    }
    report.print();
    if whole || cli.write {
        report
            .write(scale.runs, &names)
            .context("docs/benchmarks.md was not written")?;
    }
    Ok(())
}
