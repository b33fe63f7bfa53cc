//! A worker is killed at every step of a turn. Whoever takes the turn over repeats no step that was
//! finished, nor its bill: read off what the providers received.

use std::time::{Duration, Instant};

use sandbox::{
    anthropic::{Content, Pace, Reply},
    openai::Failure,
    outside::{Exchange, Service},
};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{
    ApiProcess, SystemProcess, TestSystem,
    frames::{End, PATIENCE},
    process::{last_answer, resets, shown_text},
};

const QUESTION: &str = "What does a discovery week cost?";
const QUERY: &str = "travel expenses within Europe";
const PRICES: &str = "---\ntitle: Prices\nurl: /prices\n---\n\n# Prices\n\n\
    A discovery week costs 9,000 euros.\n\n## Travel\n\nTravel within Europe is included.\n";

/// Between two looks at the database.
const LOOK: Duration = Duration::from_millis(5);

/// A system in which one question is asked, and its worker.
struct Scene {
    system: TestSystem,
    pool: PgPool,
    api: ApiProcess,
    worker: SystemProcess,
}

impl Scene {
    async fn new(variables: &[(&str, &str)]) -> Self {
        let mut system = TestSystem::new().await;
        for (name, value) in variables {
            system.set(name, value);
        }
        system.index(&[("prices.md", PRICES)]).await;
        Self {
            pool: system.pool().await,
            api: system.api().await,
            worker: system.worker().await,
            system,
        }
    }

    /// Waits until a step of a turn is recorded.
    async fn recorded(&self, turn: i32, step: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let recorded: bool = sqlx::query_scalar(
                "select exists (select 1 from checkpoint_writes where turn = $1 and step = $2)",
            )
            .bind(turn)
            .bind(step)
            .fetch_one(&self.pool)
            .await
            .unwrap();
            if recorded {
                return;
            }
            assert!(Instant::now() < deadline, "no step {step}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Asks, kills the worker as soon as the step is recorded and the model was called so often, and
    /// lets another one go on. Gives the text that the visitor sees in the end.
    async fn killed_at(&mut self, turn: i32, step: &str, calls: usize) -> String {
        let id = format!("m{turn}");
        let mut stream = self.api.ask("s1", &id, QUESTION).await;
        self.recorded(turn, step).await;
        let called = |log: &[Exchange]| {
            let model = log.iter().filter(|it| it.service == Service::Anthropic);
            (model.count() >= calls).then_some(())
        };
        let world = &self.system.world;
        world.wait_for(PATIENCE, called).await.unwrap();
        self.worker.kill().await;
        let _successor = self.system.worker().await;
        let (frames, end) = stream.rest().await;
        assert_eq!(end, End::Clean);
        assert!(resets(&frames) <= 1);
        let shown = shown_text(&frames);
        assert_eq!(last_answer(&self.api.transcript("s1").await), shown);
        shown
    }

    /// How often the model was called for the newest question, by the rounds that it had behind it;
    /// and how often for a summary.
    fn calls(&self) -> ([usize; 2], usize) {
        let asked = self.system.received(Service::Anthropic, QUESTION);
        let is_summary = |exchange: &&Exchange| exchange.body.get("tools").is_none();
        let summaries = asked.iter().filter(is_summary).count();
        let after = |rounds: usize| {
            let answers = asked.iter().filter(|exchange| !is_summary(exchange));
            answers
                .filter(|exchange| rounds_of(&exchange.body) == rounds)
                .count()
        };
        ([after(0), after(1)], summaries)
    }

    /// How often the question and the query were embedded.
    fn embedded(&self) -> [usize; 2] {
        [QUESTION, QUERY].map(|text| self.system.received(Service::OpenAi, text).len())
    }

    /// The calls that are billed: purpose, attempt, number.
    async fn billed(&self) -> Value {
        sqlx::query_scalar(
            "select coalesce(jsonb_agg(jsonb_build_array(purpose, attempt, call)
                                       order by attempt, call), '[]')
             from model_calls where turn = (select max(turn) from turns)",
        )
        .fetch_one(&self.pool)
        .await
        .unwrap()
    }
}

/// How many calls of tools a request tells of.
fn rounds_of(body: &Value) -> usize {
    let messages = body["messages"].as_array().unwrap().iter();
    let blocks = messages.filter_map(|message| message["content"].as_array());
    blocks
        .flatten()
        .filter(|block| block["type"] == "tool_result")
        .count()
}

/// The first call: the model looks for something else.
fn searching() -> Reply {
    let text = Content::Text {
        text: "Let me look.".to_owned(),
        citations: Vec::new(),
    };
    let search = Content::ToolUse {
        name: "retrieve_knowledge".to_owned(),
        input: json!({"query": QUERY}),
    };
    Reply::content(vec![text, search])
}

fn answer() -> Reply {
    Reply::text("Travel is included.")
}

const ALL: &str = "Let me look.\n\nTravel is included.";

#[tokio::test]
async fn killed_when_the_passages_are_recorded_a_turn_does_not_search_again() {
    let mut scene = Scene::new(&[]).await;
    let replies = [answer().stalling_after(0), searching(), answer()];
    scene.system.anthropic.in_turn(QUESTION, replies);
    assert_eq!(scene.killed_at(1, "retrieved", 1).await, ALL);
    // The call that was cut off is the only one that was made twice.
    assert_eq!(scene.calls(), ([2, 1], 0));
    assert_eq!(scene.embedded(), [1, 1]);
    let expected = json!([["answer", 2, 1], ["answer", 2, 2]]);
    assert_eq!(scene.billed().await, expected);
}

#[tokio::test]
async fn killed_when_a_call_is_recorded_a_turn_does_not_call_again() {
    let mut scene = Scene::new(&[]).await;
    // The model's first answer comes when the test has seen to it that the search hangs.
    let later = Pace {
        first_token: Duration::from_secs(1),
        ..Pace::default()
    };
    let replies = [searching().paced(later), answer()];
    scene.system.anthropic.in_turn(QUESTION, replies);
    let hang = async {
        let asked = |log: &[Exchange]| {
            let embedded = |it: &&Exchange| it.service == Service::Anthropic;
            log.iter().find(embedded).map(drop)
        };
        scene.system.world.wait_for(PATIENCE, asked).await.unwrap();
        scene.system.openai.fail_next(Failure {
            status: 503,
            code: "service_unavailable",
            retry_after: None,
            after: Duration::from_mins(1),
        });
    };
    let stream = async { scene.api.ask("s1", "m1", QUESTION).await };
    let (mut stream, ()) = tokio::join!(stream, hang);
    scene.recorded(1, "called.1").await;
    scene.worker.kill().await;
    let _successor = scene.system.worker().await;
    let (frames, end) = stream.rest().await;
    assert_eq!(end, End::Clean);
    assert_eq!(shown_text(&frames), ALL);
    assert_eq!(scene.calls(), ([1, 1], 0));
    // The search that hung was not finished.
    assert_eq!(scene.embedded(), [1, 2]);
    let expected = json!([["answer", 1, 1], ["answer", 2, 2]]);
    assert_eq!(scene.billed().await, expected);
}

#[tokio::test]
async fn killed_when_a_search_is_recorded_a_turn_does_not_search_again() {
    let mut scene = Scene::new(&[]).await;
    let replies = [searching(), answer().stalling_after(1), answer()];
    scene.system.anthropic.in_turn(QUESTION, replies);
    assert_eq!(scene.killed_at(1, "found.1", 2).await, ALL);
    assert_eq!(scene.calls(), ([1, 2], 0));
    assert_eq!(scene.embedded(), [1, 1]);
    let expected = json!([["answer", 1, 1], ["answer", 2, 2]]);
    assert_eq!(scene.billed().await, expected);
}

#[tokio::test]
async fn killed_when_an_answer_broke_off_a_turn_knows_it_and_its_bill() {
    let mut scene = Scene::new(&[]).await;
    let replies = [Reply::words(20).cut_after(5), answer()];
    scene.system.anthropic.in_turn(QUESTION, replies);
    let shown = scene.killed_at(1, "broke_off", 1).await;
    assert_eq!(shown, "Travel is included.");
    assert_eq!(scene.calls(), ([2, 0], 0));
    assert_eq!(scene.embedded(), [1, 0]);
    let expected = json!([["answer", 1, 1], ["answer", 2, 1]]);
    assert_eq!(scene.billed().await, expected);
}

#[tokio::test]
async fn killed_when_the_summary_is_recorded_a_turn_does_not_summarise_again() {
    let mut scene = Scene::new(&[("CONTEXT_WINDOW_TURNS", "1")]).await;
    scene
        .system
        .anthropic
        .in_turn("Hello", [Reply::text("Hi.")]);
    let greeting = format!("Hello, {QUESTION}");
    scene.api.ask("s1", "m0", &greeting).await.rest().await;
    let summary = Reply::text("They ask about prices.");
    scene.system.anthropic.on_summary(summary);
    let replies = [answer().stalling_after(1), answer()];
    scene.system.anthropic.in_turn(QUESTION, replies);
    let shown = scene.killed_at(2, "summarised", 3).await;
    assert_eq!(shown, "Travel is included.");
    assert_eq!(scene.calls(), ([3, 0], 1));
    let expected = json!([["summary", 1, 0], ["answer", 2, 1]]);
    assert_eq!(scene.billed().await, expected);
    let state: Value = sqlx::query_scalar("select state->'summary' from checkpoints")
        .fetch_one(&scene.pool)
        .await
        .unwrap();
    assert_eq!(
        state,
        json!({"text": "They ask about prices.", "through": 1})
    );
}

#[tokio::test]
async fn killed_when_the_answer_is_committed_a_turn_is_over() {
    let mut scene = Scene::new(&[]).await;
    scene
        .system
        .anthropic
        .in_turn(QUESTION, [searching(), answer()]);
    assert_eq!(scene.killed_at(1, "answered", 2).await, ALL);
    // The next turn is answered, and nothing of the first one is done again.
    scene.system.anthropic.push(Reply::text("Gladly."));
    let worker = scene.system.worker().await;
    let (frames, end) = scene.api.ask("s1", "m2", "Thanks.").await.rest().await;
    assert_eq!((shown_text(&frames).as_str(), end), ("Gladly.", End::Clean));
    drop(worker);
    assert_eq!(scene.embedded(), [1, 1]);
    let tools: Vec<Exchange> = scene.system.world.received_by(Service::Anthropic);
    assert_eq!(tools.len(), 3);
}
