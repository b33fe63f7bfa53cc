//! A stand-in for the model that speaks at an exact pace to a thousand callers and costs little: the
//! callers share the machine with it.
//!
//! A token says when it was written, in microseconds of the benchmark's clock: `@<microseconds>;`.
//! Whoever reads it knows how long it was on its way. One task writes for all callers, each of which
//! has its millisecond of twenty, so that their tokens are spread evenly over time.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use crate::wire::{LAST_CHUNK, STREAM_HEAD, chunk, read_request};

/// A stream speaks in one phase of twenty, each of a millisecond: 50 tokens a second.
const STEP: Duration = Duration::from_millis(1);
const PHASES: usize = 20;

const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_bench\",\
    \"type\":\"message\",\"role\":\"assistant\",\"model\":\"bench\",\"content\":[],\"usage\":{\"input_tokens\":1,\
    \"output_tokens\":1}}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\
    \"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n";
const END: &str = "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n\
    event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\
    \"usage\":{\"output_tokens\":1}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

/// Microseconds since the benchmark began: one clock for whoever writes and whoever reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// The stand-in. Dropped, it speaks no more.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Debug, Default)]
struct Shared {
    /// Every answer comes to its end.
    ending: AtomicBool,
    tokens: AtomicU64,
    callers: AtomicUsize,
}

impl Model {
    pub(crate) async fn start(clock: Clock) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let (joined, joining) = mpsc::unbounded_channel();
        let tasks = [
            tokio::spawn(accept(listener, shared.clone(), joined)),
            tokio::spawn(speak(clock, shared.clone(), joining)),
        ];
        Ok(Self {
            address,
            shared,
            tasks,
        })
    }

    /// For `ANTHROPIC_BASE_URL`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Tokens written so far.
    pub(crate) fn tokens(&self) -> u64 {
        self.shared.tokens.load(Ordering::Relaxed)
    }

    /// Answers begun so far.
    pub(crate) fn callers(&self) -> usize {
        self.shared.callers.load(Ordering::Relaxed)
    }

    /// Brings every answer to its end, or lets new ones go on.
    pub(crate) fn end_answers(&self, ending: bool) {
        self.shared.ending.store(ending, Ordering::Relaxed);
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    joined: mpsc::UnboundedSender<TcpStream>,
) {
    while let Ok((caller, _)) = listener.accept().await {
        let joined = joined.clone();
        let shared = shared.clone();
        tokio::spawn(async move {
            // A caller that goes away before its answer began is not one.
            if let Ok(caller) = begin(caller).await {
                shared.callers.fetch_add(1, Ordering::Relaxed);
                let _ = joined.send(caller);
            }
        });
    }
}

/// Reads a request and begins its answer.
async fn begin(mut caller: TcpStream) -> io::Result<TcpStream> {
    caller.set_nodelay(true)?;
    read_request(&mut caller).await?;
    caller.write_all(STREAM_HEAD.as_bytes()).await?;
    caller.write_all(&chunk(START)).await?;
    Ok(caller)
}

/// A caller, and what the socket has not taken of its last token.
struct Caller {
    tcp: TcpStream,
    left: Vec<u8>,
}

impl Caller {
    /// Writes what is left; whether the caller is still there.
    fn push(&mut self) -> bool {
        while !self.left.is_empty() {
            match self.tcp.try_write(&self.left) {
                Ok(count) => drop(self.left.drain(..count)),
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        true
    }
}

async fn speak(clock: Clock, shared: Arc<Shared>, mut joining: mpsc::UnboundedReceiver<TcpStream>) {
    let mut phases: Vec<Vec<Caller>> = (0..PHASES).map(|_| Vec::new()).collect();
    let mut joined = 0;
    let mut steps = interval(STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for phase in (0..PHASES).cycle() {
        steps.tick().await;
        while let Ok(tcp) = joining.try_recv() {
            let left = Vec::new();
            phases[joined % PHASES].push(Caller { tcp, left });
            joined += 1;
        }
        if shared.ending.load(Ordering::Relaxed) {
            for caller in std::mem::take(&mut phases[phase]) {
                tokio::spawn(end(caller));
            }
            continue;
        }
        phases[phase].retain_mut(|caller| {
            // Who does not take a token is not given the next: the count shows it.
            if caller.left.is_empty() {
                let token = format!(
                    "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\
                     \"delta\":{{\"type\":\"text_delta\",\"text\":\"@{};\"}}}}\n\n",
                    clock.now()
                );
                caller.left = chunk(&token);
                shared.tokens.fetch_add(1, Ordering::Relaxed);
            }
            caller.push()
        });
    }
}

async fn end(mut caller: Caller) {
    caller.left.extend(chunk(END));
    caller.left.extend_from_slice(LAST_CHUNK);
    // The caller may have gone.
    let _ = caller.tcp.write_all(&caller.left).await;
    let _ = caller.tcp.shutdown().await;
}
