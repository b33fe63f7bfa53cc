//! The whole stream under everything at once: through a real Postgres, the real hubs of two
//! processes and HTTP, each client is given the exact sequence.
//!
//! Many conversations run side by side. In each, a hand that plays the workers appends frames, is
//! overtaken by another attempt, and wakes the readers now, later, twice, for nothing, or not at
//! all; meanwhile clients read fast and slowly, are cut and come back to either process. What they
//! were given is compared with the table.

use std::time::Duration;

use futures::future::join_all;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use reqwest::StatusCode;
use serde_json::{Value, json};
use store::{
    bus::Wake,
    events::{self, NewEvent},
    ids::{Entropy, SystemEntropy, TurnKey},
};
use tokio::time::sleep;

use super::support::{App, End, Frame, Frames, Next};

/// Conversations at once.
const CONVERSATIONS: u64 = 24;
/// Clients of each: three of our form and one of the SDK's.
const CLIENTS: u64 = 4;
/// A client that was cut so often reads to the end.
const MOST_CUTS: usize = 12;
/// Conversations whose frames are larger than all buffers together.
const LARGE: u64 = 2;

/// What is random in one actor, as its seed says.
struct Chance(StdRng);

impl Chance {
    fn of(seed: u64, conversation: u64, actor: u64) -> Self {
        let seed = seed ^ (conversation << 32) ^ (actor << 56);
        Self(StdRng::seed_from_u64(seed))
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0.random_range(0..bound)
    }

    /// Now and then something takes a moment.
    async fn dawdle(&mut self) {
        match self.below(20) {
            0..4 => sleep(Duration::from_millis(self.below(10))).await,
            4 => sleep(Duration::from_millis(self.below(200))).await,
            _ => tokio::task::yield_now().await,
        }
    }
}

struct Conversation {
    session: String,
    seed: u64,
    number: u64,
}

impl Conversation {
    fn key(&self) -> TurnKey {
        TurnKey {
            session_id: self.session.parse().unwrap(),
            turn: 1,
        }
    }

    /// Plays the workers.
    async fn write(&self, app: &App) {
        let mut chance = Chance::of(self.seed, self.number, CLIENTS);
        let last = 1 + i32::try_from(chance.below(3)).unwrap();
        for number in 1..=last {
            let mut attempt = app.begin_attempt(&self.session, 1).await;
            if number > 1 {
                self.write_too_late(app, number - 1).await;
            }
            attempt.start().await;
            for word in 0..10 + chance.below(40) {
                let delta = if self.number < LARGE {
                    format!("{word:064000}")
                } else {
                    format!("{word} ")
                };
                let chunk = json!({"type": "text-delta", "id": "t", "delta": delta});
                attempt.append(chunk).await;
                self.wake(app, &mut chance).await;
                chance.dawdle().await;
            }
            if number == last {
                attempt.finish("an answer").await;
                return;
            }
        }
    }

    /// The worker that was overtaken goes on.
    async fn write_too_late(&self, app: &App, attempt: i32) {
        let event = NewEvent {
            key: self.key(),
            attempt,
            seq: 1_000,
            terminal: true,
            json: json!({"type": "finish"}).to_string(),
        };
        let mut conn = app.pool.acquire().await.unwrap();
        assert_eq!(events::append(&mut conn, &[event]).await.unwrap(), 0);
    }

    async fn wake(&self, app: &App, chance: &mut Chance) {
        let wake = Wake {
            turns: [self.key()].into(),
            ..Wake::default()
        };
        match chance.below(6) {
            0 => {}
            1 => {
                app.bus.publish(&wake);
                app.bus.publish(&wake);
                tokio::task::yield_now().await;
                app.bus.publish(&wake);
            }
            2 => {
                let (bus, late) = (app.bus.clone(), Duration::from_millis(chance.below(100)));
                tokio::spawn(async move {
                    sleep(late).await;
                    bus.publish(&wake);
                });
            }
            3 => app.bus.publish(&Wake {
                rescan: true,
                ..Wake::default()
            }),
            _ => app.bus.publish(&wake),
        }
    }

    /// What a client of our form was given, over all its connections.
    async fn read(&self, processes: [&App; 2], client: u64) -> Vec<Frame> {
        let mut chance = Chance::of(self.seed, self.number, client);
        let mut given: Vec<Frame> = Vec::new();
        for cuts in 0.. {
            let after = given.last().map_or("1-0-0", |frame| frame.id.as_str());
            let process = processes[usize::from(chance.below(2) == 0)];
            let path = format!("/chat/{}/stream", self.session);
            let request = process.get(&path).header("last-event-id", after);
            let response = request.send().await.unwrap();
            if response.status() == StatusCode::NO_CONTENT {
                // It had everything but the word that it was all.
                return given;
            }
            assert_eq!(response.status(), StatusCode::OK);
            let mut stream = Frames::of(response);
            if read_some(&mut stream, &mut given, &mut chance, cuts).await == Some(End::Clean) {
                return given;
            }
        }
        unreachable!()
    }

    /// What a client of the SDK's form shows in the end: it begins again whenever it was cut.
    async fn read_again(&self, processes: [&App; 2], client: u64) -> Vec<Frame> {
        let mut chance = Chance::of(self.seed, self.number, client);
        for cuts in 0.. {
            let process = processes[usize::from(chance.below(2) == 0)];
            let request = process.get(&format!("/chat/{}/stream", self.session));
            let mut stream = process.stream(request).await;
            let mut shown = Vec::new();
            if read_some(&mut stream, &mut shown, &mut chance, cuts).await == Some(End::Clean) {
                return shown;
            }
        }
        unreachable!()
    }

    /// What the table says.
    async fn expected(&self, app: &App) -> Vec<(String, Value)> {
        sqlx::query_as(
            "select format('1-%s-%s', attempt, seq), event::jsonb from turn_events
             where session_id = $1 order by attempt, seq",
        )
        .bind(&self.session)
        .fetch_all(&app.pool)
        .await
        .unwrap()
    }

    async fn run(&self, processes: [&App; 2]) {
        let app = processes[0];
        app.accept(&self.session, "m1", "Hello").await;
        let ours = join_all((1..CLIENTS).map(|client| self.read(processes, client)));
        let ((), ours, sdk) = tokio::join!(self.write(app), ours, self.read_again(processes, 0));
        let expected = self.expected(app).await;
        let (_, last) = expected.last().unwrap();
        assert_eq!(last["type"], "finish");
        for given in ours {
            self.assert_same(&given, &expected);
        }
        let last_attempt = sdk[0].id.rsplit_once('-').unwrap().0.to_owned() + "-";
        let whole: Vec<_> = expected
            .iter()
            .filter(|(id, _)| id.starts_with(&last_attempt))
            .cloned()
            .collect();
        assert_eq!(whole.last(), expected.last());
        self.assert_same(&sdk, &whole);
    }

    #[track_caller]
    fn assert_same(&self, given: &[Frame], expected: &[(String, Value)]) {
        let ids: Vec<&str> = given.iter().map(|frame| frame.id.as_str()).collect();
        let expected_ids: Vec<&str> = expected.iter().map(|(id, _)| id.as_str()).collect();
        let (session, seed) = (&self.session, self.seed);
        assert_eq!(ids, expected_ids, "{session}, seed {seed}");
        let same = given
            .iter()
            .zip(expected)
            .all(|(frame, (_, json))| frame.json == *json);
        assert!(same, "{session}, seed {seed}");
    }
}

/// Reads until the stream ends or the client is cut.
async fn read_some(
    stream: &mut Frames,
    given: &mut Vec<Frame>,
    chance: &mut Chance,
    cuts: usize,
) -> Option<End> {
    let patient = cuts >= MOST_CUTS || chance.below(4) == 0;
    let mut left = if patient { u64::MAX } else { chance.below(25) };
    let slow = chance.below(3) == 0;
    while left > 0 {
        match stream.next().await {
            Next::Frame(frame) => given.push(frame),
            Next::Comment => {}
            Next::End(end) => return Some(end),
        }
        left -= 1;
        if slow {
            chance.dawdle().await;
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_client_is_given_the_exact_sequence_whatever_is_cut_repeated_late_or_lost() {
    let bytes = SystemEntropy.bytes();
    let (seed, _) = bytes.split_first_chunk().unwrap();
    let seed = u64::from_be_bytes(*seed);
    let app = App::start().await;
    // Its bus hears nobody: whatever is told, it finds by itself.
    let sibling = app.sibling().await;
    let conversations = (0..CONVERSATIONS).map(|number| Conversation {
        session: format!("conversation-{number}"),
        seed,
        number,
    });
    let conversations: Vec<_> = conversations.collect();
    join_all(
        conversations
            .iter()
            .map(|conversation| conversation.run([&app, &sibling])),
    )
    .await;
}
