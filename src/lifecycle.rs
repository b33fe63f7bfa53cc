//! The life of a process: core tasks under supervision, and an orderly end.
//!
//! ```text
//! running ── SIGTERM or SIGINT, ──▶ Stage::Work ──▶ Stage::Record ──▶ Stage::Support ──▶ exit
//!            or a core task ended     drains           writes the rest   ends
//!
//! a second signal exits at once with 128 + its number
//! ```
//! Every core task runs for as long as the process. One that ends or panics before it was told to
//! takes the process with it (exit code 1): a platform starts a new one, while a process that
//! accepts messages and no longer delivers them would be noticed by visitors only.

use std::{collections::HashMap, io, process::ExitCode, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::{Id, JoinError, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// How much longer than the drain the work may take to end: it hands back what it did not finish.
const HAND_BACK_LIMIT: Duration = Duration::from_secs(5);
/// How long each later stage may take to end.
const FINISH_LIMIT: Duration = Duration::from_secs(2);

/// When a task is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// At once: it accepts no more and drains.
    Work,
    /// When the work has ended: it writes what the work has left.
    Record,
    /// Last: the others need it.
    Support,
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// From now on the signals no longer end the process by themselves.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next signal and returns its number.
    pub(crate) async fn next(&mut self) -> i32 {
        let kind = tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        };
        kind.as_raw_value()
    }

    /// Cancels `shutdown` at the first signal, exits the process at the second.
    pub(crate) async fn obey(mut self, shutdown: CancellationToken) {
        let number = self.next().await;
        tracing::info!(signal = number, "stopping");
        shutdown.cancel();
        let number = self.next().await;
        tracing::warn!(signal = number, "told to stop twice: exiting at once");
        // A shell's way to say that a signal ended it: 130 or 143.
        std::process::exit(128 + number);
    }
}

/// The core tasks of a process.
#[derive(Debug, Default)]
pub(crate) struct Supervisor {
    tasks: JoinSet<anyhow::Result<()>>,
    running: HashMap<Id, (&'static str, Stage)>,
    work: CancellationToken,
    record: CancellationToken,
    support: CancellationToken,
}

impl Supervisor {
    /// Cancelled when the work has to end.
    pub(crate) fn shutdown(&self) -> &CancellationToken {
        &self.work
    }

    /// Runs a core task; it ends soon after its token was cancelled, and not before.
    pub(crate) fn spawn<F>(
        &mut self,
        name: &'static str,
        stage: Stage,
        task: impl FnOnce(CancellationToken) -> F,
    ) where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let handle = self.tasks.spawn(task(self.stop_of(stage).clone()));
        self.running.insert(handle.id(), (name, stage));
    }

    fn stop_of(&self, stage: Stage) -> &CancellationToken {
        match stage {
            Stage::Work => &self.work,
            Stage::Record => &self.record,
            Stage::Support => &self.support,
        }
    }

    /// Returns when all tasks have ended: after a shutdown (exit code 0), or because one of them
    /// ended or failed by itself (1).
    pub(crate) async fn run(mut self, drain: Duration) -> ExitCode {
        let shutdown = self.work.clone();
        let mut well = tokio::select! {
            biased;
            () = shutdown.cancelled() => true,
            // Without a task there is nothing to supervise.
            Some(ended) = self.tasks.join_next_with_id() => self.account_for(ended),
        };
        for (stage, limit) in [
            (Stage::Work, drain + HAND_BACK_LIMIT),
            (Stage::Record, FINISH_LIMIT),
            (Stage::Support, FINISH_LIMIT),
        ] {
            self.stop_of(stage).cancel();
            well &= self.end(stage, limit).await;
        }
        if well {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }

    /// Waits until the tasks of a stage have ended. False when one of them failed or did not end.
    async fn end(&mut self, stage: Stage, limit: Duration) -> bool {
        let all = async {
            let mut well = true;
            while self.running.values().any(|(_, of)| *of == stage)
                && let Some(ended) = self.tasks.join_next_with_id().await
            {
                well &= self.account_for(ended);
            }
            well
        };
        if let Ok(well) = timeout(limit, all).await {
            return well;
        }
        for (name, _) in self.running.values().filter(|(_, of)| *of == stage) {
            tracing::error!(task = name, "a task did not end in time");
        }
        false
    }

    /// Whether a task was told to end and did so without an error.
    fn account_for(&mut self, ended: Result<(Id, anyhow::Result<()>), JoinError>) -> bool {
        let (id, result) = match ended {
            Ok((id, result)) => (id, Ok(result)),
            Err(error) => (error.id(), Err(error)),
        };
        let Some((task, stage)) = self.running.remove(&id) else {
            return true;
        };
        let expected = self.stop_of(stage).is_cancelled();
        match result {
            Ok(Ok(())) if expected => return true,
            Ok(Ok(())) => tracing::error!(task, "a core task ended; the process has to end"),
            Ok(Err(error)) => {
                let error = format!("{error:#}");
                tracing::error!(task, error, "a core task failed; the process has to end");
            }
            Err(_) => tracing::error!(task, "a core task panicked; the process has to end"),
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, sync::Arc};

    use parking_lot::Mutex;

    use super::*;

    const DRAIN: Duration = Duration::from_secs(20);

    fn succeeded(code: ExitCode) -> bool {
        code == ExitCode::SUCCESS
    }

    #[tokio::test(start_paused = true)]
    async fn the_work_ends_before_what_it_needs() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut supervisor = Supervisor::default();
        for (name, stage) in [
            ("bus", Stage::Support),
            ("writer", Stage::Record),
            ("jobs", Stage::Work),
        ] {
            let order = order.clone();
            supervisor.spawn(name, stage, move |stop| async move {
                stop.cancelled().await;
                tokio::time::sleep(Duration::from_secs(1)).await;
                order.lock().push(name);
                Ok(())
            });
        }
        supervisor.shutdown().cancel();
        assert!(succeeded(supervisor.run(DRAIN).await));
        assert_eq!(*order.lock(), ["jobs", "writer", "bus"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_core_task_that_ends_or_fails_or_panics_ends_the_process_with_an_error() {
        type Task = fn() -> anyhow::Result<()>;
        let ways: [Task; 3] = [|| Ok(()), || anyhow::bail!("broken"), || panic!("oh")];
        for (stage, way) in [Stage::Work, Stage::Record, Stage::Support]
            .into_iter()
            .flat_map(|stage| ways.map(|way| (stage, way)))
        {
            let mut supervisor = Supervisor::default();
            let told = Arc::new(Mutex::new(false));
            let heard = told.clone();
            supervisor.spawn("healthy", Stage::Work, move |stop| async move {
                stop.cancelled().await;
                *heard.lock() = true;
                Ok(())
            });
            supervisor.spawn("sick", stage, move |_| async move { way() });
            assert!(!succeeded(supervisor.run(DRAIN).await));
            assert!(*told.lock(), "the others are told to end");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_left_behind_after_the_drain() {
        let mut supervisor = Supervisor::default();
        supervisor.spawn("stuck", Stage::Work, |_| pending());
        supervisor.shutdown().cancel();
        let begun = tokio::time::Instant::now();
        assert!(!succeeded(supervisor.run(DRAIN).await));
        assert_eq!(begun.elapsed(), DRAIN + HAND_BACK_LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_in_the_middle_of_the_drain_is_not_hidden() {
        let mut supervisor = Supervisor::default();
        supervisor.spawn("jobs", Stage::Work, |stop| async move {
            stop.cancelled().await;
            anyhow::bail!("a job was not handed back")
        });
        supervisor.shutdown().cancel();
        assert!(!succeeded(supervisor.run(DRAIN).await));
    }
}
