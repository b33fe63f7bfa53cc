//! API processes that are killed and connections that break in the middle of an answer.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use reqwest::{Response, StatusCode};
use sandbox::anthropic::{Pace, Reply};

use crate::support::{
    ApiProcess, TestSystem,
    frames::{End, Frames, whole_frames},
    process::{assert_one_answer, cut_after, shown_text, until_text},
};

/// Slow enough to be interrupted.
const PACE: Pace = Pace {
    before_headers: Duration::ZERO,
    first_token: Duration::ZERO,
    between_tokens: Duration::from_millis(5),
};

/// How often a connection is cut, and in how many cuts it is the process that dies.
const CUTS: usize = 50;
const KILLS: usize = 5;
/// A cut comes after at most so many bytes: within a frame, behind one, behind a few.
const MOST_BYTES: usize = 400;

/// What the random cuts follow from; a failure prints the cut it came at.
const SEED: u64 = 20_261_121;

#[tokio::test]
async fn an_answer_that_is_cut_50_times_over_two_api_processes_is_the_uncut_one_byte_for_byte() {
    let system = TestSystem::new().await;
    let answer = longer_than(CUTS * MOST_BYTES);
    let reply = Reply::text(answer.clone()).paced(PACE);
    system.anthropic.on("count", reply);
    let mut apis = [system.api().await, system.api().await];
    let (spared, _worker) = (system.api().await, system.worker().await);

    let mut random = StdRng::seed_from_u64(SEED);
    let mut client = CutClient::default();
    // The first request begins the turn, whatever becomes of its answer.
    let api = &apis[0];
    let posted = client.post(api).await;
    let mut live = Frames::of(client.get(&spared).await);
    let uncut = tokio::spawn(async move {
        let (frames, _) = live.rest().await;
        (live.bytes, frames)
    });
    client
        .read(posted, random.random_range(0..MOST_BYTES))
        .await;
    for cut in 1..CUTS {
        let at = random.random_range(0..apis.len());
        let response = client.resume(&apis[at]).await;
        let more = random.random_range(0..MOST_BYTES);
        if cut % (CUTS / KILLS) == 0 {
            client
                .read_until_killed(response, more, &mut apis[at])
                .await;
        } else {
            client.read(response, more).await;
        }
        assert!(!client.is_whole(), "the answer was whole before cut {cut}");
    }
    let response = client.resume(&apis[0]).await;
    client.read(response, usize::MAX).await;

    let (bytes, frames) = uncut.await.unwrap();
    assert_eq!(client.frames, whole_frames(&bytes));
    assert_eq!(shown_text(&frames), answer);
    assert_one_answer(&spared.transcript("s1").await, &answer);
}

/// A text that is not whole after so many bytes, in few words: each takes its time.
fn longer_than(bytes: usize) -> String {
    let word = "x".repeat(60);
    let words: Vec<String> = (0..=bytes / word.len())
        .map(|number| format!("{word}{number}"))
        .collect();
    words.join(" ")
}

/// A client that keeps the whole frames of every connection it had.
#[derive(Default)]
struct CutClient {
    frames: Vec<String>,
}

impl CutClient {
    /// Asks. A client that saw no frame asks again, which joins the same turn.
    async fn post(&self, api: &ApiProcess) -> Response {
        api.ask("s1", "m1", "Please count.").await.response
    }

    /// Joins from the beginning.
    async fn get(&self, api: &ApiProcess) -> Response {
        let response = api.get("/chat/s1/stream?after=1-0-0").send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response
    }

    /// Goes on behind the last frame that was whole.
    async fn resume(&self, api: &ApiProcess) -> Response {
        let id = self.frames.last().map(|frame| {
            let line = frame.lines().next().unwrap();
            line.strip_prefix("id: ").unwrap()
        });
        match id {
            Some(id) => api.resume("s1", id).await.response,
            None => self.post(api).await,
        }
    }

    /// Reads at least so many bytes, unless the stream ends before.
    async fn take(response: &mut Response, at_least: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < at_least
            && let Ok(Some(chunk)) = response.chunk().await
        {
            bytes.extend_from_slice(&chunk);
        }
        bytes
    }

    /// Reads so many bytes and hangs up.
    async fn read(&mut self, mut response: Response, count: usize) {
        let mut bytes = Self::take(&mut response, count).await;
        bytes.truncate(count);
        self.keep(&bytes);
    }

    /// Reads so many bytes, then the process dies; what it had sent still counts.
    async fn read_until_killed(
        &mut self,
        mut response: Response,
        count: usize,
        api: &mut ApiProcess,
    ) {
        let mut bytes = Self::take(&mut response, count).await;
        api.process.kill().await;
        bytes.extend(Self::take(&mut response, usize::MAX).await);
        api.process.restart().await;
        self.keep(&bytes);
    }

    fn keep(&mut self, bytes: &[u8]) {
        let whole = whole_frames(bytes);
        self.frames.extend(whole.into_iter().map(str::to_owned));
    }

    fn is_whole(&self) -> bool {
        self.frames
            .last()
            .is_some_and(|frame| frame == "data: [DONE]")
    }
}

#[tokio::test]
async fn a_killed_api_process_costs_its_clients_nothing_when_they_resume_at_another_one() {
    let system = TestSystem::new().await;
    system.anthropic.on("count", Reply::words(60).paced(PACE));
    let (mut one, other) = (system.api().await, system.api().await);
    let _worker = system.worker().await;
    let mut stream = one.ask("s1", "m1", "Please count.").await;
    let mut frames = until_text(&mut stream).await;
    one.process.kill().await;
    let (rest, end) = stream.rest().await;
    assert_eq!(end, End::Cut);
    frames.extend(rest);
    let after = frames.last().unwrap().id.clone();
    let (rest, end) = other.resume("s1", &after).await.rest().await;
    frames.extend(rest);
    assert_eq!(end, End::Clean);
    assert!(shown_text(&frames).ends_with("word60"));
    assert_one_answer(&other.transcript("s1").await, &shown_text(&frames));
}

#[tokio::test]
async fn an_api_process_that_is_restarted_goes_on_at_its_address() {
    let system = TestSystem::new().await;
    system.anthropic.on("count", Reply::words(60).paced(PACE));
    let (mut api, _worker) = (system.api().await, system.worker().await);
    let stream = api.ask("s1", "m1", "Please count.").await;
    let mut frames = cut_after(stream, 6).await;
    let address = api.url("");
    api.process.restart().await;
    assert_eq!(api.url(""), address);
    let after = frames.last().unwrap().id.clone();
    frames.extend(api.resume("s1", &after).await.rest().await.0);
    let counted = shown_text(&frames);
    assert!(counted.ends_with("word60"), "{counted}");
}
