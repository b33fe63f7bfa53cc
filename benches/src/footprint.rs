//! How fast `serve` answers after its start, and how much memory it holds when idle.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::Context;

use crate::{
    bench::Bench,
    report::{Report, median, milliseconds},
};

/// How long `serve` has been idle when its memory is read.
const SETTLE: Duration = Duration::from_secs(3);

pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let system = bench.system().await?;
    let client = reqwest::Client::new();
    let (mut starts, mut sizes) = (Vec::new(), Vec::new());
    for _ in 0..bench.scale.runs {
        let begun = Instant::now();
        let (mut process, listening) = system.role("serve").await?;
        let http = listening.http.context("serve has no HTTP address")?;
        let health = client.get(format!("http://{http}/health")).send().await?;
        health.error_for_status()?;
        starts.push(milliseconds(begun.elapsed()));
        tokio::time::sleep(SETTLE).await;
        sizes.push(resident_megabytes(process.pid())?);
        process.stop(Duration::from_secs(30)).await?;
    }
    report.at_most(
        "start: exec → first `/health` 200",
        median(&mut starts),
        50.0,
        "ms",
    );
    report.at_most(
        "`serve`, idle: resident memory",
        median(&mut sizes),
        30.0,
        "MB",
    );
    Ok(())
}

fn resident_megabytes(pid: u32) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes / 1_024.0)
}
