use pdf_extract::{
    Dictionary, Object, ObjectId, Stream,
    content::{Content, Operation},
    dictionary, text_string,
};

use super::*;

/// A PDF with a page for each list of lines.
fn document(pages: &[&[&str]]) -> Document {
    let mut document = Document::with_version("1.5");
    let root = document.new_object_id();
    let font = document.add_object(dictionary! {
        "Type" => "Font", "Subtype" => "Type1", "BaseFont" => "Helvetica",
        "Encoding" => "WinAnsiEncoding",
    });
    let resources = document.add_object(dictionary! { "Font" => dictionary! { "F1" => font } });
    let kids: Vec<Object> = pages
        .iter()
        .map(|lines| add_page(&mut document, root, resources, lines).into())
        .collect();
    let count = i64::try_from(kids.len()).unwrap();
    let tree = dictionary! {
        "Type" => "Pages", "Kids" => kids, "Count" => count,
        "MediaBox" => vec![0.into(), 0.into(), 595.into(), 842.into()],
    };
    document.objects.insert(root, tree.into());
    let catalog = document.add_object(dictionary! { "Type" => "Catalog", "Pages" => root });
    document.trailer.set("Root", catalog);
    document
}

fn add_page(
    document: &mut Document,
    root: ObjectId,
    resources: ObjectId,
    lines: &[&str],
) -> ObjectId {
    let mut operations = vec![
        Operation::new("BT", vec![]),
        Operation::new("Tf", vec!["F1".into(), 12.into()]),
        Operation::new("TL", vec![14.into()]),
        Operation::new("Td", vec![50.into(), 700.into()]),
    ];
    for line in lines {
        operations.push(Operation::new("Tj", vec![Object::string_literal(*line)]));
        operations.push(Operation::new("T*", vec![]));
    }
    operations.push(Operation::new("ET", vec![]));
    let content = Content { operations }.encode().unwrap();
    let content = document.add_object(Stream::new(Dictionary::new(), content));
    document.add_object(dictionary! {
        "Type" => "Page", "Parent" => root, "Contents" => content, "Resources" => resources,
    })
}

fn bytes(mut document: Document) -> Vec<u8> {
    let mut bytes = Vec::new();
    document.save_to(&mut bytes).unwrap();
    bytes
}

#[test]
fn the_text_of_all_pages_is_read() {
    let mut document = document(&[
        &["The first page says exam-", "ples."],
        &["The second page."],
    ]);
    let info = document.add_object(dictionary! { "Title" => text_string("Preise für 2027") });
    document.trailer.set("Info", info);
    let extracted = extract(&bytes(document)).unwrap();
    assert!(
        extracted.text.starts_with("The first page says examples."),
        "{:?}",
        extracted.text
    );
    assert!(
        extracted.text.ends_with("\n\nThe second page."),
        "{:?}",
        extracted.text
    );
    assert_eq!(extracted.title.as_deref(), Some("Preise für 2027"));
    assert_eq!(extracted.unreadable_pages, None);
}

#[test]
fn a_page_that_can_not_be_read_does_not_take_the_others_along() {
    let mut document = document(&[&["The first page."], &["Lost."], &["The third page."]]);
    let second = document.get_pages()[&2];
    let page = document.get_object_mut(second).unwrap();
    // Its font is nowhere.
    page.as_dict_mut()
        .unwrap()
        .set("Resources", dictionary! { "Font" => dictionary! {} });
    let extracted = extract(&bytes(document)).unwrap();
    assert_eq!(extracted.text, "The first page.\n\nThe third page.");
    assert_eq!(extracted.unreadable_pages, Some((1, 3)));
}

#[test]
fn what_is_no_pdf_is_refused() {
    let whole = bytes(document(&[&["Text."]]));
    for broken in [
        &b""[..],
        b"%PDF-1.5",
        b"<html>",
        b"%PDF-1.5\n%%EOF",
        &whole[..whole.len() / 2],
    ] {
        assert_eq!(
            extract(broken).map(|it| it.text),
            Err(ExtractError::Malformed)
        );
    }
}

#[test]
fn lines_become_paragraphs() {
    let mut text = String::new();
    paragraphs("  One exam-\nple.  \n\n\nE-\nMail. 5 -\nsix\n", &mut text);
    assert_eq!(text.trim(), "One example.\n\nE-\nMail. 5 -\nsix");
}
