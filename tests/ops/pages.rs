//! How lists and pages look to a person.

use sqlx::raw_sql;

use super::Desk;

/// A job with every key, and an error that could move the cursor.
const JOBS: &str = r"
    insert into queue.jobs (id, queue, kind, state, priority, attempt, max_attempts, retry_waits, payload, errors,
                            serial_key, unique_key, rate_key, trace, run_at)
    overriding system value
    values (5, 'a-queue-with-a-long-name', 'webhook.a_kind_with_a_long_name', 'scheduled', -3, 1, 2, '{60}', '{}',
            jsonb_build_array(jsonb_build_object('attempt', 1, 'at', '2026-01-01T00:00:00Z', 'error', E'no\u001b[2J\nway')),
            'endpoint:1', 'delivery:1', 'slack:C1', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
            '2100-01-01T00:00:00Z')";

#[tokio::test]
async fn columns_stay_aligned_however_long_a_name_is() {
    let desk = Desk::new().await;
    raw_sql(JOBS).execute(&desk.pool).await.unwrap();
    let table = desk.says("list").await;
    let header = table.lines().next().unwrap();
    let column = header.find("STATE").unwrap();
    let states: Vec<&str> = table
        .lines()
        .skip(1)
        .map(|line| line[column..].split_whitespace().next().unwrap())
        .collect();
    assert_eq!(states, ["scheduled", "running", "blocked", "ready"]);
    let column = header.find("RUN AT").unwrap();
    for line in table.lines().skip(1) {
        assert_eq!(&line[column - 2..column], "  ", "{table}");
        assert!(line[column..].starts_with('2'), "{table}");
    }
    assert_eq!(desk.ids("list --state scheduled").await, [5]);
}

#[tokio::test]
async fn a_page_has_every_key_and_nothing_that_moves_the_cursor() {
    let desk = Desk::new().await;
    raw_sql(JOBS).execute(&desk.pool).await.unwrap();
    let page = desk.says("show 5").await;
    for line in [
        "state       scheduled",
        "priority    -3",
        "serial key  endpoint:1",
        "unique key  delivery:1",
        "rate key    slack:C1",
        "trace       00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "runs at     2100-01-01T00:00:00Z",
        "attempt 1 failed at 2026-01-01T00:00:00Z: no\\u{1b}[2J\\nway",
    ] {
        assert!(page.lines().any(|shown| shown == line), "{line}: {page}");
    }
    assert!(!desk.says("show 4").await.contains("priority"));
}
