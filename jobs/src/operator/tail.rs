//! Follows the queue: what happened to its jobs since the last look.
//!
//! Nothing in the queue writes a log of transitions: they are read off the jobs themselves, whose
//! rows carry the times. A look reads by indexes, and a bounded number of rows of each:
//!
//! - live jobs: the newest, the running ones, those that ran at the last look, and of each queue the
//!   scheduled ones that are due first (a failed attempt is among them);
//! - ended jobs: those that ended last.
//!
//! All are read in one statement, so that a job on its way from one table to the other is seen once.
//! A row shows up when its transaction commits, which is later than its times say. So a look goes
//! back a while, and what was shown is remembered for as long.

use std::collections::HashMap;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::Serialize;
use sqlx::PgPool;

use super::{OperatorError, check_names};
use crate::catalog;

/// Rows of each source that one look reads (of a queue's scheduled jobs: a tenth), and transitions
/// that it returns, at most. The statement has it as a literal: a plan for any limit may be a bad one.
const LOOK: usize = 5_000;
/// How far a look goes back. A transaction that commits later is not noticed.
const BACK: TimeDelta = TimeDelta::seconds(10);
/// How much of that a look has to reach, or something may have been left out: most transactions have
/// committed by then.
const OVERLAP: TimeDelta = TimeDelta::seconds(1);

/// Which transitions to follow.
#[derive(Debug, Clone, Default)]
pub struct TailFilter {
    /// Of this queue only.
    pub queue: Option<String>,
    /// Of this kind only.
    pub kind: Option<String>,
    /// Failed attempts and deaths only.
    pub failed: bool,
}

/// Something that happened to a job. Times are RFC 3339, in UTC.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Transition {
    /// When.
    pub at: String,
    /// The job.
    pub id: i64,
    /// Its queue.
    pub queue: String,
    /// Its kind.
    pub kind: String,
    /// `enqueued`; `running` or `failed`, of an attempt; `done`, `dead` or `cancelled`.
    pub event: String,
    /// Which attempt; none: it was enqueued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i16>,
    /// How many it has.
    pub max_attempts: i16,
    /// Why the attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it runs next, after an enqueue for later or a failed attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_run_at: Option<String>,
    /// How long the last attempt of an ended job took, until the job's end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

/// What a look found.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// What happened, the newest last. Of the first look: the newest of all that is known.
    pub transitions: Vec<Transition>,
    /// More happened since the last look than one look reads.
    pub incomplete: bool,
}

/// A follower of the queue.
#[derive(Debug)]
pub struct Tail {
    filter: TailFilter,
    queues: Vec<String>,
    /// The newest transition that was found of each job, for as long as a look goes back to it.
    found: HashMap<i64, DateTime<Utc>>,
    /// The jobs that ran at the last look.
    running: Vec<i64>,
    /// The database's time of the last look.
    looked_at: Option<DateTime<Utc>>,
}

/// A row of a look. The first columns are the same in all of them; a look at nothing has one.
#[derive(Debug)]
struct Row {
    looked_at: DateTime<Utc>,
    running: Vec<i64>,
    incomplete: bool,
    id: Option<i64>,
    queue: Option<String>,
    kind: Option<String>,
    event: Option<String>,
    at: Option<DateTime<Utc>>,
    attempt: Option<i16>,
    max_attempts: Option<i16>,
    error: Option<String>,
    next_run_at: Option<DateTime<Utc>>,
    seconds: Option<f64>,
}

impl Tail {
    /// Follows what the filter lets through.
    ///
    /// # Errors
    ///
    /// [`OperatorError::Refused`] if nobody knows the filter's queue or kind.
    pub async fn new(pool: &PgPool, filter: TailFilter) -> Result<Self, OperatorError> {
        check_names(pool, filter.queue.as_deref(), filter.kind.as_deref()).await?;
        let mut queues: Vec<String> = match &filter.queue {
            Some(queue) => vec![queue.clone()],
            None => catalog::QUEUES.iter().map(ToString::to_string).collect(),
        };
        queues.sort_unstable();
        queues.dedup();
        Ok(Self {
            filter,
            queues,
            found: HashMap::new(),
            running: Vec::new(),
            looked_at: None,
        })
    }

    /// What happened since the last look. After an error the next look makes up for it.
    pub async fn look(&mut self, pool: &PgPool) -> sqlx::Result<Look> {
        let rows = self.read(pool).await?;
        let mut look = Look::default();
        let Some(first) = rows.first() else {
            return Ok(look);
        };
        let full = rows.len() >= LOOK;
        let unread = full && rows.last().and_then(|oldest| oldest.at) > self.covered();
        look.incomplete = self.looked_at.is_some() && (first.incomplete || unread);
        let looked_at = first.looked_at;
        let running = first.running.clone();
        let mut newest = HashMap::new();
        // From the newest to the oldest.
        for row in rows {
            let (Some(id), Some(at)) = (row.id, row.at) else {
                continue;
            };
            newest.entry(id).or_insert(at);
            if self.found.get(&id).is_none_or(|found| at > *found) {
                look.transitions.extend(row.transition());
            }
        }
        look.transitions.reverse();
        for (id, at) in newest {
            let found = self.found.entry(id).or_insert(at);
            *found = at.max(*found);
        }
        self.looked_at = Some(looked_at);
        self.running = running;
        if let Some(since) = self.since() {
            self.found.retain(|_, at| *at > since);
        }
        Ok(look)
    }

    /// What is older has been found, or is never looked for.
    fn since(&self) -> Option<DateTime<Utc>> {
        self.looked_at.map(|at| at - BACK)
    }

    /// A look that reaches back to this has left nothing out.
    fn covered(&self) -> Option<DateTime<Utc>> {
        self.looked_at.map(|at| at - OVERLAP)
    }

    /// The newest first.
    async fn read(&self, pool: &PgPool) -> sqlx::Result<Vec<Row>> {
        sqlx::query_as!(
            Row,
            r#"with newest as materialized (
                   select id, created_at from queue.jobs order by id desc limit 5000
               ), leased as materialized (
                   select id from queue.jobs where state = 'running' order by lease_until desc limit 5000
               ), past as materialized (
                   select id, queue, kind, outcome, attempt, max_attempts, errors, created_at, started_at, finished_at
                   from queue.history
                   where finished_at > coalesce($1::timestamptz, '-infinity')
                   order by finished_at desc
                   limit 5000
               ), job as (
                   select id, queue, kind, state, attempt, max_attempts, errors, created_at, started_at, run_at,
                          null::timestamptz as finished_at
                   from queue.jobs
                   where id = any(array(
                       select id from newest
                       union select id from leased
                       union select due.id
                             from unnest($3::text[]) as named (queue)
                             cross join lateral (select id from queue.jobs
                                                 where queue = named.queue and state = 'scheduled'
                                                 order by run_at limit 500) due
                       union select unnest($4::bigint[])))
                   union all
                   select id, queue, kind, outcome, attempt, max_attempts, errors, created_at, started_at, null,
                          finished_at
                   from past
               ), happened as (
                   select id, queue, kind, event, at, happened.attempt, max_attempts, error, next_run_at, seconds
                   from job cross join lateral (
                       select 'enqueued' as event, created_at as at, null::smallint as attempt, null as error,
                              case when state = 'scheduled' and started_at is null and errors = '[]' then run_at end
                                  as next_run_at,
                              null::float8 as seconds, 1 as step
                       union all
                       select 'running', started_at,
                              case when state not in ('scheduled', 'ready', 'blocked') then attempt
                                   when (errors -> -1 ->> 'at')::timestamptz >= started_at
                                   then (errors -> -1 ->> 'attempt')::smallint
                                   -- It was handed back, and does not count.
                                   else (attempt + 1)::smallint end,
                              null, null, null, 2
                       where started_at is not null
                       union all
                       select 'failed', (failure ->> 'at')::timestamptz, (failure ->> 'attempt')::smallint,
                              failure ->> 'error',
                              case when n = jsonb_array_length(errors) and state in ('scheduled', 'ready')
                                   then run_at end,
                              null, 3
                       from jsonb_array_elements(errors) with ordinality as failed (failure, n)
                       union all
                       select state, finished_at, attempt, null, null,
                              extract(epoch from finished_at - started_at)::float8, 4
                       where finished_at is not null
                   ) happened
                   where at > coalesce($1::timestamptz, '-infinity')
                     and ($5::text is null or queue = $5)
                     and ($6::text is null or kind = $6)
                     and (not $7 or event in ('failed', 'dead'))
                   order by at desc, id desc, step desc
                   limit 5000
               )
               select statement_timestamp() as "looked_at!",
                      array(select id from leased) as "running!",
                      coalesce((select count(*) = 5000 and min(created_at) > $2 from newest)
                            or (select count(*) = 5000 and min(finished_at) > $2 from past), false) as "incomplete!",
                      id as "id?", queue as "queue?", kind as "kind?", event as "event?", at as "at?",
                      attempt as "attempt?", max_attempts as "max_attempts?", error as "error?",
                      next_run_at as "next_run_at?", seconds as "seconds?"
               from (select) as always left join happened on true"#,
            self.since(),
            self.covered(),
            &self.queues,
            &self.running,
            self.filter.queue,
            self.filter.kind,
            self.filter.failed,
        )
        .fetch_all(pool)
        .await
    }
}

impl Row {
    fn transition(self) -> Option<Transition> {
        let text = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Millis, true);
        Some(Transition {
            at: text(self.at?),
            id: self.id?,
            queue: self.queue?,
            kind: self.kind?,
            event: self.event?,
            attempt: self.attempt,
            max_attempts: self.max_attempts?,
            error: self.error,
            next_run_at: self.next_run_at.map(text),
            seconds: self.seconds,
        })
    }
}
