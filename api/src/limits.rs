//! How often a client may ask for what costs: a message, which a model answers, and contact details,
//! which people read. Everything else needs the session's secret and neither a model nor a person; it is
//! not limited.
//!
//! Tokens are taken in the database, so that all processes share them. Only a refusal is remembered here:
//! until its time is over the bucket has no token for anybody, so that a flood costs the database nothing.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use sqlx::PgConnection;
use store::{
    edge_limits::{self, Bucket, BucketKey, EdgeKey, Scope, Verdict},
    ids::{SessionId, SharedEntropy},
};
use tokio::time::Instant;

use crate::{
    auth::Credentials,
    config::RateLimits,
    edge::ClientNetwork,
    problem::{Code, Problem},
    widget_tokens::SiteKey,
};

/// Refusals that are remembered, some 50 bytes each. Beyond it the database is asked again.
const MAX_REFUSALS: usize = 10_000;
/// A key may be replaced between the moment that it is read and the one that it is used: at midnight, or
/// by a crash of the server.
const MAX_KEYS: usize = 3;

/// What a request takes tokens for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asking<'a> {
    pub(crate) network: ClientNetwork,
    pub(crate) session: &'a SessionId,
    /// As they were shown. A session's bucket is of those who show the same: who knows its id only, which
    /// is no secret, empties one that nobody else has.
    pub(crate) credentials: Credentials,
    /// Of a message only: a lead is not lost because many others write.
    pub(crate) site: Option<SiteKey>,
}

/// A request is refused for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the limit of its {} is reached", scope.as_str())]
pub(crate) struct Limited {
    pub(crate) scope: Scope,
    /// Until it may come again.
    pub(crate) wait: Duration,
}

/// Why a request got no token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LimitError {
    #[error(transparent)]
    Limited(#[from] Limited),
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    #[error("the key of the day does not last")]
    NoKey,
}

/// The limits of everybody who asks this process.
#[derive(Debug)]
pub(crate) struct Limiter {
    limits: RateLimits,
    entropy: SharedEntropy,
    /// As it was last read. Whether it still holds the database says with each use.
    key: Mutex<Option<Arc<EdgeKey>>>,
    refusals: Mutex<HashMap<BucketKey, Refusal>>,
}

#[derive(Debug, Clone, Copy)]
struct Refusal {
    scope: Scope,
    until: Instant,
}

/// The buckets of a request, the narrowest first.
struct Buckets {
    address: Bucket,
    session: Bucket,
    site: Option<Bucket>,
}

impl Buckets {
    fn keys(&self) -> impl Iterator<Item = BucketKey> {
        let site = self.site.map(|site| site.key);
        [self.address.key, self.session.key].into_iter().chain(site)
    }

    fn key(&self, scope: Scope) -> Option<BucketKey> {
        match scope {
            Scope::Address => Some(self.address.key),
            Scope::Session => Some(self.session.key),
            Scope::Site => self.site.map(|site| site.key),
        }
    }
}

impl Limiter {
    pub(crate) fn new(limits: RateLimits, entropy: SharedEntropy) -> Self {
        // A series that begins at its first refusal hides that one.
        for scope in [Scope::Address, Scope::Session, Scope::Site] {
            refused(scope).increment(0);
        }
        Self {
            limits,
            entropy,
            key: Mutex::default(),
            refusals: Mutex::default(),
        }
    }

    /// Refuses by what is remembered, without the database.
    pub(crate) fn check(&self, asking: Asking<'_>) -> Result<(), Limited> {
        let key = self.key.lock().clone();
        key.map_or(Ok(()), |key| self.recall(self.buckets(&key, asking).keys()))
    }

    /// The same, as far as it is known before the body, which names the session.
    pub(crate) fn check_sender(
        &self,
        network: ClientNetwork,
        site: SiteKey,
    ) -> Result<(), Limited> {
        let key = self.key.lock().clone();
        key.map_or(Ok(()), |key| {
            let address = self.address(&key, network).key;
            self.recall([address, self.site(&key, site).key])
        })
    }

    fn recall(&self, keys: impl IntoIterator<Item = BucketKey>) -> Result<(), Limited> {
        let now = Instant::now();
        let refusals = self.refusals.lock();
        let refusal = keys
            .into_iter()
            .filter_map(|key| refusals.get(&key))
            .find(|refusal| refusal.until > now)
            .copied();
        drop(refusals);
        match refusal {
            Some(Refusal { scope, until }) => Err(refuse(scope, until - now)),
            None => Ok(()),
        }
    }

    /// Takes a token of each bucket of a request, or says which one has none.
    pub(crate) async fn take(
        &self,
        conn: &mut PgConnection,
        asking: Asking<'_>,
    ) -> Result<(), LimitError> {
        let mut known = self.key.lock().clone();
        for _ in 0..MAX_KEYS {
            let key = match known.take() {
                Some(key) => key,
                None => self.read_key(conn).await?,
            };
            let buckets = self.buckets(&key, asking);
            let Buckets {
                address,
                session,
                site,
            } = buckets;
            match edge_limits::take(conn, &key, address, session, site).await? {
                Verdict::Granted => return Ok(()),
                Verdict::Refused { scope, wait } => {
                    self.remember(buckets.key(scope), scope, wait);
                    return Err(refuse(scope, wait).into());
                }
                Verdict::OldKey => {}
            }
        }
        Err(LimitError::NoKey)
    }

    async fn read_key(&self, conn: &mut PgConnection) -> sqlx::Result<Arc<EdgeKey>> {
        let mut fresh = [0; 48];
        for part in fresh.chunks_exact_mut(16) {
            part.copy_from_slice(&self.entropy.bytes());
        }
        let key = Arc::new(edge_limits::key_of_today(conn, fresh).await?);
        *self.key.lock() = Some(key.clone());
        Ok(key)
    }

    fn buckets(&self, key: &EdgeKey, asking: Asking<'_>) -> Buckets {
        let mut session = asking.session.as_str().as_bytes().to_vec();
        // An id has no NUL, and the credentials differ in length or are a hash.
        session.push(0);
        match &asking.credentials {
            Credentials::None => {}
            Credentials::Secret(hash) => session.extend_from_slice(hash.as_bytes()),
            Credentials::IllFormed => session.push(0),
        }
        Buckets {
            address: self.address(key, asking.network),
            session: Bucket {
                key: key.bucket(Scope::Session, &session),
                limit: self.limits.session,
            },
            site: asking.site.map(|site| self.site(key, site)),
        }
    }

    fn address(&self, key: &EdgeKey, network: ClientNetwork) -> Bucket {
        Bucket {
            key: key.bucket(Scope::Address, network.as_bytes()),
            limit: self.limits.address,
        }
    }

    fn site(&self, key: &EdgeKey, SiteKey(site): SiteKey) -> Bucket {
        Bucket {
            key: key.bucket(Scope::Site, &site),
            limit: self.limits.site,
        }
    }

    fn remember(&self, key: Option<BucketKey>, scope: Scope, wait: Duration) {
        let Some(key) = key else {
            return;
        };
        let now = Instant::now();
        let mut refusals = self.refusals.lock();
        if refusals.len() >= MAX_REFUSALS {
            refusals.retain(|_, refusal| refusal.until > now);
        }
        if refusals.len() < MAX_REFUSALS {
            refusals.insert(
                key,
                Refusal {
                    scope,
                    until: now + wait,
                },
            );
        }
    }
}

impl From<Limited> for Problem {
    fn from(limited: Limited) -> Self {
        let whose = match limited.scope {
            Scope::Address => "Too many messages come from this address",
            Scope::Session => "Too many messages come in this conversation",
            Scope::Site => "Too many messages come at this moment",
        };
        Self::with_detail(Code::RateLimited, whose).with_retry_after(limited.wait)
    }
}

fn refuse(scope: Scope, wait: Duration) -> Limited {
    refused(scope).increment(1);
    Limited { scope, wait }
}

fn refused(scope: Scope) -> metrics::Counter {
    metrics::counter!("growth_chat_rate_limited_total", "scope" => scope.as_str())
}
