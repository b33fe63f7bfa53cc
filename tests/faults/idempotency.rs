//! The same message, sent again and again.

use futures::future::join_all;
use reqwest::StatusCode;
use sandbox::{anthropic::Reply, outside::Service};
use serde_json::Value;

use crate::support::{
    ApiProcess, TestSystem,
    frames::{End, Frames, whole_frames},
    process::assert_one_answer,
};

const POSTS: usize = 50;
const QUESTION: &str = "Please count to ten.";

/// What a post brought.
#[derive(Debug)]
enum Accepted {
    /// 200: the frames of the answer.
    Stream(Vec<String>),
    /// 202: where the answer is.
    Turn(Value),
}

#[tokio::test]
async fn fifty_identical_posts_at_once_make_one_turn_and_one_call_of_the_model() {
    let system = TestSystem::new().await;
    system
        .index(&[("ten.md", "# Ten\n\nWe count to ten.\n")])
        .await;
    system.anthropic.on("count", Reply::words(10));
    let apis = [system.api().await, system.api().await];
    let _workers = [system.worker().await, system.worker().await];

    let posts = (0..POSTS).map(|number| post(&apis[number % 2], number % 4 < 2));
    let accepted = join_all(posts).await;
    let (mut streams, mut turns) = (Vec::new(), Vec::new());
    for one in accepted {
        match one {
            Accepted::Stream(frames) => streams.push(frames),
            Accepted::Turn(turn) => turns.push(turn),
        }
    }
    assert_eq!((streams.len(), turns.len()), (26, 24));
    assert!(streams.iter().all(|frames| *frames == streams[0]));
    assert!(turns.iter().all(|turn| *turn == turns[0]));
    assert_eq!(turns[0]["turn"], 1);

    let words: Vec<String> = (1..=10).map(|number| format!("word{number}")).collect();
    assert_one_answer(&apis[0].transcript("s1").await, &words.join(" "));
    assert_eq!(system.received(Service::Anthropic, QUESTION).len(), 1);
    assert_eq!(system.received(Service::OpenAi, QUESTION).len(), 1);
    let turns: i64 = sqlx::query_scalar("select count(*) from turns")
        .fetch_one(&system.pool().await)
        .await
        .unwrap();
    assert_eq!(turns, 1);

    // The same id for something else is a mistake of the client.
    for api in &apis {
        let other = api.submission("s1", "m1", "Please sing.").send().await;
        let other = other.unwrap();
        assert_eq!(other.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let problem: Value = other.json().await.unwrap();
        assert_eq!(problem["code"], "message_id_reused");
    }
}

async fn post(api: &ApiProcess, as_stream: bool) -> Accepted {
    if !as_stream {
        return Accepted::Turn(api.submit("s1", "m1", QUESTION).await);
    }
    let mut stream: Frames = api.ask("s1", "m1", QUESTION).await;
    let (_, end) = stream.rest().await;
    assert_eq!(end, End::Clean);
    let frames = whole_frames(&stream.bytes);
    Accepted::Stream(frames.into_iter().map(str::to_owned).collect())
}
