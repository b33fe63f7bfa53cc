//! Many answers at once, token by token: from the moment the model has written a token until the
//! client has it, through the worker, Postgres and the API; the same answers through Redis; and the
//! model's own connection, which shows what the benchmark itself costs.

pub(crate) mod client;
pub(crate) mod model;

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, bail, ensure};
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep},
};

use self::{
    client::{Noted, Reader, Window},
    model::{Clock, Model},
};
use crate::{
    bench::Bench,
    procfs,
    redis::{Redis, relay::Relay},
    report::{Report, median, percentile},
    wire,
};

/// Streams at once. The aim holds for the last.
const LOADS: [usize; 3] = [100, 500, 1_000];
/// The aim for the 99th percentile, in milliseconds.
const AIM: f64 = 100.0;
/// How long a load is measured, once all its answers have begun.
const MEASURED: Duration = Duration::from_secs(5);
/// Between the beginnings of two answers: visitors do not ask in the same millisecond.
const ARRIVALS: Duration = Duration::from_millis(2);
/// Before and after the measurement.
const SETTLE: Duration = Duration::from_secs(1);
/// How long the answers of a load may take to begin, or a process to end.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two looks at whether all answers have begun.
const LOOK: Duration = Duration::from_millis(10);

/// What streams are read from.
struct Target<'t> {
    address: SocketAddr,
    /// What an answer that is whole has at its end.
    end: &'static str,
    request: &'t (dyn Fn(usize) -> Vec<u8> + Sync),
    /// Whose processor time is measured.
    processes: &'t [u32],
}

/// What a load gave.
struct Taken {
    p50: f64,
    p99: f64,
    tokens_per_second: f64,
    frames_per_second: f64,
    /// Of the target's processes, in processors that were busy all the time.
    processors: f64,
}

/// The loads of one system, of several runs each.
struct Figures<'f>(&'f [Taken]);

impl Figures<'_> {
    fn median(&self, of: fn(&Taken) -> f64) -> f64 {
        median(&mut self.0.iter().map(of).collect::<Vec<_>>())
    }
}

pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let system = bench.system().await?;
    let loads = LOADS.map(|load| load / bench.scale.divisor);
    let clock = Clock::start();
    let model = Model::start(clock).await?;
    let url = model.url();
    let variables = [("ANTHROPIC_BASE_URL", url.as_str())];
    let redis = Redis::start(system).await;
    let relay = match &redis {
        Ok(redis) => Some(Relay::start(redis, model.address).await?),
        Err(reason) => {
            report.note(format!("Streaming: Redis is absent: {reason:#}."));
            None
        }
    };
    let (mut api, listening) = system.role_with("api", &variables).await?;
    let (mut worker, _) = system.role_with("worker", &variables).await?;
    let address = listening.http.context("api has no HTTP address")?;
    let processes = [api.pid(), worker.pid(), system.server_pid()];
    for streams in loads {
        let (mut ours, mut through_redis, mut direct) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..bench.scale.runs {
            direct.push(read_directly(&model, clock, streams).await?);
            if let Some(relay) = &relay {
                through_redis.push(read_from(relay, &model, clock, streams).await?);
            }
            let name = format!("{round}-apart");
            let taken = read_ours(&name, address, &processes, &model, clock, streams);
            ours.push(taken.await?);
        }
        tell(report, streams, &Figures(&ours), &Figures(&direct));
        if relay.is_some() {
            compare(report, streams, &Figures(&ours), &Figures(&through_redis));
        }
    }
    worker.stop(PATIENCE).await?;
    api.stop(PATIENCE).await?;

    let (mut serve, listening) = system.role_with("serve", &variables).await?;
    let address = listening.http.context("serve has no HTTP address")?;
    let processes = [serve.pid(), system.server_pid()];
    let streams = loads[loads.len() - 1];
    let mut together = Vec::new();
    for round in 0..bench.scale.runs {
        let name = format!("{round}-together");
        let taken = read_ours(&name, address, &processes, &model, clock, streams);
        together.push(taken.await?);
    }
    let together = Figures(&together);
    let what = format!("{streams} streams, `serve` in one process: delivery");
    report.reference(format!("{what} p50"), together.median(|it| it.p50), "ms");
    report.at_most(
        format!("{what} p99"),
        together.median(|it| it.p99),
        AIM,
        "ms",
    );
    serve.stop(PATIENCE).await?;

    report.note(format!(
        "Streaming: each answer has 50 tokens a second, each in a packet of its own; delivery is from the model's \
         write to the client's read of the frame with the token, over {} s. `api` and `worker` are two processes. \
         Redis has the append-only file on, with an fsync a second; ours waits for the fsync of every commit. The \
         model, the Redis relay and all clients run in the benchmark's process on the same cores; *straight from \
         the model* is what they cost by themselves.",
        MEASURED.as_secs()
    ));
    Ok(())
}

fn tell(report: &mut Report, streams: usize, ours: &Figures<'_>, direct: &Figures<'_>) {
    let what = format!("{streams} streams: delivery");
    report.reference(format!("{what} p50"), ours.median(|it| it.p50), "ms");
    let p99 = ours.median(|it| it.p99);
    report.at_most(format!("{what} p99"), p99, AIM, "ms");
    report.reference(
        format!("{what} p99 straight from the model"),
        direct.median(|it| it.p99),
        "ms",
    );
    report.reference(
        format!("{streams} streams: tokens"),
        ours.median(|it| it.tokens_per_second),
        "/s",
    );
    report.reference(
        format!("{streams} streams: frames"),
        ours.median(|it| it.frames_per_second),
        "/s",
    );
    report.reference(
        format!("{streams} streams: `api`, `worker` and Postgres"),
        ours.median(|it| it.processors),
        "cores",
    );
}

fn compare(report: &mut Report, streams: usize, ours: &Figures<'_>, redis: &Figures<'_>) {
    let what = format!("{streams} streams through Redis: delivery");
    let (p50, p99) = (redis.median(|it| it.p50), redis.median(|it| it.p99));
    report.reference(format!("{what} p50"), p50, "ms");
    report.reference(format!("{what} p99"), p99, "ms");
    let ratio = ours.median(|it| it.p99) / p99;
    report.reference(format!("{streams} streams: p99, ours to Redis"), ratio, "×");
}

async fn read_directly(model: &Model, clock: Clock, streams: usize) -> anyhow::Result<Taken> {
    let target = Target {
        address: model.address,
        end: "message_stop",
        request: &|_| wire::post("/v1/messages", "", "{}"),
        processes: &[],
    };
    let taken = load(model, clock, &target, streams).await;
    taken.context("straight from the model")
}

async fn read_from(
    relay: &Relay,
    model: &Model,
    clock: Clock,
    streams: usize,
) -> anyhow::Result<Taken> {
    let target = Target {
        address: relay.address,
        end: "[DONE]",
        request: &|_| wire::post("/", "", ""),
        processes: &[],
    };
    let taken = load(model, clock, &target, streams).await;
    taken.context("through Redis")
}

async fn read_ours(
    name: &str,
    address: SocketAddr,
    processes: &[u32],
    model: &Model,
    clock: Clock,
    streams: usize,
) -> anyhow::Result<Taken> {
    let name = format!("{}-{streams}-{name}", std::process::id());
    let target = Target {
        address,
        end: "[DONE]",
        request: &|number| wire::chat(&format!("{name}-{number}")),
        processes,
    };
    load(model, clock, &target, streams).await.context("ours")
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
            let reader = Reader::send(tcp, &request).await?;
            reader.read_to_end(end, &window).await
        });
        sleep(ARRIVALS).await;
    }
    all_begin(&window, streams, &mut readers).await?;
    sleep(SETTLE).await;
    let (used, begun) = (target.processor_time()?, Instant::now());
    window.open();
    sleep(MEASURED).await;
    window.close();
    let used = target.processor_time()?.saturating_sub(used);
    let processors = used.as_secs_f64() / begun.elapsed().as_secs_f64();
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
    ensure!(
        all.tokens == written,
        "{written} tokens were written and {} read",
        all.tokens
    );
    let mut delays = all.milliseconds();
    let seconds = MEASURED.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    Ok(Taken {
        tokens_per_second: delays.len() as f64 / seconds,
        frames_per_second: all.frames as f64 / seconds,
        p50: percentile(&mut delays, 0.5),
        p99: percentile(&mut delays, 0.99),
        processors,
    })
}

async fn all_begin(
    window: &Window,
    streams: usize,
    readers: &mut JoinSet<anyhow::Result<Noted>>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while window.begun() < streams {
        if let Some(ended) = readers.try_join_next() {
            ended??;
            bail!("an answer ended before it was measured");
        }
        let begun = window.begun();
        ensure!(
            Instant::now() < deadline,
            "{begun} of {streams} answers began"
        );
        sleep(LOOK).await;
    }
    Ok(())
}

impl Target<'_> {
    fn processor_time(&self) -> anyhow::Result<Duration> {
        let times = self.processes.iter();
        times.map(|pid| procfs::processor_time(*pid)).sum()
    }
}
