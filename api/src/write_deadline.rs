//! Closes connections whose other side takes nothing.
//!
//! The hub drops a client that does not read, but the server asks a body for more only when the
//! socket takes what it has: a client that stopped reading would keep its connection for ever. The
//! server wraps each accepted connection in [`WriteDeadline`].

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// How long a connection may take no byte while there are some to send. The hub has dropped the
/// client by then.
pub const WRITE_LIMIT: Duration = Duration::from_secs(45);

/// A connection that fails once a write has waited for [`WRITE_LIMIT`].
#[derive(Debug)]
pub struct WriteDeadline<C> {
    connection: C,
    /// Runs while a write waits.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<C> WriteDeadline<C> {
    /// Watches over a connection.
    pub fn new(connection: C) -> Self {
        Self {
            connection,
            deadline: None,
        }
    }

    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        write: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if write.is_ready() {
            self.deadline = None;
            return write;
        }
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(sleep(WRITE_LIMIT)));
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for WriteDeadline<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_read(context, buffer)
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for WriteDeadline<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.connection).poll_write(context, bytes);
        self.watch(context, write)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.connection).poll_write_vectored(context, slices);
        self.watch(context, write)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::{Instant, advance},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_takes_nothing_fails_after_the_limit() {
        let (ours, _theirs) = duplex(8);
        let mut ours = WriteDeadline::new(ours);
        let start = Instant::now();
        let failed = ours.write_all(b"more than eight").await.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), WRITE_LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_takes_a_little_now_and_then_does_not_fail() {
        let (ours, mut theirs) = duplex(1);
        let mut ours = WriteDeadline::new(ours);
        let writer = tokio::spawn(async move { ours.write_all(b"slow").await });
        for expected in *b"slow" {
            advance(WRITE_LIMIT / 2).await;
            assert_eq!(theirs.read_u8().await.unwrap(), expected);
        }
        writer.await.unwrap().unwrap();
    }
}
