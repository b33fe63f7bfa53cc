//! The dialogue, as a client without a library has it.

use std::time::Duration;

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use super::*;
use crate::{
    outside::{Outcome, Service},
    switch::Trouble,
};

struct Client {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
}

impl Client {
    /// Connected and authenticated.
    async fn of(server: &Smtp) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", server.port()));
        let (reader, writer) = stream.await.unwrap().into_split();
        let lines = BufReader::new(reader).lines();
        let mut client = Self { lines, writer };
        assert_eq!(client.answer().await, "220 mail.sandbox.example ESMTP");
        client.say("EHLO client.example").await;
        while client.answer().await.starts_with("250-") {}
        assert_eq!(client.ask("AUTH LOGIN").await, "334 VXNlcm5hbWU6");
        client.ask("YXNzaXN0YW50QGNvbXBhbnkuZXhhbXBsZQ==").await;
        assert_eq!(
            client.ask("c2FuZGJveA==").await,
            "235 Authentication succeeded"
        );
        client
    }

    async fn say(&mut self, line: &str) {
        let line = format!("{line}\r\n");
        self.writer.write_all(line.as_bytes()).await.unwrap();
    }

    /// The next line; empty: the server has closed.
    async fn answer(&mut self) -> String {
        let line = timeout(Duration::from_secs(10), self.lines.next_line()).await;
        line.unwrap().unwrap().unwrap_or_default()
    }

    async fn ask(&mut self, line: &str) -> String {
        self.say(line).await;
        self.answer().await
    }

    /// Everything up to the end of the text.
    async fn send(&mut self) -> String {
        assert_eq!(self.ask("MAIL FROM:<a@b.example>").await, "250 OK");
        let answer = self.ask("RCPT TO:<c@d.example>").await;
        if answer != "250 OK" {
            return answer;
        }
        assert!(self.ask("DATA").await.starts_with("354"));
        self.say(
            "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMessage-ID: <1@b.example>\r\n\r\n..dot\r\n.",
        )
        .await;
        self.answer().await
    }
}

#[tokio::test]
async fn a_mail_is_kept_as_its_reader_sees_it() {
    let world = OutsideWorld::default();
    let server = Smtp::start(world.clone(), 0).await.unwrap();
    assert_eq!(Client::of(&server).await.send().await, "250 OK");
    let mails = server.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].subject, "Grüße");
    assert_eq!(mails[0].message_id, "1@b.example");
    assert_eq!(mails[0].text.trim_end(), ".dot");
    assert_eq!(mails[0].sender, "a@b.example");
    assert_eq!(mails[0].recipients, ["c@d.example"]);
    assert!(!mails[0].encrypted);
    assert_eq!(
        world.received_by(Service::Mail)[0].outcome,
        Outcome::Answered(250)
    );
}

#[tokio::test]
async fn a_mail_that_meets_trouble_is_refused_and_the_next_one_is_taken() {
    let server = Smtp::start(OutsideWorld::default(), 0).await.unwrap();
    for (trouble, answer) in [
        (Trouble::Status(451), "451 as it was told to"),
        (
            Trouble::Refuse("552 5.2.2 full".to_owned()),
            "552 5.2.2 full",
        ),
        (Trouble::Refuse("nobody here".to_owned()), "550 nobody here"),
    ] {
        server.switch().once(trouble);
        assert_eq!(Client::of(&server).await.send().await, answer);
    }
    server.switch().once(Trouble::Quote(554));
    let quoted = Client::of(&server).await.send().await;
    let words = "554 5.7.1 a@b.example may not write this to c@d.example: ";
    assert!(quoted.starts_with(words), "{quoted}");
    assert!(quoted[words.len()..].contains(".dot"), "{quoted}");
    assert!(server.mails().is_empty());
    assert_eq!(Client::of(&server).await.send().await, "250 OK");
    assert_eq!(server.mails().len(), 1);
}

#[tokio::test]
async fn a_connection_that_is_cut_after_the_text_leaves_the_mail_taken() {
    let world = OutsideWorld::default();
    let server = Smtp::start(world.clone(), 0).await.unwrap();
    server.switch().once(Trouble::TakeAndCut);
    assert_eq!(Client::of(&server).await.send().await, "");
    assert_eq!(server.mails().len(), 1);
    assert_eq!(world.received_by(Service::Mail)[0].outcome, Outcome::Cut);
}
