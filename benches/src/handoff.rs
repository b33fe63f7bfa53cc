//! Handoffs that became due while nobody could bring them to people: how fast they drain afterwards,
//! whether Slack's rate holds meanwhile, and what turns notice of it.
//!
//! Visitors leave their details while no worker runs; then workers come back while Slack and the CRM
//! are still down; then those come back, too. Slack takes a message a second in a channel, so a thousand
//! handoffs take about seventeen minutes, and nothing makes that faster.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use sandbox::{
    anthropic::{Pace, Reply},
    slack::PostRate,
    switch::Trouble,
};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tokio::time::sleep;

use crate::{
    bench::Bench,
    progress::progress,
    proxy,
    report::{Report, median, percentile},
    system::{System, TOKEN},
    turn_overhead::{MARKER, MODEL, turns},
};

/// Turns at once, and in a round: enough for a 95th percentile, and far from what a machine can do.
const AT_ONCE: usize = 10;
const TURNS: usize = 200;
/// Tokens of an answer and the time between two: about a quarter of a second a turn.
const TOKENS: usize = 10;
const TOKEN_PACE: Duration = Duration::from_millis(20);
/// The aim: a turn's 95th percentile while handoffs drain, in times that of other times.
const AIM: f64 = 1.2;
/// What Slack takes: <https://docs.slack.dev/apis/web-api/rate-limits>. A message that comes a moment
/// early, because the one before was slow on its way, is within its short bursts.
const SLACK: PostRate = PostRate {
    each: Duration::from_secs(1),
    burst: 2,
    refuses: true,
};
/// How long workers run before Slack and the CRM are there again.
const OUTAGE: Duration = Duration::from_secs(10);
/// Between two looks at how far the drain is.
const LOOK: Duration = Duration::from_secs(2);
/// Beyond a second for each handoff: the outage's waits, the circuit, the last updates.
const GRACE: Duration = Duration::from_mins(5);
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let count = bench.scale.handoffs;
    let system = bench.another_system().await?;
    let pace = Pace {
        before_headers: MODEL,
        first_token: Duration::ZERO,
        between_tokens: TOKEN_PACE,
    };
    let model = &system.anthropic;
    model.on(MARKER, Reply::words(TOKENS).paced(pace));
    let (mut api, listening) = system.role("api").await?;
    let chat = proxy::chat_url(listening.http.context("api has no HTTP address")?);
    let client = reqwest::Client::new();
    let load = Load {
        client: &client,
        chat: &chat,
        turns: TURNS / bench.scale.divisor,
    };

    let (mut worker, _) = system.role("worker").await?;
    load.round("warm").await?;
    let mut quiet = Vec::new();
    for round in 0..bench.scale.runs {
        quiet.push(load.round(&format!("before-{round}")).await?);
    }
    let visitors: Vec<String> = (0..count).map(|number| format!("lead-{number}")).collect();
    begin_conversations(&load, &visitors).await?;
    worker.stop(PATIENCE).await?;

    leave_details(&load, &visitors).await?;
    system.people.slack.workspace().set_rate(SLACK);
    let switches = [system.people.slack.switch(), system.people.hubspot.switch()];
    for switch in switches {
        switch.set(Some(Trouble::Status(503)));
    }
    let mut database = PgConnection::connect(&system.database_url()).await?;
    let (mut worker, _) = system.role("worker").await?;
    sleep(OUTAGE).await;
    for switch in switches {
        switch.set(None);
    }
    let mended = Instant::now();
    let mut busy = Vec::new();
    loop {
        let left = pending(&mut database).await?;
        progress(&format!("  {left} of {count} handoffs are left"));
        if left == 0 {
            break;
        }
        let limit = GRACE + Duration::from_secs(u64::try_from(count)?);
        ensure!(mended.elapsed() < limit, "{left} handoffs do not drain");
        let name = format!("during-{}", busy.len());
        busy.push(load.round(&name).await?);
        sleep(LOOK).await;
    }
    let drained = mended.elapsed();
    for round in 0..bench.scale.runs {
        quiet.push(load.round(&format!("after-{round}")).await?);
    }
    let delivered = delivered(&mut database).await?;
    tell(report, &system, count, delivered, drained);
    let (quiet, busy) = (median(&mut quiet), median(&mut busy));
    report.reference("turn overhead at other times: p95", quiet, "ms");
    report.reference("turn overhead while handoffs drain: p95", busy, "ms");
    report.at_most("the latter, in times the former", busy / quiet, AIM, "×");
    report.note(format!(
        "Handoff: {count} visitors leave their details while no worker runs; Slack and HubSpot answer 503 for {} s more, \
         and then drain. The stand-in for Slack refuses what comes faster than a message a second. Turns: {AT_ONCE} at \
         once, in rounds of {}; medians of the rounds' 95th percentiles.",
        OUTAGE.as_secs(),
        load.turns
    ));
    worker.stop(PATIENCE).await?;
    api.stop(PATIENCE).await?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "some thousands")]
fn tell(report: &mut Report, system: &System, count: usize, delivered: i64, drained: Duration) {
    let too_fast = system.people.slack.workspace().too_fast();
    let seconds = drained.as_secs_f64();
    report.at_most(
        "messages that came too fast for Slack",
        too_fast as f64,
        0.0,
        "",
    );
    report.at_least(
        format!("of {count} handoffs, delivered to Slack and the CRM"),
        delivered as f64,
        count as f64,
        "",
    );
    report.reference("drained in", seconds, "s");
    report.reference("handoffs a second", count as f64 / seconds, "");
}

/// How turns are asked for.
struct Load<'a> {
    client: &'a reqwest::Client,
    chat: &'a str,
    turns: usize,
}

impl Load<'_> {
    /// The 95th percentile of the overheads of a round of turns, in milliseconds.
    async fn round(&self, name: &str) -> anyhow::Result<f64> {
        let mut overheads = turns(self.client, self.chat, name, AT_ONCE, self.turns).await?;
        Ok(percentile(&mut overheads, 0.95))
    }
}

/// Each visitor has a conversation that is answered.
async fn begin_conversations(load: &Load<'_>, visitors: &[String]) -> anyhow::Result<()> {
    stream::iter(visitors)
        .map(|session| async move {
            let body = json!({"session_id": session, "message_id": "m", "message": MARKER});
            let request = load.client.post(load.chat).header("x-widget-token", TOKEN);
            let request = request.bearer_auth(secret(session)).json(&body);
            let answer = request.send().await?.error_for_status()?.bytes().await?;
            ensure!(answer.ends_with(b"[DONE]\n\n"), "{session} has no answer");
            anyhow::Ok(())
        })
        .buffer_unordered(AT_ONCE * 5)
        .try_collect()
        .await
}

/// And then leaves contact details.
async fn leave_details(load: &Load<'_>, visitors: &[String]) -> anyhow::Result<()> {
    stream::iter(visitors)
        .map(|session| async move {
            let url = format!("{}/{session}/contact", load.chat);
            let email = format!("{session}@visitor.example");
            let body = json!({"name": session, "email": email, "consent": true});
            let request = load.client.post(url).header("x-widget-token", TOKEN);
            let request = request.bearer_auth(secret(session)).json(&body);
            request.send().await?.error_for_status()?;
            anyhow::Ok(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// The visitor's secret.
fn secret(session: &str) -> String {
    format!("{session:A<32}")
}

async fn pending(database: &mut PgConnection) -> sqlx::Result<i64> {
    let pending = "select count(*) from handoff_records where status = 'pending'";
    sqlx::query_scalar(pending).fetch_one(database).await
}

async fn delivered(database: &mut PgConnection) -> sqlx::Result<i64> {
    let delivered = "select count(*) from handoff_records where status = 'delivered'";
    sqlx::query_scalar(delivered).fetch_one(database).await
}
