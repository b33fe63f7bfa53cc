//! An indexer that is killed is followed by one that goes on where it stopped, and no text is paid for
//! twice, except those of the one request that was under way.

use std::{collections::BTreeMap, fmt::Write, fs, time::Duration};

use sandbox::outside::Service;
use sqlx::{Connection, PgConnection, PgPool};
use tempfile::TempDir;

use crate::support::{TestSystem, frames::PATIENCE};

/// Inputs of one request, as the indexer sends them at most.
const INPUTS: usize = 256;
/// Three requests' worth.
const CHUNKS: usize = 600;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);

struct World {
    system: TestSystem,
    pool: PgPool,
    folder: TempDir,
}

impl World {
    /// A folder with one document of [`CHUNKS`] chunks.
    async fn new() -> Self {
        let mut system = TestSystem::new().await;
        system.set("QUEUE_LEASE_SECONDS", "2");
        let folder = tempfile::tempdir().unwrap();
        let mut text = String::new();
        for number in 0..CHUNKS {
            let _ = write!(
                text,
                "## Section {number}\n\nThe section says {number}.\n\n"
            );
        }
        fs::write(folder.path().join("long.md"), text).unwrap();
        Self {
            pool: system.pool().await,
            system,
            folder,
        }
    }

    fn path(&self) -> &str {
        self.folder.path().to_str().unwrap()
    }

    async fn count(&self, sql: &'static str) -> usize {
        let count: i64 = sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap();
        usize::try_from(count).unwrap()
    }

    async fn kept(&self) -> usize {
        self.count("select count(*) from knowledge_embeddings")
            .await
    }

    /// Waits until so many requests were received and the answers of `kept` inputs are kept.
    async fn until(&self, requests: usize, kept: usize) {
        let reached = async {
            while self.system.openai.calls() < requests || self.kept().await < kept {
                tokio::time::sleep(LOOK).await;
            }
        };
        let reached = tokio::time::timeout(PATIENCE, reached).await;
        reached.unwrap_or_else(|_| panic!("{} requests", self.system.openai.calls()));
    }

    /// Indexes to the end, and looks at the result and the bill: `again` inputs may stand on it twice.
    async fn ends_well(&self, again: usize) {
        self.system.openai.answer_only(None);
        let (success, told) = self.system.run_index(&[self.path()]).await;
        assert!(success, "{told}");
        assert_eq!(
            self.count("select count(*) from knowledge_chunks").await,
            CHUNKS
        );
        assert_eq!(self.kept().await, 0);
        let mut bill: BTreeMap<String, usize> = BTreeMap::new();
        for request in self.system.world.received_by(Service::OpenAi) {
            for input in request.body["input"].as_array().unwrap() {
                *bill.entry(input.as_str().unwrap().to_owned()).or_default() += 1;
            }
        }
        assert_eq!(bill.len(), CHUNKS);
        let twice = bill.values().filter(|times| **times > 1).count();
        assert_eq!(twice, again, "inputs were embedded twice");
        assert!(bill.values().all(|times| *times <= 2));
    }
}

/// Kills the indexer while the provider has answered `answered` requests and has the next one.
async fn killed_after(answered: usize) {
    let world = World::new().await;
    world.system.openai.answer_only(Some(answered));
    let mut indexer = world.system.start_index(&[world.path()]);
    world.until(answered + 1, answered * INPUTS).await;
    indexer.kill().await.unwrap();
    let in_flight = INPUTS.min(CHUNKS - answered * INPUTS);
    world.ends_well(in_flight).await;
}

#[tokio::test]
async fn killed_during_the_first_request_it_repeats_that_one() {
    killed_after(0).await;
}

#[tokio::test]
async fn killed_after_the_first_answer_it_repeats_only_the_second_request() {
    killed_after(1).await;
}

#[tokio::test]
async fn killed_before_the_last_answer_it_repeats_only_the_last_request() {
    killed_after(2).await;
}

#[tokio::test]
async fn killed_before_the_exchange_it_repeats_no_request() {
    let world = World::new().await;
    // Nobody stores a chunk as long as this lasts.
    let mut other = PgConnection::connect(&world.system.database_url())
        .await
        .unwrap();
    let mut lock = other.begin().await.unwrap();
    sqlx::query("lock table knowledge_chunks in exclusive mode")
        .execute(&mut *lock)
        .await
        .unwrap();
    let mut indexer = world.system.start_index(&[world.path()]);
    world.until(3, CHUNKS).await;
    indexer.kill().await.unwrap();
    lock.rollback().await.unwrap();
    world.ends_well(0).await;
    assert_eq!(world.system.openai.calls(), 3);
}

#[tokio::test]
async fn killed_after_the_exchange_it_has_nothing_left_to_do() {
    let world = World::new().await;
    // What follows the exchange waits for this.
    let mut other = PgConnection::connect(&world.system.database_url())
        .await
        .unwrap();
    let mut lock = other.begin().await.unwrap();
    world.system.openai.answer_only(Some(2));
    let mut indexer = world.system.start_index(&[world.path()]);
    world.until(3, 2 * INPUTS).await;
    sqlx::query("select 1 from knowledge_embeddings for update")
        .execute(&mut *lock)
        .await
        .unwrap();
    world.system.openai.answer_only(None);
    let stored = async {
        while world.count("select count(*) from knowledge_chunks").await < CHUNKS {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, stored)
        .await
        .expect("nothing is stored");
    indexer.kill().await.unwrap();
    lock.rollback().await.unwrap();
    world.system.openai.answer_only(None);
    let (success, told) = world.system.run_index(&[world.path()]).await;
    assert!(success, "{told}");
    assert_eq!(world.system.openai.calls(), 3);
    assert_eq!(
        world.count("select count(*) from knowledge_chunks").await,
        CHUNKS
    );
}

#[tokio::test]
async fn killed_while_it_reads_it_goes_on_with_the_files_that_are_left() {
    let world = World::new().await;
    for number in 0..40 {
        let path = world.folder.path().join(format!("{number:02}.md"));
        fs::write(
            path,
            format!("# Page {number}\n\nThe page says {number}.\n"),
        )
        .unwrap();
    }
    world.system.openai.answer_only(Some(5));
    let mut indexer = world.system.start_index(&[world.path()]);
    world.until(6, 0).await;
    indexer.kill().await.unwrap();
    world.system.openai.answer_only(None);
    let (success, told) = world.system.run_index(&[world.path()]).await;
    assert!(success, "{told}");
    assert_eq!(
        world
            .count("select count(*) from knowledge_documents where indexed_hash is not null")
            .await,
        41
    );
    let requests = world.system.world.received_by(Service::OpenAi);
    // So many jobs of a process run at once, each with one request; the long one may repeat its own.
    let once: usize = requests.len();
    assert!(once <= 40 + 3 + 8, "{once} requests");
}
