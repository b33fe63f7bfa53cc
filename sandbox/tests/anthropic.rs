//! The Anthropic stand-in over real HTTP.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::time::{Duration, Instant};

use eventsource_stream::Eventsource;
use futures::StreamExt;
use sandbox::{
    anthropic::{Anthropic, Citation, Content, Pace, Reply},
    outside::{Outcome, OutsideWorld, Service},
};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(10);

struct Setting {
    world: OutsideWorld,
    anthropic: Anthropic,
    client: reqwest::Client,
}

impl Setting {
    async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let world = OutsideWorld::default();
        let anthropic = Anthropic::start(world.clone(), 0).await.unwrap();
        Self {
            world,
            anthropic,
            client: reqwest::Client::new(),
        }
    }

    fn request(&self, body: &Value) -> reqwest::RequestBuilder {
        self.client
            .post(format!("{}/v1/messages", self.anthropic.url()))
            .header("x-api-key", "key")
            .header("anthropic-version", "2023-06-01")
            .json(body)
    }

    /// The events of a streamed answer; the last is `None` when the connection was cut.
    async fn stream(&self, body: &Value) -> Vec<Option<(String, Value)>> {
        let response = self.request(body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let events = response.bytes_stream().eventsource().map(|event| {
            let event = event.ok()?;
            Some((event.event, serde_json::from_str(&event.data).unwrap()))
        });
        tokio::time::timeout(PATIENCE, events.collect())
            .await
            .unwrap()
    }
}

fn question(text: &str) -> Value {
    json!({
        "model": "m",
        "max_tokens": 100,
        "stream": true,
        "messages": [{"role": "user", "content": [
            {
                "type": "search_result",
                "source": "/prices",
                "title": "Prices",
                "content": [{"type": "text", "text": "A discovery week costs 9,000 euros. Travel is free."}],
                "citations": {"enabled": true},
            },
            {"type": "text", "text": text},
        ]}],
    })
}

fn names(events: &[Option<(String, Value)>]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event.as_ref().map_or("(cut)", |(name, _)| name))
        .collect()
}

fn text(events: &[Option<(String, Value)>]) -> String {
    let deltas = events
        .iter()
        .flatten()
        .filter_map(|(_, data)| data["delta"]["text"].as_str());
    deltas.collect()
}

#[tokio::test]
async fn an_answer_is_streamed_with_its_citation_in_the_protocols_order() {
    let setting = Setting::new().await;
    let events = setting
        .stream(&question("What does a discovery week cost?"))
        .await;
    assert_eq!(text(&events), "A discovery week costs 9,000 euros.");
    let names = names(&events);
    assert_eq!(names[..3], ["message_start", "ping", "content_block_start"]);
    let end = [
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(names[names.len() - 4..], end);
    for (name, data) in events.iter().flatten() {
        assert_eq!(data["type"], *name);
    }
    let (_, citation) = events[events.len() - 4].as_ref().unwrap();
    assert_eq!(
        citation["delta"],
        json!({"type": "citations_delta", "citation": {
            "type": "search_result_location",
            "cited_text": "A discovery week costs 9,000 euros.",
            "source": "/prices",
            "title": "Prices",
            "search_result_index": 0,
            "start_block_index": 0,
            "end_block_index": 1,
        }})
    );
    let (_, end) = events[events.len() - 2].as_ref().unwrap();
    assert_eq!(end["delta"]["stop_reason"], "end_turn");
    assert_eq!(end["usage"]["output_tokens"], 6);
    let exchange = &setting.world.received_by(Service::Anthropic)[0];
    assert_eq!(exchange.outcome, Outcome::Answered(200));
    assert_eq!(exchange.answer, "A discovery week costs 9,000 euros.");
}

#[tokio::test]
async fn without_stream_the_same_answer_comes_whole() {
    let setting = Setting::new().await;
    let mut body = question("What does a discovery week cost?");
    body["stream"] = json!(false);
    let message: Value = setting
        .request(&body)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(
        message["content"][0]["text"],
        "A discovery week costs 9,000 euros."
    );
    assert_eq!(message["content"][0]["citations"][0]["source"], "/prices");
    assert_eq!(message["stop_reason"], "end_turn");
    assert_eq!(message["usage"]["output_tokens"], 6);
}

#[tokio::test]
async fn a_tools_input_comes_in_pieces_that_join_to_its_json() {
    let setting = Setting::new().await;
    let input = json!({"query": "a question with \"quotes\" and ümlauts"});
    setting
        .anthropic
        .push(Reply::tool_call("retrieve_knowledge", input.clone()));
    let events = setting.stream(&question("anything")).await;
    let pieces: Vec<&str> = events
        .iter()
        .flatten()
        .filter_map(|(_, data)| data["delta"]["partial_json"].as_str())
        .collect();
    assert_eq!(pieces[0], "");
    assert!(pieces.len() > 2);
    assert_eq!(
        serde_json::from_str::<Value>(&pieces.concat()).unwrap(),
        input
    );
    let (_, end) = events[events.len() - 2].as_ref().unwrap();
    assert_eq!(end["delta"]["stop_reason"], "tool_use");
}

#[tokio::test]
async fn scripted_replies_come_in_order_and_a_marked_one_goes_before_them() {
    let setting = Setting::new().await;
    setting.anthropic.push(Reply::text("one"));
    setting
        .anthropic
        .push(Reply::text("two").stopping_by("refusal"));
    setting.anthropic.on("[slow]", Reply::words(2));
    assert_eq!(text(&setting.stream(&question("first")).await), "one");
    assert_eq!(
        text(&setting.stream(&question("a [slow] one")).await),
        "word1 word2"
    );
    let events = setting.stream(&question("second")).await;
    assert_eq!(text(&events), "two");
    let (_, end) = events[events.len() - 2].as_ref().unwrap();
    assert_eq!(end["delta"]["stop_reason"], "refusal");
    assert_eq!(setting.anthropic.calls(), 3);
}

#[tokio::test]
async fn a_scripted_citation_names_the_requests_search_result() {
    let setting = Setting::new().await;
    let cite = |search_result| Citation {
        search_result,
        block: 0,
        cited_text: "Travel is free.".to_owned(),
    };
    setting.anthropic.push(Reply::content(vec![Content::Text {
        text: "Free.".to_owned(),
        citations: vec![cite(0), cite(7)],
    }]));
    let events = setting.stream(&question("travel?")).await;
    let cited: Vec<&Value> = events
        .iter()
        .flatten()
        .filter(|(_, data)| data["delta"]["type"] == "citations_delta")
        .map(|(_, data)| &data["delta"]["citation"]["source"])
        .collect();
    assert_eq!(cited, ["/prices"]);
}

#[tokio::test]
async fn the_output_limit_cuts_the_answer() {
    let setting = Setting::new().await;
    setting.anthropic.push(Reply::words(10));
    let mut body = question("count");
    body["max_tokens"] = json!(3);
    let events = setting.stream(&body).await;
    assert_eq!(text(&events), "word1 word2 word3 ");
    let (_, end) = events[events.len() - 2].as_ref().unwrap();
    assert_eq!(end["delta"]["stop_reason"], "max_tokens");
}

#[tokio::test]
async fn an_error_before_the_stream_has_its_status_body_and_headers() {
    let setting = Setting::new().await;
    let refusal = Reply::refused(529, "overloaded_error")
        .with_header("retry-after", "3")
        .with_header("x-should-retry", "true")
        .with_message("Overloaded");
    setting.anthropic.push(refusal);
    let response = setting.request(&question("x")).send().await.unwrap();
    assert_eq!(response.status(), 529);
    assert_eq!(response.headers()["retry-after"], "3");
    assert_eq!(response.headers()["x-should-retry"], "true");
    assert!(response.headers().contains_key("request-id"));
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["type"], "error");
    assert_eq!(
        body["error"],
        json!({"type": "overloaded_error", "message": "Overloaded"})
    );
    let exchange = &setting.world.exchanges()[0];
    assert_eq!(exchange.outcome, Outcome::Answered(529));
}

#[tokio::test]
async fn an_error_event_ends_the_stream_after_the_tokens_before_it() {
    let setting = Setting::new().await;
    setting
        .anthropic
        .push(Reply::words(5).failing_after(2, "overloaded_error"));
    let events = setting.stream(&question("x")).await;
    assert_eq!(text(&events), "word1 word2 ");
    let (name, data) = events.last().unwrap().as_ref().unwrap();
    assert_eq!(name, "error");
    assert_eq!(data["error"]["type"], "overloaded_error");
}

#[tokio::test]
async fn a_cut_connection_is_an_error_at_the_client() {
    let setting = Setting::new().await;
    setting.anthropic.push(Reply::words(5).cut_after(3));
    let events = setting.stream(&question("x")).await;
    assert_eq!(text(&events), "word1 word2 word3 ");
    assert!(
        events.last().unwrap().is_none(),
        "the body ended as if whole"
    );
    assert_eq!(setting.world.exchanges()[0].outcome, Outcome::Cut);
}

#[tokio::test]
async fn a_cut_after_the_last_token_leaves_the_message_without_its_end() {
    let setting = Setting::new().await;
    setting.anthropic.push(Reply::words(2).cut_after(2));
    let events = setting.stream(&question("x")).await;
    assert_eq!(text(&events), "word1 word2");
    assert!(!names(&events).contains(&"message_delta"));
    assert!(events.last().unwrap().is_none());
}

#[tokio::test]
async fn a_stall_lasts_until_the_client_hangs_up_which_is_noticed_at_once() {
    let setting = Setting::new().await;
    setting.anthropic.push(Reply::words(5).stalling_after(1));
    let response = setting.request(&question("x")).send().await.unwrap();
    let sent = |log: &[sandbox::outside::Exchange]| (log[0].answer == "word1 ").then_some(());
    setting.world.wait_for(PATIENCE, sent).await.unwrap();
    assert_eq!(setting.world.exchanges()[0].outcome, Outcome::Running);
    let hung_up = Instant::now();
    drop(response);
    let noticed = setting
        .world
        .wait_for(PATIENCE, |log| log[0].ended)
        .await
        .unwrap();
    assert!(noticed - hung_up < Duration::from_secs(1));
    assert_eq!(setting.world.exchanges()[0].outcome, Outcome::ClientHungUp);
}

#[tokio::test]
async fn a_client_that_leaves_before_the_headers_is_noticed() {
    let setting = Setting::new().await;
    let never = Pace {
        before_headers: Duration::from_mins(10),
        ..Pace::default()
    };
    setting.anthropic.push(Reply::text("never").paced(never));
    let sending = tokio::spawn(setting.request(&question("x")).send());
    let received = |log: &[sandbox::outside::Exchange]| log.first().map(|_| ());
    setting.world.wait_for(PATIENCE, received).await.unwrap();
    sending.abort();
    setting
        .world
        .wait_for(PATIENCE, |log| log[0].ended)
        .await
        .unwrap();
    assert_eq!(setting.world.exchanges()[0].outcome, Outcome::ClientHungUp);
}

#[tokio::test]
async fn the_pace_holds_back_the_first_token_and_each_one_after_it() {
    let setting = Setting::new().await;
    setting.anthropic.set_pace(Pace {
        first_token: Duration::from_millis(60),
        between_tokens: Duration::from_millis(20),
        ..Pace::default()
    });
    setting.anthropic.push(Reply::words(4));
    let started = Instant::now();
    setting.stream(&question("x")).await;
    assert!(started.elapsed() >= Duration::from_millis(120));
}

#[tokio::test]
async fn a_request_without_key_or_version_or_sense_is_refused() {
    let setting = Setting::new().await;
    let url = format!("{}/v1/messages", setting.anthropic.url());
    let refused = |request: reqwest::RequestBuilder| async {
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let body: Value = response.json().await.unwrap();
        (status, body["error"]["type"].as_str().unwrap().to_owned())
    };
    let bare = setting.client.post(&url).json(&question("x"));
    assert_eq!(
        refused(bare).await,
        (401, "authentication_error".to_owned())
    );
    let unversioned = setting.client.post(&url).header("x-api-key", "key");
    let invalid = (400, "invalid_request_error".to_owned());
    assert_eq!(refused(unversioned.json(&question("x"))).await, invalid);
    assert_eq!(
        refused(setting.request(&json!({"model": "m"}))).await,
        invalid
    );
}
