//! `growth-chat eval`: what it costs, what it refuses.

use std::fs;

use sandbox::outside::Service;

use super::{measured, path, told};
use crate::support::TestSystem;

const ABOUT_TENTS: &str = "# Tents\n\nA tent for two weighs three kilograms.\n\n## Repairs\n\nA torn tent is mended within a week.\n";
const ABOUT_BOATS: &str = "# Boats\n\nA canoe is rented by the day.\n";

const QUESTIONS: &str = r#"
[[questions]]
question = "How heavy is a tent?"
sources = ["site/tents.md"]

[[questions]]
question = "Who mends a torn tent?"
sources = ["tents.md#repairs"]

[[questions]]
question = "How long is the opera?"
answerable = false
"#;

/// A system that knows of tents and boats, and a folder for files.
pub(super) async fn shop() -> (TestSystem, tempfile::TempDir) {
    let system = TestSystem::new().await;
    let place = tempfile::tempdir().unwrap();
    let site = place.path().join("site");
    fs::create_dir(&site).unwrap();
    fs::write(site.join("tents.md"), ABOUT_TENTS).unwrap();
    fs::write(site.join("boats.md"), ABOUT_BOATS).unwrap();
    fs::write(place.path().join("q.toml"), QUESTIONS).unwrap();
    let indexed = system.run(&["index", site.to_str().unwrap()]).await;
    assert!(indexed.status.success(), "{}", told(&indexed));
    (system, place)
}

#[tokio::test]
async fn all_questions_are_embedded_in_one_request_and_every_figure_is_told() {
    let (system, place) = shop().await;
    let before = system.world.received_by(Service::OpenAi).len();
    let plot = place.path().join("plot.svg");
    let file = place.path().join("q.toml");
    let report = measured(&system, &file, &["--plot", plot.to_str().unwrap()]).await;
    assert_eq!(system.world.received_by(Service::OpenAi).len(), before + 1);
    assert_eq!(report["embedding_requests"], 1);
    assert_eq!(report["questions"], 3);
    assert_eq!(report["answerable"], 2);
    assert_eq!(report["documents"], 2);
    assert_eq!(report["searches"][0]["name"], "hybrid");
    assert!((report["searches"][0]["recall"].as_f64().unwrap() - 1.0).abs() < 1e-9);
    assert_eq!(report["failures"].as_array().unwrap().len(), 0, "{report}");
    assert_eq!(report["saved"], false);
    let svg = fs::read_to_string(plot).unwrap();
    assert!(svg.starts_with("<svg "), "{svg}");

    let output = system.run(&["eval", file.to_str().unwrap()]).await;
    let told = told(&output);
    assert!(output.status.success(), "{told}");
    assert!(
        told.contains("Proposed: RAG_RELEVANCE_THRESHOLD="),
        "{told}"
    );
    assert!(told.contains("recall@5"), "{told}");
    let output = system
        .run(&["eval", file.to_str().unwrap(), "--brief"])
        .await;
    let brief = super::told(&output);
    assert!(brief.starts_with("Proposed: "), "{brief}");
    assert_eq!(brief.lines().count(), 1, "{brief}");
}

#[tokio::test]
async fn nothing_is_paid_for_a_set_that_can_not_be_right() {
    let (system, place) = shop().await;
    let before = system.world.received_by(Service::OpenAi).len();
    for (questions, complaint) in [
        (
            "[[questions]]\nquestion = \"a\"\nsources = [\"site/tents.md\"]\n\
             [[questions]]\nquestion = \"b\"\nsources = [\"site/gone.md\", \"tents.md#repair\"]\n",
            &[
                "q.toml: line 4: no document or section is called site/gone.md",
                "q.toml: line 4: no document or section is called tents.md#repair",
            ][..],
        ),
        (
            "[[questions]]\nquestion = \"a\"\n",
            &["q.toml: line 1: it names no sources"],
        ),
        ("[[questions]\n", &["q.toml: line 1: "]),
    ] {
        let file = place.path().join("q.toml");
        fs::write(&file, questions).unwrap();
        let output = system.run(&["eval", file.to_str().unwrap()]).await;
        let told = told(&output);
        assert_eq!(output.status.code(), Some(1), "{told}");
        for one in complaint {
            assert!(told.contains(one), "{told}");
        }
    }
    let missing = system.run(&["eval", "no-such-file.toml"]).await;
    assert!(told(&missing).contains("could not be read"));
    assert_eq!(system.world.received_by(Service::OpenAi).len(), before);
}

#[tokio::test]
async fn an_empty_knowledge_base_can_not_be_measured() {
    let system = TestSystem::new().await;
    let file = path("evaluation/sample-knowledge.toml");
    let output = system.run(&["eval", file.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told(&output).contains("nothing is indexed"),
        "{}",
        told(&output)
    );
    assert_eq!(system.openai.calls(), 0);
}
