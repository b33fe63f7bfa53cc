//! What every route works with.

use std::{future::Future, sync::Arc, time::Duration};

use parking_lot::Mutex;
use sqlx::{PgPool, Postgres, Transaction};
use store::{bus::Bus, clock::SharedClock, ids::SharedEntropy, trace::in_this_trace};
use tokio::time::{Instant, timeout};

use crate::{
    bodies::Bodies,
    config::ApiConfig,
    edge::Edge,
    hub::Hub,
    limits::Limiter,
    problem::{Code, Problem},
    widget_tokens::WidgetTokens,
};

/// How long a client waits for the database before it is told to come again.
const PATIENCE: Duration = Duration::from_secs(15);

/// What every route works with. Clones share it.
#[derive(Debug, Clone)]
pub struct State {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: ApiConfig,
    widget_tokens: WidgetTokens,
    edge: Edge,
    limiter: Limiter,
    bodies: Arc<Bodies>,
    pool: PgPool,
    bus: Bus,
    hub: Hub,
    entropy: SharedEntropy,
    clock: SharedClock,
    /// Until when new sessions need no sweep of their own.
    swept_for: Mutex<Option<Instant>>,
}

/// For so long after a sweep was seen to wait no other is asked for. A sweep is due in an hour at the
/// earliest (the shortest `SESSION_TTL_HOURS`), and then looks after every session that is there.
const SWEEP_KNOWN: Duration = Duration::from_mins(10);

impl State {
    /// Puts it together.
    pub fn new(
        config: ApiConfig,
        pool: PgPool,
        bus: Bus,
        hub: Hub,
        entropy: SharedEntropy,
        clock: SharedClock,
    ) -> Self {
        // From the start on, so that a rate can be taken of the first one.
        metrics::counter!("growth_chat_takeovers_total").increment(0);
        for why in ["person", "unreachable"] {
            metrics::counter!("growth_chat_hand_backs_total", "why" => why).increment(0);
        }
        Self {
            inner: Arc::new(Inner {
                widget_tokens: WidgetTokens::new(&config.widget_tokens),
                edge: Edge::new(&config.edge, config.environment),
                limiter: Limiter::new(config.limits, entropy.clone()),
                bodies: Bodies::new(),
                config,
                pool,
                bus,
                hub,
                entropy,
                clock,
                swept_for: Mutex::new(None),
            }),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &ApiConfig {
        &self.inner.config
    }

    pub(crate) fn widget_tokens(&self) -> &WidgetTokens {
        &self.inner.widget_tokens
    }

    pub(crate) fn edge(&self) -> &Edge {
        &self.inner.edge
    }

    pub(crate) fn limiter(&self) -> &Limiter {
        &self.inner.limiter
    }

    pub(crate) fn bodies(&self) -> &Arc<Bodies> {
        &self.inner.bodies
    }

    /// The database's connections. Whoever asks for them is about to use one, and that wakes the
    /// database anyway: the bus listens again, too.
    pub(crate) fn pool(&self) -> &PgPool {
        self.inner.bus.rouse();
        &self.inner.pool
    }

    pub(crate) fn bus(&self) -> &Bus {
        &self.inner.bus
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.inner.hub
    }

    pub(crate) fn entropy(&self) -> &SharedEntropy {
        &self.inner.entropy
    }

    pub(crate) fn clock(&self) -> &SharedClock {
        &self.inner.clock
    }

    /// Whether a new session has to see to it that a sweep waits.
    pub(crate) fn needs_sweep(&self) -> bool {
        let known_until = *self.inner.swept_for.lock();
        known_until.is_none_or(|until| until <= Instant::now())
    }

    /// A sweep waits: the transaction that saw to it is committed.
    pub(crate) fn sweep_waits(&self) {
        *self.inner.swept_for.lock() = Some(Instant::now() + SWEEP_KNOWN);
    }

    pub(crate) async fn begin(&self) -> sqlx::Result<Transaction<'static, Postgres>> {
        self.pool().begin().await
    }
}

/// Does work that must not stop half-way when the client goes away: a transaction, and the wake-ups
/// that follow it. A client that has waited too long is told so; the work goes on.
pub(crate) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    match timeout(PATIENCE, tokio::spawn(in_this_trace(work))).await {
        Ok(Ok(result)) => result,
        Ok(Err(stopped)) => match stopped.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Problem::new(Code::Unavailable)),
        },
        Err(_) => Err(Problem::new(Code::Unavailable)),
    }
}

/// Does reads that may stop half-way.
pub(crate) async fn within_patience<T>(
    work: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| Err(Problem::new(Code::Unavailable)))
}
