//! POST → first delta at the client, less the model's own time to its first token.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures::{StreamExt, stream};
use sandbox::anthropic::{Pace, Reply};
use serde_json::json;

use crate::{
    bench::Bench,
    proxy,
    report::{Report, median, milliseconds, percentile},
    system::TOKEN,
};

/// The model's time to its first token; taken off every figure.
pub(crate) const MODEL: Duration = Duration::from_millis(50);
/// 50 tokens a second, a usual pace: a turn takes about half a second, so that `at_once` turns are at
/// every point of their way and not all at its beginning.
const TOKEN_PACE: Duration = Duration::from_millis(20);
const TOKENS: usize = 20;
/// What a message has in it that the stand-in for the model answers.
pub(crate) const MARKER: &str = "benchmark";

/// Turns that run at once, how many are measured, and whether the aims hold for the load.
struct Load {
    at_once: usize,
    turns: usize,
    aimed_at: bool,
}

const LOADS: [Load; 3] = [
    Load {
        at_once: 1,
        turns: 100,
        aimed_at: true,
    },
    Load {
        at_once: 50,
        turns: 500,
        aimed_at: true,
    },
    Load {
        at_once: 500,
        turns: 1_500,
        aimed_at: false,
    },
];
/// Aims for the median and the 99th percentile, in milliseconds.
const AIMS: (f64, f64) = (8.0, 40.0);

pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let system = bench.system().await?;
    let pace = Pace {
        before_headers: MODEL,
        first_token: Duration::ZERO,
        between_tokens: TOKEN_PACE,
    };
    system
        .anthropic
        .on(MARKER, Reply::words(TOKENS).paced(pace));
    let (mut process, listening) = system.role("serve").await?;
    let url = proxy::chat_url(listening.http.context("serve has no HTTP address")?);
    let client = reqwest::Client::new();
    let run = std::process::id();
    // The first connections and plans are not what is measured.
    turns(&client, &url, &format!("{run}-warm"), 1, 20).await?;
    for Load {
        at_once,
        turns: count,
        aimed_at,
    } in LOADS
    {
        let count = count / bench.scale.divisor;
        let (mut halves, mut nearly_all, mut direct) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..bench.scale.runs {
            let mut ours = turns(
                &client,
                &url,
                &format!("{run}-{at_once}-{round}"),
                at_once,
                count,
            )
            .await?;
            halves.push(percentile(&mut ours, 0.5));
            nearly_all.push(percentile(&mut ours, 0.99));
            let (anthropic, openai) = (system.anthropic.url(), system.openai.url());
            let proxied = stream::iter(0..count)
                .map(|_| proxy::first_delta(&client, &anthropic, &openai, MARKER))
                .buffer_unordered(at_once)
                .map(|taken| taken.map(|taken| taken - milliseconds(MODEL)));
            let proxied: Vec<anyhow::Result<f64>> = proxied.collect().await;
            let mut proxied = proxied.into_iter().collect::<anyhow::Result<Vec<f64>>>()?;
            direct.push(percentile(&mut proxied, 0.5));
        }
        let (p50, p99) = (median(&mut halves), median(&mut nearly_all));
        let what = format!("turn overhead, {at_once} at once");
        let (what50, what99) = (format!("{what}: p50"), format!("{what}: p99"));
        if aimed_at {
            report.at_most(what50, p50, AIMS.0, "ms");
            report.at_most(what99, p99, AIMS.1, "ms");
        } else {
            report.reference(what50, p50, "ms");
            report.reference(what99, p99, "ms");
        }
        report.reference(
            format!("the same answer passed straight through, {at_once} at once: p50"),
            median(&mut direct),
            "ms",
        );
    }
    report.note(format!(
        "Turn overhead: `serve` in one process; POST until the client has the first text, less the {} ms that the \
         stand-in for the model takes to its first token; an answer has {TOKENS} tokens, one each {} ms. The stand-ins and \
         the client run on the same cores.",
        MODEL.as_millis(),
        TOKEN_PACE.as_millis()
    ));
    process.stop(Duration::from_secs(30)).await?;
    Ok(())
}

/// The overheads of `count` turns, each of its own session, `at_once` at a time, in milliseconds.
pub(crate) async fn turns(
    client: &reqwest::Client,
    url: &str,
    name: &str,
    at_once: usize,
    count: usize,
) -> anyhow::Result<Vec<f64>> {
    let overheads: Vec<anyhow::Result<f64>> = stream::iter(0..count)
        .map(|number| async move {
            let begun = Instant::now();
            let answer = client
                .post(url)
                .header("x-widget-token", TOKEN)
                .json(&json!({ "session_id": format!("{name}-{number}"), "message_id": "m", "message": MARKER }))
                .send()
                .await?;
            Ok(proxy::until_delta(answer, "text-delta", begun).await? - milliseconds(MODEL))
        })
        .buffer_unordered(at_once)
        .collect()
        .await;
    overheads.into_iter().collect()
}
