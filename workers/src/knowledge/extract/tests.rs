use super::*;

fn html() -> Input {
    Input {
        foreign: Foreign::Html,
        charset: None,
        base: None,
    }
}

#[test]
fn a_page_without_words_is_one_if_it_leads_on() {
    assert_eq!(
        read(&html(), b"<p> </p><img src=x>"),
        Err(ExtractError::NoText)
    );
    let step = read(&html(), b"<nav><a href='https://example.org/'>On</a></nav>").unwrap();
    assert_eq!((step.text.as_str(), step.links.len()), ("", 1));
}

#[test]
fn a_text_is_kept_within_what_can_be_stored() {
    assert_eq!(
        read(&html(), b"<p>a&#0;b\0c")
            .unwrap()
            .text
            .matches('\0')
            .count(),
        0
    );
    let large = format!("<p>{}</p>", "word ".repeat(MAX_TEXT_BYTES / 5 + 1));
    assert_eq!(
        read(&html(), large.as_bytes()),
        Err(ExtractError::TooMuchText)
    );
}

#[test]
fn the_process_answers_in_one_line_of_json() {
    let mut answer = Vec::new();
    serve(html(), &b"<title>T</title><p>Text.\n"[..], &mut answer).unwrap();
    let line = answer
        .trim_ascii_end()
        .rsplit(|byte| *byte == b'\n')
        .next()
        .unwrap();
    let read: Result<Extracted, ExtractError> = serde_json::from_slice(line).unwrap();
    assert_eq!(read.unwrap().text, "Text.");
    let mut answer = Vec::new();
    let pdf = Input {
        foreign: Foreign::Pdf,
        ..html()
    };
    serve(pdf, &b"no pdf"[..], &mut answer).unwrap();
    assert_eq!(answer.trim_ascii(), br#"{"Err":"Malformed"}"#);
}

#[tokio::test]
async fn a_program_that_does_not_read_is_told_from_a_document_that_is_bad() {
    let extract = async |program: &str| {
        let extractor = Extractor::of_program(program.into());
        extractor.extract(html(), b"<p>Text.".to_vec()).await
    };
    assert_eq!(
        extract("no-such-program").await,
        Err(ExtractError::NoProcess)
    );
    assert_eq!(extract("false").await, Err(ExtractError::Crashed));
    assert_eq!(extract("true").await, Err(ExtractError::Crashed));
    // One that never stops talking.
    assert_eq!(extract("yes").await, Err(ExtractError::TooMuchText));
}

#[tokio::test]
async fn a_thread_reads_as_a_process_does() {
    let extracted = Extractor::of_threads()
        .extract(html(), b"<p>Text.".to_vec())
        .await;
    assert_eq!(extracted.unwrap().text, "Text.");
}
