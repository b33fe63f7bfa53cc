//! What a transaction pooler does to a listener: nothing arrives, and nothing says so.

use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
};

/// The type of Postgres's message that carries a notification.
const NOTIFICATION: u8 = b'A';

/// A proxy before a database that swallows every notification. It serves until its runtime ends; the
/// connections are without TLS.
pub(super) async fn start(database: String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect(&database).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (from_server, mut to_server) = server.into_split();
            tokio::spawn(async move {
                let _ = io::copy(&mut from_client, &mut to_server).await;
            });
            tokio::spawn(async move {
                // It ends with either of its connections.
                let _ = pass_on(from_server, &mut to_client).await;
            });
        }
    });
    port
}

/// Every message is its type, its length without the type, and its content.
async fn pass_on(mut from: OwnedReadHalf, to: &mut (impl AsyncWriteExt + Unpin)) -> io::Result<()> {
    loop {
        let kind = from.read_u8().await?;
        let length = from.read_u32().await?;
        let mut content = vec![0; usize::try_from(length).unwrap() - 4];
        from.read_exact(&mut content).await?;
        if kind != NOTIFICATION {
            let mut message = vec![kind];
            message.extend(length.to_be_bytes());
            message.extend(content);
            to.write_all(&message).await?;
        }
    }
}
