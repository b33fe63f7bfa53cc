use proptest::prelude::*;
use serde_json::json;

use super::*;

fn decode(events: &[Value]) -> Result<Vec<ModelEvent>, Failure> {
    let mut decoder = Decoder::default();
    let mut seen = Vec::new();
    for event in events {
        if let Decoded::Event(event) = decoder.push(&event.to_string())? {
            seen.push(event);
        }
    }
    Ok(seen)
}

#[test]
fn later_usage_replaces_earlier_usage_and_null_keeps_it() {
    let events = decode(&[
        json!({"type": "message_start", "message": {"model": "m", "usage":
            {"input_tokens": 10, "output_tokens": 1,
             "cache_creation_input_tokens": null, "cache_read_input_tokens": 7}}}),
        json!({"type": "message_delta", "delta": {"stop_reason": null}, "usage": {"output_tokens": 20}}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"},
            "usage": {"input_tokens": 11, "output_tokens": 30, "cache_creation_input_tokens": 5,
                      "cache_read_input_tokens": null}}),
        json!({"type": "message_stop"}),
    ]);
    let Ok(
        [
            ModelEvent::Started { usage: first, .. },
            ModelEvent::Finished { stop_reason, usage },
        ],
    ) = events.as_deref()
    else {
        panic!("{events:?}");
    };
    assert_eq!((first.total_input(), first.output_tokens), (17, 1));
    assert_eq!(*stop_reason, StopReason::EndTurn);
    assert_eq!((usage.total_input(), usage.output_tokens), (23, 30));
}

#[test]
fn the_arguments_of_a_tool_are_joined_and_parsed_when_its_block_ends() {
    let part = |text: &str| {
        json!({"type": "content_block_delta", "index": 1, "delta":
        {"type": "input_json_delta", "partial_json": text}})
    };
    let events = decode(&[
        json!({"type": "content_block_start", "index": 1, "content_block":
            {"type": "tool_use", "id": "toolu_1", "name": "find", "input": {}}}),
        part(""),
        part("{\"query\": \"ba"),
        part("ckup\"}"),
        json!({"type": "content_block_stop", "index": 1}),
    ]);
    assert_eq!(
        events.unwrap(),
        [ModelEvent::ToolUse {
            id: "toolu_1".into(),
            name: "find".into(),
            input: json!({"query": "backup"}),
        }]
    );
}

#[test]
fn a_tool_without_arguments_gets_an_empty_object() {
    let events = decode(&[
        json!({"type": "content_block_start", "index": 0, "content_block":
            {"type": "tool_use", "id": "t", "name": "n"}}),
        json!({"type": "content_block_stop", "index": 0}),
    ]);
    assert!(
        matches!(&events.unwrap()[..], [ModelEvent::ToolUse { input, .. }] if *input == json!({}))
    );
}

#[test]
fn arguments_that_are_no_json_object_are_a_call_without_arguments() {
    for arguments in ["{\"query\": ", "[1]", "3", "null", "{} {}", "\u{0}"] {
        let events = decode(&[
            json!({"type": "content_block_start", "index": 0, "content_block":
                {"type": "tool_use", "id": "t", "name": "n", "input": {}}}),
            json!({"type": "content_block_delta", "index": 0, "delta":
                {"type": "input_json_delta", "partial_json": arguments}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": "max_tokens"}}),
            json!({"type": "message_stop"}),
        ]);
        let Ok(
            [
                ModelEvent::ToolUse { input, .. },
                ModelEvent::Finished { stop_reason, .. },
            ],
        ) = events.as_deref()
        else {
            panic!("{arguments}: {events:?}");
        };
        assert_eq!(*input, Value::Null, "{arguments}");
        assert_eq!(*stop_reason, StopReason::MaxTokens);
    }
}

#[test]
fn figures_that_can_not_be_true_are_held_to_what_sums_can_bear() {
    let events = decode(&[
        json!({"type": "message_start", "message": {"model": "m", "usage":
        {"input_tokens": u64::MAX, "output_tokens": 1}}}),
    ]);
    let Ok([ModelEvent::Started { usage, .. }]) = events.as_deref() else {
        panic!("{events:?}");
    };
    assert_eq!((usage.input_tokens, usage.output_tokens), (MOST_TOKENS, 1));
    let negative = json!({"type": "message_start", "message": {"model": "m", "usage":
        {"input_tokens": -1}}});
    assert_eq!(decode(&[negative]).unwrap_err(), Failure::MalformedResponse);
}

#[test]
fn what_this_client_does_not_know_is_ignored() {
    let events = decode(&[
        json!({"type": "ping"}),
        json!({"type": "news_of_tomorrow", "x": 1}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_delta", "index": 1, "delta":
            {"type": "citations_delta", "citation": {"type": "char_location", "cited_text": "x"}}}),
    ]);
    assert_eq!(events.unwrap(), []);
}

#[test]
fn a_citation_names_the_passage_it_rests_on() {
    let events = decode(&[json!({"type": "content_block_delta", "index": 2, "delta":
        {"type": "citations_delta", "citation": {"type": "search_result_location",
            "source": "a.md", "title": null, "cited_text": "words",
            "search_result_index": 3, "start_block_index": 0, "end_block_index": 1}}})]);
    assert_eq!(
        events.unwrap(),
        [ModelEvent::Citation {
            block: 2,
            source: "a.md".into(),
            title: None,
            cited_text: "words".into(),
            search_result_index: 3,
        }]
    );
}

#[test]
fn an_error_inside_the_stream_keeps_its_meaning() {
    for (kind, failure) in [
        ("overloaded_error", Failure::Overloaded),
        ("rate_limit_error", Failure::RateLimited),
        ("api_error", Failure::Server),
        ("invalid_request_error", Failure::InvalidRequest),
        ("error_of_tomorrow", Failure::Server),
    ] {
        let error = json!({"type": "error", "error": {"type": kind, "message": "m"}});
        assert_eq!(decode(&[error]).unwrap_err(), failure, "{kind}");
    }
}

#[test]
fn an_end_without_a_stop_reason_is_an_error() {
    assert_eq!(
        decode(&[json!({"type": "message_stop"})]).unwrap_err(),
        Failure::MalformedResponse
    );
}

#[test]
fn a_stop_reason_survives_being_recorded() {
    for text in [
        "end_turn",
        "max_tokens",
        "stop_sequence",
        "tool_use",
        "pause_turn",
        "refusal",
        "model_context_window_exceeded",
        "reason_of_tomorrow",
    ] {
        let reason: StopReason = serde_json::from_value(json!(text)).unwrap();
        assert_eq!(serde_json::to_value(reason).unwrap(), json!(text));
    }
}

proptest! {
    #[test]
    fn no_data_makes_the_decoder_panic(data in ".*") {
        let _ = Decoder::default().push(&data);
    }
}
