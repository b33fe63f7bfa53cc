//! The money of the model: whether a call may be made, and what it came to.
//!
//! ```text
//! admit ─▶ Granted ─▶ (the call) ─▶ cost ─▶ store::spend::record, in the transaction that keeps the step
//!    └──▶ Refused: the turn is answered without the model
//! ```
//! While no cap is enforced [`Budget::admit`] asks nobody. While one is, it reserves the most that the
//! call can cost, under a lock that all processes share (`docs/decisions/0012`).

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jobs::{JobKind, catalog::TurnProcess};
use sqlx::PgPool;
pub use store::spend::CapReached;
use store::{
    ids::TurnKey,
    spend::{self, Caps, Reservation, SpendFigures, Usd},
    trace::in_this_trace,
    turns::TurnUsage,
};
use tokio::sync::Mutex;

use crate::{
    config::{ModelConfig, SpendConfig},
    prices::{Price, Prices},
};

/// How long a reservation counts that nobody settles, because its worker died: longer than an attempt
/// can take, so that no call that is under way is forgotten.
const RESERVATION_LIFE: Duration = TurnProcess::TIMEOUT.saturating_add(Duration::from_mins(1));

/// Whether a call may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Admission {
    /// It may.
    Granted,
    /// A cap is reached.
    Refused(CapReached),
}

/// The budget. Clones share it.
#[derive(Debug, Clone)]
pub struct Budget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pool: PgPool,
    prices: Prices,
    /// The models that may answer a call: the one that is asked for, and the fallback.
    fallback: Option<String>,
    /// What stands in for the price of a model that nobody expected.
    dearest: Option<Price>,
    caps: Caps,
    monthly_cap: Usd,
    /// Of this process one admission at a time waits for the lock, so that a crowd does not hold all
    /// connections.
    turnstile: Arc<Mutex<()>>,
    figures: OnceLock<SpendFigures>,
    told_of_unpriced: AtomicBool,
}

impl Budget {
    /// The budget of a process.
    pub fn new(config: SpendConfig, model: &ModelConfig, pool: PgPool) -> Self {
        let caps = config.enforced();
        let dearest = [Some(&model.model), model.fallback_model.as_ref()]
            .into_iter()
            .flatten()
            .filter_map(|name| config.prices.of(name))
            .max_by_key(|price| price.at_most(1_000_000, 1_000_000))
            .copied();
        let inner = Inner {
            pool,
            prices: config.prices,
            fallback: model.fallback_model.clone(),
            dearest,
            caps,
            monthly_cap: config.monthly_cap,
            turnstile: Arc::default(),
            figures: OnceLock::new(),
            told_of_unpriced: AtomicBool::new(false),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// From now on the figures know the monthly cap, and are looked at while there are calls.
    pub fn watch_by(&self, figures: &SpendFigures) {
        figures.set_monthly_cap(self.inner.monthly_cap);
        // There from the beginning, so that the first cost is an increase.
        metrics::gauge!("growth_chat_llm_cost_usd_total").increment(0.0);
        // A process has one set of figures; a second is not looked at.
        let _ = self.inner.figures.set(figures.clone());
    }

    /// Whether the turn's next call may be made. `input_tokens_at_most` counts the whole prompt
    /// ([`MessageRequest::input_tokens_at_most`]); `max_output` is the request's `max_tokens`.
    ///
    /// [`MessageRequest::input_tokens_at_most`]: crate::clients::anthropic::MessageRequest::input_tokens_at_most
    ///
    /// While a cap is enforced, a grant is a reservation until the call is recorded ([`spend::record`]) or the
    /// turn ends, for some minutes at most. What a failed attempt was billed for is to be recorded before the next one is
    /// admitted. May be dropped half-way.
    pub async fn admit(
        &self,
        key: &TurnKey,
        call: i16,
        model: &str,
        input_tokens_at_most: u64,
        max_output: u32,
    ) -> sqlx::Result<Admission> {
        let inner = &self.inner;
        if let Some(figures) = inner.figures.get() {
            figures.glance();
        }
        if inner.caps == Caps::default() {
            return Ok(Admission::Granted);
        }
        let cost = [Some(model), inner.fallback.as_deref()]
            .into_iter()
            .flatten()
            .filter_map(|name| self.price(name))
            .map(|price| price.at_most(input_tokens_at_most, max_output))
            .max()
            .unwrap_or_default();
        let reservation = Reservation {
            call,
            cost,
            life: RESERVATION_LIFE,
        };
        let admission = admission(
            inner.pool.clone(),
            Arc::clone(&inner.turnstile),
            key.clone(),
            reservation,
            inner.caps,
        );
        // A task of its own: a transaction must not be abandoned half-way with its caller.
        match tokio::spawn(in_this_trace(admission)).await {
            Ok(admitted) => admitted,
            Err(stopped) => match stopped.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(sqlx::Error::WorkerCrashed),
            },
        }
    }

    /// What a call came to, by the model that answered.
    pub fn cost(&self, model: &str, usage: TurnUsage) -> Usd {
        self.price(model)
            .map_or(Usd::ZERO, |price| price.cost(usage))
    }

    /// A model's price. A gateway may let another model answer than was asked for: it is counted by the
    /// dearest price that was expected, and the log says so once.
    fn price(&self, model: &str) -> Option<&Price> {
        let inner = &self.inner;
        inner.prices.of(model).or_else(|| {
            if !inner.told_of_unpriced.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    model,
                    "a model without a price answered: its cost is estimated, LLM_PRICES can say it"
                );
            }
            inner.dearest.as_ref()
        })
    }
}

async fn admission(
    pool: PgPool,
    turnstile: Arc<Mutex<()>>,
    key: TurnKey,
    reservation: Reservation,
    caps: Caps,
) -> sqlx::Result<Admission> {
    let _turn = turnstile.lock().await;
    let mut transaction = pool.begin().await?;
    let reserved = spend::reserve(&mut transaction, &key, reservation, caps).await?;
    transaction.commit().await?;
    Ok(match reserved {
        Ok(()) => Admission::Granted,
        Err(cap) => Admission::Refused(cap),
    })
}
