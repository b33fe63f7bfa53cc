//! What is kept of calibrations, and what the corpus's hash depends on.

use sandbox::postgres::TestDatabase;
use sqlx::PgPool;
use store::knowledge::{
    Calibration, CalibrationState, KnowledgeTable, SearchSettings, calibration_state, corpus_hash,
    publish_settings, published_state, save_calibration,
};

fn settings(threshold: f64) -> SearchSettings {
    SearchSettings {
        model: "m".into(),
        dimensions: 3,
        threshold,
    }
}

async fn save(pool: &PgPool, table: &KnowledgeTable, threshold: f64) {
    let mut conn = pool.acquire().await.unwrap();
    let corpus_hash = corpus_hash(&mut conn).await.unwrap().unwrap();
    let calibration = Calibration {
        settings: settings(threshold),
        corpus_hash,
        recall: 0.9,
        abstention: 1.0,
        passages: 5,
        questions: 60,
        question_set: "s".into(),
    };
    save_calibration(&mut conn, table, &calibration)
        .await
        .unwrap();
}

async fn add_document(pool: &PgPool, source: &str, indexed_hash: Option<&[u8]>) {
    sqlx::query(
        "insert into knowledge_documents (source, url, title, kind, content, content_hash, indexed_hash)
         values ($1, $1, $1, 'page', '', '', $2)",
    )
    .bind(source)
    .bind(indexed_hash)
    .execute(pool)
    .await
    .unwrap();
}

async fn hash(pool: &PgPool) -> Option<Vec<u8>> {
    let mut conn = pool.acquire().await.unwrap();
    corpus_hash(&mut conn).await.unwrap()
}

#[tokio::test]
async fn the_hash_is_that_of_the_indexed_documents_in_any_order() {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool().await.unwrap();
    assert_eq!(hash(&pool).await, None);
    add_document(&pool, "b", Some(b"1")).await;
    let one = hash(&pool).await.unwrap();
    add_document(&pool, "waiting", None).await;
    assert_eq!(hash(&pool).await.as_ref(), Some(&one));
    add_document(&pool, "A", Some(b"2")).await;
    let both = hash(&pool).await.unwrap();
    assert_ne!(one, both);

    let other = TestDatabase::create().await.unwrap();
    let other_pool = other.pool().await.unwrap();
    add_document(&other_pool, "A", Some(b"2")).await;
    add_document(&other_pool, "b", Some(b"1")).await;
    assert_eq!(hash(&other_pool).await, Some(both));
}

#[tokio::test]
async fn the_newest_calibration_of_a_table_counts_and_a_hundred_are_kept() {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool().await.unwrap();
    add_document(&pool, "a", Some(b"1")).await;
    let (table, other): (KnowledgeTable, KnowledgeTable) =
        ("mine".parse().unwrap(), "other".parse().unwrap());
    save(&pool, &other, 0.9).await;
    for thousandth in 0..105 {
        save(&pool, &table, f64::from(thousandth) / 1_000.0).await;
    }
    let kept: Vec<(String, i64, f64)> = sqlx::query_as(
        "select table_name, count(*), min(threshold) from knowledge_calibrations group by 1 order by 1",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(
        kept,
        [
            ("mine".to_owned(), 100, 0.005),
            ("other".to_owned(), 1, 0.9)
        ]
    );
    let mut conn = pool.acquire().await.unwrap();
    let mut state = async |threshold| {
        let state = calibration_state(&mut conn, &table, &settings(threshold)).await;
        state.unwrap()
    };
    assert_eq!(state(0.104).await, CalibrationState::Calibrated);
    let measured = CalibrationState::OtherThreshold { measured: 0.104 };
    assert_eq!(state(0.103).await, measured);
}

#[tokio::test]
async fn what_was_published_last_is_what_is_judged() {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool().await.unwrap();
    add_document(&pool, "a", Some(b"1")).await;
    let (one, other): (KnowledgeTable, KnowledgeTable) =
        ("one".parse().unwrap(), "other".parse().unwrap());
    save(&pool, &other, 0.5).await;
    let mut conn = pool.acquire().await.unwrap();
    assert_eq!(published_state(&mut conn).await.unwrap(), None);
    for (table, threshold, expected) in [
        (&one, 0.5, "never_calibrated"),
        (&other, 0.4, "other_threshold"),
        (&other, 0.5, "calibrated"),
        (&one, 0.5, "never_calibrated"),
    ] {
        publish_settings(&mut conn, table, &settings(threshold))
            .await
            .unwrap();
        let state = published_state(&mut conn).await.unwrap().unwrap();
        assert_eq!(state.code(), expected, "{table} {threshold}");
    }
    let rows: i64 = sqlx::query_scalar("select count(*) from knowledge_settings")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(rows, 2);
}
