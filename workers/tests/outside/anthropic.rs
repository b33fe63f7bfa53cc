use std::{error::Error, time::Duration};

use futures::{StreamExt, TryStreamExt};
use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::{Value, json};
use workers::{
    clients::{
        Failure, RetryClass,
        anthropic::{
            Anthropic, ContentBlock, Message, MessageRequest, MessageStream, ModelError,
            ModelEvent, Role, StopReason, StreamLimits, Usage,
        },
    },
    config::ModelConfig,
};

use crate::support::{Part, Provider, http, plain, streamed, watched};

const QUESTION: &str = "my secret question";
const KEY: &str = "sk-ant-secret";

/// Long enough for a loaded machine, short enough to wait for.
const LIMITS: StreamLimits = StreamLimits {
    first_token: Duration::from_millis(300),
    idle: Duration::from_millis(300),
    no_content: Duration::from_millis(600),
};

/// A server that cuts at once takes the bytes before the cut with it.
const FLUSHED: Part = Part::Wait(Duration::from_millis(50));

fn client(base_url: String) -> Anthropic {
    let config = ModelConfig {
        api_key: KEY.into(),
        base_url,
        model: "model-of-the-test".into(),
        fallback_model: None,
        max_output_tokens: 64,
        stream_timeout: Duration::from_secs(5),
    };
    Anthropic::new(config, http())
}

fn request() -> MessageRequest {
    MessageRequest {
        model: "model-of-the-test".into(),
        max_tokens: 64,
        system: Vec::new(),
        messages: vec![Message {
            role: Role::User,
            content: vec![ContentBlock::text(QUESTION)],
        }],
        tools: Vec::new(),
        tool_choice: None,
    }
}

fn event(data: &Value) -> String {
    format!(
        "event: {}\ndata: {data}\n\n",
        data["type"].as_str().unwrap()
    )
}

fn start() -> String {
    event(
        &json!({"type": "message_start", "message": {"id": "msg_1", "role": "assistant",
        "content": [], "model": "model-of-the-test-1", "stop_reason": null,
        "usage": {"input_tokens": 9, "output_tokens": 1, "cache_creation_input_tokens": 0,
                  "cache_read_input_tokens": null}}}),
    )
}

fn text(text: &str) -> String {
    event(&json!({"type": "content_block_delta", "index": 0,
        "delta": {"type": "text_delta", "text": text}}))
}

fn ping() -> String {
    event(&json!({"type": "ping"}))
}

/// A whole answer, with everything that may come.
fn answer() -> String {
    [
        start(),
        event(&json!({"type": "content_block_start", "index": 0,
            "content_block": {"type": "text", "text": ""}})),
        ping(),
        text("Grüße 👋🏽 "),
        text("aus Köln."),
        ": a comment\n\n".into(),
        event(&json!({"type": "content_block_delta", "index": 0, "delta":
            {"type": "citations_delta", "citation": {"type": "search_result_location",
             "source": "a.md", "title": "A", "cited_text": "Köln", "search_result_index": 1,
             "start_block_index": 0, "end_block_index": 1}}})),
        event(&json!({"type": "content_block_stop", "index": 0})),
        event(&json!({"type": "news", "x": [1]})),
        event(
            &json!({"type": "content_block_start", "index": 1, "content_block":
            {"type": "tool_use", "id": "toolu_1", "name": "find", "input": {}}}),
        ),
        event(&json!({"type": "content_block_delta", "index": 1, "delta":
            {"type": "input_json_delta", "partial_json": "{\"query\":"}})),
        event(&json!({"type": "content_block_delta", "index": 1, "delta":
            {"type": "input_json_delta", "partial_json": " \"ü\"}"}})),
        event(&json!({"type": "content_block_stop", "index": 1})),
        event(
            &json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"},
            "usage": {"output_tokens": 21}}),
        ),
        event(&json!({"type": "message_stop"})),
    ]
    .concat()
}

fn answered() -> Vec<ModelEvent> {
    let usage = Usage {
        input_tokens: 9,
        output_tokens: 1,
        cache_write_tokens: 0,
        cache_read_tokens: 0,
    };
    let text = |text: &str| ModelEvent::TextDelta {
        block: 0,
        text: text.into(),
    };
    vec![
        ModelEvent::Started {
            model: "model-of-the-test-1".into(),
            usage,
        },
        text("Grüße 👋🏽 "),
        text("aus Köln."),
        ModelEvent::Citation {
            block: 0,
            source: "a.md".into(),
            title: Some("A".into()),
            cited_text: "Köln".into(),
            search_result_index: 1,
        },
        ModelEvent::ToolUse {
            id: "toolu_1".into(),
            name: "find".into(),
            input: json!({"query": "ü"}),
        },
        ModelEvent::Finished {
            stop_reason: StopReason::ToolUse,
            usage: Usage {
                output_tokens: 21,
                ..usage
            },
        },
    ]
}

async fn stream(provider: &Provider, limits: StreamLimits) -> Result<MessageStream, ModelError> {
    client(provider.url())
        .with_limits(limits)
        .stream(&request())
        .await
}

/// The events before the error, and the error.
async fn fails(
    parts: impl Fn() -> Vec<Part> + Send + Sync + 'static,
) -> (Vec<ModelEvent>, ModelError) {
    let provider = Provider::start(move |_| streamed(parts())).await;
    let mut stream = match stream(&provider, LIMITS).await {
        Ok(stream) => stream,
        Err(error) => return (Vec::new(), error),
    };
    let mut events = Vec::new();
    loop {
        match stream
            .next()
            .await
            .expect("a stream ends with Finished or an error")
        {
            Ok(event) => events.push(event),
            Err(error) => return (events, error),
        }
    }
}

fn bytes(text: String) -> Part {
    Part::Bytes(text.into_bytes())
}

#[test]
fn an_answer_means_the_same_however_its_bytes_are_cut() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let whole = answer().into_bytes();
    let cuts = proptest::collection::vec(0..whole.len(), 0..40);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(24));
    let outcome = runner.run(&(cuts, any::<bool>()), |(mut cuts, windows)| {
        let mut whole = whole.clone();
        if windows {
            whole = String::from_utf8(whole)
                .unwrap()
                .replace('\n', "\r\n")
                .into_bytes();
        }
        cuts.sort_unstable();
        let ends = cuts.iter().copied().chain([whole.len()]);
        let begins = [0].into_iter().chain(cuts.iter().copied());
        let pieces: Vec<Vec<u8>> = begins
            .zip(ends)
            .map(|(begin, end)| whole[begin..end].to_vec())
            .collect();
        let events: Vec<ModelEvent> = runtime.block_on(async {
            let provider = Provider::start(move |_| {
                streamed(pieces.iter().cloned().map(Part::Bytes).collect())
            })
            .await;
            let limits = StreamLimits::after(Duration::from_secs(10));
            stream(&provider, limits)
                .await
                .unwrap()
                .try_collect()
                .await
                .unwrap()
        });
        prop_assert_eq!(events, answered());
        Ok(())
    });
    outcome.unwrap();
}

#[tokio::test]
async fn a_request_is_authenticated_and_streamed() {
    let provider = Provider::start(|_| streamed(vec![bytes(answer())])).await;
    let stream = stream(&provider, LIMITS).await.unwrap();
    assert_eq!(stream.request_id(), Some("req_test"));
    let received = &provider.received()[0];
    assert_eq!(received.path, "/v1/messages");
    assert_eq!(received.headers["x-api-key"], KEY);
    assert_eq!(received.headers["anthropic-version"], "2023-06-01");
    assert_eq!(received.body["stream"], true);
    assert_eq!(received.body["messages"][0]["content"][0]["text"], QUESTION);
}

#[tokio::test]
async fn a_refusal_tells_when_to_come_back() {
    let provider = Provider::start(|_| {
        let body = json!({"type": "error", "request_id": "req_1",
            "error": {"type": "overloaded_error", "message": "Overloaded"}});
        plain(
            529,
            &[("retry-after", "3"), ("request-id", "req_1")],
            body.to_string(),
        )
    })
    .await;
    let error = stream(&provider, LIMITS).await.unwrap_err();
    assert_eq!(
        (error.failure(), error.code()),
        (Failure::Overloaded, "overloaded")
    );
    assert_eq!(
        error.retry(),
        RetryClass::Retry {
            after: Some(Duration::from_secs(3))
        }
    );
    assert_eq!(
        (error.status(), error.request_id()),
        (Some(529), Some("req_1"))
    );
}

#[tokio::test]
async fn a_wrong_key_is_not_tried_again() {
    let provider = Provider::start(|_| {
        let body = json!({"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}});
        plain(401, &[], body.to_string())
    })
    .await;
    let error = stream(&provider, LIMITS).await.unwrap_err();
    assert_eq!(
        (error.code(), error.retry()),
        ("authentication", RetryClass::Never)
    );
}

#[tokio::test]
async fn an_error_inside_the_stream_ends_it() {
    let (events, error) = fails(|| {
        let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
        vec![bytes(start() + &text("Hel") + &event(&error))]
    })
    .await;
    assert_eq!(events.len(), 2);
    assert_eq!(
        (error.code(), error.retry()),
        ("overloaded", RetryClass::LATER)
    );
    assert_eq!(error.request_id(), Some("req_test"));
}

#[tokio::test]
async fn a_stream_that_ends_early_is_a_lost_connection() {
    let polite = fails(|| vec![bytes(start() + &text("Hel"))]).await;
    let cut = fails(|| vec![bytes(start() + &text("Hel")), FLUSHED, Part::Cut]).await;
    for (events, error) in [polite, cut] {
        assert_eq!(events.len(), 2);
        assert_eq!(
            (error.code(), error.retry()),
            ("connection_lost", RetryClass::LATER)
        );
    }
}

#[tokio::test]
async fn a_model_that_only_pings_has_not_begun() {
    let (events, error) = fails(|| {
        let mut parts = vec![bytes(start())];
        for _ in 0..100 {
            parts.extend([Part::Wait(Duration::from_millis(20)), bytes(ping())]);
        }
        parts
    })
    .await;
    assert_eq!(events.len(), 1);
    assert_eq!(
        (error.code(), error.retry()),
        ("timeout_first_token", RetryClass::LATER)
    );
}

#[tokio::test]
async fn a_provider_that_does_not_answer_at_all_is_given_up() {
    let provider = Provider::start(|_| streamed(vec![Part::Hang])).await;
    let outcome = match stream(&provider, LIMITS).await {
        Ok(mut stream) => stream.next().await.unwrap().map(|_| ()),
        Err(error) => Err(error),
    };
    assert_eq!(outcome.unwrap_err().code(), "timeout_first_token");
}

#[tokio::test]
async fn silence_after_the_first_token_is_an_idle_timeout() {
    let (events, error) = fails(|| vec![bytes(start() + &text("Hel")), Part::Hang]).await;
    assert_eq!(events.len(), 2);
    assert_eq!(
        (error.code(), error.retry()),
        ("idle_timeout", RetryClass::LATER)
    );
}

#[tokio::test]
async fn pings_keep_a_stream_alive_but_not_for_ever() {
    let (events, error) = fails(|| {
        let mut parts = vec![bytes(start() + &text("Hel"))];
        // Longer than `idle` and shorter than `no_content`.
        for _ in 0..8 {
            parts.extend([Part::Wait(Duration::from_millis(50)), bytes(ping())]);
        }
        parts.push(bytes(text("lo")));
        for _ in 0..100 {
            parts.extend([Part::Wait(Duration::from_millis(50)), bytes(ping())]);
        }
        parts
    })
    .await;
    assert_eq!(events.len(), 3);
    assert_eq!(error.code(), "idle_timeout");
}

#[tokio::test]
async fn a_caller_that_takes_its_time_is_not_the_models_silence() {
    let provider = Provider::start(|_| {
        let rest = answer().split_off(start().len());
        streamed(vec![
            bytes(start() + &text("a")),
            Part::Wait(Duration::from_millis(500)),
            bytes(rest),
        ])
    })
    .await;
    let mut stream = stream(&provider, LIMITS).await.unwrap();
    let mut seen = 0;
    while let Some(event) = stream.next().await {
        event.unwrap();
        seen += 1;
        if seen == 2 {
            // The caller is busy for longer than the stream may be silent.
            tokio::time::sleep(LIMITS.idle + Duration::from_millis(100)).await;
        }
    }
    assert_eq!(seen, answered().len() + 1);
}

#[tokio::test]
async fn dropping_the_stream_closes_the_connection() {
    let told = std::sync::Mutex::new(None);
    let told = std::sync::Arc::new(told);
    let provider = Provider::start({
        let told = told.clone();
        move |_| {
            let (response, receiver) = watched((start() + &text("Hel")).into_bytes());
            *told.lock().unwrap() = Some(receiver);
            response
        }
    })
    .await;
    let mut stream = stream(&provider, StreamLimits::after(Duration::from_secs(5)))
        .await
        .unwrap();
    stream.next().await.unwrap().unwrap();
    let mut gone = told.lock().unwrap().take().unwrap();
    drop(stream);
    tokio::time::timeout(Duration::from_secs(1), gone.recv())
        .await
        .expect("the provider sees the end of the connection within a second");
}

#[tokio::test]
async fn what_is_not_a_stream_is_malformed() {
    let provider =
        Provider::start(|_| plain(200, &[("content-type", "text/html")], "<html>")).await;
    let error = stream(&provider, LIMITS).await.unwrap_err();
    assert_eq!(error.code(), "malformed_response");
    for broken in [
        "data: {\"type\":\n\n",
        "data: \u{0}\n\n",
        "data: {\"type\":\"message_stop\"}\n\n",
    ] {
        let (_, error) = fails(move || vec![bytes(start() + broken)]).await;
        assert_eq!(error.code(), "malformed_response", "{broken}");
    }
    let (_, error) =
        fails(|| vec![bytes(start()), Part::Bytes(b"data: \xff\xfe\n\n".to_vec())]).await;
    assert_eq!(error.code(), "malformed_response");
}

#[tokio::test]
async fn an_endless_line_is_not_buffered_for_ever() {
    let (_, error) = fails(|| {
        let mut parts = vec![bytes(start() + &text("Hel") + "data: ")];
        parts.extend((0..20).map(|_| Part::Bytes(vec![b'x'; 1024 * 1024])));
        parts.push(Part::Hang);
        parts
    })
    .await;
    assert_eq!(error.code(), "malformed_response");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Provider::start(|_| streamed(vec![bytes(answer())])).await;
    let location = elsewhere.url();
    let provider = Provider::start(move |_| plain(307, &[("location", &location)], "")).await;
    let error = stream(&provider, LIMITS).await.unwrap_err();
    assert_eq!(
        (error.code(), error.retry()),
        ("unexpected_status", RetryClass::Never)
    );
    assert!(elsewhere.received().is_empty());
}

#[tokio::test]
async fn nobody_listening_is_a_failure_to_connect() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = client(format!("http://{address}"))
        .stream(&request())
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.retry()),
        ("connect", RetryClass::LATER)
    );
}

#[tokio::test]
async fn no_error_shows_the_question_the_answer_or_the_key() {
    let refusing = Provider::start(|received| {
        let body = json!({"type": "error", "error": {"type": "invalid_request_error",
            "message": format!("{} {KEY}", received.body)}});
        plain(
            400,
            &[("request-id", "my secret question")],
            body.to_string(),
        )
    })
    .await;
    let refused = stream(&refusing, LIMITS).await.unwrap_err();
    let (_, broken) =
        fails(|| vec![bytes(start() + &text("secret answer") + "data: secret\n\n")]).await;
    let (_, lost) =
        fails(|| vec![bytes(start() + &text("secret answer")), FLUSHED, Part::Cut]).await;
    for error in [refused, broken, lost] {
        let mut shown = format!("{error} {error:?}");
        let mut source = error.source();
        while let Some(cause) = source {
            shown = format!("{shown} {cause} {cause:?}");
            source = cause.source();
        }
        assert!(!shown.contains("secret"), "{shown}");
    }
}
