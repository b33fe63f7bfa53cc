//! Documents are not compiled either: their links, and the front matter of the sample knowledge.

mod alerts;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Markdown files below a folder of the repository, or the one file.
fn markdown(below: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![root().join(below)];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("the folder can be read");
            open.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The targets of `[text](target)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| {
        let target = rest.split_once(')')?.0;
        Some(target.split_once('#').map_or(target, |(file, _)| file))
    })
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let mut seen = 0;
    for below in ["README.md", "CHANGELOG.md", "docs", "migrations"] {
        for file in markdown(below) {
            let folder = file.parent().expect("a file has a folder");
            let content = text(&file);
            let local = links(&content).filter(|to| !to.is_empty() && !to.contains("://"));
            for target in local {
                let leads = folder.join(target).exists();
                assert!(leads, "{} links to {target}", file.display());
                seen += 1;
            }
        }
    }
    // The scanner itself works: the documents have many links.
    assert!(seen >= 10, "only {seen} links were found");
}

#[test]
fn every_decision_is_in_the_index() {
    let index = text(&root().join("docs/decisions/README.md"));
    for file in markdown("docs/decisions") {
        let name = file.file_name().and_then(|name| name.to_str());
        let name = name.expect("a file has a name");
        assert!(
            name == "README.md" || index.contains(&format!("({name})")),
            "{name} is missing in the index"
        );
    }
}

#[test]
fn every_sample_document_says_its_title_url_and_kind() {
    let documents = markdown("knowledge");
    assert!(documents.len() >= 18, "{} documents", documents.len());
    for file in documents {
        let content = text(&file);
        let (head, body) = content
            .strip_prefix("---\n")
            .and_then(|rest| rest.split_once("\n---\n"))
            .unwrap_or_else(|| panic!("{} has no front matter", file.display()));
        let fields: BTreeMap<&str, &str> = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .collect();

        assert!(fields.contains_key("title"), "{}", file.display());
        // A citation leads to the page that the file stands for.
        let below = file.strip_prefix(root().join("knowledge"));
        let path = below.expect("it is in the folder").with_extension("");
        let url = format!("/{}", path.display());
        assert_eq!(fields.get("url").copied(), Some(url.as_str()));
        let kind = match path.parent().and_then(Path::to_str) {
            Some("case-studies") => "case_study",
            Some("faq") => "faq",
            _ => "page",
        };
        assert_eq!(
            fields.get("kind").copied(),
            Some(kind),
            "{}",
            file.display()
        );
        assert!(body.trim_start().starts_with("# "), "{}", file.display());
    }
}
