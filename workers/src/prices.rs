//! What the models cost.
//!
//! Amounts are US dollars for a million tokens. The built-in table is Anthropic's list price as of
//! 2026-11-21 (<https://platform.claude.com/docs/en/about-claude/pricing>, and the pages of the models beside
//! it): input, output, writing to the cache for five minutes, reading from it. `LLM_PRICES` goes first, for
//! other models, other prices, and the prices of next year.

use std::{collections::BTreeMap, str::FromStr};

use serde::{Deserialize, Deserializer, de};
use store::{spend::Usd, turns::TurnUsage};

/// Tokens that a rate is for.
const MILLION: i128 = 1_000_000;

/// Dollars for a million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Input that is neither read from nor written to the cache.
    pub input: Usd,
    /// The answer.
    pub output: Usd,
    /// Input that is written to the cache.
    pub cache_write: Usd,
    /// Input that is read from it.
    pub cache_read: Usd,
}

impl Rates {
    /// In thousandths of a dollar, in the order of the fields.
    const fn of([input, output, cache_write, cache_read]: [i64; 4]) -> Self {
        const MILLI: i64 = 100_000;
        Self {
            input: Usd::from_units(input * MILLI),
            output: Usd::from_units(output * MILLI),
            cache_write: Usd::from_units(cache_write * MILLI),
            cache_read: Usd::from_units(cache_read * MILLI),
        }
    }

    /// What so many tokens cost, rounded up.
    fn cost(self, usage: TurnUsage) -> Usd {
        let amounts = [
            (usage.input, self.input),
            (usage.output, self.output),
            (usage.cache_write, self.cache_write),
            (usage.cache_read, self.cache_read),
        ];
        let sum: i128 = amounts
            .into_iter()
            .map(|(tokens, rate)| i128::from(tokens.max(0)) * i128::from(rate.units()))
            .sum();
        let units = (sum + MILLION - 1) / MILLION;
        Usd::from_units(i64::try_from(units).unwrap_or(i64::MAX))
    }
}

/// A model's price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    rates: Rates,
    /// Of a call with a longer prompt all tokens are billed by other rates.
    long_prompt: Option<LongPrompt>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LongPrompt {
    /// Tokens of input, however they are served.
    above: u64,
    rates: Rates,
}

impl Price {
    const fn flat(rates: [i64; 4]) -> Self {
        Self {
            rates: Rates::of(rates),
            long_prompt: None,
        }
    }

    const fn stepped(rates: [i64; 4], above: u64, long: [i64; 4]) -> Self {
        Self {
            rates: Rates::of(rates),
            long_prompt: Some(LongPrompt {
                above,
                rates: Rates::of(long),
            }),
        }
    }

    fn rates(&self, prompt: u64) -> Rates {
        match self.long_prompt {
            Some(long) if prompt > long.above => long.rates,
            _ => self.rates,
        }
    }

    /// What a call costs, rounded up to 10⁻⁸ dollars.
    pub fn cost(&self, usage: TurnUsage) -> Usd {
        let input = [usage.input, usage.cache_write, usage.cache_read];
        let prompt = input
            .into_iter()
            .map(|tokens| u64::try_from(tokens).unwrap_or_default())
            .fold(0, u64::saturating_add);
        self.rates(prompt).cost(usage)
    }

    /// The most that a call can cost with so much input, however it is served, and so much output.
    pub fn at_most(&self, input: u64, output: u32) -> Usd {
        let usage = TurnUsage {
            input: i64::try_from(input).unwrap_or(i64::MAX),
            output: output.into(),
            ..TurnUsage::default()
        };
        // A shorter prompt may come out dearer, if somebody has it so.
        let by = |rates: Rates| {
            let dearest = rates.input.max(rates.cache_write).max(rates.cache_read);
            let rates = Rates {
                input: dearest,
                ..rates
            };
            rates.cost(usage)
        };
        by(self.rates).max(by(self.rates(input)))
    }
}

/// The built-in prices, in thousandths of a dollar: input, output, cache write, cache read.
const BUILT_IN: &[(&str, Price)] = &[
    (
        "claude-haiku-5-5",
        Price::stepped([100, 500, 125, 10], 100_000, [500, 2_500, 625, 50]),
    ),
    ("claude-haiku-4-5", Price::flat([1_000, 5_000, 1_250, 100])),
    (
        "claude-sonnet-5-5",
        Price::flat([2_000, 10_000, 2_500, 100]),
    ),
    ("claude-sonnet-5", Price::flat([2_000, 10_000, 2_500, 200])),
    (
        "claude-sonnet-4-6",
        Price::flat([3_000, 15_000, 3_750, 300]),
    ),
    (
        "claude-sonnet-4-5",
        Price::flat([3_000, 15_000, 3_750, 300]),
    ),
    ("claude-opus-5-5", Price::flat([4_000, 20_000, 5_000, 200])),
    ("claude-opus-5", Price::flat([5_000, 25_000, 6_250, 500])),
    ("claude-opus-4-8", Price::flat([5_000, 25_000, 6_250, 500])),
    ("claude-opus-4-7", Price::flat([5_000, 25_000, 6_250, 500])),
    ("claude-opus-4-6", Price::flat([5_000, 25_000, 6_250, 500])),
    ("claude-opus-4-5", Price::flat([5_000, 25_000, 6_250, 500])),
    (
        "claude-fable-5-2",
        Price::flat([8_000, 40_000, 10_000, 200]),
    ),
    (
        "claude-fable-5-1",
        Price::flat([10_000, 50_000, 12_500, 250]),
    ),
    (
        "claude-fable-5",
        Price::flat([10_000, 50_000, 12_500, 1_000]),
    ),
];

/// The prices of all models.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prices {
    /// Of `LLM_PRICES`, by the beginning of a model's name.
    own: BTreeMap<String, Price>,
}

impl Prices {
    /// What `LLM_PRICES` has to be.
    pub const RULE: &str = "a JSON object of dollars for a million tokens, by a model's name or how it begins: \
        {\"a-model\": {\"input\": 1, \"output\": 5, \"cache_write\": 1.25, \"cache_read\": 0.1}}";

    /// The price of a model, by the name that was asked for or by the one that answered, which may have a
    /// date at its end: of the entries of `LLM_PRICES` that it begins with the longest, else the built-in one.
    pub fn of(&self, model: &str) -> Option<&Price> {
        let own = self
            .own
            .iter()
            .filter(|(prefix, _)| model.starts_with(prefix.as_str()))
            .max_by_key(|(prefix, _)| prefix.len())
            .map(|(_, price)| price);
        own.or_else(|| {
            BUILT_IN
                .iter()
                .find(|(name, _)| is_snapshot_of(model, name))
                .map(|(_, price)| price)
        })
    }
}

/// Whether it is the model or one of its snapshots (`-20251001`, `-latest`). A later version (`-1`) is
/// another model, with a price of its own.
pub(crate) fn is_snapshot_of(model: &str, name: &str) -> bool {
    let Some(rest) = model.strip_prefix(name) else {
        return false;
    };
    let is_date = |text: &str| text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit());
    match rest.strip_prefix(['-', '@']) {
        Some(version) => version == "latest" || is_date(version),
        None => rest.is_empty(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WirePrice {
    #[serde(deserialize_with = "dollars")]
    input: Usd,
    #[serde(deserialize_with = "dollars")]
    output: Usd,
    #[serde(deserialize_with = "dollars")]
    cache_write: Usd,
    #[serde(deserialize_with = "dollars")]
    cache_read: Usd,
    #[serde(default)]
    long_prompt: Option<WireLongPrompt>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireLongPrompt {
    above: u64,
    #[serde(deserialize_with = "dollars")]
    input: Usd,
    #[serde(deserialize_with = "dollars")]
    output: Usd,
    #[serde(deserialize_with = "dollars")]
    cache_write: Usd,
    #[serde(deserialize_with = "dollars")]
    cache_read: Usd,
}

/// A JSON number as it is written: the shortest decimal of a double is what somebody typed.
fn dollars<'d, D: Deserializer<'d>>(from: D) -> Result<Usd, D::Error> {
    f64::deserialize(from)?
        .to_string()
        .parse()
        .map_err(de::Error::custom)
}

impl From<WirePrice> for Price {
    fn from(wire: WirePrice) -> Self {
        Self {
            rates: Rates {
                input: wire.input,
                output: wire.output,
                cache_write: wire.cache_write,
                cache_read: wire.cache_read,
            },
            long_prompt: wire.long_prompt.map(|long| LongPrompt {
                above: long.above,
                rates: Rates {
                    input: long.input,
                    output: long.output,
                    cache_write: long.cache_write,
                    cache_read: long.cache_read,
                },
            }),
        }
    }
}

impl FromStr for Prices {
    type Err = serde_json::Error;

    /// Reads `LLM_PRICES`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wire: BTreeMap<String, WirePrice> = serde_json::from_str(text)?;
        if wire.keys().any(|prefix| prefix.trim().is_empty()) {
            return Err(de::Error::custom("a model has no name"));
        }
        let own = wire
            .into_iter()
            .map(|(prefix, price)| (prefix, price.into()))
            .collect();
        Ok(Self { own })
    }
}

#[cfg(test)]
mod tests;
