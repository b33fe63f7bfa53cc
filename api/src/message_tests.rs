//! What is read as a message, and what is refused.

use proptest::prelude::*;
use serde_json::json;
use store::ids::SystemEntropy;

use super::*;

fn read_with(body: &[u8], headers: &HeaderMap) -> Result<Message, Problem> {
    read(body, headers, &SystemEntropy)
}

fn ours(body: &serde_json::Value) -> Result<Message, Problem> {
    read_with(body.to_string().as_bytes(), &HeaderMap::new())
}

fn code_of(body: &[u8]) -> Code {
    read_with(body, &HeaderMap::new()).unwrap_err().code()
}

#[test]
fn our_form_is_read() {
    let message = ours(&json!({
        "session_id": "s-1", "message": "Hello", "message_id": "m_1", "on_busy": "interrupt",
        "page_url": "https://a.example/", "locale": "de-DE", "unknown": [1],
    }))
    .unwrap();
    assert_eq!(message.form, Form::Ours);
    assert_eq!(message.session_id.as_str(), "s-1");
    assert_eq!(message.id.as_str(), "m_1");
    assert_eq!(message.on_busy, OnBusy::Interrupt);
    assert_eq!(message.page_url.as_deref(), Some("https://a.example/"));
    assert_eq!(message.locale.as_deref(), Some("de-DE"));
    assert_eq!(message.wish, Wish::Answer);
}

#[test]
fn what_the_client_left_unnamed_is_named() {
    let (one, other) = (
        ours(&json!({"message": "Hello"})).unwrap(),
        ours(&json!({"message": "Hello"})).unwrap(),
    );
    assert_ne!(one.session_id, other.session_id);
    assert_ne!(one.id, other.id);
}

#[test]
fn the_idempotency_key_names_a_message_that_has_no_id() {
    let mut headers = HeaderMap::new();
    headers.insert("idempotency-key", "\"key-1\"".parse().unwrap());
    let unnamed = br#"{"message":"Hello"}"#;
    let named = br#"{"message":"Hello","message_id":"m1"}"#;
    let id = |body: &[u8]| read_with(body, &headers).unwrap().id;
    assert_eq!(id(unnamed).as_str(), "key-1");
    assert_eq!(id(named).as_str(), "m1");

    headers.insert("idempotency-key", "not an id".parse().unwrap());
    let refused = read_with(unnamed, &headers).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidId);
}

#[test]
fn the_last_message_of_the_user_is_read_from_the_sdk_form() {
    let message = ours(&json!({
        "id": "chat-1", "trigger": "submit-message",
        "messages": [
            {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "first"}]},
            {"id": "u2", "role": "user", "parts": [
                {"type": "text", "text": "second"},
                {"type": "file", "url": "data:,"},
                {"type": "text", "text": "line"},
            ]},
            {"id": "a2", "role": "assistant", "parts": [{"type": "tool-x", "input": {"a": [1]}}]},
        ],
    }))
    .unwrap();
    assert_eq!(message.form, Form::Sdk);
    assert_eq!(message.session_id.as_str(), "chat-1");
    assert_eq!(message.id.as_str(), "u2");
    assert_eq!(message.text, "second\nline");
    assert_eq!(message.wish, Wish::Answer);
}

#[test]
fn a_wish_to_regenerate_may_name_the_answer() {
    let wish = |message_id: serde_json::Value| {
        ours(&json!({
            "id": "c", "trigger": "regenerate-message", "messageId": message_id,
            "messages": [{"id": "u", "role": "user", "parts": [{"type": "text", "text": "x"}]}],
        }))
        .map(|message| message.wish)
    };
    let named = Wish::AnswerAgain(Some("a1".parse().unwrap()));
    assert_eq!(wish(json!("a1")).unwrap(), named);
    assert_eq!(wish(json!(null)).unwrap(), Wish::AnswerAgain(None));
    assert_eq!(wish(json!("a/1")).unwrap_err().code(), Code::InvalidId);
}

#[test]
fn hostile_bodies_are_refused_by_name() {
    let deep = [b"{\"message\":".to_vec(), b"[".repeat(100_000)].concat();
    let deep_history = [
        b"{\"id\":\"c\",\"messages\":".to_vec(),
        b"[".repeat(100_000),
    ]
    .concat();
    let cases: [(&[u8], Code); 20] = [
        (b"", Code::InvalidJson),
        (b"{", Code::InvalidJson),
        (b"nonsense", Code::InvalidJson),
        (b"\xff\xfe", Code::InvalidJson),
        (b"{\"message\":\"\xff\"}", Code::InvalidJson),
        (br#"{"message":"\ud800"}"#, Code::InvalidJson),
        (br#"{"message":"\udc00\ud800"}"#, Code::InvalidJson),
        (br#"["s","hello","m"]"#, Code::InvalidBody),
        (b"null", Code::InvalidBody),
        (b"{}", Code::InvalidBody),
        (br#"{"message":1}"#, Code::InvalidBody),
        (br#"{"message":["x"]}"#, Code::InvalidBody),
        (br#"{"message":"x","on_busy":"wait"}"#, Code::InvalidBody),
        (br#"{"message":"a\u0000b"}"#, Code::InvalidText),
        (br#"{"message":" \n\t "}"#, Code::EmptyMessage),
        (br#"{"message":"x","session_id":"a b"}"#, Code::InvalidId),
        (br#"{"message":"x","message_id":""}"#, Code::InvalidId),
        (br#"{"id":"c","messages":[]}"#, Code::InvalidBody),
        (
            br#"{"id":"c","messages":[{"role":"user","parts":[]}]}"#,
            Code::EmptyMessage,
        ),
        (br#"{"id":"c","messages":"x"}"#, Code::InvalidBody),
    ];
    for (body, code) in cases {
        assert_eq!(code_of(body), code, "{}", String::from_utf8_lossy(body));
    }
    assert_eq!(code_of(&deep), Code::InvalidJson);
    assert_eq!(code_of(&deep_history), Code::InvalidJson);
}

#[test]
fn limits_are_counted_in_characters_and_bytes() {
    assert!(ours(&json!({"message": "ü".repeat(4_000)})).is_ok());
    let long = ours(&json!({"message": "ü".repeat(4_001)})).unwrap_err();
    assert_eq!(long.code(), Code::MessageTooLong);

    let padded = |padding: usize| ours(&json!({"message": "x", "padding": "p".repeat(padding)}));
    assert!(padded(MAX_BODY - 100).is_ok());
    assert_eq!(padded(MAX_BODY).unwrap_err().code(), Code::BodyTooLarge);
}

#[test]
fn a_page_address_that_is_too_long_is_left_out() {
    let message = ours(&json!({"message": "x", "page_url": "p".repeat(3_000)})).unwrap();
    assert_eq!(message.page_url, None);
}

#[test]
fn a_refusal_does_not_repeat_the_input() {
    let body = br#"{"message":"x","on_busy":"my-phone-number"}"#;
    let refused = read_with(body, &HeaderMap::new()).unwrap_err();
    assert!(!format!("{refused:?}").contains("phone"));
}

proptest! {
    #[test]
    fn no_bytes_panic(body in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = read_with(&body, &HeaderMap::new());
    }

    #[test]
    fn a_legal_text_is_kept_as_it_is(text in "[^\0]{0,200}[a-z]") {
        let message = ours(&json!({"message": text})).unwrap();
        prop_assert_eq!(message.text, text);
    }
}
