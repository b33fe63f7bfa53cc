//! An API process in this one, a client for it, and a hand that plays the worker.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use api::{
    ApiConfig, Hub, State,
    config::{AllowedOrigins, EdgeConfig, Environment, RateLimits},
};
use reqwest::{Client, RequestBuilder, Response, StatusCode, header};
use sandbox::{postgres::TestDatabase, slack::SLACK_SIGNING_SECRET};
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool};
use store::{
    bus::{Bus, Wake},
    clock::SystemClock,
    edge_limits::RateLimit,
    events::{self, Cursor, NewEvent},
    ids::{SystemEntropy, TurnKey},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(crate) use crate::support::frames::{End, Frame, Frames, Next};

/// The site key of the tests.
pub(crate) const TOKEN: &str = "test-token";

/// A visitor's secret.
pub(crate) const SECRET: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// The default.
const SESSION_TTL: Duration = Duration::from_hours(24);

/// Somebody else's.
pub(crate) const OTHER_SECRET: &str = "BBBBBBBBBBBBBBBBBBBBBB";

/// Counts the jobs of turns; each session has another one, which looks after it.
pub(crate) const TURN_JOBS: &str = "select count(*) from queue.jobs where kind = 'turn.process'";

/// What the site's proxy shows.
pub(crate) const EDGE_SECRET: &str = "the-edge-of-the-tests";

/// The address of a visitor.
pub(crate) const CLIENT: &str = "203.0.113.7";

/// Production's, but for the limits.
fn config() -> ApiConfig {
    ApiConfig {
        environment: Environment::Production,
        bind_address: [127, 0, 0, 1].into(),
        port: 0,
        metrics_port: 0,
        widget_tokens: vec!["another-token".to_owned(), TOKEN.to_owned()],
        allowed_origins: AllowedOrigins::These(vec!["https://www.company.example".to_owned()]),
        session_ttl: SESSION_TTL,
        slack_signing_secret: Some(SLACK_SIGNING_SECRET.into()),
        handoff_waits: vec![1, 3, 9],
        edge: EdgeConfig {
            secrets: vec![EDGE_SECRET.into()],
            proxies: "none".parse().unwrap(),
        },
        limits: limits(),
    }
}

/// More than any test needs: the limits have tests of their own.
fn limits() -> RateLimits {
    let generous: RateLimit = "1000000/1s".parse().unwrap();
    RateLimits {
        address: generous,
        session: generous,
        site: generous,
    }
}

/// The site's proxy, as a visitor at this address uses it.
pub(crate) fn through_the_edge(visitor: &str) -> Client {
    let headers = [
        ("x-edge-secret", EDGE_SECRET),
        ("cf-connecting-ip", visitor),
    ];
    let headers = headers.map(|(name, value)| {
        let name: header::HeaderName = name.parse().unwrap();
        (name, value.parse().unwrap())
    });
    Client::builder()
        .default_headers(headers.into_iter().collect())
        .build()
        .unwrap()
}

/// An API process.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    pub(crate) pool: PgPool,
    pub(crate) bus: Bus,
    pub(crate) client: Client,
    shutdown: CancellationToken,
    database: Arc<TestDatabase>,
}

impl Drop for App {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl App {
    /// A process with a database of its own.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// The same, configured differently.
    pub(crate) async fn start_with(change: impl FnOnce(&mut ApiConfig)) -> Self {
        let mut config = config();
        change(&mut config);
        Self::serve(Arc::new(TestDatabase::create().await.unwrap()), config).await
    }

    /// Another process with the same database.
    pub(crate) async fn sibling(&self) -> Self {
        self.sibling_with(|_| {}).await
    }

    /// The same, configured differently.
    pub(crate) async fn sibling_with(&self, change: impl FnOnce(&mut ApiConfig)) -> Self {
        let mut config = config();
        change(&mut config);
        Self::serve(self.database.clone(), config).await
    }

    async fn serve(database: Arc<TestDatabase>, config: ApiConfig) -> Self {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let pool = database.pool().await.unwrap();
        let shutdown = CancellationToken::new();
        let bus = Bus::new("test");
        let (hub, reader) = Hub::new(pool.clone(), &bus, shutdown.clone());
        tokio::spawn(reader.run());
        let state = State::new(
            config,
            pool.clone(),
            bus.clone(),
            hub,
            Arc::new(SystemEntropy),
            Arc::new(SystemClock),
        );
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = shutdown.clone();
        tokio::spawn(async move {
            let router = api::router(state).into_make_service_with_connect_info::<SocketAddr>();
            axum::serve(listener, router)
                .with_graceful_shutdown(stop.cancelled_owned())
                .await
        });
        Self {
            address,
            pool,
            bus,
            client: through_the_edge(CLIENT),
            shutdown,
            database,
        }
    }

    /// Tells the process to stop.
    pub(crate) fn stop(&self) {
        self.shutdown.cancel();
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A request of the widget: site key and the visitor's secret.
    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client
            .get(self.url(path))
            .header("x-widget-token", TOKEN)
            .bearer_auth(SECRET)
    }

    /// A request of the widget: site key and the visitor's secret.
    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.client
            .post(self.url(path))
            .header("x-widget-token", TOKEN)
            .bearer_auth(SECRET)
    }

    /// A message to be answered as JSON.
    pub(crate) fn message(&self, session: &str, id: &str, text: &str) -> RequestBuilder {
        self.post("/chat")
            .header(header::ACCEPT, "application/json")
            .json(&json!({"session_id": session, "message_id": id, "message": text}))
    }

    /// Sends a message that is accepted; its turn.
    pub(crate) async fn accept(&self, session: &str, id: &str, text: &str) -> i64 {
        let response = self.message(session, id, text).send().await.unwrap();
        let body = body_of(response, StatusCode::ACCEPTED).await;
        body["turn"].as_i64().unwrap()
    }

    /// Opens a stream.
    pub(crate) async fn stream(&self, request: RequestBuilder) -> Frames {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        Frames::of(response)
    }

    /// Plays the worker: the next attempt of a turn begins.
    pub(crate) async fn begin_attempt(&self, session: &str, turn: i32) -> Attempt<'_> {
        let attempt: i32 = sqlx::query_scalar(
            "update turns set attempt = attempt + 1, status = 'running', started_at = now()
             where session_id = $1 and turn = $2 returning attempt",
        )
        .bind(session)
        .bind(turn)
        .fetch_one(&self.pool)
        .await
        .unwrap();
        sqlx::query(
            "update queue.jobs set state = 'running', lease_until = now() + interval '1 hour',
                    worker = gen_random_uuid(), attempt = 1, lease = lease + 1
             where unique_key = $1",
        )
        .bind(format!("{session}/{turn}"))
        .execute(&self.pool)
        .await
        .unwrap();
        Attempt {
            app: self,
            key: TurnKey {
                session_id: session.parse().unwrap(),
                turn,
            },
            number: attempt,
            seq: 0,
        }
    }

    /// How many rows a query counts.
    pub(crate) async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }
}

/// A worker's attempt at a turn.
pub(crate) struct Attempt<'a> {
    app: &'a App,
    key: TurnKey,
    number: i32,
    seq: i32,
}

impl Attempt<'_> {
    /// Appends a frame and wakes the readers.
    pub(crate) async fn send(&mut self, chunk: Value) -> Cursor {
        let at = self.append(chunk).await;
        self.wake();
        at
    }

    fn wake(&self) {
        self.app.bus.publish(&Wake {
            turns: [self.key.clone()].into(),
            ..Wake::default()
        });
    }

    /// Appends a frame; the wake-up is lost.
    pub(crate) async fn append(&mut self, chunk: Value) -> Cursor {
        let mut conn = self.app.pool.acquire().await.unwrap();
        self.append_by(&mut conn, chunk).await
    }

    async fn append_by(&mut self, conn: &mut PgConnection, chunk: Value) -> Cursor {
        self.seq += 1;
        let kind = chunk["type"].as_str().unwrap();
        let event = NewEvent {
            key: self.key.clone(),
            attempt: self.number,
            seq: self.seq,
            terminal: matches!(kind, "finish" | "abort" | "error"),
            json: chunk.to_string(),
        };
        let written = events::append(conn, &[event]).await.unwrap();
        assert_eq!(written, 1);
        Cursor {
            turn: self.key.turn,
            attempt: self.number,
            seq: self.seq,
        }
    }

    /// The first frame of an attempt.
    pub(crate) async fn start(&mut self) {
        let message_id: String =
            sqlx::query_scalar("select answer_id from turns where session_id = $1 and turn = $2")
                .bind(self.key.session_id.as_str())
                .bind(self.key.turn)
                .fetch_one(&self.app.pool)
                .await
                .unwrap();
        self.send(json!({"type": "start", "messageId": message_id}))
            .await;
    }

    /// A piece of the answer.
    pub(crate) async fn delta(&mut self, text: &str) -> Cursor {
        self.send(json!({"type": "text-delta", "id": "t", "delta": text}))
            .await
    }

    /// Commits the answer at once: the message, the turn, the last frame; the job is done.
    pub(crate) async fn finish(mut self, text: &str) {
        let mut tx = self.app.pool.begin().await.unwrap();
        sqlx::query(
            "with answer as (
                 insert into messages (session_id, message_id, turn, role, body, sources)
                 select session_id, answer_id, turn, 'assistant', $3,
                        '[{\"sourceId\": \"1\", \"url\": \"https://a.example/\", \"title\": \"A\"}]'
                 from turns where session_id = $1 and turn = $2
             )
             update turns set status = 'answered', finished_at = now(), finish_reason = 'stop'
             where session_id = $1 and turn = $2",
        )
        .bind(self.key.session_id.as_str())
        .bind(self.key.turn)
        .bind(text)
        .execute(&mut *tx)
        .await
        .unwrap();
        sqlx::query("delete from queue.jobs where unique_key = $1")
            .bind(self.key.to_string())
            .execute(&mut *tx)
            .await
            .unwrap();
        let chunk = json!({"type": "finish", "finishReason": "stop"});
        self.append_by(&mut tx, chunk).await;
        tx.commit().await.unwrap();
        self.wake();
    }
}

/// The JSON of a response that must have this status.
pub(crate) async fn body_of(response: Response, status: StatusCode) -> Value {
    let got = response.status();
    let text = response.text().await.unwrap();
    assert_eq!(got, status, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// Checks that a response is a problem with this status and code.
pub(crate) async fn assert_problem(response: Response, status: u16, code: &str) {
    let kind = response.headers()[header::CONTENT_TYPE].clone();
    let body = body_of(response, StatusCode::from_u16(status).unwrap()).await;
    assert_eq!(kind, "application/problem+json");
    assert_eq!(body["code"], code);
    assert_eq!(body["status"], status);
    for member in ["type", "title", "detail"] {
        assert!(body[member].is_string(), "{member}");
    }
}
