//! The window and the summary: which exchanges the model sees word by word, and which are folded into
//! the running summary, and when.
//!
//! ```text
//!   1 2 3 4 5 6 7 8 9 10 11 12 │ 13 (now)      CONTEXT_WINDOW_TURNS = 4
//!   └─── summary ────┘ └ window ┘
//!                 └ folded ahead: the summary is made while an answer streams, so that nobody
//!                   waits for it, and covers some exchanges of the window, so that it is not
//!                   made at every turn
//! ```

use store::turns::{PastMessage, Speaker};

/// An exchange of the past: a visitor's message and what was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchange {
    /// Where it begins in the messages.
    pub begins: usize,
    /// The turn of the visitor's message.
    pub first_turn: i32,
    /// The turn of its last answer: a later one when the visitor had it answered again.
    pub last_turn: i32,
}

/// The exchanges of some messages in order. What stands before the first message of a visitor belongs
/// to none.
pub fn exchanges(messages: &[PastMessage]) -> Vec<Exchange> {
    let mut exchanges: Vec<Exchange> = Vec::new();
    for (begins, message) in messages.iter().enumerate() {
        match (message.role, exchanges.last_mut()) {
            (Speaker::User, _) => exchanges.push(Exchange {
                begins,
                first_turn: message.turn,
                last_turn: message.turn,
            }),
            (Speaker::Assistant, Some(exchange)) => {
                exchange.last_turn = exchange.last_turn.max(message.turn);
            }
            (Speaker::Assistant, None) => {}
        }
    }
    exchanges
}

/// What is to be folded into the summary next: the turns behind `after`, up to `through`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fold {
    /// The summary's newest turn so far; 0: there is none.
    pub after: i32,
    /// The newest turn that it is to cover.
    pub through: i32,
}

/// Decides during a turn whether the summary is to be made longer. `window` are the newest exchanges
/// before the turn, `capacity` of them at most; `covered` is the newest turn that the summary covers.
///
/// The next turn's window lacks the oldest exchange of this one's. If the summary does not cover it, half
/// a window is folded, so that the next fold is due half a window later.
pub fn fold(window: &[Exchange], capacity: u16, covered: i32) -> Option<Fold> {
    let capacity = usize::from(capacity);
    let oldest = window.first()?;
    if window.len() < capacity || oldest.last_turn <= covered {
        return None;
    }
    let ahead = (capacity / 2).min(window.len() - 1);
    Some(Fold {
        after: covered,
        through: window[ahead].last_turn,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(turn: i32, role: Speaker) -> PastMessage {
        PastMessage {
            id: format!("m{turn}"),
            turn,
            role,
            author: None,
            body: String::new(),
        }
    }

    #[test]
    fn an_answer_belongs_to_the_message_before_it() {
        use Speaker::{Assistant, User};
        let messages = [
            message(1, Assistant),
            message(2, User),
            message(2, Assistant),
            message(3, User),
            message(4, User),
            message(6, Assistant),
        ];
        let exchange = |begins, first_turn, last_turn| Exchange {
            begins,
            first_turn,
            last_turn,
        };
        assert_eq!(
            exchanges(&messages),
            [exchange(1, 2, 2), exchange(3, 3, 3), exchange(4, 4, 6)]
        );
    }

    #[test]
    fn what_falls_out_next_is_folded_with_half_a_window() {
        let window: Vec<Exchange> = (5..9)
            .map(|turn| Exchange {
                begins: 0,
                first_turn: turn,
                last_turn: turn,
            })
            .collect();
        let fold_at = |window: &[Exchange], covered| fold(window, 4, covered);
        assert_eq!(fold_at(&window, 5), None);
        assert_eq!(
            fold_at(&window, 4),
            Some(Fold {
                after: 4,
                through: 7
            })
        );
        assert_eq!(fold_at(&window[1..], 0), None);
        assert_eq!(fold_at(&[], 0), None);
    }

    proptest! {
        /// Any conversation, any capacity, summaries that fail now and then.
        #[test]
        fn the_window_is_bounded_and_the_summary_lags_only_by_what_failed(
            capacity in 1_u16..8,
            works in prop::collection::vec(prop::bool::weighted(0.7), 1..60),
        ) {
            let mut covered = 0;
            let mut failed_last = false;
            for (turn, works) in (1_i32..).zip(works) {
                let oldest = (turn - i32::from(capacity)).max(1);
                let window: Vec<Exchange> = (oldest..turn)
                    .map(|turn| Exchange { begins: 0, first_turn: turn, last_turn: turn })
                    .collect();
                prop_assert!(window.len() <= usize::from(capacity));
                // Whoever is in no window is in the summary, unless the last one failed.
                prop_assert!(failed_last || covered >= oldest - 1, "{covered} of {oldest}");
                failed_last = false;
                if let Some(fold) = fold(&window, capacity, covered) {
                    prop_assert_eq!(fold.after, covered);
                    prop_assert!(fold.through > covered && fold.through < turn);
                    if works {
                        covered = fold.through;
                    } else {
                        failed_last = true;
                    }
                }
            }
        }
    }
}
