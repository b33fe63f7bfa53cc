//! How many SQL statements processes issue that have nothing to do.

use std::time::Duration;

use sandbox::process::Process;
use tokio::time::sleep;

use crate::{
    arena::Ground,
    bench::Bench,
    comparison::{Better, Cell},
    contender::Idle,
    progress::progress,
    report::{Report, median},
};

/// After its start a worker may look at everything once.
const SETTLE: Duration = Duration::from_secs(5);

/// `serve` with a variable on top of its usual ones, and how many statements a minute it may issue.
struct Serve {
    name: &'static str,
    variables: &'static [(&'static str, &'static str)],
    aim: f64,
}

const SERVES: [Serve; 2] = [
    Serve {
        name: "`serve`, by default",
        variables: &[],
        aim: 2.0,
    },
    Serve {
        name: "`serve`, `QUEUE_IDLE_POLL_SECONDS=0`",
        variables: &[("QUEUE_IDLE_POLL_SECONDS", "0")],
        aim: 0.0,
    },
];

/// Who idles.
enum Idler {
    Contender(Idle),
    Serve(Process, f64),
}

/// One that idles, and what was counted.
struct Counted {
    name: String,
    idler: Idler,
    ground: Ground,
    per_minute: Vec<f64>,
}

pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let arena = bench.arena().await?;
    let (contenders, absent) = bench.contenders().await?;
    let system = bench.system().await?;
    let mut counted = Vec::new();
    let mut failed = Vec::new();
    // All at once: they do nothing, so they don't disturb each other.
    for contender in contenders.iter().filter(|contender| !contender.only_single) {
        let (name, ground) = (contender.name.clone(), arena.fresh().await?);
        match contender.idle(&bench.watchdog, &ground.url).await {
            Ok(idle) => counted.push(Counted {
                name,
                idler: Idler::Contender(idle),
                ground,
                per_minute: Vec::new(),
            }),
            Err(error) => failed.push((name, Cell::Failed(format!("{error:#}")))),
        }
    }
    for Serve {
        name,
        variables,
        aim,
    } in SERVES
    {
        let ground = arena.migrated().await?;
        let (process, _) = system.role_on("serve", &ground.url, variables).await?;
        counted.push(Counted {
            name: name.to_owned(),
            idler: Idler::Serve(process, aim),
            ground,
            per_minute: Vec::new(),
        });
    }
    sleep(SETTLE).await;
    for _ in 0..bench.scale.runs {
        let mut before = Vec::new();
        for one in &counted {
            before.push(arena.statements(&one.ground).await?);
        }
        sleep(bench.scale.idle_window).await;
        for (one, before) in counted.iter_mut().zip(before) {
            let statements = arena.statements(&one.ground).await? - before;
            let statements = f64::from(i32::try_from(statements)?);
            let per_minute = statements * 60.0 / bench.scale.idle_window.as_secs_f64();
            progress(&format!("  {}: {per_minute:.1}", one.name));
            one.per_minute.push(per_minute);
        }
    }
    let mut cells = Vec::new();
    for mut one in counted {
        let figure = median(&mut one.per_minute);
        match one.idler {
            Idler::Contender(idle) => match idle.stop(&bench.watchdog).await {
                Ok(()) => cells.push((one.name, Cell::Figure(figure))),
                Err(error) => cells.push((one.name, Cell::Failed(format!("{error:#}")))),
            },
            Idler::Serve(mut process, aim) => {
                report.at_most(format!("idle, {}", one.name), Some(figure), aim, "SQL/min");
                process.stop(Duration::from_secs(30)).await?;
            }
        }
        arena.clear(one.ground).await?;
    }
    cells.extend(failed);
    let title = "idle, SQL statements/min";
    report.comparison.column(title, Better::Less, cells);
    report.comparison.absent(absent);
    report.note(format!(
        "Idle: statements of a minute by `pg_stat_statements`, transaction control included, from {} s after the start; \
         {} windows of {} s.",
        SETTLE.as_secs(),
        bench.scale.runs,
        bench.scale.idle_window.as_secs()
    ));
    Ok(())
}
