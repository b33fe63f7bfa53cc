//! Takes over the jobs whose lease has ended: whoever looks first, of whichever process.

use std::time::Duration;

use store::bus::Wake;

use crate::{
    claimer::Claimer,
    end::end_with,
    fence::Fence,
    fence::JobId,
    outcome::Ended,
    sql::{self, Abandoned, RunAgain},
};

/// When to look again after abandoned jobs that could not be taken now (somebody else is at them, or
/// there were too many), and after some that the database refused to change.
const RESCUE_AGAIN: Duration = Duration::from_millis(500);
const RESCUE_REFUSED_AGAIN: Duration = Duration::from_secs(5);

impl Claimer {
    /// Takes over abandoned jobs. Returns when to look for more.
    pub(crate) async fn rescue(&self) -> sqlx::Result<Duration> {
        let mut again = RESCUE_AGAIN;
        for job in sql::abandoned(&self.pool, self.lease).await? {
            match self.rescue_one(&job).await {
                Ok(()) => {}
                Err(error) if sql::is_passing(&error) => return Err(error),
                // It must not keep the others from being rescued.
                Err(error) => {
                    tracing::error!(error = %error, job = job.id, kind = job.kind, "a job can't be rescued");
                    again = RESCUE_REFUSED_AGAIN;
                }
            }
        }
        Ok(again)
    }

    async fn rescue_one(&self, job: &Abandoned) -> sqlx::Result<()> {
        let mut after = Wake::default();
        let mut tx = self.pool.begin().await?;
        if let Some(key) = &job.serial_key
            && !sql::try_lock_key(&mut tx, key).await?
        {
            // Claims and cancellations do not wait for whoever holds it.
            return Ok(());
        }
        if !sql::lock_abandoned(&mut tx, job).await? {
            return Ok(());
        }
        let outcome = self.take_over(&mut tx, job, &mut after).await?;
        tx.commit().await?;
        tracing::warn!(
            job = job.id,
            kind = job.kind,
            outcome,
            "a job's lease ended without its worker"
        );
        metrics::counter!("growth_chat_jobs_total", "kind" => job.kind.clone(), "outcome" => outcome)
            .increment(1);
        if outcome != "rescued" {
            metrics::histogram!("growth_chat_job_attempts", "kind" => job.kind.clone())
                .record(job.attempt);
        }
        self.bus.publish(&after);
        Ok(())
    }

    async fn take_over(
        &self,
        conn: &mut sqlx::PgConnection,
        job: &Abandoned,
        after: &mut Wake,
    ) -> sqlx::Result<&'static str> {
        const LOST: &str = "the lease ended: its worker was lost";
        let lease = Some(job.lease);
        // Put back it may run; ended it leaves room in a queue that has a limit.
        after.queues.insert(job.queue.clone());
        if job.cancel_requested {
            end_with(conn, job.id, lease, Ended::Cancelled, Some(LOST), after).await?;
            Ok("cancelled")
        } else if job.no_attempt_left {
            end_with(conn, job.id, lease, Ended::Dead, Some(LOST), after).await?;
            Ok("dead")
        } else {
            let fence = Fence {
                id: JobId(job.id),
                lease: job.lease,
            };
            sql::put_back(conn, fence, RunAgain::AtOnce, Some(LOST)).await?;
            Ok("rescued")
        }
    }
}
