use proptest::prelude::*;

use super::*;

fn candidate(
    chunk_id: i64,
    cosine: f64,
    vector_rank: Option<u32>,
    text_rank: Option<u32>,
) -> Candidate {
    Candidate {
        chunk_id,
        document_id: chunk_id,
        document_source: format!("{chunk_id}.md"),
        url: format!("/{chunk_id}"),
        title: "T".into(),
        kind: DocumentKind::Page,
        heading_path: Vec::new(),
        content: format!("text number {chunk_id} of its own"),
        cosine,
        vector_rank,
        text_rank,
        text_score: None,
        matched_terms: Vec::new(),
    }
}

const LIMITS: Limits = Limits {
    threshold: 0.5,
    top_k: 2,
};

fn verdicts(candidates: Vec<Candidate>) -> Vec<(i64, Verdict)> {
    let ranked = judge(candidates, LIMITS);
    let told = |one: Ranked| (one.passage.chunk_id, one.verdict);
    ranked.into_iter().map(told).collect()
}

#[test]
fn who_is_found_by_both_sides_is_before_who_is_first_on_one() {
    let found = verdicts(vec![
        candidate(1, 0.9, Some(1), None),
        candidate(2, 0.8, Some(2), Some(2)),
        candidate(3, 0.7, None, Some(1)),
    ]);
    assert_eq!(
        found,
        [
            (2, Verdict::Chosen),
            (1, Verdict::Chosen),
            (3, Verdict::BeyondTopK)
        ]
    );
}

#[test]
fn the_words_alone_do_not_lift_a_chunk_over_the_threshold() {
    let found = verdicts(vec![
        candidate(1, 0.49, Some(1), Some(1)),
        candidate(2, 0.5, Some(2), None),
    ]);
    assert_eq!(found, [(1, Verdict::BelowThreshold), (2, Verdict::Chosen)]);
}

#[test]
fn of_near_duplicates_the_better_one_stays_and_a_place_is_free_again() {
    let same = |chunk_id, rank| Candidate {
        content: "The same text is on two pages, more or less.".into(),
        ..candidate(chunk_id, 0.9, Some(rank), None)
    };
    let found = verdicts(vec![
        same(7, 1),
        same(8, 2),
        candidate(9, 0.8, Some(3), None),
        same(10, 4),
    ]);
    assert_eq!(
        found,
        [
            (7, Verdict::Chosen),
            (8, Verdict::NearDuplicate { of: 7 }),
            (9, Verdict::Chosen),
            (10, Verdict::BeyondTopK),
        ]
    );
}

fn case_study(chunk_id: i64, cosine: f64, rank: u32) -> Candidate {
    Candidate {
        kind: DocumentKind::CaseStudy,
        ..candidate(chunk_id, cosine, Some(rank), None)
    }
}

fn told_unasked(candidates: Vec<Candidate>, threshold: f64) -> Option<i64> {
    let ranked = judge(candidates, LIMITS);
    proactive(&ranked, threshold).map(|passage| passage.chunk_id)
}

#[test]
fn the_nearest_case_study_is_told_unasked_if_it_is_near_enough() {
    let candidates = || {
        vec![
            candidate(1, 0.9, Some(1), None),
            candidate(2, 0.89, Some(2), None),
            case_study(3, 0.7, 3),
            case_study(4, 0.8, 4),
        ]
    };
    assert_eq!(told_unasked(candidates(), 0.6), Some(4));
    assert_eq!(told_unasked(candidates(), 0.8), Some(4));
    assert_eq!(told_unasked(candidates(), 0.81), None);
}

#[test]
fn a_case_study_that_is_among_the_passages_is_not_told_again() {
    let another_part = Candidate {
        document_id: 1,
        ..case_study(2, 0.9, 4)
    };
    let candidates = vec![
        case_study(1, 0.95, 1),
        candidate(5, 0.9, Some(2), None),
        candidate(6, 0.9, Some(3), None),
        another_part,
    ];
    assert_eq!(told_unasked(candidates, 0.6), None);
}

prop_compose! {
    fn candidates()(places in prop::collection::vec(
        (0.0..1.0_f64, prop::option::of(1..40_u32), prop::option::of(1..40_u32), 0..4_u8), 0..40,
    )) -> Vec<Candidate> {
        places
            .into_iter()
            .zip(1..)
            .map(|((cosine, vector, text, content), chunk_id)| Candidate {
                content: format!("Text {content}"),
                ..candidate(chunk_id, cosine, vector, text)
            })
            .collect()
    }
}

proptest! {
    #[test]
    fn the_order_does_not_depend_on_that_of_the_candidates(candidates in candidates()) {
        let mut reversed = candidates.clone();
        reversed.reverse();
        prop_assert_eq!(judge(candidates, LIMITS), judge(reversed, LIMITS));
    }

    #[test]
    fn all_are_judged_and_the_chosen_are_few_near_and_different(candidates in candidates()) {
        let count = candidates.len();
        let ranked = judge(candidates, LIMITS);
        prop_assert_eq!(ranked.len(), count);
        prop_assert!(ranked.is_sorted_by(|one, next| one.fused >= next.fused));
        let chosen = chosen(&ranked);
        prop_assert!(chosen.len() <= LIMITS.top_k);
        prop_assert!(chosen.iter().all(|passage| passage.score >= LIMITS.threshold));
        let contents: HashSet<&str> = chosen.iter().map(|passage| passage.content.as_str()).collect();
        prop_assert_eq!(contents.len(), chosen.len());
        // Nobody is left out while there is room.
        if chosen.len() < LIMITS.top_k {
            prop_assert!(ranked.iter().all(|one| one.verdict != Verdict::BeyondTopK));
        }
    }

    #[test]
    fn a_better_place_never_makes_a_candidate_worse(
        vector in prop::option::of(2..40_u32), text in prop::option::of(2..40_u32),
    ) {
        let fused = |vector, text| Ranked::from(candidate(1, 0.9, vector, text)).fused;
        let better = |rank: Option<u32>| Some(rank.map_or(40, |rank| rank - 1));
        prop_assert!(fused(better(vector), text) > fused(vector, text));
        prop_assert!(fused(vector, better(text)) > fused(vector, text));
        prop_assert!((fused(vector, text) - fused(text, vector)).abs() < 1e-12);
    }
}
