use serde_json::json;

use super::*;

fn parse(value: &Value) -> Result<Request, ApiError> {
    Request::parse(value.to_string().as_bytes())
}

fn with(name: &str, value: Value) -> Value {
    let mut request = json!({
        "model": "m",
        "max_tokens": 10,
        "messages": [{"role": "user", "content": "hello"}],
    });
    request[name] = value;
    request
}

fn passage(title: &str, citable: bool) -> Value {
    json!({
        "type": "search_result",
        "source": "/x",
        "title": title,
        "content": [{"type": "text", "text": "passage"}],
        "citations": {"enabled": citable},
    })
}

#[test]
fn what_the_service_refuses_is_refused_by_name() {
    let said = |content: Value| json!([{"role": "user", "content": content}]);
    for (request, complaint) in [
        (with("max_tokens", json!(0)), "max_tokens"),
        (with("max_tokens", json!("many")), "max_tokens"),
        (with("model", Value::Null), "model"),
        (with("prompt", json!("x")), "prompt: Extra inputs"),
        (with("temperature", json!(1.5)), "temperature"),
        (with("stream", json!("yes")), "stream"),
        (with("messages", json!([])), "messages"),
        (
            with("messages", json!([{"role": "system", "content": "x"}])),
            "role",
        ),
        (
            with("messages", json!([{"role": "assistant", "content": "x"}])),
            "first message",
        ),
        (with("messages", said(json!(""))), "messages.0.content"),
        (with("messages", said(json!([]))), "messages.0.content"),
        (
            with("messages", said(json!([{"type": "text", "text": " "}]))),
            "messages.0.content.0.text",
        ),
        (
            with("messages", said(json!([{"type": "video"}]))),
            "'video'",
        ),
        (
            with(
                "messages",
                said(json!([{"type": "tool_result", "tool_use_id": "t1"}])),
            ),
            "tool_use_id",
        ),
        (
            with(
                "messages",
                json!([
                    {"role": "user", "content": "a"},
                    {"role": "assistant", "content": [
                        {"type": "tool_use", "id": "t1", "name": "find", "input": {}}]},
                    {"role": "user", "content": "b"},
                ]),
            ),
            "without `tool_result`",
        ),
        (
            with(
                "messages",
                json!([
                    {"role": "user", "content": "a"},
                    {"role": "assistant", "content": "b "},
                ]),
            ),
            "trailing whitespace",
        ),
        (
            with(
                "messages",
                said(json!([passage("a", true), passage("b", false)])),
            ),
            "all or none",
        ),
        (
            with("system", json!([{"type": "text", "text": ""}])),
            "system.0.text",
        ),
        (
            with("tools", json!([{"name": "a b", "input_schema": {}}])),
            "tools.0.name",
        ),
        (
            with("tools", json!([{"name": "a"}])),
            "tools.0.input_schema",
        ),
    ] {
        let error = parse(&request).unwrap_err();
        assert!(
            error.message.contains(complaint),
            "{complaint}: {}",
            error.message
        );
        assert_eq!(error.kind, "invalid_request_error");
    }
    assert!(Request::parse(b"{").is_err());
    assert!(Request::parse(b"[]").is_err());
}

#[test]
fn search_results_are_numbered_over_the_request_and_those_of_the_last_question_are_relevant() {
    let request = parse(&with(
        "messages",
        json!([
            {"role": "user", "content": [passage("old", true), {"type": "text", "text": "first?"}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "find", "input": {}}]},
            {"role": "user", "content": [
                {"type": "text", "text": "second?"},
                {"type": "tool_result", "tool_use_id": "t1", "content": [passage("new", true)]},
            ]},
        ]),
    ))
    .unwrap();
    assert_eq!(request.question(), "second?");
    let relevant: Vec<_> = request
        .relevant_results()
        .map(|(index, result)| (index, result.title.as_str()))
        .collect();
    assert_eq!(relevant, [(1, "new")]);
}

#[test]
fn a_tool_result_belongs_to_the_question_before_it() {
    let request = parse(&with(
        "messages",
        json!([
            {"role": "user", "content": "what?"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "find", "input": {}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [passage("found", true)]},
            ]},
        ]),
    ))
    .unwrap();
    assert_eq!(request.question(), "what?");
    assert_eq!(request.relevant_results().count(), 1);
}
