//! What calls cost, and the caps: over a real database, from several processes' pools.

use std::time::Duration;

use futures::{StreamExt, stream::FuturesUnordered};
use proptest::{prelude::*, test_runner::TestRunner};
use sandbox::postgres::TestDatabase;
use sqlx::{PgPool, query, query_as, query_scalar};
use store::{
    ids::TurnKey,
    spend::{self, ModelCall, Purpose, Usd},
    turn_control::{self, Unattended},
    turns::TurnUsage,
};
use workers::{
    budget::{Admission, Budget, CapReached},
    config::{CostCapAction, ModelConfig, SpendConfig},
};

use crate::turn_world::TurnWorld;

const MODEL: &str = "claude-haiku-4-5";
/// A call's prompt and answer, at most: 0.5 cents.
const INPUT: u64 = 2_000;
const OUTPUT: u32 = 500;
const CALL: Usd = Usd::from_units(500_000);

/// A database with sessions and a turn of each.
struct Till {
    pool: PgPool,
    database: TestDatabase,
}

impl Till {
    async fn new() -> Self {
        let database = TestDatabase::create().await.unwrap();
        let pool = database.pool().await.unwrap();
        for statement in [
            "insert into sessions (session_id) select 's' || n from generate_series(0, 63) n",
            "insert into turns (session_id, turn, message_id, answer_id)
             select 's' || n, 1, 'm', 'a' from generate_series(0, 63) n",
        ] {
            query(statement).execute(&pool).await.unwrap();
        }
        Self { pool, database }
    }

    /// A process's budget: a pool of its own.
    async fn process(&self, config: SpendConfig) -> Budget {
        budget(config, self.database.pool().await.unwrap())
    }

    async fn record(&self, key: &TurnKey, attempt: i32, calls: &[ModelCall]) {
        let mut conn = self.pool.acquire().await.unwrap();
        spend::record(&mut conn, key, attempt, calls).await.unwrap();
    }

    async fn spent(&self) -> spend::Spent {
        spend::spent(&mut self.pool.acquire().await.unwrap())
            .await
            .unwrap()
    }

    async fn reservations(&self) -> i64 {
        query_scalar("select count(*) from spend_reservations")
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    async fn execute(&self, statement: &'static str) {
        query(statement).execute(&self.pool).await.unwrap();
    }
}

fn budget(config: SpendConfig, pool: PgPool) -> Budget {
    let model = ModelConfig {
        api_key: "sk-ant-test".into(),
        base_url: "http://127.0.0.1:1".into(),
        model: MODEL.into(),
        fallback_model: None,
        max_output_tokens: OUTPUT,
        stream_timeout: Duration::from_secs(8),
    };
    Budget::new(config, &model, pool)
}

/// A hard stop at so much a day.
fn daily(cap: Usd) -> SpendConfig {
    SpendConfig {
        daily_cap: Some(cap),
        ..SpendConfig::default()
    }
}

/// A monthly cap that counts.
fn monthly(cap: Usd) -> SpendConfig {
    SpendConfig {
        monthly_cap: cap,
        action: CostCapAction::Degrade,
        ..SpendConfig::default()
    }
}

fn key(number: usize) -> TurnKey {
    TurnKey {
        session_id: format!("s{number}").parse().unwrap(),
        turn: 1,
    }
}

fn call(number: i16, cost: Usd) -> ModelCall {
    ModelCall {
        call: number,
        purpose: Purpose::Answer,
        model: MODEL.to_owned(),
        outcome: "ok",
        usage: TurnUsage {
            input: 10,
            output: 20,
            cache_write: 30,
            cache_read: 40,
        },
        cost,
    }
}

async fn admit(budget: &Budget, key: &TurnKey, call: i16) -> Admission {
    budget.admit(key, call, MODEL, INPUT, OUTPUT).await.unwrap()
}

const DAILY: Admission = Admission::Refused(CapReached::Daily);
const MONTHLY: Admission = Admission::Refused(CapReached::Monthly);

#[tokio::test]
async fn a_call_is_reserved_by_the_most_that_it_can_cost() {
    let till = Till::new().await;
    let budget = till.process(daily(Usd::from_cents(100))).await;
    assert_eq!(admit(&budget, &key(1), 1).await, Admission::Granted);
    assert_eq!(till.spent().await.reserved, CALL);
}

/// Turns of several processes call until they are refused.
async fn spend_all(till: &Till, budgets: &[Budget], costs: &[i64]) -> usize {
    let turns: FuturesUnordered<_> = costs
        .iter()
        .enumerate()
        .map(|(number, cost)| async move {
            let key = key(number);
            let mut calls = 0;
            while admit(&budgets[number % budgets.len()], &key, calls).await == Admission::Granted {
                // The model takes its time, in which others are admitted.
                tokio::time::sleep(Duration::from_millis(2)).await;
                let call = call(calls, Usd::from_units(*cost));
                till.record(&key, 1, &[call]).await;
                calls += 1;
            }
            usize::try_from(calls).unwrap()
        })
        .collect();
    turns.collect::<Vec<_>>().await.into_iter().sum()
}

#[test]
fn of_64_turns_at_once_one_call_at_most_goes_beyond_the_cap() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    let till = runtime.block_on(Till::new());
    // What calls come to, up to what is reserved for them, and a cap of some of them.
    let strategy = (
        proptest::collection::vec(CALL.units() / 10..=CALL.units(), 64),
        1..=40 * CALL.units(),
        any::<bool>(),
    );
    let mut runner = TestRunner::new(ProptestConfig::with_cases(12));
    let outcome = runner.run(&strategy, |(costs, cap, by_day)| {
        let cap = Usd::from_units(cap);
        let config = || if by_day { daily(cap) } else { monthly(cap) };
        runtime.block_on(async {
            till.execute("truncate model_calls, spend_days, spend_reservations")
                .await;
            let mut budgets = Vec::new();
            for _ in 0..4 {
                budgets.push(till.process(config()).await);
            }
            let made = spend_all(&till, &budgets, &costs).await;
            let spent = till.spent().await;
            prop_assert!(made > 0);
            prop_assert_eq!(spent.today, spent.month);
            prop_assert!(
                spent.month.units() < cap.units() + CALL.units(),
                "{} of {}",
                spent.month,
                cap
            );
            // Nobody was refused for nothing: alone, the calls go on until the cap is reached.
            let mut number = 1_000;
            while admit(&budgets[0], &key(0), number).await == Admission::Granted {
                till.record(&key(0), 1, &[call(number, CALL)]).await;
                number += 1;
            }
            prop_assert!(till.spent().await.month >= cap);
            Ok(())
        })
    });
    outcome.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_begin_together_are_not_all_let_through_before_one_is_billed() {
    let till = Till::new().await;
    let cap = Usd::from_units(CALL.units() * 10);
    let mut budgets = Vec::new();
    for _ in 0..4 {
        budgets.push(till.process(daily(cap)).await);
    }
    let all: FuturesUnordered<_> = (0..64)
        .map(|number| {
            let budget = budgets[number % 4].clone();
            async move { admit(&budget, &key(number), 1).await }
        })
        .collect();
    let admitted: Vec<Admission> = all.collect().await;
    let granted = admitted
        .iter()
        .filter(|admission| **admission == Admission::Granted)
        .count();
    assert_eq!(granted, 10);
    assert!(admitted.contains(&DAILY));
}

#[tokio::test]
async fn a_call_that_is_recorded_twice_is_counted_once() {
    let till = Till::new().await;
    let calls = [call(1, CALL), call(2, CALL)];
    till.record(&key(1), 1, &calls).await;
    till.record(&key(1), 1, &calls).await;
    till.record(&key(1), 1, &[call(2, CALL), call(3, CALL)])
        .await;
    // Another attempt's calls are other calls.
    till.record(&key(1), 2, &calls[..1]).await;
    let sums: (i64, i64, i64, i64, i64) = query_as(
        "select sum(calls)::bigint, sum(input_tokens)::bigint, sum(output_tokens)::bigint,
                sum(cache_write_tokens)::bigint, sum(cache_read_tokens)::bigint from spend_days",
    )
    .fetch_one(&till.pool)
    .await
    .unwrap();
    assert_eq!(sums, (4, 40, 80, 120, 160));
    assert_eq!(till.spent().await.today.units(), CALL.units() * 4);
    let rows: Vec<(i32, i16, String, String)> = query_as(
        "select attempt, call, purpose, outcome from model_calls where session_id = 's1'
         order by attempt, call",
    )
    .fetch_all(&till.pool)
    .await
    .unwrap();
    let row = |attempt, call| (attempt, call, "answer".to_owned(), "ok".to_owned());
    assert_eq!(rows, [row(1, 1), row(1, 2), row(1, 3), row(2, 1)]);
}

#[tokio::test]
async fn sums_are_kept_by_model_and_spread_over_rows() {
    let till = Till::new().await;
    for number in 0..64 {
        let other = ModelCall {
            model: "claude-opus-5".to_owned(),
            purpose: Purpose::Summary,
            ..call(2, CALL)
        };
        till.record(&key(number), 1, &[other, call(1, Usd::from_units(1))])
            .await;
    }
    let models: Vec<(String, i64, i64)> = query_as(
        "select model, sum(calls)::bigint, (sum(cost_usd) * 100000000)::bigint
         from spend_days group by model order by model",
    )
    .fetch_all(&till.pool)
    .await
    .unwrap();
    assert_eq!(
        models,
        [
            (MODEL.to_owned(), 64, 64),
            ("claude-opus-5".to_owned(), 64, 64 * CALL.units()),
        ]
    );
    let parts: Vec<i16> = query_scalar("select distinct part from spend_days")
        .fetch_all(&till.pool)
        .await
        .unwrap();
    assert!(parts.len() > 8 && parts.iter().all(|part| (0..16).contains(part)));
}

#[tokio::test]
async fn a_recorded_call_frees_its_reservation_and_the_end_of_its_turn_all_of_them() {
    let till = Till::new().await;
    let budget = till.process(daily(Usd::from_cents(100))).await;
    for number in 1..=3 {
        assert_eq!(admit(&budget, &key(1), number).await, Admission::Granted);
        assert_eq!(admit(&budget, &key(2), number).await, Admission::Granted);
    }
    till.record(&key(1), 1, &[call(2, CALL)]).await;
    assert_eq!(till.reservations().await, 5);
    let mut conn = till.pool.acquire().await.unwrap();
    let ended = turn_control::end_unattended(&mut conn, &key(1), Unattended::Failed).await;
    assert!(ended.unwrap().is_some());
    assert_eq!(till.reservations().await, 3);
    // A replay of the finished turn has numbers of its own.
    assert_eq!(admit(&budget, &key(1), 99).await, Admission::Granted);
    till.record(&key(1), 99, &[call(1, CALL)]).await;
    assert_eq!(till.reservations().await, 3);
}

#[tokio::test]
async fn a_call_that_is_admitted_again_is_reserved_once() {
    let till = Till::new().await;
    let budget = till.process(daily(CALL)).await;
    assert_eq!(admit(&budget, &key(1), 1).await, Admission::Granted);
    // Its first attempt failed without a bill; what is reserved for it does not count against itself.
    assert_eq!(admit(&budget, &key(1), 1).await, Admission::Granted);
    assert_eq!(till.spent().await.reserved, CALL);
    assert_eq!(admit(&budget, &key(2), 1).await, DAILY);
}

#[tokio::test]
async fn a_reservation_whose_worker_died_is_forgotten_after_a_while() {
    let till = Till::new().await;
    let budget = till.process(daily(CALL)).await;
    assert_eq!(admit(&budget, &key(1), 1).await, Admission::Granted);
    assert_eq!(admit(&budget, &key(2), 1).await, DAILY);
    till.execute("update spend_reservations set expires_at = now() - interval '1 s'")
        .await;
    assert_eq!(till.spent().await.reserved, Usd::ZERO);
    assert_eq!(admit(&budget, &key(2), 1).await, Admission::Granted);
    // The table does not grow by what was forgotten.
    assert_eq!(till.reservations().await, 1);
}

#[tokio::test]
async fn a_day_and_a_month_are_utcs_and_what_was_before_does_not_count() {
    let till = Till::new().await;
    till.execute(
        "insert into spend_days
         select (date_trunc('month', now() at time zone 'utc') - interval '1 day')::date, 'm', 0, 1, 0, 0, 0, 0, 900",
    )
    .await;
    let [by_day, by_month] = [daily(CALL), monthly(CALL)];
    let (by_day, by_month) = (till.process(by_day).await, till.process(by_month).await);
    assert_eq!(till.spent().await.month, Usd::ZERO);
    assert_eq!(admit(&by_day, &key(1), 1).await, Admission::Granted);
    till.execute("delete from spend_reservations").await;
    assert_eq!(admit(&by_month, &key(1), 1).await, Admission::Granted);
    till.execute("delete from spend_reservations").await;

    till.record(&key(1), 1, &[call(1, CALL)]).await;
    assert_eq!(admit(&by_day, &key(2), 1).await, DAILY);
    assert_eq!(admit(&by_month, &key(2), 1).await, MONTHLY);
    let spent = till.spent().await;
    assert_eq!((spent.today, spent.month), (CALL, CALL));
    let utc: bool = query_scalar("select $1 = date_trunc('month', now() at time zone 'utc')::date")
        .bind(spent.since)
        .fetch_one(&till.pool)
        .await
        .unwrap();
    assert!(utc);
    assert!(spent.ends_in <= Duration::from_hours(31 * 24));
}

#[tokio::test]
async fn yesterday_counts_for_the_month_and_not_for_today() {
    let till = Till::new().await;
    till.record(&key(1), 1, &[call(1, CALL)]).await;
    // Whatever day it is, another day of the same month.
    till.execute(
        "update spend_days set day = case when extract(day from day) = 1 then day + 1 else day - 1 end",
    )
    .await;
    let spent = till.spent().await;
    assert_eq!((spent.today, spent.month), (Usd::ZERO, CALL));
    let by_day = till.process(daily(CALL)).await;
    assert_eq!(admit(&by_day, &key(2), 1).await, Admission::Granted);
    let by_month = till.process(monthly(CALL)).await;
    assert_eq!(admit(&by_month, &key(3), 1).await, MONTHLY);
}

#[tokio::test]
async fn without_an_enforced_cap_nothing_is_asked_and_nothing_refused() {
    let nobody = sqlx::postgres::PgPoolOptions::new()
        .connect_lazy("postgres://nobody@127.0.0.1:1/nothing")
        .unwrap();
    let alert = SpendConfig {
        monthly_cap: Usd::from_units(1),
        ..SpendConfig::default()
    };
    let budget = budget(alert, nobody.clone());
    assert_eq!(admit(&budget, &key(1), 1).await, Admission::Granted);
    // The measure sees a question when there is one.
    nobody.close().await;
    let asks = self::budget(daily(CALL), nobody);
    assert!(asks.admit(&key(1), 1, MODEL, INPUT, OUTPUT).await.is_err());
}

#[tokio::test]
async fn an_admission_that_is_given_up_leaves_nothing_half_way() {
    let till = Till::new().await;
    let budget = till.process(daily(Usd::from_cents(100))).await;
    // Somebody else decides, for long.
    let mut other = till.pool.begin().await.unwrap();
    query("lock table spend_reservations in access exclusive mode")
        .execute(&mut *other)
        .await
        .unwrap();
    let cut = tokio::time::timeout(Duration::from_millis(50), admit(&budget, &key(1), 1)).await;
    assert!(cut.is_err());
    other.rollback().await.unwrap();
    assert_eq!(admit(&budget, &key(2), 1).await, Admission::Granted);
    assert_eq!(till.reservations().await, 2);
}

#[tokio::test]
async fn money_of_a_session_that_was_erased_meanwhile_is_counted_all_the_same() {
    let till = Till::new().await;
    till.execute("delete from sessions where session_id = 's1'")
        .await;
    till.record(&key(1), 1, &[call(1, CALL)]).await;
    assert_eq!(till.spent().await.month, CALL);
    let rows: i64 = query_scalar("select count(*) from model_calls")
        .fetch_one(&till.pool)
        .await
        .unwrap();
    assert_eq!(rows, 0);
}

#[tokio::test]
async fn a_model_that_nobody_expected_is_counted_by_the_dearest_price() {
    let pool = sqlx::postgres::PgPoolOptions::new()
        .connect_lazy("postgres://nobody@127.0.0.1:1/nothing")
        .unwrap();
    let model = ModelConfig {
        api_key: "sk-ant-test".into(),
        base_url: "http://127.0.0.1:1".into(),
        model: MODEL.into(),
        fallback_model: Some("claude-opus-5".into()),
        max_output_tokens: OUTPUT,
        stream_timeout: Duration::from_secs(8),
    };
    let budget = Budget::new(SpendConfig::default(), &model, pool);
    let usage = call(1, CALL).usage;
    assert_eq!(
        budget.cost("model-of-a-gateway", usage),
        budget.cost("claude-opus-5", usage)
    );
    assert!(budget.cost("claude-haiku-4-5-20251001", usage) < budget.cost("claude-opus-5", usage));
}

#[tokio::test]
async fn a_finished_turn_frees_what_it_had_reserved_for_calls_that_came_to_nothing() {
    let world = TurnWorld::new().await;
    let (key, job) = world.accept(1, "What does an audit cost?").await;
    query(
        "insert into spend_reservations
         values ($1, 1, 9, 0.01, now() + interval '1 minute'), ('other', 1, 9, 0.01, now() + interval '1 minute')",
    )
    .bind(key.session_id.as_str())
    .execute(world.pool())
    .await
    .unwrap();
    world.attempt(&key, job).await.unwrap();
    let left = world.json("select array_agg(session_id) from spend_reservations");
    assert_eq!(left.await, serde_json::json!(["other"]));
}
