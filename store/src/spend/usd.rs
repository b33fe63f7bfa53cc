//! Amounts of money.

use std::{fmt, iter::Sum, ops::AddAssign, str::FromStr};

use serde::{Deserialize, Serialize};

/// An amount of US dollars, exact to eight decimals: what a token of the cheapest model costs.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Usd(i64);

impl Usd {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The most that a row of the database holds; far beyond any call.
    pub const MAX: Self = Self(99_999_999_999_999);
    /// Units of a dollar.
    const SCALE: i64 = 100_000_000;

    /// An amount in units of 10⁻⁸ dollars, held to what a row can keep.
    pub const fn from_units(units: i64) -> Self {
        match units {
            ..0 => Self::ZERO,
            _ if units > Self::MAX.0 => Self::MAX,
            _ => Self(units),
        }
    }

    /// The same in whole cents.
    pub const fn from_cents(cents: i64) -> Self {
        Self::from_units(cents.saturating_mul(Self::SCALE / 100))
    }

    /// A sum over rows, which may be more than one row holds.
    pub(super) const fn of_rows(units: i64) -> Self {
        Self(units)
    }

    /// The amount in units of 10⁻⁸ dollars.
    pub const fn units(self) -> i64 {
        self.0
    }

    /// The amount in dollars, for a metric.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a double is exact up to 90 million dollars"
    )]
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / 1e8
    }
}

impl AddAssign for Usd {
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.saturating_add(other.0);
    }
}

impl Sum for Usd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, |mut sum, amount| {
            sum += amount;
            sum
        })
    }
}

impl fmt::Display for Usd {
    /// With cents, and with what is below a cent as far as there is something: `$12.50`, `$0.00125`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (dollars, rest) = (self.0 / Self::SCALE, self.0 % Self::SCALE);
        let digits = format!("{rest:08}");
        let cents = digits.trim_end_matches('0').len().max(2);
        write!(f, "${dollars}.{}", &digits[..cents])
    }
}

/// An amount that can't be read: no decimal number of dollars, negative, or too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("that is no amount of dollars")]
pub struct NotAnAmount;

impl FromStr for Usd {
    type Err = NotAnAmount;

    /// Reads a decimal number, such as `50` or `0.125`, with eight decimals at most.
    fn from_str(text: &str) -> Result<Self, NotAnAmount> {
        let (dollars, decimals) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let legal = !dollars.is_empty()
            && !text.ends_with('.')
            && digits(dollars)
            && digits(decimals)
            && decimals.len() <= 8;
        if !legal {
            return Err(NotAnAmount);
        }
        let units: i64 = format!("{dollars}{decimals:0<8}")
            .parse()
            .map_err(|_| NotAnAmount)?;
        if units > Self::MAX.0 {
            return Err(NotAnAmount);
        }
        Ok(Self(units))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(units: i64) -> String {
        Usd::from_units(units).to_string()
    }

    #[test]
    fn an_amount_is_shown_with_cents_and_with_what_is_below_a_cent() {
        assert_eq!(shown(0), "$0.00");
        assert_eq!(shown(1), "$0.00000001");
        assert_eq!(shown(125_000), "$0.00125");
        assert_eq!(shown(1_250_000_000), "$12.50");
        assert_eq!(Usd::MAX.to_string(), "$999999.99999999");
    }

    #[test]
    fn an_amount_is_held_to_what_a_row_keeps() {
        assert_eq!(Usd::from_units(-1), Usd::ZERO);
        assert_eq!(Usd::from_units(i64::MAX), Usd::MAX);
        assert_eq!(Usd::from_cents(i64::MAX), Usd::MAX);
        assert_eq!(Usd::from_cents(5_000).to_string(), "$50.00");
    }

    #[test]
    fn only_a_decimal_number_is_an_amount() {
        for (text, units) in [
            ("50", 5_000_000_000),
            ("0.125", 12_500_000),
            ("007.50", 750_000_000),
            ("0.00000001", 1),
            ("999999.99999999", Usd::MAX.units()),
        ] {
            assert_eq!(text.parse(), Ok(Usd(units)), "{text}");
        }
        for text in [
            "",
            ".",
            ".5",
            "5.",
            "-1",
            "+1",
            "1e3",
            "1,5",
            "0.000000001",
            "1000000",
            "NaN",
            "٣",
            "99999999999999999999",
            "1.2.3",
            " 1",
        ] {
            assert_eq!(text.parse::<Usd>(), Err(NotAnAmount), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_read(units in 0..=Usd::MAX.units()) {
            let shown = shown(units);
            prop_assert_eq!(shown.trim_start_matches('$').parse(), Ok(Usd(units)));
        }
    }
}
