//! From a question to passages, and the table they are kept in.

use crate::knowledge_base::{DIMENSIONS, MODEL, World, embed, embedder, indexed};
use store::knowledge::{KnowledgeError, KnowledgeTable};

#[tokio::test]
async fn a_question_finds_the_passage_and_where_it_is_from() {
    let world = World::new().await;
    world.write(
        "handbook/03-operations.md",
        "# Operations\n\n## Backups\n\nA backup of the database runs every night at two.\n\n\
         ## Deployment\n\nMachines are replaced one after another.\n",
    );
    world.write(
        "handbook/faq/prices.md",
        "---\nurl: https://example.org/prices\n---\n# Prices\n\nA workshop costs money.\n",
    );
    world.write("handbook/notes.txt", "Penguins swim in cold water.");
    assert_eq!(
        world.index(&["handbook"]).await,
        [indexed(2, 2), indexed(1, 1), indexed(1, 1)]
    );
    let passages = world.ask("when does the backup of the database run").await;
    assert_eq!(passages[0].url, "03-operations.md#backups");
    assert_eq!(passages[0].title, "Operations");
    assert_eq!(passages[0].heading_path, ["Backups"]);
    assert!(passages[0].content.contains("every night"));
    assert!(passages[0].score > passages.get(1).map_or(0.2, |next| next.score));

    let prices = &world.ask("prices workshop costs").await[0];
    assert_eq!(prices.url, "https://example.org/prices");
    assert_eq!(prices.kind.as_str(), "faq");
    assert_eq!(world.ask("penguins swim").await[0].url, "notes.txt");
}

#[tokio::test]
async fn nothing_is_found_below_the_threshold_and_at_most_top_k_above_it() {
    let mut world = World::new().await;
    for number in 0..8 {
        world.write(
            &format!("k/{number}.md"),
            format!("# T\n\nRed apples number {number}.\n"),
        );
    }
    world.index(&["k"]).await;
    assert_eq!(world.ask("red apples").await.len(), 5);
    world.deps.config.top_k = 8;
    world.deps.config.ef_search = 1;
    assert_eq!(
        world.ask("red apples").await.len(),
        8,
        "ef_search is at least top_k"
    );
    world.deps.config.relevance_threshold = 1.0;
    assert_eq!(world.ask("red apples").await, []);
    world.deps.config.relevance_threshold = 0.0;
    assert_eq!(
        world.ask("???").await,
        [],
        "a vector of zeros is near to nothing"
    );
    let calls = world.provider.received().len();
    assert_eq!(world.ask(" \n").await, []);
    assert_eq!(
        world.provider.received().len(),
        calls,
        "a blank question needs no call"
    );
}

#[tokio::test]
async fn the_longest_message_can_be_searched_for() {
    let world = World::new().await;
    world.write("k/a.md", "# T\n\nText.\n");
    world.index(&["k"]).await;
    world.ask(&"𓀀".repeat(4_000)).await;
    let sent = world.embedded().pop().unwrap();
    assert!(sent.len() <= 8_192 && sent.len() > 8_180);
}

#[tokio::test]
async fn the_search_uses_the_index_with_its_settings_and_leaves_none_behind() {
    let world = World::new().await;
    for number in 0..30 {
        world.write(
            &format!("k/{number}.md"),
            format!("# T\n\nRed apples number {number}.\n"),
        );
    }
    world.index(&["k"]).await;
    let mut conn = world.pool().acquire().await.unwrap();
    sqlx::query("set enable_seqscan = off")
        .execute(&mut *conn)
        .await
        .unwrap();
    let search = |top_k| store::knowledge::Search {
        embedding: embed("red apples"),
        model: MODEL,
        question: "",
        locale: None,
        nearest: top_k,
        texts: 0,
        least_cosine: 0.1,
        ef_search: 1,
        explain: false,
    };
    let table = &world.deps.config.table;
    let found = store::knowledge::search(&mut conn, table, search(20))
        .await
        .unwrap();
    assert_eq!(found.len(), 20);
    let mut places: Vec<_> = found
        .iter()
        .map(|one| (one.vector_rank, one.cosine))
        .collect();
    places.sort_by(|one, next| one.partial_cmp(next).unwrap());
    assert!(places.is_sorted_by(|(_, a), (_, b)| a >= b));
    assert_eq!(places[0].0, Some(1));
    let left: String = sqlx::query_scalar("select current_setting('hnsw.iterative_scan')")
        .fetch_one(&mut *conn)
        .await
        .unwrap();
    assert_eq!(left, "off");
}

#[tokio::test]
async fn the_table_must_fit_the_embeddings() {
    let world = World::new().await;
    let prepare = async |table: &str, dimensions: u16| {
        let mut deps = world.deps.clone();
        deps.embedder = embedder(&world.provider, MODEL, dimensions);
        deps.config.table = table.parse::<KnowledgeTable>().unwrap();
        deps.prepare().await
    };
    prepare("knowledge_chunks", 1_536).await.unwrap();
    prepare("user", 3)
        .await
        .expect("a reserved word is a name as well");
    prepare("user", 3).await.unwrap();
    assert!(matches!(
        prepare("user", 2_001).await,
        Err(KnowledgeError::TooManyDimensions(2_001))
    ));
    sqlx::query("create table of_somebody_else (id bigint)")
        .execute(&world.deps.pool)
        .await
        .unwrap();
    assert!(matches!(
        prepare("of_somebody_else", 3).await,
        Err(KnowledgeError::NotAKnowledgeTable(_))
    ));

    prepare("chunks_of_the_test", 3)
        .await
        .expect("an empty table takes any length");
    prepare("chunks_of_the_test", DIMENSIONS).await.unwrap();
    world.write("k/a.md", "# T\n\nText.\n");
    world.index(&["k"]).await;
    let error = prepare("chunks_of_the_test", 3).await.unwrap_err();
    assert!(
        matches!(
            error,
            KnowledgeError::Dimensions {
                found: 64,
                wanted: 3,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(world.ask("text").await.len(), 1);
}

#[tokio::test]
async fn a_table_may_be_made_by_many_at_once() {
    let world = World::new().await;
    let mut deps = world.deps.clone();
    deps.config.table = "made_by_many".parse().unwrap();
    let made = futures::future::join_all((0..8).map(|_| deps.prepare())).await;
    assert!(made.iter().all(Result::is_ok), "{made:?}");
}
