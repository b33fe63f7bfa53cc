//! Serves a stand-in on 127.0.0.1 for as long as somebody holds it.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use axum::Router;
use tokio::{net::TcpListener, task::AbortHandle};

/// The address and life of a served router.
#[derive(Debug)]
pub(crate) struct Served {
    address: SocketAddr,
    accepting: AbortHandle,
}

impl Served {
    /// Serves on a port, or with 0 on a free one.
    pub(crate) async fn start(router: Router, port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let serving = tokio::spawn(async move {
            // Ends with its task only.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self {
            address,
            accepting: serving.abort_handle(),
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
