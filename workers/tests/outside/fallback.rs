//! The fallback model: when it is asked, and what the job goes by when both fail.

use std::time::{Duration, Instant};

use axum::response::Response;
use futures::TryStreamExt;
use serde_json::json;
use workers::{
    clients::{
        RetryClass,
        anthropic::{
            Anthropic, ContentBlock, Message, MessageRequest, ModelError, ModelEvent, Role,
        },
    },
    config::ModelConfig,
};

use crate::support::{Part, Provider, http, plain, streamed};

const MODEL: &str = "the-model";
const FALLBACK: &str = "the-fallback";

/// Both models together have so long to begin.
const PATIENCE: Duration = Duration::from_secs(2);

fn client(provider: &Provider) -> Anthropic {
    let config = ModelConfig {
        api_key: "sk-ant-secret".into(),
        base_url: provider.url(),
        model: MODEL.into(),
        fallback_model: Some(FALLBACK.into()),
        max_output_tokens: 64,
        stream_timeout: PATIENCE,
    };
    Anthropic::new(config, http())
}

fn request(model: &str) -> MessageRequest {
    MessageRequest {
        model: model.into(),
        max_tokens: 64,
        system: Vec::new(),
        messages: vec![Message {
            role: Role::User,
            content: vec![ContentBlock::text("my secret question")],
        }],
        tools: Vec::new(),
        tool_choice: None,
    }
}

/// An answer that names the model.
fn answer(model: &str) -> Vec<u8> {
    let start =
        json!({"type": "message_start", "message": {"model": model, "usage": {"input_tokens": 9}}});
    let events = [
        start,
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello."}}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}),
        json!({"type": "message_stop"}),
    ];
    let events = events.map(|event| format!("data: {event}\n\n"));
    events.concat().into_bytes()
}

fn refusal(status: u16, kind: &str) -> Response {
    let body = json!({"type": "error", "error": {"type": kind, "message": "my secret question"}});
    plain(status, &[], body.to_string())
}

fn error_event(kind: &str) -> Vec<u8> {
    let error = json!({"type": "error", "error": {"type": kind, "message": "no"}});
    format!("event: error\ndata: {error}\n\n").into_bytes()
}

/// A provider that treats the two models differently.
async fn provider(
    model: impl Fn() -> Response + Send + Sync + 'static,
    fallback: impl Fn() -> Response + Send + Sync + 'static,
) -> Provider {
    Provider::start(move |received| {
        if received.body["model"] == MODEL {
            model()
        } else {
            fallback()
        }
    })
    .await
}

fn answers(model: &'static str) -> impl Fn() -> Response + Send + Sync + 'static {
    move || streamed(vec![Part::Bytes(answer(model))])
}

/// The models that were asked, in order.
fn asked(provider: &Provider) -> Vec<String> {
    let received = provider.received();
    received
        .iter()
        .map(|received| received.body["model"].as_str().unwrap().to_owned())
        .collect()
}

async fn events(provider: &Provider) -> Result<Vec<ModelEvent>, ModelError> {
    client(provider)
        .stream(&request(MODEL))
        .await?
        .try_collect()
        .await
}

fn model_of(events: &[ModelEvent]) -> &str {
    match &events[0] {
        ModelEvent::Started { model, .. } => model,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_model_that_answers_is_not_replaced_and_loses_no_event() {
    let provider = provider(answers(MODEL), answers(FALLBACK)).await;
    let events = events(&provider).await.unwrap();
    assert_eq!(model_of(&events), MODEL);
    assert_eq!(events.len(), 3);
    assert_eq!(asked(&provider), [MODEL]);
}

#[tokio::test]
async fn an_overloaded_limited_or_failing_model_is_replaced_with_the_same_question() {
    for (status, kind) in [
        (529, "overloaded_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "api_error"),
    ] {
        let provider = provider(move || refusal(status, kind), answers(FALLBACK)).await;
        let events = events(&provider).await.unwrap();
        assert_eq!(model_of(&events), FALLBACK, "{status}");
        assert_eq!(asked(&provider), [MODEL, FALLBACK]);
        let received = provider.received();
        assert_eq!(received[0].body["messages"], received[1].body["messages"]);
    }
}

#[tokio::test]
async fn an_error_event_before_the_model_has_started_counts_as_well() {
    let overloaded = || streamed(vec![Part::Bytes(error_event("overloaded_error"))]);
    let provider = provider(overloaded, answers(FALLBACK)).await;
    assert_eq!(model_of(&events(&provider).await.unwrap()), FALLBACK);
}

#[tokio::test]
async fn a_model_that_does_not_begin_gives_way_in_half_of_the_time() {
    let silent = || streamed(vec![Part::Hang]);
    let provider = provider(silent, answers(FALLBACK)).await;
    let begun = Instant::now();
    assert_eq!(model_of(&events(&provider).await.unwrap()), FALLBACK);
    assert!(begun.elapsed() >= PATIENCE / 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn two_models_have_no_more_time_than_one() {
    let silent = || streamed(vec![Part::Hang]);
    let provider = provider(silent, silent).await;
    let begun = Instant::now();
    let error = events(&provider).await.unwrap_err();
    assert_eq!(error.code(), "timeout_first_token");
    let took = begun.elapsed();
    // Far less than twice the time, also on a machine under load.
    assert!((PATIENCE..PATIENCE * 2).contains(&took), "{took:?}");
    assert_eq!(asked(&provider), [MODEL, FALLBACK]);
}

#[tokio::test]
async fn what_another_model_can_not_help_is_not_asked_of_it() {
    let spent = || {
        let body = json!({"type": "error", "error": {"type": "rate_limit_error", "message": "x",
            "details": {"error_code": "enforced_spend_limit_reached"}}});
        plain(429, &[("retry-after", "1")], body.to_string())
    };
    for (code, status) in [
        ("invalid_request", 400),
        ("authentication", 401),
        ("permission", 403),
        ("not_found", 404),
        ("too_large", 413),
        ("spend_limit", 429),
    ] {
        let fails = move || match status {
            429 => spent(),
            _ => refusal(status, "an_error"),
        };
        let provider = provider(fails, answers(FALLBACK)).await;
        let error = events(&provider).await.unwrap_err();
        assert_eq!((error.code(), error.retry()), (code, RetryClass::Never));
        assert_eq!(asked(&provider), [MODEL], "{code}");
    }
}

#[tokio::test]
async fn a_model_that_breaks_off_after_its_start_is_not_replaced() {
    let start = answer(MODEL);
    let start: Vec<u8> =
        start[..start.windows(2).position(|end| end == b"\n\n").unwrap() + 2].into();
    let breaks = move || {
        let parts = [start.clone(), error_event("overloaded_error")];
        streamed(parts.into_iter().map(Part::Bytes).collect())
    };
    let provider = provider(breaks, answers(FALLBACK)).await;
    let error = events(&provider).await.unwrap_err();
    assert_eq!(error.code(), "overloaded");
    assert_eq!(asked(&provider), [MODEL]);
}

#[tokio::test]
async fn when_both_fail_the_job_goes_by_the_model_that_was_asked_for() {
    let limited = || {
        let body = json!({"type": "error", "error": {"type": "rate_limit_error", "message": "x"}});
        plain(429, &[("retry-after", "7")], body.to_string())
    };
    // The fallback that does not exist is no reason to give up.
    let provider = provider(limited, || refusal(404, "not_found_error")).await;
    let error = events(&provider).await.unwrap_err();
    let after = Some(Duration::from_secs(7));
    assert_eq!(
        (error.code(), error.retry()),
        ("rate_limited", RetryClass::Retry { after })
    );
}

#[tokio::test]
async fn what_the_fallback_finds_out_about_the_account_holds_for_both() {
    let overloaded = || refusal(529, "overloaded_error");
    let provider = provider(overloaded, || refusal(402, "billing_error")).await;
    let error = events(&provider).await.unwrap_err();
    assert_eq!(
        (error.code(), error.retry()),
        ("spend_limit", RetryClass::Never)
    );
}

#[tokio::test]
async fn a_model_that_thinks_by_default_is_asked_to_answer_at_once() {
    let provider = Provider::start(|_| streamed(vec![Part::Bytes(answer(MODEL))])).await;
    for (model, thinking) in [
        ("claude-haiku-4-5", json!(null)),
        ("claude-haiku-5-5", json!({"type": "disabled"})),
        ("claude-sonnet-5-5", json!({"type": "between_tools"})),
        // It always thinks, and refuses to be told not to.
        ("claude-opus-5-5", json!(null)),
        ("a-model", json!(null)),
    ] {
        client(&provider).stream(&request(model)).await.unwrap();
        let received = provider.received();
        let body = &received.last().unwrap().body;
        assert_eq!(body["model"], model);
        assert_eq!(body["thinking"], thinking, "{model}");
        assert_eq!(
            body.as_object().unwrap().contains_key("thinking"),
            !thinking.is_null()
        );
    }
}

#[tokio::test]
async fn a_call_of_the_fallback_itself_has_no_other_fallback() {
    let provider = provider(answers(MODEL), || refusal(529, "overloaded_error")).await;
    let error = client(&provider)
        .stream(&request(FALLBACK))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "overloaded");
    assert_eq!(asked(&provider), [FALLBACK]);
}
