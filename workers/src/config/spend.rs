//! What the model may cost, and what it costs.

use std::str::FromStr;

use store::{
    settings::Settings,
    spend::{Caps, Usd},
};

use super::DEFAULT_MODEL;
use crate::prices::Prices;

/// What happens when `MONTHLY_COST_CAP_USD` is reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CostCapAction {
    /// The log and a metric say so, and turns are answered as before (seed 000).
    #[default]
    Alert,
    /// New turns are answered with the contact form, without the model.
    Degrade,
}

impl FromStr for CostCapAction {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "alert" => Ok(Self::Alert),
            "degrade" => Ok(Self::Degrade),
            _ => Err(()),
        }
    }
}

/// The money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpendConfig {
    /// `LLM_PRICES` over the built-in table.
    pub prices: Prices,
    /// `MONTHLY_COST_CAP_USD`: what a UTC month may cost.
    pub monthly_cap: Usd,
    /// `COST_CAP_ACTION`: what happens then.
    pub action: CostCapAction,
    /// `DAILY_COST_CAP_USD`: what a UTC day may cost; enforced if it is set.
    pub daily_cap: Option<Usd>,
}

impl Default for SpendConfig {
    fn default() -> Self {
        Self {
            prices: Prices::default(),
            monthly_cap: Usd::from_cents(5_000),
            action: CostCapAction::default(),
            daily_cap: None,
        }
    }
}

impl SpendConfig {
    /// Reads the variables of the money. Of a model that is configured the price has to be known.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        const AMOUNT: &str = "an amount of dollars above 0 and below 1000000, such as 50 or 12.50";
        let default = Self::default();
        let positive = |amount: &Usd| *amount > Usd::ZERO;
        let monthly_cap = settings.with_default(
            "MONTHLY_COST_CAP_USD",
            default.monthly_cap,
            AMOUNT,
            positive,
        );
        let action = settings.with_default(
            "COST_CAP_ACTION",
            default.action,
            "alert or degrade",
            |_| true,
        );
        let daily_cap = settings
            .optional::<Usd>("DAILY_COST_CAP_USD", AMOUNT)
            .filter(|amount| {
                let legal = positive(amount);
                if !legal {
                    settings.problem("DAILY_COST_CAP_USD", format!("is not valid: {AMOUNT}"));
                }
                legal
            });
        let prices = settings.optional::<Prices>("LLM_PRICES", Prices::RULE);
        let legible = prices.is_some() || settings.get("LLM_PRICES").is_none();
        let prices = prices.unwrap_or_default();
        if legible {
            demand_prices(settings, &prices);
        }
        Some(Self {
            prices,
            monthly_cap,
            action,
            daily_cap,
        })
    }

    /// The caps at which a call is refused.
    pub fn enforced(&self) -> Caps {
        Caps {
            daily: self.daily_cap,
            monthly: (self.action == CostCapAction::Degrade).then_some(self.monthly_cap),
        }
    }
}

/// Notes the models that have no price: what they cost could be neither told nor limited.
fn demand_prices(settings: &mut Settings, prices: &Prices) {
    let unpriced: Vec<&str> = [
        ("LLM_MODEL", Some(DEFAULT_MODEL)),
        ("LLM_FALLBACK_MODEL", None),
    ]
    .into_iter()
    .filter_map(|(variable, default)| {
        let model = settings.get(variable).or(default)?;
        prices.of(model).is_none().then_some(variable)
    })
    .collect();
    for variable in unpriced {
        settings.problem(
            "LLM_PRICES",
            format!("has no price for {variable}: {}", Prices::RULE),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<SpendConfig, Vec<String>> {
        let owned = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut settings = Settings::new(owned);
        let config = SpendConfig::read(&mut settings);
        settings
            .finish(config)
            .map_err(|error| error.problems.into_iter().map(|(name, _)| name).collect())
    }

    #[test]
    fn by_default_nothing_is_enforced_and_a_month_may_cost_fifty_dollars() {
        let config = read(&[]).unwrap();
        assert_eq!(config, SpendConfig::default());
        assert_eq!(config.monthly_cap.to_string(), "$50.00");
        assert_eq!(config.enforced(), Caps::default());
    }

    #[test]
    fn a_daily_cap_and_a_monthly_one_that_degrades_are_enforced() {
        let config = read(&[
            ("DAILY_COST_CAP_USD", "2.50"),
            ("MONTHLY_COST_CAP_USD", "20"),
            ("COST_CAP_ACTION", "degrade"),
        ])
        .unwrap();
        let caps = Caps {
            daily: Some(Usd::from_cents(250)),
            monthly: Some(Usd::from_cents(2_000)),
        };
        assert_eq!(config.enforced(), caps);
    }

    #[test]
    fn what_is_no_amount_no_action_and_no_price_list_is_refused_by_name() {
        for (name, values) in [
            ("MONTHLY_COST_CAP_USD", &["0", "-5", "fifty", "1e3"][..]),
            ("DAILY_COST_CAP_USD", &["0", "0.00", "$5", "1000000"]),
            ("COST_CAP_ACTION", &["stop", "Degrade"]),
            ("LLM_PRICES", &["[]", "{", r#"{"m": 1}"#]),
        ] {
            for value in values {
                let problems = read(&[(name, value)]).unwrap_err();
                assert_eq!(problems, [name], "{value}");
            }
        }
    }

    #[test]
    fn a_model_without_a_price_is_refused_and_one_with_a_price_of_ones_own_is_not() {
        let unpriced = [
            ("LLM_MODEL", "model-of-a-gateway"),
            ("LLM_FALLBACK_MODEL", "another"),
        ];
        assert_eq!(read(&unpriced).unwrap_err(), ["LLM_PRICES", "LLM_PRICES"]);
        let price = r#"{"input": 1, "output": 5, "cache_write": 1.25, "cache_read": 0.1}"#;
        let prices = format!(r#"{{"model-of": {price}, "another": {price}}}"#);
        let [model, fallback] = unpriced;
        let config = read(&[model, fallback, ("LLM_PRICES", &prices)]).unwrap();
        assert!(config.prices.of("model-of-a-gateway").is_some());
    }
}
