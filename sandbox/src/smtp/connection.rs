//! One connection to the mail server.

use std::{future, io, net::IpAddr, sync::Arc};

use mailin::{
    Action, Handler, Response, Session,
    response::{AUTH_OK, INVALID_CREDENTIALS, NO_STORAGE, OK},
};
use parking_lot::Mutex;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::{PASSWORD, Protection, Server, USERNAME, mailbox::Envelope};
use crate::{
    outside::{Outcome, Service},
    switch::Trouble,
};

/// The longest line, in bytes: a text's has 1,000 at most (RFC 5321, 4.5.3.1.6).
const LONGEST_LINE: u64 = 4_096;
/// The most bytes of a mail.
const LARGEST_MAIL: usize = 8 * 1024 * 1024;

/// The mail that is being handed over, which the protocol's handler writes and the connection reads.
#[derive(Clone, Default)]
struct Dialogue {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    envelope: Envelope,
    /// What this mail meets.
    trouble: Option<Trouble>,
    /// What has become of a mail, for the connection to act on.
    event: Option<Event>,
}

enum Event {
    /// Refused with a code, or never to be answered.
    Refused(Option<u16>),
    /// It is whole.
    Whole,
}

/// Speaks with a client until one of both has enough.
pub(super) async fn serve(server: Arc<Server>, stream: TcpStream, client: IpAddr) {
    let _connected = server.mailbox.connected();
    // A client that goes away in the middle is no failure of the server.
    let _ = serve_protected(&server, stream, client).await;
}

async fn serve_protected(server: &Server, stream: TcpStream, client: IpAddr) -> io::Result<()> {
    let dialogue = Dialogue::default();
    let handler = Takes {
        dialogue: dialogue.clone(),
        server: server.clone(),
    };
    let mut session = server.sessions.build(client, handler);
    if server.protection == Protection::Implicit {
        session.tls_active();
        let stream = server.tls.accept(stream).await?;
        speak(server, &mut session, &dialogue, stream, Some(true)).await?;
        return Ok(());
    }
    let upgraded = speak(server, &mut session, &dialogue, stream, Some(false)).await?;
    if let Some(stream) = upgraded {
        let stream = server.tls.accept(stream).await?;
        session.tls_active();
        speak(server, &mut session, &dialogue, stream, None).await?;
    }
    Ok(())
}

/// Reads lines and answers them; gives the stream back that is to be encrypted. `greet`: with a
/// greeting first, over a connection that is encrypted or not; `None`: it was just encrypted.
async fn speak<S: AsyncRead + AsyncWrite + Unpin>(
    server: &Server,
    session: &mut Session<Takes>,
    dialogue: &Dialogue,
    stream: S,
    greet: Option<bool>,
) -> io::Result<Option<S>> {
    let encrypted = greet.unwrap_or(true);
    let mut stream = BufReader::new(stream);
    if greet.is_some() {
        answer(&mut stream, &session.greeting()).await?;
    }
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = (&mut stream).take(LONGEST_LINE);
        limited.read_until(b'\n', &mut line).await?;
        if !line.ends_with(b"\n") {
            return Ok(None);
        }
        let response = session.process(&line);
        let event = dialogue.state.lock().event.take();
        if let Some(event) = event
            && happens(server, dialogue, event, encrypted).await
        {
            return Ok(None);
        }
        if response.action != Action::NoReply {
            answer(&mut stream, &response).await?;
        }
        match response.action {
            Action::Close => return Ok(None),
            Action::UpgradeTls => return Ok(Some(stream.into_inner())),
            Action::Reply | Action::NoReply => {}
        }
    }
}

async fn answer<S: AsyncWrite + Unpin>(stream: &mut S, response: &Response) -> io::Result<()> {
    stream.write_all(&response.buffer()?).await?;
    stream.flush().await
}

/// Keeps and records what became of a mail. Whether the connection is to be cut.
async fn happens(server: &Server, dialogue: &Dialogue, event: Event, encrypted: bool) -> bool {
    let (envelope, trouble) = {
        let mut state = dialogue.state.lock();
        (std::mem::take(&mut state.envelope), state.trouble.take())
    };
    let body = json!({
        "sender": envelope.sender,
        "recipients": envelope.recipients,
        "mail": String::from_utf8_lossy(&envelope.data),
    });
    let mut recording = server
        .world
        .record(Service::Mail, "MAIL", body.to_string().as_bytes());
    match event {
        Event::Refused(Some(code)) => {
            if let Some(Trouble::Quote(_)) = trouble {
                recording.answered_text(&envelope.quoted());
            }
            recording.end(Outcome::Answered(code));
            false
        }
        // Until the client goes away, which drops this.
        Event::Refused(None) => future::pending().await,
        Event::Whole => {
            server.mailbox.put(&envelope, encrypted);
            match trouble {
                Some(Trouble::TakeAndCut) => {
                    recording.end(Outcome::Cut);
                    true
                }
                Some(Trouble::TakeAndHang) => future::pending().await,
                _ => {
                    recording.end(Outcome::Answered(250));
                    false
                }
            }
        }
    }
}

/// Takes mail for everybody from whoever has the password.
struct Takes {
    dialogue: Dialogue,
    server: Server,
}

impl Handler for Takes {
    fn auth_plain(&mut self, _authorization: &str, username: &str, password: &str) -> Response {
        self.auth_login(username, password)
    }

    fn auth_login(&mut self, username: &str, password: &str) -> Response {
        // A test may have marked them.
        if username.ends_with(USERNAME) && password.starts_with(PASSWORD) {
            AUTH_OK
        } else {
            INVALID_CREDENTIALS
        }
    }

    fn mail(&mut self, _client: IpAddr, _domain: &str, sender: &str) -> Response {
        let mut state = self.dialogue.state.lock();
        state.envelope = Envelope {
            sender: sender.to_owned(),
            ..Envelope::default()
        };
        state.trouble = None;
        OK
    }

    fn rcpt(&mut self, recipient: &str) -> Response {
        let mut state = self.dialogue.state.lock();
        state.envelope.recipients.push(recipient.to_owned());
        let trouble = self.server.switch.take();
        let refusal = match &trouble {
            None | Some(Trouble::TakeAndHang | Trouble::TakeAndCut | Trouble::Quote(_)) => {
                state.trouble = trouble;
                return OK;
            }
            Some(Trouble::Hang) => None,
            Some(Trouble::Status(code)) => Some((*code, "as it was told to".to_owned())),
            Some(Trouble::SlowDown(seconds)) => Some((421, format!("come again in {seconds} s"))),
            Some(Trouble::Refuse(words)) => Some(refusal(words)),
        };
        state.event = Some(Event::Refused(refusal.as_ref().map(|(code, _)| *code)));
        // What is never answered is not sent.
        let (code, words) = refusal.unwrap_or((451, String::new()));
        Response::custom(code, words)
    }

    fn data(&mut self, line: &[u8]) -> io::Result<()> {
        let data = &mut self.dialogue.state.lock().envelope.data;
        if data.len() + line.len() <= LARGEST_MAIL {
            data.extend_from_slice(line);
            Ok(())
        } else {
            Err(io::Error::other("the mail is too large"))
        }
    }

    fn data_end(&mut self) -> Response {
        let mut state = self.dialogue.state.lock();
        if state.envelope.data.len() >= LARGEST_MAIL {
            return NO_STORAGE;
        }
        if let Some(Trouble::Quote(code)) = state.trouble {
            state.event = Some(Event::Refused(Some(code)));
            return Response::custom(code, state.envelope.quoted());
        }
        state.event = Some(Event::Whole);
        OK
    }
}

/// `550 5.1.1 no such mailbox`; without a code in front it is 550.
fn refusal(words: &str) -> (u16, String) {
    let (first, rest) = words.split_once(' ').unwrap_or((words, ""));
    match first.parse() {
        Ok(code @ 400..=599) => (code, rest.to_owned()),
        _ => (550, words.to_owned()),
    }
}
