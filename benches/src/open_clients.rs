//! Many clients that wait: what they cost one `api` process, and whether it still serves in time.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use futures::{StreamExt, stream};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    bench::Bench,
    procfs,
    report::{Report, percentile},
    streaming::{
        client::{Reader, Window},
        model::{Clock, Model},
    },
    system::System,
    wire,
};

/// Clients, if the system allows as many files.
const CLIENTS: usize = 10_000;
/// Files that a process needs besides.
const SPARE_FILES: u64 = 256;
/// The aim, in megabytes.
const AIM: f64 = 200.0;
/// Clients that ask at the same time.
const ASKING: usize = 50;
/// A source address has fewer ports than that, and others use some.
const CLIENTS_PER_ADDRESS: usize = 2_000;
/// How long the process has been idle, apart from its clients, when its memory is read; its processor
/// time is measured meanwhile.
const IDLE: Duration = Duration::from_secs(10);
/// Clients whose turns are answered at last, while all others wait.
const SERVED: usize = 100;
const SERVED_FOR: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    // Its thousands of turns would be answered by the next worker.
    let system = &bench.another_system().await?;
    let clients = (CLIENTS / bench.scale.divisor).min(affordable_clients()?);
    let clock = Clock::start();
    let model = Model::start(clock).await?;
    let (mut api, listening) = system.role("api").await?;
    let address = listening.http.context("api has no HTTP address")?;
    let window = Window::new(clock);

    // No worker runs: every client waits for a turn that does not begin.
    let begun = Instant::now();
    let readers: Vec<anyhow::Result<Reader>> = stream::iter(0..clients)
        .map(|number| open(address, number, &window))
        .buffered(ASKING)
        .collect()
        .await;
    let readers = readers.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let opening = begun.elapsed().as_secs_f64();

    let (time, idle) = (procfs::processor_time(api.pid())?, Instant::now());
    let server = procfs::processor_time(system.server_pid())?;
    sleep(IDLE).await;
    let share = |used: Duration| 100.0 * used.as_secs_f64() / idle.elapsed().as_secs_f64();
    let api_share = share(procfs::processor_time(api.pid())?.saturating_sub(time));
    let server_share = share(procfs::processor_time(system.server_pid())?.saturating_sub(server));
    let memory = procfs::resident_megabytes(api.pid())?;

    let mut delays = serve_some(system, &model, &window, readers).await?;
    let what = format!("{clients} open clients");
    report.at_most(format!("{what}: memory of `api`"), memory, AIM, "MB");
    report.reference(format!("{what}: processor of `api`, idle"), api_share, "%");
    report.reference(
        format!("{what}: processor of Postgres, idle"),
        server_share,
        "%",
    );
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    report.reference(format!("{what}: accepted"), clients as f64 / opening, "/s");
    report.reference(
        format!("{what}, {SERVED} of them served: delivery p99"),
        percentile(&mut delays, 0.99),
        "ms",
    );
    if clients < CLIENTS {
        report.note(format!(
            "Open clients: this system allows too few open files for {CLIENTS} clients."
        ));
    }
    api.stop(PATIENCE).await?;
    Ok(())
}

/// Raises this process's limit of open files, which children inherit, as far as it goes; returns how
/// many clients fit.
fn affordable_clients() -> anyhow::Result<usize> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(usize::try_from(most.saturating_sub(SPARE_FILES))?)
}

/// A visitor of its own who has asked and waits; the first bytes of the answer are there.
async fn open(address: SocketAddr, number: usize, window: &Window) -> anyhow::Result<Reader> {
    let socket = TcpSocket::new_v4()?;
    let network = u8::try_from(number / CLIENTS_PER_ADDRESS).context("too many clients")?;
    socket.bind((Ipv4Addr::new(127, 0, 1, 1 + network), 0).into())?;
    let tcp: TcpStream = socket.connect(address).await?;
    let session = format!("{}-open-{number}", std::process::id());
    let mut reader = Reader::send(tcp, &wire::chat(&session)).await?;
    ensure!(
        timeout(PATIENCE, reader.read(window)).await??,
        "a client was cut"
    );
    Ok(reader)
}

/// A worker comes that answers some of the clients: how long their tokens are on their way.
async fn serve_some(
    system: &System,
    model: &Model,
    window: &Arc<Window>,
    readers: Vec<Reader>,
) -> anyhow::Result<Vec<f64>> {
    let mut reading = JoinSet::new();
    let enough = Arc::new(Semaphore::new(0));
    for mut reader in readers {
        let (window, enough) = (window.clone(), enough.clone());
        reading.spawn(async move {
            let stopped = async { drop(enough.acquire().await) };
            let read = async {
                while reader.read(&window).await? {}
                anyhow::bail!("a client was cut")
            };
            tokio::select! {
                () = stopped => Ok(reader.noted()),
                cut = read => cut,
            }
        });
    }
    let (url, at_once) = (model.url(), SERVED.to_string());
    let variables = [
        ("ANTHROPIC_BASE_URL", url.as_str()),
        ("WORKER_CONCURRENCY", at_once.as_str()),
    ];
    let (mut worker, _) = system.role_with("worker", &variables).await?;
    let deadline = Instant::now() + PATIENCE;
    while window.begun() < SERVED {
        ensure!(
            Instant::now() < deadline,
            "{} clients are served",
            window.begun()
        );
        if let Some(cut) = reading.try_join_next() {
            cut??;
        }
        sleep(Duration::from_millis(10)).await;
    }
    window.open();
    sleep(SERVED_FOR).await;
    window.close();
    worker.kill().await?;
    enough.close();
    let mut delays = Vec::new();
    while let Some(noted) = reading.join_next().await {
        delays.extend(noted??.milliseconds());
    }
    Ok(delays)
}
