//! Wake-ups that are lost: on the wire, with the LISTEN connection, with the process that should
//! have sent them, and in a server that takes no more of them.

use std::time::{Duration, Instant};

use futures::future::join_all;
use sandbox::anthropic::{Pace, Reply};
use sqlx::{Connection, PgConnection, PgPool};
use store::{
    bus::{Bus, Wake},
    db::DatabaseConfig,
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::support::{
    ApiProcess, SystemProcess, TestSystem,
    activity::Activity,
    frames::{End, Frame, Frames, Next, PATIENCE},
    process::{assert_one_answer, resets, shown_text, until_text},
    wire::Wire,
};

/// What a lost wake-up may cost (02-queue).
const HEALED: Duration = Duration::from_secs(2);
/// What this machine may cost on top of it when it is busy with other tests.
const MARGIN: Duration = Duration::from_secs(1);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !condition().await {
            tokio::time::sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, waited)
        .await
        .unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

/// Everything up to the end. The comments of a stream that is silent come for ever.
async fn to_the_end(stream: &mut Frames) -> (Vec<Frame>, End) {
    timeout(PATIENCE, stream.rest())
        .await
        .expect("the stream has no end")
}

async fn no_poll() -> TestSystem {
    let mut system = TestSystem::with_own_server().await;
    system.set("QUEUE_IDLE_POLL_SECONDS", "0");
    system
}

#[track_caller]
fn assert_exact(frames: &[Frame], turn: u32) {
    let positions: Vec<_> = frames.iter().map(Frame::position).collect();
    let expected: Vec<_> = (1..).map(|seq| (turn, 1, seq)).take(frames.len()).collect();
    assert_eq!(positions, expected);
}

async fn queued(pool: &PgPool) -> bool {
    sqlx::query_scalar("select bool_and(status = 'queued') from turns")
        .fetch_one(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn frames_come_within_two_seconds_when_every_wake_up_is_lost() {
    let mut system = no_poll().await;
    let pool = system.pool().await;
    let pace = Pace {
        between_tokens: Duration::from_millis(200),
        ..Pace::default()
    };
    system.anthropic.on("count", Reply::words(20).paced(pace));
    let _worker = system.worker().await;
    let wire = Wire::to(&system.database_url()).await;
    system.set("CHECKPOINT_DB_URL", &wire.url(&system.database_url()));
    let api = system.api().await;
    // One that never heard anything would take that for a pooler's doing.
    until("it hears itself", async || {
        let ready = api.get("/ready").send().await.unwrap();
        let ready: serde_json::Value = ready.json().await.unwrap();
        ready["checks"]["listener"] == "ok"
    })
    .await;
    wire.lose_notifications(true);
    let mut stream = api.ask("s1", "m1", "Please count.").await;
    // When each frame is seen in the table, and when the client is given it.
    let written = async {
        let mut seen = Vec::new();
        loop {
            let (count, over): (i64, bool) = sqlx::query_as(
                "select count(*), coalesce(bool_or(terminal), false) from turn_events",
            )
            .fetch_one(&pool)
            .await
            .unwrap();
            seen.resize(usize::try_from(count).unwrap(), Instant::now());
            if over {
                return seen;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let read = async {
        let mut frames = Vec::new();
        loop {
            match stream.next().await {
                Next::Frame(frame) => frames.push((frame, Instant::now())),
                Next::Comment => {}
                Next::End(end) => return (frames, end),
            }
        }
    };
    let both = async { tokio::join!(written, read) };
    let (written, (frames, end)) = timeout(PATIENCE, both).await.expect("it has no end");
    assert_eq!(end, End::Clean);
    assert_eq!(frames.len(), written.len());
    let (frames, given): (Vec<_>, Vec<_>) = frames.into_iter().unzip();
    assert_exact(&frames, 1);
    let delays = written.iter().zip(&given);
    let slowest = delays.map(|(written, given)| given.saturating_duration_since(*written));
    let slowest = slowest.max().unwrap();
    assert!(slowest < HEALED, "{slowest:?}");
    // They were lost indeed: the poll of every second is slower than wake-ups are.
    assert!(wire.lost() > 0);
    assert!(slowest > Duration::from_millis(300), "{slowest:?}");
}

#[tokio::test]
async fn a_job_whose_wake_up_is_lost_begins_within_two_seconds_while_its_client_waits() {
    let system = no_poll().await;
    let pool = system.pool().await;
    let wire = Wire::to(&system.database_url()).await;
    let url = wire.url(&system.database_url());
    let activity = Activity::of(&system).await;
    let (api, _worker) = (
        system.api().await,
        system.worker_with(&[("CHECKPOINT_DB_URL", &url)]).await,
    );
    activity.started(2).await;
    for turn in 1..=3 {
        wire.lose_notifications(true);
        let before = wire.lost();
        let message = format!("m{turn}");
        let mut stream = api.ask("s1", &message, "hello").await;
        until("it is lost", async || wire.lost() > before).await;
        wire.lose_notifications(false);
        let lost = Instant::now();
        let (frames, end) = to_the_end(&mut stream).await;
        assert!(lost.elapsed() < HEALED + MARGIN, "{:?}", lost.elapsed());
        assert_eq!(end, End::Clean);
        assert_exact(&frames, turn);
    }
    // The worker has had its last look behind those turns.
    activity.comes_to_rest().await;
    // Nobody waits for this one, so nothing wakes the worker again until somebody comes.
    wire.lose_notifications(true);
    let before = wire.lost();
    api.submit("s2", "m1", "hello").await;
    until("it is lost", async || wire.lost() > before).await;
    wire.lose_notifications(false);
    sqlx::query("delete from sessions where session_id = 's1'")
        .execute(&pool)
        .await
        .unwrap();
    assert!(queued(&pool).await);
    let come = Instant::now();
    let (frames, end) = to_the_end(&mut api.resume("s2", "1-0-0").await).await;
    assert!(come.elapsed() < HEALED + MARGIN, "{:?}", come.elapsed());
    assert_eq!(end, End::Clean);
    assert_exact(&frames, 1);
}

/// A worker that hears by `wire`, as the third who listens. From its start on it watches leases that it
/// may not have heard of; that is over.
async fn resting_peer(system: &TestSystem, wire: &Wire, activity: &Activity) -> SystemProcess {
    let url = wire.url(&system.database_url());
    let peer = system.worker_with(&[("CHECKPOINT_DB_URL", &url)]).await;
    activity.listening(3).await;
    activity.comes_to_rest().await;
    peer
}

#[tokio::test]
async fn a_turn_whose_process_dies_before_its_peers_know_of_it_is_taken_over_when_its_client_is_back()
 {
    let system = no_poll().await;
    let wire = Wire::to(&system.database_url()).await;
    let activity = Activity::of(&system).await;
    let mut dying = system.serve().await;
    let api = system.api().await;
    let _peer = resting_peer(&system, &wire, &activity).await;
    // Neither the job nor the lease is heard of.
    wire.lose_notifications(true);
    system
        .anthropic
        .on("count", Reply::words(20).stalling_after(5));
    let mut stream = dying.ask("s1", "m1", "Please count.").await;
    let mut frames = until_text(&mut stream).await;
    dying.process.kill().await;
    let (rest, end) = to_the_end(&mut stream).await;
    frames.extend(rest);
    assert_eq!(end, End::Cut);
    assert!(wire.lost() > 0);
    wire.lose_notifications(false);
    system.anthropic.on("count", Reply::words(20));
    let killed = Instant::now();
    let after = frames.last().unwrap().id.clone();
    let mut stream = api.resume("s1", &after).await;
    let next = timeout(PATIENCE, stream.frame())
        .await
        .expect("nobody takes the turn over");
    // The lease of 4 s, and a wake-up that comes within a second.
    let takeover = killed.elapsed();
    assert!(takeover < Duration::from_secs(6) + MARGIN, "{takeover:?}");
    frames.push(next);
    let (rest, end) = to_the_end(&mut stream).await;
    frames.extend(rest);
    assert_eq!((end, resets(&frames)), (End::Clean, 1));
    assert_one_answer(&api.transcript("s1").await, &shown_text(&frames));
}

#[tokio::test]
async fn a_turn_that_falls_silent_is_looked_after_while_its_client_waits() {
    let system = no_poll().await;
    let wire = Wire::to(&system.database_url()).await;
    let activity = Activity::of(&system).await;
    let (api, mut dying) = (system.api().await, system.worker().await);
    let _peer = resting_peer(&system, &wire, &activity).await;
    wire.lose_notifications(true);
    system
        .anthropic
        .on("count", Reply::words(20).stalling_after(5));
    let mut stream = api.ask("s1", "m1", "Please count.").await;
    let mut frames = until_text(&mut stream).await;
    dying.kill().await;
    wire.lose_notifications(false);
    system.anthropic.on("count", Reply::words(20));
    let (rest, end) = to_the_end(&mut stream).await;
    frames.extend(rest);
    assert_eq!((end, resets(&frames)), (End::Clean, 1));
    assert_one_answer(&api.transcript("s1").await, &shown_text(&frames));
}

/// Asks again and again; every answer must be whole and in order.
async fn converse(api: &ApiProcess, session: &str, over: &CancellationToken) -> u32 {
    let mut turn = 0;
    while !over.is_cancelled() {
        turn += 1;
        let message = format!("m{turn}");
        let mut frames = api.ask(session, &message, "Please count.").await;
        let (frames, end) = to_the_end(&mut frames).await;
        assert_eq!(end, End::Clean);
        assert_exact(&frames, turn);
        assert!(shown_text(&frames).ends_with("word30"));
    }
    turn
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_is_terminated_100_times_costs_no_frame_no_job_and_no_connection() {
    const CONNECTIONS: usize = 4;
    // Of the tasks that issue the same statements all day.
    const HOT: usize = 4;
    let mut system = TestSystem::with_own_server().await;
    system.set("DATABASE_MAX_CONNECTIONS", &CONNECTIONS.to_string());
    let pace = Pace {
        between_tokens: Duration::from_millis(10),
        ..Pace::default()
    };
    system.anthropic.on("count", Reply::words(30).paced(pace));
    let activity = Activity::of(&system).await;
    let (api, _worker) = (system.api().await, system.worker().await);
    let over = CancellationToken::new();
    let sessions = ["s1", "s2", "s3", "s4"];
    let talks = join_all(sessions.map(|session| converse(&api, session, &over)));
    let terminations = async {
        for _ in 0..50 {
            // Of both processes: a hundred.
            let listeners = activity.listening(2).await;
            activity.terminate(&listeners).await;
        }
        over.cancel();
    };
    let (turns, ()) = tokio::join!(talks, terminations);
    assert!(turns.iter().all(|turns| *turns > 1), "{turns:?}");
    let pool = system.pool().await;
    let wrong: i64 =
        sqlx::query_scalar("select count(*) from turns where status <> 'answered' or attempt <> 1")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(wrong, 0);
    // A process of the API that was cut when nobody waited listens again when somebody does.
    let mut last = api.ask("s1", "last", "Please count.").await;
    activity.listening(2).await;
    assert_eq!(to_the_end(&mut last).await.1, End::Clean);
    // Both pools of each process, the two that listen, and the one that renews.
    let connections = activity.backends().await.len();
    assert!(connections <= 2 * (CONNECTIONS + HOT) + 3, "{connections}");
}

/// A session that listens and does not read: the server keeps every notification for it.
async fn hold_up_notifications(url: &str) -> PgConnection {
    let mut blocker = PgConnection::connect(url).await.unwrap();
    for statement in ["listen noise", "begin", "select 1"] {
        sqlx::query(statement).execute(&mut blocker).await.unwrap();
    }
    let mut noise = PgConnection::connect(url).await.unwrap();
    // Until not even the smallest one fits.
    for size in [7_900, 1_000, 100, 1] {
        while sqlx::query(
            "select pg_notify('noise', repeat('x', $1) || n) from generate_series(1, 20) n",
        )
        .bind(size)
        .execute(&mut noise)
        .await
        .is_ok()
        {}
    }
    blocker
}

#[tokio::test]
async fn a_server_that_takes_no_more_notifications_costs_two_seconds_and_no_message() {
    let mut system = TestSystem::with_server(&[("max_notify_queue_pages", "64")]).await;
    // None of the polls falls into this test.
    system.set("QUEUE_IDLE_POLL_SECONDS", "3600");
    let (api, worker) = (system.api().await, system.worker().await);
    let activity = Activity::of(&system).await;
    activity.started(2).await;
    let blocker = hold_up_notifications(&system.database_url()).await;

    // A worker that has been idle since before can't know: somebody has to wake it.
    let mut first = api.ask("s1", "m1", "hello").await;
    until("the wake-up fails", async || {
        system.count_logged("wake-ups are not sent") > 0
    })
    .await;
    let url = format!("http://{}/wake", worker.metrics_address());
    system.client.post(url).send().await.unwrap();
    assert_eq!(to_the_end(&mut first).await.1, End::Clean);
    // From then on it looks by itself, until it is told again.
    for turn in 2..=4 {
        let asked = Instant::now();
        let mut frames: Frames = api.ask("s1", &format!("m{turn}"), "hello").await;
        let (frames, end) = to_the_end(&mut frames).await;
        assert_eq!(end, End::Clean);
        assert_exact(&frames, turn);
        let took = asked.elapsed();
        assert!(took < HEALED + MARGIN, "{took:?}");
    }
    // Several failures a second, and one line of each process.
    assert!(system.count_logged("wake-ups are not sent") <= 2);

    blocker.close().await.unwrap();
    until("both can tell each other again", async || {
        system.count_logged("wake-ups are sent again") == 2
    })
    .await;
    let mut fastest = Duration::MAX;
    for turn in 5..10 {
        let asked = Instant::now();
        let mut stream = api.ask("s1", &format!("m{turn}"), "hello").await;
        to_the_end(&mut stream).await;
        fastest = fastest.min(asked.elapsed());
    }
    assert!(fastest < Duration::from_millis(400), "{fastest:?}");
}

/// A bus along a wire, with somebody who listens to it.
async fn bus_along(wire: &Wire, url: &str) -> (Bus, tokio::task::JoinHandle<()>) {
    let bus = Bus::with_silence("along the wire", Duration::from_millis(200));
    let database = DatabaseConfig::new(wire.url(url), 2).open().unwrap();
    let task = bus.clone();
    let running = tokio::spawn(async move { task.run(&database, CancellationToken::new()).await });
    until("it listens", async || bus.is_listening()).await;
    (bus, running)
}

#[tokio::test]
async fn a_listen_connection_that_is_dead_without_a_word_is_replaced_while_somebody_waits() {
    let database = sandbox::postgres::TestDatabase::create().await.unwrap();
    let url = database.url().to_owned();
    let wire = Wire::to(&url).await;
    let (bus, running) = bus_along(&wire, &url).await;
    let connected = wire.connections();
    // Nobody waits: not a byte is sent, however long it is silent.
    let sent = wire.sent();
    let quiet = timeout(Duration::from_secs(1), async {
        until("something is sent", async || wire.sent() > sent).await;
    });
    assert!(quiet.await.is_err());
    // Somebody waits: it is asked, and answers.
    let interest = bus.interest();
    until("it is asked", async || wire.sent() > sent).await;
    wire.go_dead();
    until("another one is made", async || {
        wire.connections() > connected
    })
    .await;
    until("it listens", async || bus.is_listening()).await;
    let mut subscription = bus.subscribe();
    drop(interest);
    let mut other = PgConnection::connect(&url).await.unwrap();
    sqlx::query("select pg_notify('growth_chat', E'other\\nq turns')")
        .execute(&mut other)
        .await
        .unwrap();
    let heard = async {
        loop {
            let wake: Wake = subscription.wait().await;
            if wake.queues.contains("turns") {
                return;
            }
        }
    };
    timeout(PATIENCE, heard).await.expect("it does not hear");
    running.abort();
}
