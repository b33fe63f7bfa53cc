//! A worker is killed in mid-answer: how long until the client has the first word of another one.

use std::time::Duration;

use anyhow::{Context, ensure};
use sandbox::process::Process;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{
    bench::Bench,
    report::{Report, median},
    streaming::{
        client::{Reader, Window},
        model::{Clock, Model},
    },
    system::System,
    wire,
};

/// Kills.
const KILLS: u32 = 6;
/// A lease is renewed every third of its 4 s: the kills are spread over that time, and a little
/// is spoken before each.
const EARLIEST: Duration = Duration::from_millis(500);
const SPREAD: Duration = Duration::from_millis(1_334);
/// The aim, in seconds.
const AIM: f64 = 5.0;
/// How long a client is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A worker and the model that it asks, which shows who of the workers has the turn.
struct Seat {
    model: Model,
    worker: Process,
}

impl Seat {
    async fn take(system: &System, clock: Clock) -> anyhow::Result<Self> {
        let model = Model::start(clock).await?;
        let worker = Self::seated(system, &model).await?;
        Ok(Self { model, worker })
    }

    async fn seated(system: &System, model: &Model) -> anyhow::Result<Process> {
        let url = model.url();
        let variables = [("ANTHROPIC_BASE_URL", url.as_str())];
        Ok(system.role_with("worker", &variables).await?.0)
    }
}

pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let system = bench.system().await?;
    let clock = Clock::start();
    let window = Window::new(clock);
    let (mut api, listening) = system.role("api").await?;
    let address = listening.http.context("api has no HTTP address")?;
    let mut seats = [
        Seat::take(system, clock).await?,
        Seat::take(system, clock).await?,
    ];
    let mut seconds = Vec::new();
    for number in 0..KILLS {
        let before = seats.each_ref().map(|seat| seat.model.callers());
        let session = format!("{}-kill-{number}", std::process::id());
        let tcp = TcpStream::connect(address).await?;
        let mut reader = Reader::send(tcp, &wire::chat(&session)).await?;
        next_token(&mut reader, &window, 0).await?;
        let at_work = seats
            .iter()
            .zip(before)
            .position(|(seat, before)| seat.model.callers() > before)
            .context("nobody answers")?;
        let talk = EARLIEST + SPREAD * number / KILLS;
        // What comes meanwhile waits in the socket.
        sleep(talk).await;
        seats[at_work].worker.kill().await?;
        let killed = clock.now();
        let first = next_token(&mut reader, &window, killed).await?;
        #[expect(clippy::cast_precision_loss, reason = "a few seconds")]
        seconds.push((first - killed) as f64 / 1e6);
        for seat in &seats {
            seat.model.end_answers(true);
        }
        timeout(PATIENCE, reader.read_to_end("[DONE]", &window)).await??;
        for seat in &seats {
            seat.model.end_answers(false);
        }
        let seat = &mut seats[at_work];
        seat.worker = Seat::seated(system, &seat.model).await?;
    }
    let slowest = seconds.iter().copied().fold(0.0, f64::max);
    report.at_most(
        format!("takeover: SIGKILL → next delta, slowest of {KILLS}"),
        slowest,
        AIM,
        "s",
    );
    report.reference(
        format!("takeover: SIGKILL → next delta, median of {KILLS}"),
        median(&mut seconds),
        "s",
    );
    for seat in &mut seats {
        seat.worker.stop(PATIENCE).await?;
    }
    api.stop(PATIENCE).await?;
    Ok(())
}

/// Reads until a token that was written after `moment`; returns when it was here.
async fn next_token(reader: &mut Reader, window: &Window, moment: u64) -> anyhow::Result<u64> {
    let read = async {
        while reader.newest() <= moment {
            ensure!(reader.read(window).await?, "the stream ended");
        }
        Ok(window.clock.now())
    };
    timeout(PATIENCE, read).await.context("no token came")?
}
