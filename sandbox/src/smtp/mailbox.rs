//! The mails that were taken.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use mail_parser::MessageParser;
use parking_lot::Mutex;
use serde::Serialize;

/// How many mails are kept.
const KEPT: usize = 200;
/// How many characters of a mail are quoted when it is refused: a reply is a line of at most 512
/// (RFC 5321, 4.5.3.1.5).
const QUOTED: usize = 480;

/// A mail as its reader sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReceivedMail {
    /// Counts all mails from 1.
    pub number: u64,
    /// Whom the server was told as the sender.
    pub sender: String,
    /// To whom the server was told to bring it.
    pub recipients: Vec<String>,
    /// The `Message-ID`, without brackets.
    pub message_id: String,
    /// The subject, decoded.
    pub subject: String,
    /// Every header, as it came.
    pub headers: Vec<(String, String)>,
    /// The text, decoded.
    pub text: String,
    /// The HTML, decoded.
    pub html: String,
    /// Whether it came over an encrypted connection.
    pub encrypted: bool,
    /// Its size in bytes.
    pub size: usize,
}

impl ReceivedMail {
    /// The first header of a name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(header, _)| header.eq_ignore_ascii_case(name))?;
        Some(found.1.as_str())
    }
}

/// All mails of a server. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct Mailbox {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    mails: Mutex<(u64, VecDeque<ReceivedMail>)>,
    connections: AtomicUsize,
}

/// What a client has said of a mail.
#[derive(Debug, Clone, Default)]
pub(super) struct Envelope {
    pub(super) sender: String,
    pub(super) recipients: Vec<String>,
    pub(super) data: Vec<u8>,
}

impl Envelope {
    /// The mail in one line, as servers repeat what they refuse.
    pub(super) fn quoted(&self) -> String {
        let text = MessageParser::new()
            .parse(&self.data)
            .map(|mail| {
                let subject = mail.subject().unwrap_or_default();
                format!("{subject} {}", mail.body_text(0).unwrap_or_default())
            })
            .unwrap_or_default();
        let line = format!(
            "5.7.1 {} may not write this to {}: {text}",
            self.sender,
            self.recipients.join(", ")
        );
        let printable = line.chars().map(|letter| {
            if letter.is_ascii_graphic() {
                letter
            } else {
                ' '
            }
        });
        printable.take(QUOTED).collect()
    }
}

/// A client that is connected.
#[derive(Debug)]
pub(super) struct Connected(Mailbox);

impl Mailbox {
    pub(super) fn mails(&self) -> Vec<ReceivedMail> {
        self.inner.mails.lock().1.iter().cloned().collect()
    }

    pub(super) fn connections(&self) -> usize {
        self.inner.connections.load(Ordering::SeqCst)
    }

    pub(super) fn connected(&self) -> Connected {
        self.inner.connections.fetch_add(1, Ordering::SeqCst);
        Connected(self.clone())
    }

    pub(super) fn put(&self, envelope: &Envelope, encrypted: bool) {
        let mut mail = ReceivedMail {
            sender: envelope.sender.clone(),
            recipients: envelope.recipients.clone(),
            encrypted,
            size: envelope.data.len(),
            ..ReceivedMail::default()
        };
        if let Some(message) = MessageParser::new().parse(&envelope.data) {
            let raw = message.headers_raw();
            let headers = raw.map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
            mail.headers = headers.collect();
            mail.message_id = message.message_id().map(str::to_owned).unwrap_or_default();
            mail.subject = message.subject().map(str::to_owned).unwrap_or_default();
            mail.text = message.body_text(0).unwrap_or_default().into_owned();
            mail.html = message.body_html(0).unwrap_or_default().into_owned();
        }
        let mut mails = self.inner.mails.lock();
        let (received, kept) = &mut *mails;
        *received += 1;
        if kept.len() == KEPT {
            kept.pop_front();
        }
        mail.number = *received;
        kept.push_back(mail);
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.inner.connections.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_mails_are_kept() {
        let mailbox = Mailbox::default();
        for _ in 0..KEPT + 3 {
            mailbox.put(&Envelope::default(), false);
        }
        let mails = mailbox.mails();
        assert_eq!((mails.len(), mails[0].number), (KEPT, 4));
    }
}
