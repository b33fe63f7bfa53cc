//! A process of the system, and what a client can do with one that serves the API.

use std::{net::SocketAddr, process::ExitStatus, sync::Arc, time::Duration};

use reqwest::{Client, Method, RequestBuilder, StatusCode};
use sandbox::{
    process::{Listening, LogListener, Process, Program},
    watchdog::{Signal, Watchdog},
};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    TOKEN,
    frames::{End, Frame, Frames, Next},
};

/// The visitor's secret of the tests.
const SECRET: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// Between two looks at a log.
const LOOK: Duration = Duration::from_millis(5);

/// A running process. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct SystemProcess {
    program: Program,
    process: Process,
    listening: Listening,
    watchdog: Arc<Watchdog>,
    listener: LogListener,
    patience: Duration,
}

impl SystemProcess {
    pub(super) async fn start(
        program: Program,
        watchdog: &Arc<Watchdog>,
        listener: &LogListener,
        patience: Duration,
    ) -> Self {
        let mut process = Process::start(&program, watchdog, listener).unwrap();
        let listening = process.listening(patience).await.unwrap();
        Self {
            program,
            process,
            listening,
            watchdog: Arc::clone(watchdog),
            listener: listener.clone(),
            patience,
        }
    }

    /// Ends it as a crash would.
    pub(crate) async fn kill(&mut self) {
        self.process.kill().await.unwrap();
    }

    /// SIGTERM; it must end by itself.
    pub(crate) async fn stop(&mut self) {
        let status = self.process.stop(self.patience).await.unwrap();
        assert!(status.success(), "{status}: {}", self.process.log());
    }

    pub(crate) fn metrics_address(&self) -> SocketAddr {
        self.listening.metrics.unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(crate) fn serves_no_api(&self) -> bool {
        self.listening.http.is_none()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for its end, which it is on its way to.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        timeout(self.patience, self.process.wait())
            .await
            .unwrap_or_else(|_| panic!("it does not end: {}", self.process.log()))
            .unwrap()
    }

    /// Its log, or the last thousand lines of it.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until its log has this in it.
    pub(crate) async fn logged(&self, text: &str) {
        let logged = async {
            while !self.process.log().contains(text) {
                tokio::time::sleep(LOOK).await;
            }
        };
        timeout(self.patience, logged)
            .await
            .unwrap_or_else(|_| panic!("it does not log {text:?}: {}", self.process.log()));
    }

    /// It does nothing any more, as if the machine hung (SIGSTOP).
    pub(crate) fn freeze(&self) {
        self.process.signal(Signal::SIGSTOP);
    }

    /// It goes on (SIGCONT).
    pub(crate) fn thaw(&self) {
        self.process.signal(Signal::SIGCONT);
    }

    /// Kills it and starts it again, with the address that it had.
    pub(crate) async fn restart(&mut self) {
        self.kill().await;
        let ports = [
            ("PORT", self.listening.http),
            ("METRICS_PORT", self.listening.metrics),
        ];
        for (name, address) in ports {
            if let Some(address) = address {
                self.program.environment.retain(|(known, _)| known != name);
                let port = address.port().to_string();
                self.program.environment.push((name.to_owned(), port));
            }
        }
        let program = self.program.clone();
        *self = Self::start(program, &self.watchdog, &self.listener, self.patience).await;
    }
}

/// A process that serves the API, and its client.
#[derive(Debug)]
pub(crate) struct ApiProcess {
    pub(crate) process: SystemProcess,
    client: Client,
}

impl ApiProcess {
    pub(super) fn new(process: SystemProcess, client: Client) -> Self {
        Self { process, client }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        let address = self.process.listening.http.unwrap();
        format!("http://{address}{path}")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.process.listening.http.unwrap()
    }

    pub(crate) fn metrics_url(&self) -> String {
        let address = self.process.metrics_address();
        format!("http://{address}/metrics")
    }

    /// A request of the widget: site key and the visitor's secret.
    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        Self::authorised(self.client.get(self.url(path)))
    }

    /// A request of the widget: site key and the visitor's secret.
    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        Self::authorised(self.client.post(self.url(path)))
    }

    /// The same with any method.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        Self::authorised(self.client.request(method, self.url(path)))
    }

    fn authorised(request: RequestBuilder) -> RequestBuilder {
        request.header("x-widget-token", TOKEN).bearer_auth(SECRET)
    }

    /// Sends a message and reads the answer's stream.
    pub(crate) async fn ask(&self, session: &str, message_id: &str, text: &str) -> Frames {
        let body = json!({"session_id": session, "message_id": message_id, "message": text});
        let response = self.post("/chat").json(&body).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        Frames::of(response)
    }

    /// Joins the stream again, behind a frame that was seen.
    pub(crate) async fn resume(&self, session: &str, after: &str) -> Frames {
        let request = self
            .get(&format!("/chat/{session}/stream"))
            .header("last-event-id", after);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        Frames::of(response)
    }

    /// Sends a message and reads where its answer will be (202).
    pub(crate) async fn submit(&self, session: &str, message_id: &str, text: &str) -> Value {
        let response = self.submission(session, message_id, text).send().await;
        let response = response.unwrap();
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        response.json().await.unwrap()
    }

    /// The request of [`Self::submit`].
    pub(crate) fn submission(&self, session: &str, message_id: &str, text: &str) -> RequestBuilder {
        self.post("/chat")
            .header("accept", "application/json")
            .json(&json!({"session_id": session, "message_id": message_id, "message": text}))
    }

    /// Stops a turn.
    pub(crate) async fn cancel(&self, session: &str, turn: i32) {
        let path = format!("/chat/{session}/turns/{turn}/cancel");
        let response = self.post(&path).send().await.unwrap();
        assert!(response.status().is_success(), "{}", response.status());
    }

    /// The transcript and state of a session.
    pub(crate) async fn transcript(&self, session: &str) -> Value {
        let response = self.get(&format!("/chat/{session}")).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.json().await.unwrap()
    }
}

/// Reads until so many durable frames came, and cuts the connection.
pub(crate) async fn cut_after(mut stream: Frames, count: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    while frames.len() < count {
        match stream.next().await {
            Next::Frame(frame) => frames.push(frame),
            Next::Comment => {}
            Next::End(End::Clean | End::Cut) => break,
        }
    }
    frames
}

/// Reads until a visitor sees the first words.
pub(crate) async fn until_text(stream: &mut Frames) -> Vec<Frame> {
    let mut frames = Vec::new();
    while shown_text(&frames).is_empty() {
        frames.push(stream.frame().await);
    }
    frames
}

/// The text that a client shows after these frames: a new attempt begins an empty one.
pub(crate) fn shown_text(frames: &[Frame]) -> String {
    let mut text = String::new();
    for frame in frames {
        match frame.kind() {
            "data-reset" => text.clear(),
            "text-delta" => text.push_str(frame.json["delta"].as_str().unwrap()),
            _ => {}
        }
    }
    text
}

/// How often a client was told to begin again.
pub(crate) fn resets(frames: &[Frame]) -> usize {
    let resets = frames.iter().filter(|frame| frame.kind() == "data-reset");
    resets.count()
}

/// A transcript of one question and one answer, which is this.
#[track_caller]
pub(crate) fn assert_one_answer(transcript: &Value, answer: &str) {
    let messages = transcript["messages"].as_array().unwrap();
    let roles: Vec<&str> = messages
        .iter()
        .map(|message| message["role"].as_str().unwrap())
        .collect();
    assert_eq!(roles, ["user", "assistant"]);
    assert_eq!(last_answer(transcript), answer);
    assert_eq!(transcript["active_turn"], Value::Null);
}

/// The text of the newest message of a transcript.
pub(crate) fn last_answer(transcript: &Value) -> String {
    let messages = transcript["messages"].as_array().unwrap();
    let parts = messages.last().unwrap()["parts"].as_array().unwrap();
    let texts = parts.iter().filter_map(|part| part["text"].as_str());
    texts.collect()
}
