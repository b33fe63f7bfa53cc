//! The connections to the mail server, and what its answers mean.
//!
//! lettre speaks the protocol; which step failed, and for how long to wait for one, is decided here.
//! lettre's own pool is not used: it takes back a connection whose mail was given up half-way, and a
//! later mail would then be read as the end of that one. A connection is kept here only when the server
//! has answered everything.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use lettre::{
    Address,
    transport::smtp::{
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, TlsParameters},
        commands::{Data, Mail, Rcpt},
        extension::ClientId,
        response::{Code, Severity},
    },
};
use parking_lot::Mutex;
use secrecy::ExposeSecret;
use store::trace::{Span, attribute};
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    config::{SmtpConfig, SmtpTls},
    handoff::SendError,
};

/// How long it may take until a connection is there, protected and authenticated.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// How long the server may take for the sender, the recipient and the word that it takes a text.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(8);
/// How long it may take for the text: many look for spam before they answer. The three together are less
/// than a delivery's attempt may take, so that it is known which of them failed.
const TEXT_TIMEOUT: Duration = Duration::from_secs(16);
/// How many connections are kept for the next mail.
const KEPT: usize = 2;
/// For how long. Servers close after minutes; a burst of mails comes within seconds.
const KEPT_FOR: Duration = Duration::from_secs(30);
/// What is refused because of the password, and not because of the mail (RFC 4954, 6).
const AUTHENTICATION_CODES: [u16; 4] = [530, 534, 535, 538];

/// A mail server, as the worker is told of it.
pub(super) struct MailServer {
    host: String,
    port: u16,
    tls: SmtpTls,
    credentials: Credentials,
    hello: ClientId,
    /// Made when first needed: reading the system's trust roots takes a while, and may fail.
    tls_parameters: OnceCell<TlsParameters>,
    kept: Arc<Kept>,
}

/// Connections that wait for the next mail.
#[derive(Default)]
struct Kept {
    connections: Mutex<Vec<(AsyncSmtpConnection, Instant)>>,
}

type SmtpError = lettre::transport::smtp::Error;

/// What was being done when something failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Connect,
    Encrypt,
    Authenticate,
    Sender,
    Recipient,
    Announce,
    Text,
}

impl Step {
    /// Whether it is about the mail, and not about us.
    fn is_about_the_mail(self) -> bool {
        !matches!(self, Self::Connect | Self::Encrypt | Self::Authenticate)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "the connection",
            Self::Encrypt => "its encryption",
            Self::Authenticate => "the authentication",
            Self::Sender => "the sender",
            Self::Recipient => "the recipient",
            Self::Announce => "the announcement of the text",
            Self::Text => "the text",
        })
    }
}

impl MailServer {
    /// The server of a configuration. Nothing is connected yet.
    pub(super) fn new(config: &SmtpConfig) -> Self {
        Self {
            host: config.host.clone(),
            port: config.port,
            tls: config.tls,
            credentials: Credentials::new(
                config.username.expose_secret().to_owned(),
                config.password.expose_secret().to_owned(),
            ),
            // Better known to servers than the name of a container.
            hello: ClientId::Domain(config.from.domain().to_owned()),
            tls_parameters: OnceCell::new(),
            kept: Arc::default(),
        }
    }

    /// Hands over a mail of ASCII, as everything is that is composed here.
    pub(super) async fn deliver(
        &self,
        from: &Address,
        to: &Address,
        mail: &[u8],
    ) -> Result<(), SendError> {
        let mut span = Span::of_call("smtp", "send");
        if span.is_recorded() {
            span.set(attribute::SERVER_ADDRESS, self.host.clone());
        }
        let delivered = self.hand_over(from, to, mail).await;
        if delivered.is_err() {
            span.fail("not_delivered");
        }
        delivered
    }

    async fn hand_over(&self, from: &Address, to: &Address, mail: &[u8]) -> Result<(), SendError> {
        let mut connection = within(CONNECT_TIMEOUT, Step::Connect, self.connection()).await?;
        within(
            COMMAND_TIMEOUT,
            Step::Recipient,
            announce(&mut connection, from, to),
        )
        .await?;
        let text = async {
            let taken = connection.message(mail).await;
            taken.map_err(|error| failure(Step::Text, &error))
        };
        within(TEXT_TIMEOUT, Step::Text, text).await?;
        self.kept.keep(connection);
        Ok(())
    }

    /// Connects, encrypts and authenticates, and leaves again.
    pub(super) async fn try_out(&self) -> Result<(), SendError> {
        let mut connection = within(CONNECT_TIMEOUT, Step::Connect, self.connect()).await?;
        // It has answered what was to be known.
        let _ = timeout(COMMAND_TIMEOUT, connection.quit()).await;
        Ok(())
    }

    async fn connection(&self) -> Result<AsyncSmtpConnection, SendError> {
        while let Some(mut connection) = self.kept.take() {
            if connection.test_connected().await {
                return Ok(connection);
            }
        }
        self.connect().await
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, SendError> {
        let tls = match self.tls {
            SmtpTls::None => None,
            SmtpTls::StartTls | SmtpTls::Implicit => Some(self.tls_parameters().await?),
        };
        let (at_once, later) = match self.tls {
            SmtpTls::Implicit => (tls, None),
            SmtpTls::StartTls | SmtpTls::None => (None, tls),
        };
        let server = (self.host.as_str(), self.port);
        let connected =
            AsyncSmtpConnection::connect_tokio1(server, None, &self.hello, at_once, None).await;
        let mut connection = connected.map_err(|error| failure(Step::Connect, &error))?;
        if let Some(tls) = later {
            if !connection.can_starttls() {
                return Err(SendError::healable("the mail server offers no STARTTLS"));
            }
            let encrypted = connection.starttls(tls, &self.hello).await;
            encrypted.map_err(|error| failure(Step::Encrypt, &error))?;
        }
        let info = connection.server_info();
        let mechanism = info.get_auth_mechanism(DEFAULT_MECHANISMS);
        // A mail catcher on this machine may know no users.
        if mechanism.is_some() || self.tls != SmtpTls::None {
            let authenticated = connection.auth(DEFAULT_MECHANISMS, &self.credentials).await;
            authenticated.map_err(|error| failure(Step::Authenticate, &error))?;
        }
        Ok(connection)
    }

    async fn tls_parameters(&self) -> Result<TlsParameters, SendError> {
        let unreadable = || SendError::healable("the system's trust roots can't be read");
        let parameters = self.tls_parameters.get_or_try_init(|| async {
            let host = self.host.clone();
            // Reads files.
            let made = tokio::task::spawn_blocking(|| TlsParameters::new(host)).await;
            made.map_err(|_| unreadable())?.map_err(|_| unreadable())
        });
        parameters.await.cloned()
    }
}

/// Says from whom it comes and to whom it goes, and that a text follows.
async fn announce(
    connection: &mut AsyncSmtpConnection,
    from: &Address,
    to: &Address,
) -> Result<(), SendError> {
    let sender = Mail::new(Some(from.clone()), Vec::new());
    let answered = connection.command(sender).await;
    answered.map_err(|error| failure(Step::Sender, &error))?;
    let recipient = Rcpt::new(to.clone(), Vec::new());
    let answered = connection.command(recipient).await;
    answered.map_err(|error| failure(Step::Recipient, &error))?;
    let answered = connection.command(Data).await;
    answered.map_err(|error| failure(Step::Announce, &error))?;
    Ok(())
}

/// Gives up after `patience`. The connection is dropped with what was being done.
async fn within<T>(
    patience: Duration,
    step: Step,
    work: impl Future<Output = Result<T, SendError>>,
) -> Result<T, SendError> {
    match timeout(patience, work).await {
        Ok(done) => done,
        Err(_) if step == Step::Text => Err(SendError::unknown(
            "the mail server did not say whether it took the text",
        )),
        Err(_) => Err(SendError::healable(format!(
            "the mail server was silent for {} s at {step}",
            patience.as_secs()
        ))),
    }
}

/// What an error of a step means. Of the server's words only the codes are kept: they may name people.
fn failure(step: Step, error: &SmtpError) -> SendError {
    if let Some(code) = error.status() {
        return answered(step, code, enhanced_code(error).as_deref());
    }
    if step == Step::Text {
        return SendError::unknown("the connection to the mail server was lost after the text");
    }
    let what = if error.is_tls() {
        "the certificate or the protocol does not fit"
    } else if error.is_client() {
        "the mail server offers nothing that we know"
    } else if error.is_response() {
        "the mail server's answer was no SMTP"
    } else {
        "the mail server could not be reached, or the connection was lost"
    };
    SendError::healable(format!("{what} (at {step})"))
}

/// What a negative answer means.
fn answered(step: Step, code: Code, enhanced: Option<&str>) -> SendError {
    let mut number = code.to_string();
    if let Some(enhanced) = enhanced {
        number.push(' ');
        number.push_str(enhanced);
    }
    let reason = format!("the mail server answered {number} to {step}");
    let is_final = code.severity == Severity::PermanentNegativeCompletion
        && step.is_about_the_mail()
        && !AUTHENTICATION_CODES.contains(&u16::from(code));
    if is_final {
        SendError::fatal(reason)
    } else {
        SendError::healable(reason)
    }
}

/// The code at the beginning of a server's words (`5.1.1`, RFC 3463).
fn enhanced_code(error: &SmtpError) -> Option<String> {
    let words = std::error::Error::source(error)?.to_string();
    let code = words.split_whitespace().next()?;
    let numbers: Vec<&str> = code.split('.').collect();
    let is_number =
        |text: &&str| (1..=3).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_digit());
    (numbers.len() == 3 && numbers.iter().all(is_number)).then(|| code.to_owned())
}

impl Kept {
    /// The connection that was used last.
    fn take(&self) -> Option<AsyncSmtpConnection> {
        let kept = self.connections.lock().pop();
        kept.map(|(connection, _)| connection)
    }

    /// Keeps a connection for a while; there is a task only while one is kept.
    fn keep(self: &Arc<Self>, connection: AsyncSmtpConnection) {
        let until = Instant::now() + KEPT_FOR;
        let mut connections = self.connections.lock();
        if connections.len() < KEPT {
            connections.push((connection, until));
            tokio::spawn(close_at(until, Arc::downgrade(self)));
        }
    }
}

/// Closes what is kept for too long.
async fn close_at(time: Instant, kept: Weak<Kept>) {
    sleep_until(time).await;
    if let Some(kept) = kept.upgrade() {
        kept.connections.lock().retain(|(_, until)| *until > time);
    }
}

#[cfg(test)]
mod tests {
    use lettre::transport::smtp::response::{Category, Detail};

    use super::*;

    const ALL: [Step; 7] = [
        Step::Connect,
        Step::Encrypt,
        Step::Authenticate,
        Step::Sender,
        Step::Recipient,
        Step::Announce,
        Step::Text,
    ];

    fn code(severity: Severity, category: Category, detail: Detail) -> Code {
        Code::new(severity, category, detail)
    }

    #[test]
    fn a_4xx_heals_and_a_5xx_does_so_only_where_it_is_not_about_the_mail() {
        use Severity::{
            PermanentNegativeCompletion as Never, TransientNegativeCompletion as Later,
        };
        for step in ALL {
            let later = answered(step, code(Later, Category::MailSystem, Detail::One), None);
            assert!(matches!(later, SendError::Healable { .. }), "{step:?}");
            let never = answered(step, code(Never, Category::MailSystem, Detail::Zero), None);
            let is_final = matches!(never, SendError::Final { .. });
            assert_eq!(is_final, step.is_about_the_mail(), "{step:?}");
            let password = code(Never, Category::Unspecified3, Detail::Five);
            let password = answered(step, password, Some("5.7.8"));
            let reason = format!("the mail server answered 535 5.7.8 to {step}");
            assert_eq!(password, SendError::healable(reason));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_waited_for_only_so_long_and_only_after_the_text_it_is_unknown() {
        for step in ALL {
            let began = Instant::now();
            let silence = std::future::pending::<Result<(), SendError>>();
            let failed = within(COMMAND_TIMEOUT, step, silence).await.unwrap_err();
            assert_eq!(began.elapsed(), COMMAND_TIMEOUT);
            let is_unknown = matches!(failed, SendError::Unknown { .. });
            assert_eq!(is_unknown, step == Step::Text, "{step:?}");
        }
    }
}
