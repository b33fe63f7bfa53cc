//! Measures the built program from outside: one command, one table, `docs/benchmarks.md`.
//!
//! `cargo bench-all` builds the release binary, starts a private Postgres that writes durably (fsync
//! and `synchronous_commit` on) and the stand-ins for the outside world, and takes each figure several
//! times. Machines are shared: only the ratios within one run mean something.
//!
//! `cargo bench-all NAME…` takes the named benchmarks only, and leaves `docs/benchmarks.md` alone.

mod footprint;
mod open_clients;
mod procfs;
mod proxy;
mod redis;
mod report;
mod streaming;
mod system;
mod takeover;
mod turn_overhead;
mod wire;

use anyhow::{Context, ensure};

use crate::{report::Report, system::System};

/// Runs of each benchmark; the table shows their median.
const RUNS: usize = 3;
const NAMES: [&str; 5] = ["footprint", "turn", "streaming", "clients", "takeover"];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider was installed already"))?;
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    for name in &wanted {
        ensure!(
            NAMES.contains(&name.as_str()),
            "no benchmark is called {name}: there are {}",
            NAMES.join(", ")
        );
    }
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let program = system::build_release()?;
    let mut report = Report::default();
    let system = System::start(program.clone())
        .await
        .context("the system did not start")?;
    if wants("footprint") {
        footprint::measure(&system, &mut report)
            .await
            .context("footprint")?;
    }
    if wants("turn") {
        turn_overhead::measure(&system, &mut report)
            .await
            .context("turn overhead")?;
    }
    if wants("streaming") {
        streaming::measure(&system, &mut report)
            .await
            .context("streaming")?;
    }
    if wants("clients") {
        // Its thousands of turns would be answered by the next worker.
        let apart = System::start(program.clone()).await?;
        open_clients::measure(&apart, &mut report)
            .await
            .context("open clients")?;
    }
    if wants("takeover") {
        takeover::measure(&system, &mut report)
            .await
            .context("takeover")?;
    }
    report.print();
    if wanted.is_empty() {
        report
            .write()
            .context("docs/benchmarks.md was not written")?;
    }
    Ok(())
}
