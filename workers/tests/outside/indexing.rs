//! From a staged document to its chunks.

use crate::knowledge_base::{DIMENSIONS, World, embedder, embeddings, indexed};
use crate::support::{Provider, plain};
use jobs::{JobError, Retry};
use sqlx::postgres::PgPoolOptions;
use std::{sync::Arc, time::Duration};
use tokio::sync::{Notify, mpsc};
use workers::{
    clients::RetryClass,
    handlers::index_document::{IndexError, IndexOutcome, index_document},
    knowledge::retrieve,
};

#[tokio::test]
async fn only_what_changed_is_embedded_again() {
    let world = World::new().await;
    world.write(
        "k/a.md",
        "# T\n\nIntro.\n\n## One\n\nFirst.\n\n## Two\n\nSecond.\n\n## Three\n\nThird.\n",
    );
    world.write("k/b.md", "# B\n\nOther.\n");
    world.index(&["k"]).await;
    let again = world.stage(&["k"]).await;
    assert_eq!((again.unchanged, again.staged.len()), (2, 0));

    // One is new, one changed, two changed places.
    world.write(
        "k/a.md",
        "# T\n\nIntro.\n\n## Zero\n\nNew.\n\n## Three\n\nThird.\n\n## One\n\nFirst.\n\n## Two\n\nSecond, better.\n",
    );
    let before = world.embedded().len();
    assert_eq!(world.index(&["k"]).await, [indexed(5, 2)]);
    let embedded = world.embedded().split_off(before);
    assert_eq!(
        embedded,
        [
            "T > Zero\n\n## Zero\n\nNew.",
            "T > Two\n\n## Two\n\nSecond, better."
        ]
    );
    let (ordinals, contents): (Vec<_>, Vec<_>) = world.chunks("k/a.md").await.into_iter().unzip();
    assert_eq!(ordinals, [0, 1, 2, 3, 4]);
    assert_eq!(
        contents,
        [
            "# T\n\nIntro.",
            "## Zero\n\nNew.",
            "## Three\n\nThird.",
            "## One\n\nFirst.",
            "## Two\n\nSecond, better."
        ]
    );
}

#[tokio::test]
async fn another_model_or_chunk_size_asks_for_a_new_index() {
    let mut world = World::new().await;
    world.write("k/a.md", "# T\n\nText.\n");
    world.index(&["k"]).await;
    world.deps.config.chunk_size = 128;
    assert_eq!(
        world.index(&["k"]).await,
        [indexed(1, 0)],
        "the same chunk keeps its embedding"
    );
    world.deps.embedder = embedder(&world.provider, "text-embedding-3-large", DIMENSIONS);
    assert_eq!(
        world.ask("text").await,
        [],
        "vectors of two models are not compared"
    );
    assert_eq!(world.index(&["k"]).await, [indexed(1, 1)]);
    assert_eq!(world.ask("text").await.len(), 1);
}

#[tokio::test]
async fn a_job_run_twice_finds_its_work_done() {
    let world = World::new().await;
    world.write("k/a.md", "# T\n\nText.\n");
    world.stage(&["k"]).await;
    let job = world.take_jobs().await.remove(0);
    assert_eq!(
        index_document(&world.deps, &job).await.unwrap(),
        indexed(1, 1)
    );
    assert_eq!(
        index_document(&world.deps, &job).await.unwrap(),
        IndexOutcome::Unchanged
    );
    assert_eq!(world.embedded().len(), 1);
}

#[tokio::test]
async fn a_job_of_older_text_leaves_the_document_alone() {
    let world = World::new().await;
    world.write("k/a.md", "# T\n\nOld.\n");
    world.stage(&["k"]).await;
    let old = world.take_jobs().await.remove(0);
    world.write("k/a.md", "# T\n\nNew.\n");
    world.stage(&["k"]).await;
    assert_eq!(
        index_document(&world.deps, &old).await.unwrap(),
        IndexOutcome::Superseded
    );
    assert_eq!(world.run_jobs().await, [indexed(1, 1)]);

    world.remove("k/a.md");
    world.write("k/b.md", "# B\n\nOther.\n");
    world.stage(&["k"]).await;
    assert_eq!(
        index_document(&world.deps, &old).await.unwrap(),
        IndexOutcome::Superseded
    );
}

#[tokio::test]
async fn text_that_changes_while_it_is_embedded_is_not_marked_as_indexed() {
    let world = World::new().await;
    world.write("k/a.md", "# T\n\nOld.\n");
    world.stage(&["k"]).await;
    let job = world.take_jobs().await.remove(0);
    // The provider answers as soon as the text has changed.
    let (asked, mut was_asked) = mpsc::unbounded_channel();
    let changed = Arc::new(Notify::new());
    let (deps, _provider) = world.with_embedder(
        Provider::start_async({
            let changed = changed.clone();
            move |received| {
                let (asked, changed) = (asked.clone(), changed.clone());
                async move {
                    asked.send(()).unwrap();
                    changed.notified().await;
                    plain(200, &[], embeddings(&received).to_string())
                }
            }
        })
        .await,
    );
    let (outcome, ()) = tokio::join!(index_document(&deps, &job), async {
        was_asked.recv().await.unwrap();
        world.write("k/a.md", "# T\n\nNew.\n");
        world.stage(&["k"]).await;
        changed.notify_one();
    });
    assert_eq!(outcome.unwrap(), IndexOutcome::Superseded);
    assert_eq!(world.chunks("k/a.md").await, []);
    assert_eq!(world.run_jobs().await, [indexed(1, 1)]);
    assert_eq!(world.chunks("k/a.md").await[0].1, "# T\n\nNew.");
}

#[tokio::test]
async fn no_connection_is_held_while_the_provider_is_called() {
    let world = World::new().await;
    world.write("k/a.md", "# T\n\nText.\n");
    world.stage(&["k"]).await;
    let job = world.take_jobs().await.remove(0);
    // A pool of one connection, which the provider has to get before it answers.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(Duration::from_secs(5))
        .connect_with((*world.pool().connect_options()).clone())
        .await
        .unwrap();
    let provider = Provider::start_async({
        let pool = pool.clone();
        move |received| {
            let pool = pool.clone();
            async move {
                match pool.acquire().await {
                    Ok(_) => plain(200, &[], embeddings(&received).to_string()),
                    Err(_) => plain(400, &[], "the connection is held"),
                }
            }
        }
    })
    .await;
    let (mut deps, _provider) = world.with_embedder(provider);
    deps.pool = pool;
    assert_eq!(index_document(&deps, &job).await.unwrap(), indexed(1, 1));
    assert_eq!(
        retrieve(&deps, "text", None).await.unwrap().passages.len(),
        1
    );
}

#[tokio::test]
async fn a_failed_embedding_leaves_the_old_chunks_and_says_when_to_retry() {
    let world = World::with(|received| {
        if received.body["input"][0]
            .as_str()
            .unwrap()
            .contains("Broken")
        {
            plain(503, &[("retry-after", "2")], "")
        } else {
            plain(200, &[], embeddings(received).to_string())
        }
    })
    .await;
    world.write("k/a.md", "# T\n\nGood.\n");
    world.index(&["k"]).await;
    world.write("k/a.md", "# T\n\nBroken.\n");
    world.stage(&["k"]).await;
    let job = world.take_jobs().await.remove(0);
    let error = index_document(&world.deps, &job).await.unwrap_err();
    assert!(matches!(error, IndexError::Embedding(_)), "{error:?}");
    let after = Some(Duration::from_secs(2));
    assert_eq!(error.retry(), RetryClass::Retry { after });
    let failed = JobError::from(error);
    assert_eq!(failed.retry, Retry::NotBefore(Duration::from_secs(2)));
    assert_eq!(
        failed.reason,
        "the chunks could not be embedded: openai: server_error (status 503)"
    );
    assert_eq!(world.chunks("k/a.md").await[0].1, "# T\n\nGood.");
    assert_eq!(
        world.stage(&["k"]).await.staged.len(),
        1,
        "it is still to be indexed"
    );
}
