//! The body of one client's stream: what is queued for it, keep-alive comments, and its end.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::Stream;
use store::ids::TurnKey;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::{
    Shared,
    fanout::ReaderId,
    frame,
    lane::{End, Lane, Next},
};

/// A silent stream is closed by proxies after 60 s and more (05-facts: Fly's proxy, Cloudflare).
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The stream was ended abruptly, on purpose: a clean end would look like a whole answer.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the stream was cut")]
pub struct Cut;

/// One client's stream.
#[derive(Debug)]
pub struct EventStream {
    shared: Arc<Shared>,
    key: TurnKey,
    id: ReaderId,
    lane: Arc<Lane>,
    keep_alive: Interval,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    Open,
    /// What was sent before the cut is given one turn of the loop to leave the process.
    Cutting,
    Over,
}

impl EventStream {
    pub(super) fn new(shared: Arc<Shared>, key: TurnKey, id: ReaderId, lane: Arc<Lane>) -> Self {
        let mut keep_alive = interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
        keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        metrics::gauge!("growth_chat_sse_clients").increment(1);
        Self {
            shared,
            key,
            id,
            lane,
            keep_alive,
            phase: Phase::Opening,
        }
    }
}

impl Stream for EventStream {
    type Item = Result<Bytes, Cut>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        match this.phase {
            Phase::Opening => {
                this.phase = Phase::Open;
                return Poll::Ready(Some(Ok(frame::OPENING)));
            }
            Phase::Open => {}
            Phase::Cutting => {
                this.phase = Phase::Over;
                return Poll::Ready(Some(Err(Cut)));
            }
            Phase::Over => return Poll::Ready(None),
        }
        match this.lane.poll_next(context) {
            Poll::Ready(Next::Frame { bytes, hungry }) => {
                if hungry {
                    this.shared.mark(&this.key);
                }
                Poll::Ready(Some(Ok(bytes)))
            }
            Poll::Ready(Next::End(End::Clean)) => {
                this.phase = Phase::Over;
                Poll::Ready(None)
            }
            Poll::Ready(Next::End(End::Cut)) => {
                this.phase = Phase::Cutting;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => this
                .keep_alive
                .poll_tick(context)
                .map(|_| Some(Ok(frame::KEEP_ALIVE))),
        }
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.lane.leave();
        self.shared.leave(&self.key, self.id);
        metrics::gauge!("growth_chat_sse_clients").decrement(1);
    }
}
