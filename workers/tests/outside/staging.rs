//! From files to documents and their jobs.

use crate::knowledge_base::World;
use workers::knowledge::ingest::SkipReason;

#[tokio::test]
async fn documents_that_are_gone_are_removed_with_their_chunks() {
    let world = World::new().await;
    for path in ["a/x.md", "a/y.md", "ab/z.md"] {
        world.write(path, format!("# T\n\nText of {path}.\n"));
    }
    world.index(&["a", "ab"]).await;
    world.remove("a/x.md");
    let summary = world.stage(&["a"]).await;
    assert_eq!(summary.removed, ["a/x.md"]);
    assert_eq!(world.sources().await, ["a/y.md", "ab/z.md"]);
    assert_eq!(world.chunks("a/x.md").await, []);
    assert_eq!(world.ask("text").await.len(), 2);

    world.remove("a/y.md");
    let summary = world.stage(&["a"]).await;
    assert_eq!(summary.skipped[0].reason, SkipReason::NoDocuments);
    assert_eq!(
        world.sources().await,
        ["a/y.md", "ab/z.md"],
        "an empty folder may be a mistake"
    );
}

#[tokio::test]
async fn one_file_by_itself_leaves_its_neighbours_alone() {
    let world = World::new().await;
    world.write("k/a.md", "# T\n\nText.\n");
    world.write("k/b.md", "# T\n\nText.\n");
    world.index(&["k"]).await;
    world.write("k/a.md", "# T\n\nNew text.\n");
    let summary = world.stage(&["k/a.md"]).await;
    assert_eq!(summary.staged.len(), 1);
    assert_eq!(
        (summary.staged[0].source.as_str(), summary.removed.len()),
        ("k/a.md", 0)
    );
    assert_eq!(world.sources().await, ["k/a.md", "k/b.md"]);
}

#[tokio::test]
async fn what_is_left_out_is_told_and_keeps_its_document() {
    let world = World::new().await;
    world.write("k/a.md", "# T\n\nText.\n");
    world.write("k/b.md", "# T\n\nText.\n");
    world.index(&["k"]).await;
    world.write("k/a.md", b"\xff\xfe");
    world.write("x/k/c.md", "# T\n\nText.\n");
    let summary = world.stage(&["k", "nowhere", "x/k"]).await;
    let told: Vec<_> = summary
        .skipped
        .iter()
        .map(|skipped| {
            (
                skipped.what.rsplit('/').next().unwrap_or_default(),
                skipped.reason,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("nowhere", SkipReason::NotFound),
            ("k", SkipReason::SameName),
            ("a.md", SkipReason::NotUtf8)
        ]
    );
    assert!(summary.has_errors());
    assert_eq!(world.sources().await, ["k/a.md", "k/b.md"]);
}

#[tokio::test]
async fn staging_twice_makes_one_job() {
    let world = World::new().await;
    world.write("k/a.md", "# T\n\nText.\n");
    let first = world.stage(&["k"]).await;
    let second = world.stage(&["k"]).await;
    assert_eq!(first.staged, second.staged);
    assert_eq!(world.take_jobs().await.len(), 1);
}
