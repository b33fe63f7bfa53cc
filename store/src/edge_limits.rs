//! How often a client may ask for what costs: token buckets by address, session and site, the same for
//! every process.
//!
//! A bucket is the generic cell rate algorithm's one time, as in the queue's rates: when it will be full
//! again. It is kept under a keyed hash, whose key is random, of one UTC day of the database's clock, and
//! gone with it: whoever reads the table learns no address, and later on not even with the address in
//! hand. A request takes its tokens in one statement of its own, before its transaction: the row of a
//! site is locked for that statement only, not until a message is on disk.

use std::{num::NonZeroU32, str::FromStr, time::Duration};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use sqlx::PgConnection;
use uuid::Uuid;

/// How many requests a bucket holds, and in what time it fills up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    count: NonZeroU32,
    window: Duration,
}

/// A text is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a limit is {}", RateLimit::RULE)]
pub struct BadRateLimit;

impl RateLimit {
    /// What a legal limit is, in words.
    pub const RULE: &str =
        "a number of requests and the time for them, such as 30/10m: 1 to 1000000 in 1s to 24h";

    /// `count` requests in `window`; `None`: the figures are out of [`Self::RULE`].
    pub const fn new(count: u32, window: Duration) -> Option<Self> {
        let legal = count <= 1_000_000 && window.as_secs() >= 1 && window.as_secs() <= 24 * 3_600;
        match NonZeroU32::new(count) {
            Some(count) if legal => Some(Self { count, window }),
            _ => None,
        }
    }

    /// Requests of a full bucket.
    pub fn count(self) -> u32 {
        self.count.get()
    }

    /// Seconds after which a request comes back.
    fn every(self) -> f64 {
        self.window.as_secs_f64() / f64::from(self.count.get())
    }

    /// How far ahead, in seconds, a bucket may be full again and still have a request.
    fn spare(self) -> f64 {
        self.window.as_secs_f64() - self.every()
    }
}

impl FromStr for RateLimit {
    type Err = BadRateLimit;

    fn from_str(text: &str) -> Result<Self, BadRateLimit> {
        let (count, window) = text.split_once('/').ok_or(BadRateLimit)?;
        let window = window.trim();
        let unit = match window.as_bytes().last() {
            Some(b's') => 1,
            Some(b'm') => 60,
            Some(b'h') => 3_600,
            _ => return Err(BadRateLimit),
        };
        let units: u64 = window[..window.len() - 1]
            .parse()
            .map_err(|_| BadRateLimit)?;
        let seconds = units.checked_mul(unit).ok_or(BadRateLimit)?;
        let count = count.trim().parse().map_err(|_| BadRateLimit)?;
        Self::new(count, Duration::from_secs(seconds)).ok_or(BadRateLimit)
    }
}

/// What a limit counts by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The client's network address.
    Address,
    /// The conversation.
    Session,
    /// The site that carries the widget.
    Site,
}

impl Scope {
    /// Its name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Address => "ip",
            Self::Session => "session",
            Self::Site => "site",
        }
    }
}

/// A bucket's name, from which nobody can tell whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BucketKey([u8; 16]);

/// The secret of a day under which buckets are named.
#[derive(Clone)]
pub struct EdgeKey {
    id: Uuid,
    key: [u8; 32],
}

impl std::fmt::Debug for EdgeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EdgeKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl EdgeKey {
    /// The name of the bucket of something in a scope.
    pub fn bucket(&self, scope: Scope, of: &[u8]) -> BucketKey {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("a key may have any length");
        // A scope's name has no NUL: two scopes never share a bucket.
        mac.update(scope.as_str().as_bytes());
        mac.update(&[0]);
        mac.update(of);
        let mut key = [0; 16];
        key.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        BucketKey(key)
    }
}

/// The key of today. `fresh` becomes it if there is none yet; then the older ones are deleted.
pub async fn key_of_today(conn: &mut PgConnection, fresh: [u8; 48]) -> sqlx::Result<EdgeKey> {
    let (id, key) = fresh.split_at(16);
    let row = sqlx::query!(
        r#"with gone as (
               delete from edge_keys where day < (now() at time zone 'UTC')::date
           )
           insert into edge_keys (day, key_id, key) values ((now() at time zone 'UTC')::date, $1, $2)
           -- Whoever was second gets the key of the first.
           on conflict on constraint edge_keys_pkey do update set key = edge_keys.key
           returning key_id, key"#,
        Uuid::from_slice(id).unwrap_or_default(),
        key,
    )
    .fetch_one(conn)
    .await?;
    let key = row
        .key
        .try_into()
        .map_err(|_| sqlx::Error::Decode("the key of the day does not have 32 bytes".into()))?;
    Ok(EdgeKey {
        id: row.key_id,
        key,
    })
}

/// A bucket and its limit.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    /// Its name.
    pub key: BucketKey,
    /// What it holds.
    pub limit: RateLimit,
}

/// What a request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It has taken a token of each bucket.
    Granted,
    /// A bucket is empty: it may ask again after a while. Those of the wider scopes are untouched, so
    /// that nobody uses up the site's by what is refused.
    Refused {
        /// Which one.
        scope: Scope,
        /// How long until it has a token.
        wait: Duration,
    },
    /// The key is not that of today: nothing is taken. Ask for [`key_of_today`].
    OldKey,
}

/// Takes a token for an address, then one for a session, then one for the site if that counts.
pub async fn take(
    conn: &mut PgConnection,
    key: &EdgeKey,
    address: Bucket,
    session: Bucket,
    site: Option<Bucket>,
) -> sqlx::Result<Verdict> {
    // Every statement locks the rows in this order, so that two never wait for each other.
    let rows = sqlx::query!(
        r#"with today as (
               select from edge_keys where day = (now() at time zone 'UTC')::date and key_id = $1
           ), address as (
               insert into edge_limits as l (key, full_at, taken)
               select $2, now() + make_interval(secs => $3), true from today
               on conflict on constraint edge_limits_pkey do update
               set taken = l.full_at <= now() + make_interval(secs => $4),
                   full_at = case when l.full_at <= now() + make_interval(secs => $4)
                                  then greatest(l.full_at, now()) + make_interval(secs => $3)
                                  else l.full_at end
               returning taken, extract(epoch from full_at - now())::float8 - $4 as wait
           ), session as (
               insert into edge_limits as l (key, full_at, taken)
               select $5, now() + make_interval(secs => $6), true from address where taken
               on conflict on constraint edge_limits_pkey do update
               set taken = l.full_at <= now() + make_interval(secs => $7),
                   full_at = case when l.full_at <= now() + make_interval(secs => $7)
                                  then greatest(l.full_at, now()) + make_interval(secs => $6)
                                  else l.full_at end
               returning taken, extract(epoch from full_at - now())::float8 - $7 as wait
           ), site as (
               insert into edge_limits as l (key, full_at, taken)
               select $8, now() + make_interval(secs => $9), true from session
               where taken and $8::bytea is not null
               on conflict on constraint edge_limits_pkey do update
               set taken = l.full_at <= now() + make_interval(secs => $10),
                   full_at = case when l.full_at <= now() + make_interval(secs => $10)
                                  then greatest(l.full_at, now()) + make_interval(secs => $9)
                                  else l.full_at end
               returning taken, extract(epoch from full_at - now())::float8 - $10 as wait
           )
           select 1 as "scope!", taken as "taken!", wait as "wait!" from address
           union all select 2, taken, wait from session
           union all select 3, taken, wait from site
           order by 1"#,
        key.id,
        &address.key.0[..],
        address.limit.every(),
        address.limit.spare(),
        &session.key.0[..],
        session.limit.every(),
        session.limit.spare(),
        site.as_ref().map(|site| &site.key.0[..]),
        site.map_or(0.0, |site| site.limit.every()),
        site.map_or(0.0, |site| site.limit.spare()),
    )
    .fetch_all(conn)
    .await?;
    let Some(last) = rows.last() else {
        return Ok(Verdict::OldKey);
    };
    if last.taken {
        return Ok(Verdict::Granted);
    }
    Ok(Verdict::Refused {
        scope: match last.scope {
            1 => Scope::Address,
            2 => Scope::Session,
            _ => Scope::Site,
        },
        wait: Duration::try_from_secs_f64(last.wait.max(0.0)).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_and_a_time() {
        for (text, count, seconds) in [
            ("30/10m", 30, 600),
            ("10/1m", 10, 60),
            ("1/1s", 1, 1),
            ("1000000/24h", 1_000_000, 86_400),
            (" 5 / 2h ", 5, 7_200),
        ] {
            let limit: RateLimit = text.parse().unwrap();
            assert_eq!(
                Some(limit),
                RateLimit::new(count, Duration::from_secs(seconds))
            );
        }
        for text in [
            "",
            "30",
            "30/",
            "/10m",
            "30/10",
            "30/m",
            "0/1m",
            "30/0s",
            "30/25h",
            "1000001/1s",
            "-1/1m",
            "30/10min",
            "30/10M",
            "30/1m/1s",
            "1.5/1m",
            "30/99999999999999999999s",
            "30/5\u{e9}",
        ] {
            assert_eq!(text.parse::<RateLimit>(), Err(BadRateLimit), "{text}");
        }
    }

    #[test]
    fn a_bucket_is_named_by_key_scope_and_what_it_is_of() {
        let of = |byte| EdgeKey {
            id: Uuid::nil(),
            key: [byte; 32],
        };
        let named = of(1).bucket(Scope::Address, b"a");
        assert_eq!(named, of(1).bucket(Scope::Address, b"a"));
        assert_ne!(named, of(2).bucket(Scope::Address, b"a"));
        assert_ne!(named, of(1).bucket(Scope::Session, b"a"));
        assert_ne!(named, of(1).bucket(Scope::Address, b"b"));
        assert!(!format!("{:?}", of(1)).contains("1, 1"));
    }
}
