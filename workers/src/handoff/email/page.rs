//! A letter as a mail: text and HTML of the same content.
//!
//! Both parts are quoted-printable, in which `=` is written `=3D`: so no text of anybody's can contain
//! the boundary, which has `=_` in it, and end its part (RFC 2045, 6.7). Lines of ours can't be forged
//! in the text either: what somebody wrote is in one line behind its name, or quoted with `>`.

use std::fmt::{self, Write};

use lettre::{
    Address, Message,
    message::{
        Body, Mailbox, MultiPart, MultiPartKind, SinglePart,
        header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue},
    },
};
use store::ids::HandoffId;

use super::{
    inert,
    letter::{Letter, Section},
};

/// The sender's name.
const SENDER: &str = "Website chat";
/// Why it comes by mail.
const REASON: &str = "Every other way to bring this lead to you has failed, so it comes by e-mail.";
/// How wide the names of facts are, in characters.
const NAME_WIDTH: usize = 12;

/// The mail. The same letter is the same mail, to the byte.
pub(super) fn message(
    letter: &Letter,
    handoff_id: &HandoffId,
    message_id: &str,
    from: &Address,
    to: &Address,
) -> Result<Message, lettre::error::Error> {
    let parts = MultiPart::builder()
        .kind(MultiPartKind::Alternative)
        .boundary(format!("=_{handoff_id}"))
        .singlepart(part(ContentType::TEXT_PLAIN, text(letter)))
        .singlepart(part(ContentType::TEXT_HTML, html(letter)));
    let mut mail = Message::builder()
        .from(Mailbox::new(Some(SENDER.to_owned()), from.clone()))
        .to(Mailbox::new(None, to.clone()))
        .subject(letter.subject.clone())
        .message_id(Some(message_id.to_owned()))
        .date(letter.date.into())
        // Nobody's absence is to answer it (RFC 3834; the second is what Exchange looks at).
        .raw_header(header("Auto-Submitted", "auto-generated"))
        .raw_header(header("X-Auto-Response-Suppress", "All"));
    if let Some(address) = &letter.reply_to {
        mail = mail.reply_to(Mailbox::new(None, address.clone()));
    }
    mail.multipart(parts)
}

fn header(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

fn part(content_type: ContentType, content: String) -> SinglePart {
    let encoding = ContentTransferEncoding::QuotedPrintable;
    let body = Body::new_with_encoding(content, encoding)
        .expect("quoted-printable takes any text: only 7bit and 8bit can refuse one");
    SinglePart::builder().header(content_type).body(body)
}

fn text(letter: &Letter) -> String {
    let mut text = format!("{REASON}\n\n{}\n\n", letter.title);
    for (name, fact) in &letter.facts {
        put(&mut text, format_args!("{name:<NAME_WIDTH$}{fact}\n"));
    }
    for section in &letter.sections {
        put(&mut text, format_args!("\n{}\n", section.title));
        for (said, words) in &section.entries {
            if let Some(said) = said {
                put(&mut text, format_args!("\n{said}:\n"));
            }
            for line in words.split('\n') {
                put(&mut text, format_args!("> {line}\n"));
            }
        }
    }
    put(&mut text, format_args!("\n-- \n{}\n", letter.footer));
    text
}

fn html(letter: &Letter) -> String {
    let mut html = String::from(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"></head>\
         <body style=\"font-family:sans-serif;max-width:42em\">",
    );
    put(
        &mut html,
        format_args!("<p>{REASON}</p><h2>{}</h2>", letter.title),
    );
    html.push_str("<table>");
    for (name, fact) in &letter.facts {
        let fact = inert::html(fact);
        put(
            &mut html,
            format_args!("<tr><th align=\"left\" valign=\"top\">{name}</th><td>{fact}</td></tr>"),
        );
    }
    html.push_str("</table>");
    for section in &letter.sections {
        html_section(&mut html, section);
    }
    let footer = inert::html(&letter.footer);
    put(
        &mut html,
        format_args!("<p style=\"color:#666\"><small>{footer}</small></p></body></html>"),
    );
    html
}

fn html_section(html: &mut String, section: &Section) {
    put(html, format_args!("<h3>{}</h3>", section.title));
    for (said, words) in &section.entries {
        if let Some(said) = said {
            let said = inert::html(said);
            put(html, format_args!("<p><strong>{said}</strong></p>"));
        }
        let words = inert::html(words);
        put(
            html,
            format_args!(
                "<blockquote style=\"margin:0 0 1em;padding-left:1em;border-left:3px solid #ccc;\
                 white-space:pre-wrap\">{words}</blockquote>"
            ),
        );
    }
}

fn put(text: &mut String, what: fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a string takes everything");
}
