//! What a transaction pooler does to a listener: nothing arrives, and nothing says so.

use futures::future::join_all;
use reqwest::Url;
use serde_json::Value;
use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    time::timeout,
};

use crate::support::{PATIENCE, TestSystem, wire::Wire};

/// The type of Postgres's message that carries a notification.
const NOTIFICATION: u8 = b'A';

/// Has the processes of a system reach their database through a pooler.
pub(super) async fn put_before(system: &mut TestSystem) {
    let direct = Url::parse(&system.database_url()).unwrap();
    let (host, port) = (direct.host_str().unwrap(), direct.port().unwrap());
    let mut pooled = direct.clone();
    let port = start(format!("{host}:{port}")).await;
    pooled.set_port(Some(port)).unwrap();
    pooled.set_query(Some("sslmode=disable"));
    system.set("CHECKPOINT_DB_URL", pooled.as_str());
}

/// A proxy before a database that swallows every notification. It serves until its runtime ends; the
/// connections are without TLS.
async fn start(database: String) -> u16 {
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

#[tokio::test]
async fn behind_a_pooler_no_process_starts_and_each_says_what_to_do() {
    let mut system = TestSystem::new().await;
    put_before(&mut system).await;
    let roles = ["api", "worker", "serve"];
    let runs = roles.map(|role| {
        let system = &system;
        async move { (role, system.run(&[role]).await) }
    });
    for (role, output) in join_all(runs).await {
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{role}: {said}");
        assert!(said.contains("give the direct one"), "{role}: {said}");
    }
}

#[tokio::test]
async fn a_process_that_no_longer_hears_others_goes_on_and_says_so_until_it_does() {
    let mut system = TestSystem::new().await;
    let url = system.database_url();
    let wire = Wire::to(&url).await;
    system.set("CHECKPOINT_DB_URL", &wire.url(&url));
    let api = system.api().await;
    let listener_is = async |expected: &str| {
        let is = async {
            loop {
                let ready = api.get("/ready").send().await.unwrap();
                assert!(ready.status().is_success());
                let ready: Value = ready.json().await.unwrap();
                if ready["checks"]["listener"] == expected {
                    return;
                }
            }
        };
        timeout(PATIENCE, is)
            .await
            .unwrap_or_else(|_| panic!("never {expected}"));
    };
    listener_is("ok").await;
    let pool = system.pool().await;
    for (loses, expected) in [(true, "pooled"), (false, "ok")] {
        wire.lose_notifications(loses);
        sqlx::query(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and query like 'LISTEN%'",
        )
        .execute(&pool)
        .await
        .unwrap();
        listener_is(expected).await;
    }
    api.process.logged("give the direct one").await;
}
