use proptest::prelude::*;

use super::*;

fn usage([input, output, cache_write, cache_read]: [i64; 4]) -> TurnUsage {
    TurnUsage {
        input,
        output,
        cache_write,
        cache_read,
    }
}

fn cost(model: &str, tokens: [i64; 4]) -> String {
    let prices = Prices::default();
    prices.of(model).unwrap().cost(usage(tokens)).to_string()
}

#[test]
fn each_kind_of_token_has_its_own_price() {
    let model = "claude-haiku-4-5";
    assert_eq!(cost(model, [1_000_000, 0, 0, 0]), "$1.00");
    assert_eq!(cost(model, [0, 1_000_000, 0, 0]), "$5.00");
    assert_eq!(cost(model, [0, 0, 1_000_000, 0]), "$1.25");
    assert_eq!(cost(model, [0, 0, 0, 1_000_000]), "$0.10");
    assert_eq!(cost(model, [1_200, 340, 2_000, 8_000]), "$0.0062");
}

#[test]
fn what_is_below_the_smallest_unit_is_rounded_up_once_for_a_call() {
    // 12.5 + 1 units of 10⁻⁸ dollars.
    assert_eq!(cost("claude-haiku-5-5", [0, 0, 1, 1]), "$0.00000014");
}

#[test]
fn a_long_prompt_is_billed_by_other_rates_whichever_way_it_is_served() {
    let model = "claude-haiku-5-5";
    assert_eq!(cost(model, [60_000, 0, 20_000, 20_000]), "$0.0087");
    assert_eq!(cost(model, [60_000, 0, 20_000, 20_001]), "$0.04350005");
    let prices = Prices::default();
    let price = prices.of(model).unwrap();
    assert!(price.at_most(100_001, 0) > price.at_most(100_000, 0));
}

#[test]
fn a_snapshot_has_its_models_price_and_a_later_version_does_not() {
    let prices = Prices::default();
    for model in [
        "claude-haiku-4-5",
        "claude-haiku-4-5-20251001",
        "claude-haiku-4-5@20251001",
        "claude-haiku-4-5-latest",
    ] {
        assert_eq!(prices.of(model), prices.of("claude-haiku-4-5"), "{model}");
    }
    assert_ne!(prices.of("claude-opus-5-5"), prices.of("claude-opus-5"));
    for model in [
        "claude-opus-5-9",
        "claude-haiku-4",
        "claude-haiku-4-55",
        "gpt",
        "",
    ] {
        assert_eq!(prices.of(model), None, "{model}");
    }
}

#[test]
fn the_longest_entry_of_ones_own_wins_over_the_table() {
    let price = |input: u32| {
        format!(
            r#"{{"input": {input}, "output": 0.5, "cache_write": 0.00000001, "cache_read": 0}}"#
        )
    };
    let text = format!(
        r#"{{"claude": {}, "claude-haiku-4-5": {}, "gateway/": {}}}"#,
        price(1),
        price(2),
        price(3)
    );
    let prices: Prices = text.parse().unwrap();
    let input = |model: &str| prices.of(model).unwrap().rates.input.to_string();
    assert_eq!(input("claude-opus-5"), "$1.00");
    assert_eq!(input("claude-haiku-4-5-20251001"), "$2.00");
    assert_eq!(input("gateway/model"), "$3.00");
    assert_eq!(prices.of("gatewa"), None);
    let rates = prices.of("gateway/model").unwrap().rates;
    assert_eq!(rates.cache_write.units(), 1);
}

#[test]
fn a_price_of_ones_own_may_have_a_step() {
    let prices: Prices =
        r#"{"m": {"input": 1, "output": 1, "cache_write": 1, "cache_read": 1, "long_prompt":
        {"above": 10, "input": 2, "output": 2, "cache_write": 2, "cache_read": 2}}}"#
            .parse()
            .unwrap();
    let price = prices.of("m").unwrap();
    assert_eq!(price.cost(usage([10, 0, 0, 0])).units(), 1_000);
    assert_eq!(price.cost(usage([10, 0, 0, 1])).units(), 2_200);
}

#[test]
fn the_documented_list_of_prices_is_one() {
    let document = include_str!("../../../docs/operating.md");
    let section = document.split_once("## What it costs").unwrap().1;
    let list = section.split_once("```json").unwrap().1;
    let prices: Prices = list.split_once("```").unwrap().0.parse().unwrap();
    let price = prices.of("my-model-2").unwrap();
    assert!(price.long_prompt.is_some());
}

#[test]
fn what_is_no_list_of_prices_is_refused() {
    let price = r#"{"input": 1, "output": 1, "cache_write": 1, "cache_read": 1}"#;
    for text in [
        "",
        "[]",
        "1",
        r#"{"m": {}}"#,
        r#"{"m": {"input": 1, "output": 1, "cache_write": 1}}"#,
        r#"{"m": {"input": -1, "output": 1, "cache_write": 1, "cache_read": 1}}"#,
        r#"{"m": {"input": 1e9, "output": 1, "cache_write": 1, "cache_read": 1}}"#,
        r#"{"m": {"input": "1", "output": 1, "cache_write": 1, "cache_read": 1}}"#,
        r#"{"m": {"input": 1, "output": 1, "cache_write": 1, "cache_read": 1, "cached": 1}}"#,
        &format!(r#"{{" ": {price}}}"#),
    ] {
        assert!(text.parse::<Prices>().is_err(), "{text}");
    }
    assert!(format!(r#"{{"m": {price}}}"#).parse::<Prices>().is_ok());
}

proptest! {
    #[test]
    fn no_call_costs_more_than_was_reserved_for_it(
        model in prop::sample::select(BUILT_IN),
        parts in [0_i64..400_000, 0_i64..400_000, 0_i64..400_000],
        spare in 0_u64..300_000,
        output in 0_u32..64_000,
    ) {
        let (_, price) = model;
        let [input, cache_write, cache_read] = parts;
        let at_most = u64::try_from(parts.iter().sum::<i64>()).unwrap() + spare;
        let usage = usage([input, output.into(), cache_write, cache_read]);
        prop_assert!(price.cost(usage) <= price.at_most(at_most, output));
    }

    #[test]
    fn no_figures_make_the_sum_overflow(tokens in any::<[i64; 4]>()) {
        for (_, price) in BUILT_IN {
            prop_assert!(price.cost(usage(tokens)) <= Usd::MAX);
        }
    }
}
