//! Many answers at once, token by token: from the moment the model has written a token until the
//! client has it, through the worker, Postgres and the API.

pub(crate) mod client;
pub(crate) mod model;

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, ensure};
use tokio::{net::TcpStream, task::JoinSet};
use tokio::time::{Instant, sleep};

use self::{
    client::{Noted, Reader, Window},
    model::{Clock, Model},
};
use crate::{
    RUNS, procfs,
    redis::{Redis, relay::Relay},
    report::{Report, median, percentile},
    system::System,
    wire,
};

/// Streams at once.
const LOADS: [usize; 3] = [100, 500, 1_000];
/// The aim at the largest load, in milliseconds.
const AIM: f64 = 100.0;
/// How long a load is measured, once all its answers have begun.
const MEASURED: Duration = Duration::from_secs(10);
/// Between the beginnings of two answers: visitors do not ask in the same millisecond.
const ARRIVALS: Duration = Duration::from_millis(2);
/// After the last answer has begun, and before the first ends.
const SETTLE: Duration = Duration::from_secs(1);
/// How long the answers of a load may take to begin.
const PATIENCE: Duration = Duration::from_secs(60);

/// What streams are read from.
struct Target<'t> {
    address: SocketAddr,
    /// What an answer that is whole has at its end.
    end: &'static str,
    request: &'t (dyn Fn(usize) -> Vec<u8> + Sync),
}

/// What a load gave.
struct Taken {
    p50: f64,
    p99: f64,
    tokens_per_second: f64,
    frames_per_second: f64,
}

pub(crate) async fn measure(system: &System, report: &mut Report) -> anyhow::Result<()> {
    let clock = Clock::start();
    let model = Model::start(clock).await?;
    let url = model.url();
    let variables = [("ANTHROPIC_BASE_URL", url.as_str())];
    let (mut api, listening) = system.role_with("api", &variables).await?;
    let (mut worker, _) = system.role_with("worker", &variables).await?;
    let http = listening.http.context("api has no HTTP address")?;
    let only: Option<usize> = std::env::var("LOAD").ok().and_then(|load| load.parse().ok());
    let runs = if only.is_some() { 1 } else { RUNS };
    let redis = Redis::start(system).await;
    let relay = match &redis {
        Ok(redis) => Some(Relay::start(redis, model.address).await?),
        Err(error) => {
            report.note(format!("Redis is absent: {error:#}."));
            None
        }
    };
    for streams in only.map_or(LOADS.to_vec(), |load| vec![load]) {
        let (mut ours, mut direct, mut redis) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..runs {
            let target = Target {
                address: model.address,
                end: "message_stop",
                request: &|_| wire::post("/v1/messages", "", "{}"),
            };
            direct.push(load(&model, clock, &target, streams).await.context("direct")?);
            if let Some(relay) = &relay {
                let target = Target {
                    address: relay.address,
                    end: "[DONE]",
                    request: &|_| wire::post("/", "", ""),
                };
                redis.push(load(&model, clock, &target, streams).await.context("Redis")?);
            }
            let name = format!("{}-{streams}-{round}", std::process::id());
            let target = Target {
                address: http,
                end: "[DONE]",
                request: &|number| wire::chat(&format!("{name}-{number}")),
            };
            let before = (
                procfs::processor_time(api.pid())?,
                procfs::processor_time(worker.pid())?,
                Instant::now(),
                procfs::family_processor_time(system.server_pid())?,
                procfs::processor_time(std::process::id())?,
            );
            ours.push(load(&model, clock, &target, streams).await.context("ours")?);
            let took = before.2.elapsed().as_secs_f64();
            eprintln!(
                "api {:.2} worker {:.2} postgres {:.2} bench {:.2} cores",
                (procfs::processor_time(api.pid())? - before.0).as_secs_f64() / took,
                (procfs::processor_time(worker.pid())? - before.1).as_secs_f64() / took,
                (procfs::family_processor_time(system.server_pid())? - before.3).as_secs_f64() / took,
                (procfs::processor_time(std::process::id())? - before.4).as_secs_f64() / took,
            );
        }
        for (name, taken) in [("direct", &direct), ("Redis", &redis), ("ours", &ours)] {
            let figure = |of: fn(&Taken) -> f64| median(&mut taken.iter().map(of).collect::<Vec<_>>());
            let what = format!("{streams} streams, {name}");
            report.reference(format!("{what}: p50"), figure(|it| it.p50), "ms");
            if name == "ours" {
                report.at_most(format!("{what}: p99"), figure(|it| it.p99), AIM, "ms");
            } else {
                report.reference(format!("{what}: p99"), figure(|it| it.p99), "ms");
            }
            report.reference(format!("{what}: tokens"), figure(|it| it.tokens_per_second), "/s");
            report.reference(format!("{what}: frames"), figure(|it| it.frames_per_second), "/s");
        }
    }
    worker.stop(PATIENCE).await?;
    api.stop(PATIENCE).await?;
    Ok(())
}

/// Reads `streams` answers at once and measures for a while.
async fn load(
    model: &Model,
    clock: Clock,
    target: &Target<'_>,
    streams: usize,
) -> anyhow::Result<Taken> {
    model.end_answers(false);
    let tokens_before = model.tokens();
    let window = Window::new(clock);
    let mut readers = JoinSet::new();
    for number in 0..streams {
        let request = (target.request)(number);
        let (address, end, window) = (target.address, target.end, window.clone());
        readers.spawn(async move {
            let tcp = TcpStream::connect(address).await?;
            Reader::send(tcp, &request).await?.to_end(end, &window).await
        });
        sleep(ARRIVALS).await;
    }
    let deadline = Instant::now() + PATIENCE;
    while window.begun() < streams {
        ensure!(Instant::now() < deadline, "{} of {streams} answers began", window.begun());
        if let Some(ended) = readers.try_join_next() {
            ended??;
            anyhow::bail!("an answer ended before it was measured");
        }
        sleep(Duration::from_millis(10)).await;
    }
    sleep(SETTLE).await;
    window.open();
    sleep(MEASURED).await;
    window.close();
    sleep(SETTLE).await;
    model.end_answers(true);
    let mut all = Noted::default();
    while let Some(ended) = readers.join_next().await {
        let noted = ended??;
        all.delays.extend(noted.delays);
        all.frames += noted.frames;
        all.tokens += noted.tokens;
    }
    let written = model.tokens() - tokens_before;
    ensure!(all.tokens == written, "{} tokens were written and {} read", written, all.tokens);
    let mut delays: Vec<f64> = all.delays.iter().map(|delay| f64::from(*delay) / 1_000.0).collect();
    let seconds = MEASURED.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    Ok(Taken {
        tokens_per_second: delays.len() as f64 / seconds,
        frames_per_second: all.frames as f64 / seconds,
        p50: percentile(&mut delays, 0.5),
        p99: percentile(&mut delays, 0.99),
    })
}
