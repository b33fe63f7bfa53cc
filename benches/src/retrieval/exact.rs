//! The truth that an index is held against: every chunk is compared with every question.

use std::thread;

use super::corpus::Corpus;

/// How many products are summed side by side.
const LANES: usize = 16;

/// For each question the numbers of its `k` nearest chunks, the nearest first.
pub(super) fn nearest(
    corpus: &Corpus,
    chunks: u32,
    questions: &[Vec<f32>],
    k: usize,
) -> Vec<Vec<u32>> {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let share = chunks.div_ceil(u32::try_from(workers).unwrap_or(1)).max(1);
    let parts: Vec<Vec<Vec<(f32, u32)>>> = thread::scope(|scope| {
        let parts: Vec<_> = (0..chunks)
            .step_by(share as usize)
            .map(|first| {
                let range = first..(first + share).min(chunks);
                scope.spawn(move || {
                    let mut best = vec![Vec::new(); questions.len()];
                    for chunk in range {
                        let vector = corpus.vector(chunk);
                        for (best, question) in best.iter_mut().zip(questions) {
                            keep(best, (dot(&vector, question), chunk), k);
                        }
                    }
                    best
                })
            })
            .collect();
        parts
            .into_iter()
            .filter_map(|part| part.join().ok())
            .collect()
    });
    (0..questions.len())
        .map(|question| {
            let mut best = Vec::new();
            for one in parts.iter().flat_map(|part| &part[question]) {
                keep(&mut best, *one, k);
            }
            best.into_iter().map(|(_, chunk)| chunk).collect()
        })
        .collect()
}

/// Takes one up if it is among the `k` best; they are in order.
fn keep(best: &mut Vec<(f32, u32)>, one: (f32, u32), k: usize) {
    let place = best.partition_point(|(product, _)| *product >= one.0);
    if place < k {
        best.insert(place, one);
        best.truncate(k);
    }
}

fn dot(one: &[f32], other: &[f32]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    for (one, other) in one.chunks_exact(LANES).zip(other.chunks_exact(LANES)) {
        for ((sum, a), b) in sums.iter_mut().zip(one).zip(other) {
            *sum += a * b;
        }
    }
    let rest = one.len() - one.len() % LANES;
    let rest = one[rest..].iter().zip(&other[rest..]).map(|(a, b)| a * b);
    sums.iter().sum::<f32>() + rest.sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_are_found_in_order() {
        let corpus = Corpus::new(500);
        let question = corpus.vector(123);
        let found = nearest(&corpus, 500, std::slice::from_ref(&question), 3);
        assert_eq!(found[0][0], 123);
        let near: Vec<f32> = found[0]
            .iter()
            .map(|chunk| dot(&corpus.vector(*chunk), &question))
            .collect();
        assert!(near.is_sorted_by(|one, next| one >= next), "{near:?}");
    }

    #[test]
    fn a_product_counts_every_dimension() {
        let ones = vec![1.0; LANES + 3];
        assert!((dot(&ones, &ones) - 19.0).abs() < 1e-6);
    }
}
