//! The stream hub: hands the durable events of turns to the clients that wait for them.
//!
//! One task per process reads for all clients: a wake-up of the bus, or a client that joins or has
//! drained, marks turns; one query reads everything behind the cursors of the marked turns; each
//! client is given the frames behind its own cursor. Wake-ups may come twice, late or never: while
//! at least one client waits, all turns are read once a second as well. Without clients the task
//! sleeps without a timer. Clients that follow a session, and wait for a turn that may never come, are read
//! for every 15 s only, and told who speaks ([`follow`]). A turn of which a client has been given nothing between two of those reads
//! may have lost its worker: the workers are woken.
//!
//! A client that does not read is skipped once its queue is full, catches up from the table when it
//! has drained, and is dropped when it has taken nothing for 30 s. It may resume. When the database
//! is away, clients stay connected and the read is repeated until it succeeds.

mod body;
mod fanout;
mod follow;
mod frame;
mod lane;
mod nudge;

use std::{future::ready, sync::Arc, time::Duration};

use parking_lot::Mutex;
use sqlx::PgPool;
use store::{
    agents::{self, Presence},
    bus::{Bus, Subscription, Wake},
    events::{self, Cursor, Page},
    ids::{SessionId, TurnKey},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

pub use self::{
    body::{Cut, EventStream},
    fanout::Takeover,
};
use crate::problem::chain;

use self::{
    fanout::{Fanout, Patience, READ_LIMIT, Want},
    follow::Followers,
    lane::Lane,
    nudge::Nudge,
};

/// How long a lost wake-up delays frames at most (02-queue: healed in at most 2 s).
const RESCAN: Duration = Duration::from_secs(1);

/// The same for clients that only follow: they must not keep a database awake by looking.
const LOOK: Duration = Duration::from_secs(15);

/// Sessions that one look is at.
const SESSIONS_PER_LOOK: usize = 1_000;

/// How long one read may take before it counts as failed.
const READ_PATIENCE: Duration = Duration::from_secs(5);

/// The waits between reads that fail grow from the first to the second.
const RETRY_WAITS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The hub as routes see it. Clones share it.
#[derive(Debug, Clone)]
pub struct Hub {
    shared: Arc<Shared>,
    nudge: Arc<Nudge>,
}

/// What clients and the reading task share.
#[derive(Debug, Default)]
struct Shared {
    clients: Mutex<Clients>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Clients {
    fanout: Fanout,
    followers: Followers,
    closed: bool,
}

/// The reading end: run it in a task of its own, for as long as the process serves.
#[derive(Debug)]
pub struct HubReader {
    shared: Arc<Shared>,
    nudge: Arc<Nudge>,
    pool: PgPool,
    bus: Bus,
    subscription: Subscription,
    shutdown: CancellationToken,
}

impl Hub {
    /// A hub, and the reader that feeds it. When `shutdown` is cancelled every stream is cut, and
    /// new ones are cut at once: clients rejoin elsewhere.
    pub fn new(pool: PgPool, bus: &Bus, shutdown: CancellationToken) -> (Self, HubReader) {
        let shared = Arc::new(Shared::default());
        let nudge = Arc::new(Nudge::new(bus.clone()));
        let reader = HubReader {
            shared: shared.clone(),
            nudge: nudge.clone(),
            pool,
            bus: bus.clone(),
            subscription: bus.subscribe(),
            shutdown,
        };
        (Self { shared, nudge }, reader)
    }

    /// A client comes back to a turn that is not finished: its worker may be gone.
    pub fn wake_workers(&self) {
        self.nudge.workers();
    }

    /// The stream of a turn behind `cursor`. `finished` says that nothing will be added to it.
    pub fn join(
        &self,
        key: TurnKey,
        cursor: Cursor,
        takeover: Takeover,
        finished: bool,
    ) -> EventStream {
        let patience = if finished {
            Patience::Finished
        } else {
            Patience::Hurried
        };
        self.enter(key, cursor, takeover, patience)
    }

    /// The stream of a turn that may come, from its beginning, and of who speaks meanwhile.
    pub fn follow(&self, key: TurnKey, takeover: Takeover) -> EventStream {
        let cursor = Cursor::start_of(key.turn);
        self.enter(key, cursor, takeover, Patience::Patient)
    }

    fn enter(
        &self,
        key: TurnKey,
        cursor: Cursor,
        takeover: Takeover,
        patience: Patience,
    ) -> EventStream {
        let lane = Arc::new(Lane::default());
        let id = {
            let mut clients = self.shared.clients.lock();
            let id = clients
                .fanout
                .join(key.clone(), cursor, takeover, patience, lane.clone());
            if patience == Patience::Patient {
                let session_id = key.session_id.clone();
                clients
                    .followers
                    .join(session_id, id, lane.clone(), Instant::now());
            }
            if clients.closed {
                clients.fanout.drop_all();
            }
            id
        };
        self.shared.changed.notify_one();
        EventStream::new(self.shared.clone(), key, id, lane)
    }
}

impl Shared {
    /// A client of the turn has room again.
    fn mark(&self, key: &TurnKey) {
        self.clients.lock().fanout.mark(key);
        self.changed.notify_one();
    }

    /// What could not be read is read again.
    fn put_back(&self, wants: &[Want], sessions: Vec<SessionId>) {
        let mut clients = self.clients.lock();
        clients.fanout.put_back(wants);
        clients.followers.put_back(sessions);
    }

    fn leave(&self, key: &TurnKey, id: fanout::ReaderId) {
        let mut clients = self.clients.lock();
        clients.fanout.leave(key, id);
        clients.followers.leave(&key.session_id, id);
    }
}

impl HubReader {
    /// Feeds the clients until the shutdown, then cuts every stream.
    pub async fn run(mut self) {
        let shutdown = self.shutdown.clone();
        // What a stopped read leaves behind is read again by whoever the clients turn to.
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.feed() => {}
        }
        let mut clients = self.shared.clients.lock();
        clients.closed = true;
        clients.fanout.drop_all();
    }

    async fn feed(&mut self) {
        let mut next_rescan = Instant::now() + RESCAN;
        let mut next_look = Instant::now() + LOOK;
        let (mut retry_wait, longest_wait) = RETRY_WAITS;
        let mut interest = None;
        loop {
            let (idle, marked) = {
                let clients = self.shared.clients.lock();
                let marked = clients.fanout.has_marked() || clients.followers.has_marked();
                (clients.fanout.is_empty(), marked)
            };
            if idle {
                interest = None;
                next_rescan = Instant::now() + RESCAN;
            } else {
                interest.get_or_insert_with(|| self.bus.interest());
            }
            let wake = tokio::select! {
                // What came in is taken along by each round, however long the rounds go on.
                biased;
                wake = self.subscription.wait() => wake,
                () = self.shared.changed.notified() => Wake::default(),
                () = sleep_until(next_rescan), if !idle => Wake::default(),
                () = ready(()), if marked => Wake::default(),
            };
            let now = Instant::now();
            let mut silent = false;
            let (wants, sessions) = {
                let mut clients = self.shared.clients.lock();
                for key in &wake.turns {
                    clients.fanout.mark(key);
                }
                for session_id in &wake.sessions {
                    clients.followers.mark(session_id);
                }
                if wake.rescan || now >= next_look {
                    clients.fanout.mark_all();
                    clients.followers.mark_all();
                    next_look = now + LOOK;
                }
                if now >= next_rescan {
                    clients.fanout.mark_hurried();
                    clients.followers.end_silent(now);
                    silent = clients.fanout.is_any_silent();
                    let dropped = clients.fanout.drop_stalled(now);
                    if dropped > 0 {
                        tracing::info!(dropped, "clients that do not read were dropped");
                    }
                    next_rescan = now + RESCAN;
                }
                let sessions = clients.followers.plan(SESSIONS_PER_LOOK);
                (clients.fanout.plan(), sessions)
            };
            if silent {
                self.nudge.workers();
            }
            if wants.is_empty() && sessions.is_empty() {
                continue;
            }
            match self.read(&wants, &sessions).await {
                Ok((page, presences)) => {
                    let mut clients = self.shared.clients.lock();
                    // Who speaks goes before what they say.
                    clients
                        .followers
                        .tell(&sessions, &presences, Instant::now());
                    clients.fanout.deliver(&wants, &page, READ_LIMIT);
                    (retry_wait, _) = RETRY_WAITS;
                }
                Err(error) => {
                    self.shared.put_back(&wants, sessions);
                    metrics::counter!("growth_chat_hub_read_failures_total").increment(1);
                    tracing::warn!(
                        error = chain(&error),
                        "events could not be read; the read is repeated"
                    );
                    sleep(retry_wait).await;
                    retry_wait = (retry_wait * 2).min(longest_wait);
                }
            }
        }
    }

    async fn read(
        &self,
        wants: &[Want],
        sessions: &[SessionId],
    ) -> Result<(Page, Vec<(SessionId, Presence)>), ReadError> {
        let read = async {
            let mut conn = self.pool.acquire().await?;
            let presences = match sessions {
                [] => Vec::new(),
                _ => agents::presences(&mut conn, sessions).await?,
            };
            let page = match wants {
                [] => Page::default(),
                _ => events::read_after(&mut conn, wants, READ_LIMIT).await?,
            };
            Ok::<_, sqlx::Error>((page, presences))
        };
        Ok(timeout(READ_PATIENCE, read).await??)
    }
}

/// Why a read failed. It is repeated whatever the reason.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    #[error("the database took too long")]
    TimedOut(#[from] tokio::time::error::Elapsed),
}
