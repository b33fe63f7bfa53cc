use proptest::prelude::*;

use super::*;

const SIZES: ChunkSizes = ChunkSizes {
    size: 64,
    overlap: 16,
};

fn markdown(body: &str) -> Vec<Chunk> {
    chunks("Title", TextFormat::Markdown, body, SIZES)
}

fn paths(chunks: &[Chunk]) -> Vec<Vec<&str>> {
    chunks
        .iter()
        .map(|chunk| chunk.heading_path.iter().map(String::as_str).collect())
        .collect()
}

#[test]
fn every_section_is_a_chunk_that_knows_its_headings() {
    let chunks = markdown(
        "# Title\n\nIntro.\n\n## Backups\n\nEvery night.\n\n### Restore\n\nBy hand.\n\n## `Keys`\n\nNone.\n",
    );
    assert_eq!(
        paths(&chunks),
        [
            vec![],
            vec!["Backups"],
            vec!["Backups", "Restore"],
            vec!["Keys"]
        ]
    );
    assert_eq!(chunks[1].content, "## Backups\n\nEvery night.");
    assert_eq!(
        chunks[2].embedded_text,
        "Title > Backups > Restore\n\n### Restore\n\nBy hand."
    );
}

#[test]
fn the_heading_that_names_the_document_is_no_part_of_the_path() {
    let only = markdown("# A longer title\n\nIntro.\n\n## Part\n\nText.\n");
    assert_eq!(paths(&only), [vec![], vec!["Part"]]);
    assert_eq!(only[1].embedded_text, "Title > Part\n\n## Part\n\nText.");
    let two = markdown("# One\n\nText.\n\n# Two\n\nText.\n");
    assert_eq!(paths(&two), [["One"], ["Two"]]);
}

#[test]
fn a_heading_with_nothing_below_it_goes_with_what_follows() {
    let chunks = markdown("## A\n\n### B\n\nText.\n");
    assert_eq!(chunks.len(), 1);
    assert_eq!(paths(&chunks), [["A", "B"]]);
    assert_eq!(chunks[0].content, "## A\n\n### B\n\nText.");
}

#[test]
fn a_hash_sign_in_code_or_in_a_list_is_no_heading() {
    let chunks = markdown("## A\n\n```sh\n# not a heading\n```\n\n- # in a list\n\nText.\n");
    assert_eq!(paths(&chunks), [["A"]]);
}

#[test]
fn a_long_section_is_cut_between_paragraphs_and_sentences() {
    let paragraph =
        |name: &str| format!("The {name} paragraph says one of its things here. ").repeat(4);
    let body = format!(
        "{}\n\n{}\n\n{}\n",
        paragraph("first"),
        paragraph("second"),
        paragraph("third")
    );
    let chunks = chunks(
        "Title",
        TextFormat::Text,
        &body,
        ChunkSizes {
            size: 64,
            overlap: 0,
        },
    );
    assert_eq!(chunks.len(), 3);
    for (chunk, name) in chunks.iter().zip(["first", "second", "third"]) {
        assert_eq!(chunk.content, paragraph(name).trim());
    }
}

#[test]
fn a_chunk_begins_with_whole_sentences_of_the_one_before() {
    let body = (1..=30).fold(String::new(), |body, number| {
        body + &format!("Sentence number {number} stands here. ")
    });
    let chunks = markdown(&body);
    assert!(chunks.len() > 2);
    for pair in chunks.windows(2) {
        let shared = shared(&pair[0].content, &pair[1].content);
        assert!(shared.starts_with("Sentence number"), "{shared:?}");
        assert!(
            (1..=SIZES.overlap).contains(&tokens::count(shared)),
            "{shared:?}"
        );
    }
}

#[test]
fn lines_of_a_wrapped_paragraph_are_worse_places_to_cut_than_sentences() {
    let body = "one two three four five six seven eight nine ten\n\
                eleven twelve. Thirteen fourteen fifteen sixteen\n\
                seventeen eighteen nineteen twenty\n"
        .repeat(3);
    let chunks = chunks(
        "T",
        TextFormat::Text,
        &body,
        ChunkSizes {
            size: 32,
            overlap: 0,
        },
    );
    assert!(chunks.len() > 1);
    assert!(
        chunks[0].content.ends_with("twelve."),
        "{:?}",
        chunks[0].content
    );
}

#[test]
fn unchanged_sections_keep_their_hash_and_a_new_title_changes_all() {
    let before = markdown("## A\n\nOne.\n\n## B\n\nTwo.\n");
    let after = markdown("## New\n\nNews.\n\n## A\n\nOne.\n\n## B\n\nTwo and more.\n");
    assert_eq!(before[0].content_hash, after[1].content_hash);
    assert_ne!(before[1].content_hash, after[2].content_hash);
    let renamed = chunks("Other", TextFormat::Markdown, "## A\n\nOne.\n", SIZES);
    assert_ne!(before[0].content_hash, renamed[0].content_hash);
}

#[test]
fn a_blank_document_has_no_chunks() {
    assert_eq!(markdown(" \n\t\n"), []);
}

#[test]
fn endless_words_headings_and_gaps_stay_within_what_can_be_embedded() {
    let gap = " ".repeat(1 << 20);
    let body = format!("# {}\n\n{}{gap}y\n", "ä".repeat(20_000), "x".repeat(20_000));
    for chunk in markdown(&body) {
        assert!(tokens::count(&chunk.embedded_text) <= SIZES.size + CONTEXT_TOKENS + 8);
    }
}

/// The longest end of `first` that `second` begins with.
fn shared<'c>(first: &'c str, second: &str) -> &'c str {
    first
        .char_indices()
        .map(|(start, _)| &first[start..])
        .find(|end| second.starts_with(end))
        .unwrap_or("")
}

/// Something like a document: words, marks, line breaks and stranger things.
fn texts() -> impl Strategy<Value = String> {
    let parts = prop_oneof![
        4 => "[a-z]{1,12} ",
        2 => "[A-Z][a-z]{2,8}[.!?] ",
        1 => "\n{1,3}",
        1 => "(#{1,3}|-|>|```|\\|) ",
        1 => "[A-Za-z0-9]{60,200}",
        1 => "\\PC{1,12}",
        1 => any::<String>(),
    ];
    proptest::collection::vec(parts, 0..120).prop_map(|parts| parts.concat())
}

fn printed(text: &str) -> Vec<char> {
    text.chars().filter(|sign| !sign.is_whitespace()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_text_is_lost_and_no_chunk_is_too_long(text in texts(), overlap in 0_usize..31, plain: bool) {
        let format = if plain { TextFormat::Text } else { TextFormat::Markdown };
        let sizes = ChunkSizes { size: 32, overlap };
        // A chunk that begins before the end of the one before it repeats that much of it.
        let mut covered = 0;
        for chunk in chunks("T", format, &text, sizes) {
            prop_assert!(chunk.token_count <= sizes.size);
            prop_assert_eq!(chunk.token_count, tokens::count(&chunk.content));
            let begin = (0..=covered)
                .rev()
                .find(|begin| text.is_char_boundary(*begin) && text[*begin..].trim_start().starts_with(&chunk.content))
                .expect("a chunk continues the text or repeats some of it");
            let start = begin + text[begin..].len() - text[begin..].trim_start().len();
            let end = start + chunk.content.len();
            prop_assert!(printed(text.get(covered..start).unwrap_or("")).is_empty());
            covered = covered.max(end);
        }
        prop_assert!(printed(&text[covered..]).is_empty());
    }

    #[test]
    fn the_pieces_of_a_text_cover_it(text in texts()) {
        let mut covered = 0;
        for piece in split(&text, 32) {
            prop_assert_eq!(piece.range.start, covered);
            prop_assert!(piece.tokens <= 32);
            covered = piece.range.end;
        }
        prop_assert_eq!(covered, text.len());
    }

    #[test]
    fn neighbours_share_no_more_than_the_overlap(words in proptest::collection::vec("[a-z]{1,9}[.]?", 40..200), overlap in 0_usize..31) {
        // Every word is numbered, so that only what is repeated looks repeated.
        let text = words.iter().enumerate().fold(String::new(), |text, (number, word)| {
            text + &format!("{number}{word} ")
        });
        let chunks = chunks("T", TextFormat::Text, &text, ChunkSizes { size: 32, overlap });
        for pair in chunks.windows(2) {
            prop_assert!(tokens::count(shared(&pair[0].content, &pair[1].content)) <= overlap);
        }
    }
}
