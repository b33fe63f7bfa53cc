//! Wakes a worker that has stopped because it had nothing to do (`IDLE_SHUTDOWN_SECONDS`).
//!
//! The platform starts a machine when a request comes for it; a job that waits in the database is none.
//! So an API process that has enqueued something sends one to `WORKER_WAKE_URL`, which leads to our own
//! worker's `POST /wake`. That is a hint, as every wake-up is: a worker that runs looks once, and a job
//! whose request was lost is found by the next. The API waits for none of this.

use std::time::Duration;

use store::{bus::Subscription, settings::Settings};
use tokio::time::{sleep, timeout};
use url::Url;
use workers::clients::http_client;

/// How long a machine may take to start and to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two requests, however much is enqueued.
const SPACING: Duration = Duration::from_secs(5);
/// The waits after a request that failed. The next job begins anew.
const RETRIES: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(9),
];

/// Reads `WORKER_WAKE_URL`: none, and nobody is woken.
pub(crate) fn read_url(settings: &mut Settings) -> Option<Url> {
    const VARIABLE: &str = "WORKER_WAKE_URL";
    let rule = "an http or https URL of a worker's /wake, such as http://worker.flycast:9091/wake";
    let url = settings.optional::<Url>(VARIABLE, rule)?;
    if !matches!(url.scheme(), "http" | "https") {
        settings.problem(VARIABLE, format!("is not valid: {rule}"));
        return None;
    }
    Some(url)
}

/// Where a worker is woken.
#[derive(Debug)]
pub(crate) struct WorkerWake {
    url: Url,
    http: reqwest::Client,
}

impl WorkerWake {
    /// Fails when the system's trust roots can't be read.
    pub(crate) fn new(url: Url) -> reqwest::Result<Self> {
        Ok(Self {
            url,
            http: http_client()?,
        })
    }

    /// Sends a request whenever a queue may have jobs, for ever.
    pub(crate) async fn run(&self, mut subscription: Subscription) {
        loop {
            let wake = subscription.wait().await;
            if wake.queues.is_empty() {
                continue;
            }
            self.wake().await;
            sleep(SPACING).await;
        }
    }

    async fn wake(&self) {
        let mut retries = RETRIES.iter();
        loop {
            let Err(why) = self.send().await else {
                return;
            };
            let Some(wait) = retries.next() else {
                tracing::warn!(why, "no worker could be woken by WORKER_WAKE_URL");
                return;
            };
            sleep(*wait).await;
        }
    }

    /// Sends one request. An error's text would have the address.
    async fn send(&self) -> Result<(), &'static str> {
        let answer = timeout(PATIENCE, self.http.post(self.url.clone()).send()).await;
        match answer {
            Ok(Ok(response)) if response.status().is_success() => Ok(()),
            Ok(Ok(_)) => Err("it was refused"),
            Ok(Err(_)) => Err("it could not be reached"),
            Err(_) => Err("it did not answer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_request_can_be_sent_to_is_refused_by_name() {
        for (url, legal) in [
            ("http://worker.flycast:9091/wake", true),
            ("https://worker.company.example/wake", true),
            ("", true),
            ("worker:9091", false),
            ("ftp://worker/wake", false),
        ] {
            let variable = ("WORKER_WAKE_URL".to_owned(), url.to_owned());
            let mut settings = Settings::new([variable]);
            let read = read_url(&mut settings);
            assert_eq!(settings.finish(Some(read)).is_ok(), legal, "{url}");
        }
    }
}
