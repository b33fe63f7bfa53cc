//! The bounded queue between the hub and one client.

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use parking_lot::Mutex;

/// Frames a client may be behind before it is skipped.
pub(super) const MAX_FRAMES: usize = 256;

/// Bytes a client may be behind before it is skipped. One frame may reach beyond.
pub(super) const MAX_BYTES: usize = 128 * 1024;

/// How a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// On purpose, after everything that was queued.
    Clean,
    /// Abruptly, after everything that was queued.
    Cut,
}

/// What became of a frame that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    /// It is queued.
    Taken,
    /// There is no room; the client is noted as hungry once it has drained.
    Full,
    /// The client went away.
    Gone,
}

/// What a client takes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A frame; `hungry` says that the hub skipped this client and it has room again.
    Frame {
        /// The frame.
        bytes: Bytes,
        /// Whether the hub is to be told.
        hungry: bool,
    },
    /// The stream is over.
    End(End),
}

/// The queue of one client.
#[derive(Debug, Default)]
pub(super) struct Lane(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Bytes>,
    bytes: usize,
    end: Option<End>,
    gone: bool,
    skipped: bool,
    taken: u64,
    waker: Option<Waker>,
}

impl State {
    fn has_room(&self) -> bool {
        self.frames.len() < MAX_FRAMES && self.bytes < MAX_BYTES
    }

    fn has_drained(&self) -> bool {
        self.frames.len() <= MAX_FRAMES / 2 && self.bytes <= MAX_BYTES / 2
    }
}

impl Lane {
    /// Queues a frame if there is room.
    pub(super) fn offer(&self, frame: &Bytes) -> Offer {
        let mut state = self.0.lock();
        if state.gone || state.end.is_some() {
            return Offer::Gone;
        }
        if !state.has_room() {
            state.skipped = true;
            return Offer::Full;
        }
        state.bytes += frame.len();
        state.frames.push_back(frame.clone());
        wake(state);
        Offer::Taken
    }

    /// How many frames were queued so far, those that the client has taken included.
    pub(super) fn given(&self) -> u64 {
        let state = self.0.lock();
        state.taken + u64::try_from(state.frames.len()).unwrap_or(u64::MAX)
    }

    /// Ends the stream behind `last` and what is queued. The first end stands.
    pub(super) fn end(&self, end: End, last: Option<Bytes>) {
        let mut state = self.0.lock();
        if state.end.is_some() {
            return;
        }
        state.frames.extend(last);
        state.end = Some(end);
        wake(state);
    }

    /// Ends the stream abruptly and at once.
    pub(super) fn drop_now(&self) {
        let mut state = self.0.lock();
        state.frames = VecDeque::new();
        state.end = Some(End::Cut);
        wake(state);
    }

    /// The client went away.
    pub(super) fn leave(&self) {
        let mut state = self.0.lock();
        state.gone = true;
        state.frames = VecDeque::new();
    }

    /// Whether the client can be given more. If not, it is noted as skipped.
    pub(super) fn has_room(&self) -> bool {
        let mut state = self.0.lock();
        let has_room = state.has_room();
        state.skipped |= !has_room;
        has_room
    }

    /// `Some(frames taken so far)` while the client is skipped because it does not read.
    pub(super) fn stalled_at(&self) -> Option<u64> {
        let state = self.0.lock();
        state.skipped.then_some(state.taken)
    }

    /// The client's next frame.
    pub(super) fn poll_next(&self, context: &mut Context<'_>) -> Poll<Next> {
        let mut state = self.0.lock();
        if let Some(bytes) = state.frames.pop_front() {
            state.bytes = state.bytes.saturating_sub(bytes.len());
            state.taken += 1;
            let hungry = state.skipped && state.has_drained();
            state.skipped &= !hungry;
            return Poll::Ready(Next::Frame { bytes, hungry });
        }
        if let Some(end) = state.end {
            return Poll::Ready(Next::End(end));
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            waker => *waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

/// Wakes the client without holding its lock.
fn wake(mut state: parking_lot::MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}
