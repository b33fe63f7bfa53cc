//! What a ranking is worth. Shares are from 0 to 1.
//!
//! The search gives the first `k` passages whose cosine is at the threshold or over it; of those that
//! are over it the order is the ranking's. A question that nothing answers is answered well if there
//! is no such passage.

use serde::Serialize;

/// The least share of the unanswerable questions for which nothing may be found at a proposed
/// threshold.
pub const LEAST_ABSTENTION: f64 = 0.95;
/// The thresholds that are looked at: this many steps from 0 to 1. A proposal has three decimals.
const STEPS: u32 = 1_000;

/// A passage of a ranking.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Whether it answers the question.
    pub right: bool,
    /// Its cosine similarity to the question.
    pub cosine: f64,
}

/// A question with what was found for it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judged {
    /// Whether something in the corpus answers it.
    pub answerable: bool,
    /// What was found, the best first, without regard to a threshold.
    pub ranking: Vec<Candidate>,
}

impl Judged {
    /// What is given at a threshold.
    fn given(&self, threshold: f64, k: usize) -> impl Iterator<Item = &Candidate> {
        let passing = self.ranking.iter();
        passing
            .filter(move |candidate| candidate.cosine >= threshold)
            .take(k)
    }

    /// Whether the question gets its answer at a threshold, or none if there is none.
    pub fn succeeds(&self, threshold: f64, k: usize) -> bool {
        if self.answerable {
            self.given(threshold, k).any(|candidate| candidate.right)
        } else {
            self.given(threshold, k).next().is_none()
        }
    }

    /// The place of the first right passage, from 1.
    pub fn first_right(&self) -> Option<usize> {
        let place = self.ranking.iter().position(|candidate| candidate.right);
        place.map(|place| place + 1)
    }
}

/// What the rankings are worth without a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figures {
    /// The share of the answerable questions with a right passage among the first k.
    pub recall: f64,
    /// The mean of 1/place of the first right passage, 0 where there is none.
    pub mrr: f64,
}

/// The figures of some rankings; `None` if no question is answerable.
pub fn figures(judged: &[Judged], k: usize) -> Option<Figures> {
    let answerable = || judged.iter().filter(|one| one.answerable);
    let reciprocal = |one: &Judged| one.first_right().map_or(0.0, |place| 1.0 / number(place));
    Some(Figures {
        recall: share(answerable(), |one| one.succeeds(f64::NEG_INFINITY, k))?,
        mrr: answerable().map(reciprocal).sum::<f64>() / number(answerable().count()),
    })
}

/// What the rankings are worth at a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// The least cosine of a passage.
    pub threshold: f64,
    /// The share of the answerable questions that are given a right passage.
    pub recall: Option<f64>,
    /// The share of the unanswerable questions that are given nothing.
    pub abstention: Option<f64>,
    /// The share of right passages among all that are given; none are given: `None`.
    pub precision: Option<f64>,
}

/// The rankings' worth at a threshold.
pub fn at(judged: &[Judged], threshold: f64, k: usize) -> Point {
    let of = |answerable: bool| {
        let those = judged
            .iter()
            .filter(move |one| one.answerable == answerable);
        share(those, |one| one.succeeds(threshold, k))
    };
    let given = judged.iter().flat_map(|one| one.given(threshold, k));
    Point {
        threshold,
        recall: of(true),
        abstention: of(false),
        precision: share(given, |candidate| candidate.right),
    }
}

/// The worth at thresholds from 0 to 1, `step` thousandths apart.
pub fn curve(judged: &[Judged], k: usize, step: usize) -> Vec<Point> {
    let steps = (0..=STEPS).step_by(step);
    steps
        .map(|step| at(judged, f64::from(step) / f64::from(STEPS), k))
        .collect()
}

/// A threshold, and what it is worth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Proposal {
    /// The threshold, with three decimals.
    pub threshold: f64,
    /// The share of the answerable questions that are given a right passage.
    pub recall: f64,
    /// The share of the unanswerable questions that are given nothing.
    pub abstention: f64,
}

/// The threshold to use: of those at which the search abstains from [`LEAST_ABSTENTION`] of the
/// unanswerable questions, one with the best recall, of these one with the best abstention, and of
/// these the middle of their first stretch, far from a change for the worse on either side.
///
/// `None` if the questions of a kind are missing, or the search never abstains.
pub fn propose(judged: &[Judged], k: usize) -> Option<Proposal> {
    let good: Vec<Proposal> = curve(judged, k, 1)
        .into_iter()
        .filter_map(|point| {
            Some(Proposal {
                threshold: point.threshold,
                recall: point.recall?,
                abstention: point.abstention?,
            })
        })
        .filter(|one| one.abstention >= LEAST_ABSTENTION)
        .collect();
    let worth = |one: &Proposal| (one.recall, one.abstention);
    let best = good
        .iter()
        .max_by(|one, other| {
            worth(one)
                .0
                .total_cmp(&worth(other).0)
                .then(worth(one).1.total_cmp(&worth(other).1))
        })
        .map(worth)?;
    let first = good.iter().position(|one| worth(one) == best)?;
    let equal = good[first..].iter().take_while(|one| worth(one) == best);
    Some(good[first + equal.count() / 2])
}

/// The share of those for which something is so; `None` of nothing.
fn share<T>(all: impl Iterator<Item = T>, is_so: impl Fn(T) -> bool) -> Option<f64> {
    let (mut count, mut so) = (0, 0);
    for one in all {
        count += 1;
        so += usize::from(is_so(one));
    }
    (count > 0).then(|| number(so) / number(count))
}

/// A count as a number to divide by. No set has 2³² questions.
fn number(count: usize) -> f64 {
    u32::try_from(count).unwrap_or(u32::MAX).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A question whose ranking is written `+` for right and `-` for wrong, with the cosines.
    fn question(answerable: bool, ranking: &[(char, f64)]) -> Judged {
        Judged {
            answerable,
            ranking: ranking
                .iter()
                .map(|&(sign, cosine)| Candidate {
                    right: sign == '+',
                    cosine,
                })
                .collect(),
        }
    }

    /// Three that are answerable: at place 1, at place 3, never. Two that are not.
    fn five() -> Vec<Judged> {
        vec![
            question(true, &[('+', 0.6), ('-', 0.5)]),
            question(true, &[('-', 0.3), ('-', 0.7), ('+', 0.4), ('+', 0.2)]),
            question(true, &[('-', 0.5)]),
            question(false, &[('-', 0.35)]),
            question(false, &[]),
        ]
    }

    fn close(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-9
    }

    #[test]
    fn recall_and_reciprocal_ranks_are_those_computed_by_hand() {
        let figures_at = |k| figures(&five(), k).unwrap();
        assert!(close(figures_at(1).recall, 1.0 / 3.0));
        assert!(close(figures_at(2).recall, 1.0 / 3.0));
        assert!(close(figures_at(3).recall, 2.0 / 3.0));
        // (1/1 + 1/3 + 0) / 3
        assert!(close(figures_at(5).mrr, 4.0 / 9.0));
    }

    #[test]
    fn a_threshold_takes_wrong_passages_away_as_well_as_right_ones() {
        let point = |threshold| at(&five(), threshold, 2);
        // Nothing is below: the second question's right passage is the third.
        assert!(close(point(0.0).recall.unwrap(), 1.0 / 3.0));
        assert!(close(point(0.0).abstention.unwrap(), 0.5));
        // Given: +-, --, -, -.
        assert!(close(point(0.0).precision.unwrap(), 1.0 / 6.0));
        // The wrong one before it is below, so that it moves up.
        assert!(close(point(0.36).recall.unwrap(), 2.0 / 3.0));
        assert!(close(point(0.36).abstention.unwrap(), 1.0));
        // A passage at the threshold is given.
        assert!(close(point(0.35).abstention.unwrap(), 0.5));
        assert!(close(point(0.6).recall.unwrap(), 1.0 / 3.0));
        assert_eq!(point(1.0).precision, None);
    }

    #[test]
    fn the_proposal_is_the_middle_of_the_best_stretch() {
        // Recall 2/3 and abstention 1 from 0.351 to 0.4.
        let proposal = propose(&five(), 2).unwrap();
        assert!(close(proposal.threshold, 0.376), "{proposal:?}");
        assert!(close(proposal.recall, 2.0 / 3.0));
        assert!(close(proposal.abstention, 1.0));
    }

    #[test]
    fn nothing_is_proposed_without_both_kinds_of_questions_or_without_abstention() {
        let answerable = five().into_iter().filter(|one| one.answerable).collect();
        let unanswerable = five().into_iter().filter(|one| !one.answerable).collect();
        let never_abstains = vec![
            question(true, &[('+', 0.5)]),
            question(false, &[('-', 1.5)]),
        ];
        for set in [Vec::new(), answerable, unanswerable, never_abstains] {
            assert_eq!(propose(&set, 5), None, "{set:?}");
        }
        assert_eq!(figures(&[], 5), None);
    }

    fn any_questions() -> impl Strategy<Value = Vec<Judged>> {
        let candidate =
            (any::<bool>(), -0.2_f64..1.0).prop_map(|(right, cosine)| Candidate { right, cosine });
        let ranking = proptest::collection::vec(candidate, 0..12);
        let judged = (any::<bool>(), ranking).prop_map(|(answerable, mut ranking)| {
            if !answerable {
                for candidate in &mut ranking {
                    candidate.right = false;
                }
            }
            Judged {
                answerable,
                ranking,
            }
        });
        proptest::collection::vec(judged, 0..30)
    }

    proptest! {
        #[test]
        fn recall_grows_with_k_and_is_never_below_the_share_of_first_places(judged in any_questions()) {
            let mut before = 0.0;
            for k in 1..15 {
                let Some(figures) = figures(&judged, k) else { break };
                prop_assert!(figures.recall >= before);
                prop_assert!((0.0..=1.0).contains(&figures.mrr));
                if k == 1 {
                    prop_assert!(figures.mrr >= figures.recall - 1e-9);
                }
                before = figures.recall;
            }
            if let Some(figures) = figures(&judged, 12) {
                prop_assert!(figures.mrr <= figures.recall + 1e-9);
            }
        }

        #[test]
        fn abstention_grows_with_the_threshold(judged in any_questions(), k in 1_usize..8) {
            let points = curve(&judged, k, 20);
            prop_assert_eq!(points.len(), 51);
            for pair in points.windows(2) {
                prop_assert!(pair[0].abstention <= pair[1].abstention);
            }
        }

        #[test]
        fn no_threshold_is_better_than_the_proposed_one(judged in any_questions(), k in 1_usize..8) {
            if let Some(proposal) = propose(&judged, k) {
                prop_assert!(proposal.abstention >= LEAST_ABSTENTION);
                for point in curve(&judged, k, 7) {
                    let abstains = point.abstention >= Some(LEAST_ABSTENTION);
                    prop_assert!(!abstains || point.recall <= Some(proposal.recall));
                }
            }
        }
    }
}
