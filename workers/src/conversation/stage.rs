//! The stages of a conversation and the moves between them.

use serde::Deserialize;

/// Where a conversation is.
///
/// | stage | moves to |
/// |---|---|
/// | 1 discover | 2, 3 |
/// | 2 qualify | 1, 3 |
/// | 3 propose | 2 |
/// | 4 handed off | nowhere; entered by a handoff or the contact form, never by a move |
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// What the visitor is after is to be found out.
    Discover,
    /// Whether and how we can help is to be found out.
    Qualify,
    /// A call or a handoff is proposed.
    Propose,
    /// Contact was made: people take over.
    HandedOff,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 4] = [
        Self::Discover,
        Self::Qualify,
        Self::Propose,
        Self::HandedOff,
    ];

    /// The stage of a number; one that nobody knows is the beginning.
    pub fn from_number(number: i16) -> Self {
        Self::ALL
            .into_iter()
            .find(|stage| stage.number() == number)
            .unwrap_or(Self::Discover)
    }

    /// Its number, 1–4.
    pub const fn number(self) -> i16 {
        match self {
            Self::Discover => 1,
            Self::Qualify => 2,
            Self::Propose => 3,
            Self::HandedOff => 4,
        }
    }

    /// What the model calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Discover => "discover",
            Self::Qualify => "qualify",
            Self::Propose => "propose",
            Self::HandedOff => "handed_off",
        }
    }

    /// Whether the model may move the conversation from here to there.
    pub const fn may_move_to(self, to: Self) -> bool {
        matches!(
            (self, to),
            (Self::Discover, Self::Qualify | Self::Propose)
                | (Self::Qualify, Self::Discover | Self::Propose)
                | (Self::Propose, Self::Qualify)
        )
    }
}

/// A stage that the model can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WantedStage {
    /// [`Stage::Discover`].
    Discover,
    /// [`Stage::Qualify`].
    Qualify,
    /// [`Stage::Propose`].
    Propose,
}

impl From<WantedStage> for Stage {
    fn from(wanted: WantedStage) -> Self {
        match wanted {
            WantedStage::Discover => Self::Discover,
            WantedStage::Qualify => Self::Qualify,
            WantedStage::Propose => Self::Propose,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_moves_are_those_of_the_table() {
        let allowed: Vec<(i16, i16)> = Stage::ALL
            .into_iter()
            .flat_map(|from| Stage::ALL.map(|to| (from, to)))
            .filter(|(from, to)| from.may_move_to(*to))
            .map(|(from, to)| (from.number(), to.number()))
            .collect();
        assert_eq!(allowed, [(1, 2), (1, 3), (2, 1), (2, 3), (3, 2)]);
    }

    #[test]
    fn a_number_that_nobody_knows_is_the_beginning() {
        assert_eq!(Stage::from_number(3), Stage::Propose);
        assert_eq!(Stage::from_number(9), Stage::Discover);
    }
}
