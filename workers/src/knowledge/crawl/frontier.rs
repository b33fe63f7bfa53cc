//! What is still to be asked for: each address once, the nearest first, within limits.

use std::collections::{HashSet, VecDeque};

use url::Url;

/// An address to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::knowledge) struct Next {
    pub(in crate::knowledge) url: Url,
    /// How many links it is away from the start.
    pub(in crate::knowledge) depth: usize,
}

/// The addresses of a crawl. An address that is added has its one spelling already.
#[derive(Debug)]
pub(in crate::knowledge) struct Frontier {
    seen: HashSet<Url>,
    waiting: VecDeque<Next>,
    max_pages: usize,
    max_depth: usize,
    asked: usize,
    too_deep: HashSet<Url>,
}

impl Frontier {
    pub(in crate::knowledge) fn new(max_pages: usize, max_depth: usize) -> Self {
        Self {
            seen: HashSet::new(),
            waiting: VecDeque::new(),
            max_pages,
            max_depth,
            asked: 0,
            too_deep: HashSet::new(),
        }
    }

    /// Adds an address that was not seen yet.
    pub(in crate::knowledge) fn add(&mut self, url: Url, depth: usize) {
        if depth > self.max_depth {
            if self.has_room() && !self.seen.contains(&url) {
                self.too_deep.insert(url);
            }
            return;
        }
        // A site can make up addresses without end. What is beyond the limit of pages is only told.
        if self.has_room() && self.seen.insert(url.clone()) {
            self.too_deep.remove(&url);
            self.waiting.push_back(Next { url, depth });
        }
    }

    /// Notes an address that was come to by a redirect; whether it is a new one.
    pub(in crate::knowledge) fn arrive(&mut self, url: &Url) -> bool {
        self.too_deep.remove(url);
        self.seen.insert(url.clone())
    }

    /// The next address, as long as there may be one.
    pub(in crate::knowledge) fn next(&mut self) -> Option<Next> {
        if self.asked == self.max_pages {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.asked += 1;
        Some(next)
    }

    /// Addresses wait that there is no room for.
    pub(in crate::knowledge) fn has_too_many(&self) -> bool {
        self.asked == self.max_pages && !self.waiting.is_empty()
    }

    /// Addresses were met that are too far away, and never nearer.
    pub(in crate::knowledge) fn has_too_deep(&self) -> bool {
        !self.too_deep.is_empty()
    }

    /// One more than can be asked for is enough to know that there are too many.
    fn has_room(&self) -> bool {
        self.waiting.len() <= self.max_pages && self.too_deep.len() <= self.max_pages
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn page(number: usize) -> Url {
        format!("https://example.org/{number}").parse().unwrap()
    }

    #[test]
    fn every_address_is_asked_for_once_the_nearest_first() {
        let mut frontier = Frontier::new(10, 2);
        for (number, depth) in [(1, 0), (2, 1), (1, 1), (3, 2), (2, 0), (4, 3)] {
            frontier.add(page(number), depth);
        }
        let asked: Vec<Url> = std::iter::from_fn(|| frontier.next())
            .map(|next| next.url)
            .collect();
        assert_eq!(asked, [page(1), page(2), page(3)]);
        assert!(frontier.has_too_deep() && !frontier.has_too_many());
        assert!(!frontier.arrive(&page(1)));
        assert!(frontier.arrive(&page(4)));
        assert!(!frontier.has_too_deep());
    }

    #[test]
    fn an_address_that_is_met_again_nearer_is_not_too_deep() {
        let mut frontier = Frontier::new(10, 1);
        frontier.add(page(1), 2);
        assert!(frontier.has_too_deep());
        frontier.add(page(1), 1);
        assert!(!frontier.has_too_deep());
        assert_eq!(frontier.next().map(|next| next.depth), Some(1));
    }

    proptest! {
        #[test]
        fn no_site_is_endless(links in proptest::collection::vec((0_usize..400, 0_usize..6), 0..2_000), max_pages in 1_usize..50) {
            let mut frontier = Frontier::new(max_pages, 3);
            let mut asked = HashSet::new();
            for (number, depth) in links {
                frontier.add(page(number), depth);
                if number % 3 == 0 && let Some(next) = frontier.next() {
                    prop_assert!(next.depth <= 3);
                    prop_assert!(asked.insert(next.url));
                }
            }
            while let Some(next) = frontier.next() {
                prop_assert!(asked.insert(next.url));
            }
            prop_assert!(asked.len() <= max_pages);
            prop_assert!(frontier.waiting.len() <= max_pages + 1);
        }
    }
}
