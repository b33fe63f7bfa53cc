//! Folders with documents of every kind.

use std::{fmt::Write, fs, path::Path, time::Duration};

use sandbox::outside::Service;

use super::{chunks, documents, sources};
use crate::support::{TestSystem, frames::PATIENCE};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// A PDF of one page.
fn pdf(text: &str) -> String {
    let page = "/Parent 2 0 R/Resources<</Font<</F1 5 0 R>>>>";
    pdf_with(page, text)
}

/// A PDF of one page that says so of itself.
fn pdf_with(page: &str, text: &str) -> String {
    let content = format!("BT /F1 12 Tf 50 700 Td ({text}) Tj ET");
    let objects = [
        "<</Type/Catalog/Pages 2 0 R>>".to_owned(),
        "<</Type/Pages/Kids[3 0 R]/Count 1/MediaBox[0 0 595 842]>>".to_owned(),
        format!("<</Type/Page/Contents 4 0 R{page}>>"),
        format!(
            "<</Length {}>>\nstream\n{content}\nendstream",
            content.len()
        ),
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>".to_owned(),
    ];
    let mut file = "%PDF-1.4\n".to_owned();
    let mut places = Vec::new();
    for (number, object) in (1..).zip(&objects) {
        places.push(file.len());
        let _ = write!(file, "{number} 0 obj\n{object}\nendobj\n");
    }
    let table = file.len();
    file.push_str("xref\n0 6\n0000000000 65535 f \n");
    for place in places {
        let _ = writeln!(file, "{place:010} 00000 n ");
    }
    let _ = write!(
        file,
        "trailer\n<</Size 6/Root 1 0 R>>\nstartxref\n{table}\n%%EOF\n"
    );
    file
}

fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

#[tokio::test]
async fn a_folder_of_every_kind_is_indexed_and_bad_files_are_named() {
    let system = TestSystem::new().await;
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("company");
    write(
        &folder,
        "about.md",
        "---\ntitle: About\nlanguage: en\n---\n# Us\n\nWe are few.\n",
    );
    write(&folder, "notes.txt", "Plain notes.");
    write(
        &folder,
        "case-studies/port.html",
        "<title>x</title><nav>Menu</nav><main><h1>Ein Hafen</h1><p>Wir haben mit dem Hafen ein \
         Verfahren gebaut, das jeden Tag viele tausend Container ordnet und dabei hilft.</main>",
    );
    write(&folder, "prices.pdf", pdf("A workshop costs 900 euros."));
    write(&folder, "bad.pdf", "%PDF-1.4 but not really");
    write(&folder, "bad.md", b"\xff\xfe");
    write(&folder, "logo.png", b"\x89PNG");
    write(&folder, ".hidden.md", "# Hidden");
    let (success, told) = system.run_index(&[folder.to_str().unwrap()]).await;
    assert!(!success, "{told}");
    for line in [
        "indexed            4",
        "left out           4",
        "bad.pdf is damaged",
        "bad.md is not UTF-8 text",
        "logo.png is of a format that is not read",
        ".hidden.md is hidden",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }

    let pool = system.pool().await;
    let row = |source: &str, title: &str, kind: &str, language: Option<&str>, format: &str| {
        let owned = str::to_owned;
        (
            owned(source),
            owned(title),
            owned(kind),
            language.map(owned),
            Some(owned(format)),
        )
    };
    assert_eq!(
        documents(&pool).await,
        [
            row("company/about.md", "About", "page", Some("en"), "markdown"),
            row(
                "company/case-studies/port.html",
                "Ein Hafen",
                "case_study",
                Some("de"),
                "markdown"
            ),
            row("company/notes.txt", "notes", "page", None, "text"),
            row("company/prices.pdf", "prices", "page", None, "text"),
        ]
    );
    assert_eq!(
        chunks(&pool, "company/prices.pdf").await,
        ["A workshop costs 900 euros."]
    );
    let port = chunks(&pool, "company/case-studies/port.html").await;
    assert!(port[0].starts_with("# Ein Hafen\n\nWir haben"), "{port:?}");

    // Nothing has changed; what is bad still is, and nothing of it is removed.
    let calls = system.openai.calls();
    let (success, told) = system.run_index(&[folder.to_str().unwrap()]).await;
    assert!(!success && told.contains("unchanged          4"), "{told}");
    assert_eq!(system.openai.calls(), calls);

    // What is gone goes once the folder can be read; what is renamed in its title only is not embedded.
    fs::remove_file(folder.join("bad.md")).unwrap();
    fs::remove_file(folder.join("bad.pdf")).unwrap();
    fs::remove_file(folder.join("notes.txt")).unwrap();
    let (success, told) = system.run_index(&[folder.to_str().unwrap()]).await;
    assert!(success && told.contains("removed            1"), "{told}");
    assert_eq!(sources(&pool).await.len(), 3);
    assert_eq!(system.openai.calls(), calls);
}

#[tokio::test]
async fn a_file_that_kills_its_reader_is_left_out_and_the_others_are_not() {
    let system = TestSystem::new().await;
    let place = tempfile::tempdir().unwrap();
    // The page is its own parent: whoever looks there for what the page lacks never comes back.
    let circle = pdf_with("/Parent 3 0 R", "Round and round.");
    write(place.path(), "circle.pdf", circle);
    write(place.path(), "fine.html", "<h1>Fine</h1><p>Text.</p>");
    let (success, told) = system.run_index(&[place.path().to_str().unwrap()]).await;
    assert!(!success, "{told}");
    assert!(told.contains("indexed            1"), "{told}");
    assert!(
        told.contains("circle.pdf can't be read: its reader crashed"),
        "{told}"
    );
    assert_eq!(system.received(Service::OpenAi, "Fine").len(), 1);
}

#[tokio::test]
async fn an_empty_knowledge_base_is_filled_first_and_its_vectors_are_indexed_then() {
    let system = TestSystem::new().await;
    let pool = system.pool().await;
    let has_index = async || -> bool {
        sqlx::query_scalar("select to_regclass('knowledge_chunks_embedding') is not null")
            .fetch_one(&pool)
            .await
            .unwrap()
    };
    let place = tempfile::tempdir().unwrap();
    write(place.path(), "a.md", "# A\n\nApples.\n");
    let path = place.path().to_str().unwrap();
    // Killed while it fills: whoever comes next builds the index, over what there is.
    system.openai.answer_only(Some(0));
    let mut indexer = system.start_index(&[path]);
    let asked = system
        .world
        .wait_for(PATIENCE, |log| log.first().map(|_| ()));
    asked.await.unwrap();
    assert!(!has_index().await);
    indexer.kill().await.unwrap();
    system.openai.answer_only(None);
    let worker = system.worker().await;
    let built = async {
        while !has_index().await {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, built).await.unwrap();
    drop(worker);
    let (success, told) = system.run_index(&[path]).await;
    assert!(success && has_index().await, "{told}");
    // One that is not empty keeps it.
    write(place.path(), "b.md", "# B\n\nBees.\n");
    system.openai.answer_only(Some(0));
    let indexer = system.start_index(&[path]);
    let asked = system
        .world
        .wait_for(PATIENCE, |log| (log.len() > 2).then_some(()));
    asked.await.unwrap();
    assert!(has_index().await);
    drop(indexer);
}
