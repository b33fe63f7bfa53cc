//! `ops.spend` and `ops.spend_now`: what the model costs, as an operator sees it.

use sandbox::postgres::TestDatabase;
use sqlx::{Executor, PgConnection, Row, postgres::PgRow};

use super::document::statements;

/// Two days of last month, two of this one; a day's sums are spread over rows.
const SPENT: &str = "
    insert into spend_days (day, model, part, calls, input_tokens, output_tokens, cache_write_tokens,
                            cache_read_tokens, cost_usd)
    select (date_trunc('month', now() at time zone 'utc') + make_interval(days => day))::date,
           model, part, 1, 10, 20, 30, 40, cost
    from (values (-2, 'a', 0, 1.00), (-1, 'a', 0, 2.00),
                 (0, 'a', 0, 4.00), (0, 'a', 5, 8.00), (0, 'b', 0, 16.00)) as v (day, model, part, cost);
    insert into spend_reservations
    values ('s', 1, 1, 0.25, now() + interval '1 minute'), ('s', 1, 2, 0.5, now() - interval '1 s')";

struct Till {
    operator: PgConnection,
    _database: TestDatabase,
}

impl Till {
    /// As somebody who may only operate.
    async fn new() -> Self {
        let database = TestDatabase::create().await.unwrap();
        let pool = database.pool().await.unwrap();
        sqlx::raw_sql(SPENT).execute(&pool).await.unwrap();
        let mut operator = pool.acquire().await.unwrap().detach();
        operator
            .execute("set role growth_chat_operator")
            .await
            .unwrap();
        Self {
            operator,
            _database: database,
        }
    }

    async fn rows(&mut self, sql: &'static str) -> Vec<PgRow> {
        self.operator.fetch_all(sql).await.unwrap()
    }
}

#[tokio::test]
async fn days_are_summed_by_model_and_months_begin_anew() {
    let mut till = Till::new().await;
    let rows = till
        .rows(
            "select model, calls, input_tokens, cost_usd::float8, month_to_date_usd::float8
             from ops.spend order by day, model",
        )
        .await;
    let seen: Vec<(String, i64, i64, String)> = rows
        .iter()
        .map(|row| {
            let [cost, month]: [f64; 2] = [row.get(3), row.get(4)];
            (
                row.get(0),
                row.get(1),
                row.get(2),
                format!("{cost} {month}"),
            )
        })
        .collect();
    let row =
        |model: &str, calls, money: &str| (model.to_owned(), calls, calls * 10, money.to_owned());
    assert_eq!(
        seen,
        [
            row("a", 1, "1 1"),
            row("a", 1, "2 3"),
            row("a", 2, "12 28"),
            row("b", 1, "16 28"),
        ]
    );
}

#[tokio::test]
async fn what_is_spent_now_leaves_out_last_month_and_what_nobody_settles_any_more() {
    let mut till = Till::new().await;
    let rows = till
        .rows(
            "select month_usd::float8, reserved_usd::float8, reserved_calls,
                    day_ends_at > now() and day_ends_at <= now() + interval '1 day'
                    and month_ends_at >= day_ends_at
             from ops.spend_now",
        )
        .await;
    assert_eq!(rows.len(), 1);
    let [month, reserved]: [f64; 2] = [rows[0].get(0), rows[0].get(1)];
    assert_eq!(format!("{month} {reserved}"), "28 0.25");
    assert_eq!(rows[0].get::<i64, _>(2), 1);
    assert!(rows[0].get::<bool, _>(3));
}

#[tokio::test]
async fn an_operator_sees_what_it_costs_and_no_single_call() {
    let mut till = Till::new().await;
    let documented = statements("What it costs");
    assert_eq!(documented.len(), 2);
    for sql in documented {
        assert!(!till.rows(sql).await.is_empty(), "{sql}");
    }
    for sql in [
        "select * from model_calls",
        "select * from spend_days",
        "select * from spend_reservations",
    ] {
        let refused = till.operator.fetch_all(sql).await.unwrap_err();
        let code = refused.as_database_error().unwrap().code().unwrap();
        assert_eq!(code, "42501", "{sql}");
    }
}
