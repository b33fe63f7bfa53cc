//! A mail server: it takes mails for everybody and keeps them.
//!
//! The protocol is spoken by `mailin`; this module has the connections, the encryption and the
//! mailbox, and decides when something goes wrong.

mod connection;
mod mailbox;
mod tls;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use mailin::{AuthMechanism, SessionBuilder};
use tokio::{net::TcpListener, task::AbortHandle};
use tokio_rustls::TlsAcceptor;

use self::mailbox::Mailbox;
pub use self::mailbox::ReceivedMail;
use crate::{outside::OutsideWorld, switch::Switch};

/// Who may send mail here, and the password.
pub const USERNAME: &str = "assistant@company.example";
/// The password of [`USERNAME`].
pub const PASSWORD: &str = "sandbox";

/// How connections to it are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// Not at all.
    None,
    /// On request, and a client may do without.
    StartTls,
    /// From the first byte.
    Implicit,
}

/// The stand-in, which serves until it is dropped.
#[derive(Debug)]
pub struct Smtp {
    address: SocketAddr,
    accepting: AbortHandle,
    switch: Switch,
    mailbox: Mailbox,
    certificate: String,
}

/// What every connection works with.
#[derive(Clone)]
struct Server {
    sessions: SessionBuilder,
    protection: Protection,
    tls: TlsAcceptor,
    mailbox: Mailbox,
    switch: Switch,
    world: OutsideWorld,
}

impl Smtp {
    /// Serves on a port, or with 0 on a free one; offers STARTTLS.
    pub async fn start(world: OutsideWorld, port: u16) -> io::Result<Self> {
        Self::start_with(world, port, Protection::StartTls).await
    }

    /// The same, with another protection.
    pub async fn start_with(
        world: OutsideWorld,
        port: u16,
        protection: Protection,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let (tls, certificate) = tls::acceptor()?;
        let switch = Switch::default();
        let mailbox = Mailbox::default();
        let mut sessions = SessionBuilder::new("mail.sandbox.example");
        sessions
            .enable_auth(AuthMechanism::Plain)
            .enable_auth(AuthMechanism::Login)
            .insecure_enable_plaintext_auth();
        if protection == Protection::StartTls {
            sessions.enable_start_tls();
        }
        let server = Arc::new(Server {
            sessions,
            protection,
            tls,
            mailbox: mailbox.clone(),
            switch: switch.clone(),
            world,
        });
        let accepting = tokio::spawn(accept(listener, server));
        Ok(Self {
            address,
            accepting: accepting.abort_handle(),
            switch,
            mailbox,
            certificate,
        })
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How it fails: each mail meets one trouble, when it names its recipient or, for those that are
    /// about what was taken, after its text.
    pub fn switch(&self) -> &Switch {
        &self.switch
    }

    /// What it took, the oldest first. Bounded: the oldest go first.
    pub fn mails(&self) -> Vec<ReceivedMail> {
        self.mailbox.mails()
    }

    /// How many clients are connected.
    pub fn connections(&self) -> usize {
        self.mailbox.connections()
    }

    /// Its certificate as PEM, for `localhost` and 127.0.0.1; nobody has signed it but itself.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }
}

impl Drop for Smtp {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Takes connections. They end with this task.
async fn accept(listener: TcpListener, server: Arc<Server>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, client)) = listener.accept() => {
                connections.spawn(connection::serve(Arc::clone(&server), stream, client.ip()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

#[cfg(test)]
mod tests;
