//! The event writer: one task of the process that writes the frames of all its turns.
//!
//! Group commit without a delay: what piles up while a statement is under way goes with the next
//! one. So a lone turn's first words wait for nobody, and a thousand turns share a commit.
//!
//! A statement that failed is repeated until the database takes it. It may have been committed all
//! the same; the log's primary key makes the second time harmless.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use sqlx::PgPool;
use store::{
    bus::{Bus, Wake},
    db::reconnect_waits,
    events,
    ids::TurnKey,
    protocol::Chunk,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::outbox::{Batch, BatchLimit, LaneId, Outbox};

/// The most bytes of a turn that are not durable: whoever has more to say waits. Some ten thousand
/// words, which no reader is ahead of.
const MOST_UNWRITTEN: usize = 64 * 1024;
/// One statement's frames: a few milliseconds of the database's time.
const BATCH: BatchLimit = BatchLimit {
    frames: 1_024,
    bytes: 1024 * 1024,
};

/// The writer has ended, with the process: nothing can be added to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the event writer has ended")]
pub struct WriterEnded;

/// The event writer of a process. Clones share it.
#[derive(Debug, Clone)]
pub struct EventWriter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pool: PgPool,
    bus: Bus,
    outbox: Mutex<Outbox>,
    arrived: Notify,
    ended: AtomicBool,
}

/// One attempt's way into the log. Dropping it forgets what it had not written yet.
#[derive(Debug)]
pub struct Emitter {
    inner: Arc<Inner>,
    lane: LaneId,
    written: Arc<Notify>,
}

impl EventWriter {
    /// A writer, which writes while [`EventWriter::run`] runs.
    pub fn new(pool: PgPool, bus: Bus) -> Self {
        let inner = Inner {
            pool,
            bus,
            outbox: Mutex::default(),
            arrived: Notify::new(),
            ended: AtomicBool::new(false),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The way into the log for an attempt, which has no frames yet.
    pub fn emitter(&self, key: TurnKey, attempt: i32) -> Emitter {
        let (lane, written) = self.inner.outbox.lock().open(key, attempt);
        Emitter {
            inner: self.inner.clone(),
            lane,
            written,
        }
    }

    /// Writes until `shutdown`, then what is left. To be stopped after the handlers. A database that
    /// is down at the very end is not waited for: the turns that are cut off begin again elsewhere.
    pub async fn run(&self, shutdown: CancellationToken) {
        // Even when the task is dropped half-way, nobody may wait for it for ever.
        let _ended = Ended(&self.inner);
        loop {
            let arrived = self.inner.arrived.notified();
            let batch = self.inner.outbox.lock().take(BATCH);
            if batch.events.is_empty() {
                if shutdown.is_cancelled() {
                    return;
                }
                shutdown.run_until_cancelled(arrived).await;
            } else if !self.write(&batch, &shutdown).await {
                return;
            }
        }
    }

    /// Writes one batch, however long it takes; false: the process ends and it could not.
    async fn write(&self, batch: &Batch, shutdown: &CancellationToken) -> bool {
        let mut waits = reconnect_waits();
        while let Err(error) = self.append(batch).await {
            if shutdown.is_cancelled() {
                tracing::warn!(error = %error, frames = batch.events.len(), "frames were left unwritten at the end");
                return false;
            }
            tracing::warn!(error = %error, "frames could not be written yet");
            let wait = waits.next().unwrap_or(Duration::from_secs(5));
            shutdown.run_until_cancelled(tokio::time::sleep(wait)).await;
        }
        self.inner.outbox.lock().written(batch);
        self.inner.bus.publish(&Wake {
            turns: batch.events.iter().map(|event| event.key.clone()).collect(),
            ..Wake::default()
        });
        true
    }

    async fn append(&self, batch: &Batch) -> sqlx::Result<u64> {
        let mut conn = self.inner.pool.acquire().await?;
        events::append(&mut conn, &batch.events).await
    }
}

struct Ended<'i>(&'i Inner);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Release);
        self.0.outbox.lock().wake_all();
    }
}

impl Emitter {
    /// Waits until the turn may add to the log. May be dropped half-way.
    pub async fn ready(&self) -> Result<(), WriterEnded> {
        self.until(|outbox| (outbox.unwritten(self.lane) < MOST_UNWRITTEN).then_some(()))
            .await
    }

    /// Adds a frame. Call [`Emitter::ready`] before what may be much.
    pub fn push(&self, chunk: Chunk) {
        if self.inner.outbox.lock().push(self.lane, chunk) {
            self.inner.arrived.notify_one();
        }
    }

    /// Waits until the turn may add to the log, and adds a frame.
    pub async fn emit(&self, chunk: Chunk) -> Result<(), WriterEnded> {
        self.ready().await?;
        self.push(chunk);
        Ok(())
    }

    /// Waits until everything is durable. Returns the number that the next frame has.
    pub async fn flush(&self) -> Result<i32, WriterEnded> {
        self.until(|outbox| outbox.settled(self.lane)).await
    }

    async fn until<T>(&self, holds: impl Fn(&Outbox) -> Option<T>) -> Result<T, WriterEnded> {
        loop {
            let mut written = std::pin::pin!(self.written.notified());
            // Registered before the look, so that nothing that happens after it is missed.
            written.as_mut().enable();
            if let Some(value) = holds(&self.inner.outbox.lock()) {
                return Ok(value);
            }
            if self.inner.ended.load(Ordering::Acquire) {
                return Err(WriterEnded);
            }
            written.await;
        }
    }
}

impl Drop for Emitter {
    fn drop(&mut self) {
        self.inner.outbox.lock().close(self.lane);
    }
}
