//! The private Postgres, for real.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use sandbox::postgres::{PostgresError, Server, ServerOptions, TestDatabase};
use sqlx::{Connection, PgConnection};

async fn count(connection: &mut PgConnection) -> i64 {
    sqlx::query_scalar("select count(*) from kept")
        .fetch_one(connection)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_test_database_is_migrated_has_pgvector_and_is_dropped() {
    let database = TestDatabase::create().await.unwrap();
    let pool = database.pool().await.unwrap();
    let sessions: i64 = sqlx::query_scalar("select count(*) from sessions")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(sessions, 0);
    let distance: f64 = sqlx::query_scalar("select '[1,0]'::vector <=> '[0,1]'::vector")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert!((distance - 1.0).abs() < 1e-9);
    let url = database.url().to_owned();
    drop(database);
    let gone = async {
        loop {
            match PgConnection::connect(&url).await {
                Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(error) => break error,
            }
        }
    };
    let gone = tokio::time::timeout(Duration::from_secs(30), gone).await;
    let gone = gone.expect("it is still there");
    let code = gone
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    assert_eq!(code.as_deref(), Some("3D000"), "{gone}");
}

#[tokio::test]
async fn a_connection_that_is_half_made_holds_up_no_test_that_ends() {
    let database = TestDatabase::create().await.unwrap();
    let url = url::Url::parse(database.url()).unwrap();
    let address = (url.host_str().unwrap(), url.port().unwrap());
    // The server asks for the password, and is never answered.
    let mut half_made = TcpStream::connect(address).unwrap();
    let words = format!("user\0postgres\0database\0{}\0\0", &url.path()[1..]);
    let length = u32::try_from(8 + words.len()).unwrap();
    let startup = [
        &length.to_be_bytes()[..],
        &196_608_u32.to_be_bytes(),
        words.as_bytes(),
    ];
    half_made.write_all(&startup.concat()).unwrap();
    let mut asked = [0];
    half_made.read_exact(&mut asked).unwrap();
    assert_eq!(asked, *b"R");
    let begun = Instant::now();
    drop(database);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn databases_are_made_in_parallel_from_many_runtimes_and_share_nothing() {
    let threads: Vec<_> = (0..8)
        .map(|number: i32| {
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    let database = TestDatabase::create().await.unwrap();
                    let pool = database.pool().await.unwrap();
                    sqlx::query("create table mine as select $1::int as number")
                        .bind(number)
                        .execute(&pool)
                        .await
                        .unwrap();
                    let found: i32 = sqlx::query_scalar("select number from mine")
                        .fetch_one(&pool)
                        .await
                        .unwrap();
                    assert_eq!(found, number);
                });
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[tokio::test]
async fn a_killed_server_comes_back_on_its_port_with_everything_that_was_committed() {
    let server = Server::start(ServerOptions {
        durable: true,
        ..ServerOptions::default()
    })
    .await
    .unwrap();
    let url = server.url("postgres");
    let mut before = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("create table kept (id int); insert into kept values (1)")
        .execute(&mut before)
        .await
        .unwrap();
    server.kill().await.unwrap();
    assert!(!server.is_running());
    assert!(sqlx::query("select 1").execute(&mut before).await.is_err());
    server.restart().await.unwrap();
    let mut after = PgConnection::connect(&url).await.unwrap();
    assert_eq!(count(&mut after).await, 1);
}

#[tokio::test]
async fn a_given_folder_keeps_its_data_and_a_stop_ends_every_process() {
    let folder = tempfile::tempdir().unwrap();
    let options = ServerOptions {
        folder: Some(folder.path().join("kept")),
        ..ServerOptions::default()
    };
    let first = Server::start(options.clone()).await.unwrap();
    let mut connection = PgConnection::connect(&first.url("postgres")).await.unwrap();
    sqlx::raw_sql("create table kept (id int)")
        .execute(&mut connection)
        .await
        .unwrap();
    first.stop().await.unwrap();
    assert_eq!(first.pid(), None);
    drop(first);
    let second = Server::start(options).await.unwrap();
    let mut connection = PgConnection::connect(&second.url("postgres"))
        .await
        .unwrap();
    assert_eq!(count(&mut connection).await, 0);
}

#[tokio::test]
async fn a_busy_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = Server::start(ServerOptions {
        port: Some(port),
        ..ServerOptions::default()
    })
    .await
    .unwrap_err();
    assert!(matches!(error, PostgresError::PortBusy { port: named } if named == port));
}

#[tokio::test]
async fn data_of_another_major_version_is_refused_with_a_way_out() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    std::fs::write(folder.path().join("data/PG_VERSION"), "9\n").unwrap();
    let error = Server::start(ServerOptions {
        folder: Some(folder.path().to_owned()),
        ..ServerOptions::default()
    })
    .await
    .unwrap_err();
    assert!(error.to_string().contains("--reset"), "{error}");
}

#[tokio::test]
async fn a_server_asks_for_its_password() {
    let server = Server::start(ServerOptions::default()).await.unwrap();
    let url = format!(
        "postgres://postgres:wrong@127.0.0.1:{}/postgres",
        server.port()
    );
    let error = PgConnection::connect(&url).await.unwrap_err();
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    assert_eq!(code.as_deref(), Some("28P01"), "{error}");
}

/// Set in the process that [`a_server_ends_when_its_owner_is_killed`] starts.
const OWNER: &str = "SANDBOX_TEST_OWNS_A_SERVER";

/// Not a test of its own: the owner that the next test kills.
#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "tells whether it was started as a child"
)]
async fn owner_of_a_server() {
    if std::env::var(OWNER).is_err() {
        return;
    }
    let server = Server::start(ServerOptions::default()).await.unwrap();
    println!("port {}", server.port());
    std::future::pending::<()>().await;
}

#[test]
fn a_server_ends_when_its_owner_is_killed() {
    use std::io::{BufRead, BufReader};
    let folder = tempfile::tempdir().unwrap();
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner_of_a_server", "--nocapture"])
        .env(OWNER, "1")
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let port: u16 = lines
        .map(Result::unwrap)
        .find_map(|line| {
            line.split_once("port ")
                .map(|(_, port)| port.parse().unwrap())
        })
        .unwrap();
    let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, port));
    assert!(connect().is_ok());
    assert!(!is_empty(folder.path()));
    owner.kill().unwrap();
    owner.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_empty(folder.path()) {
        assert!(
            Instant::now() < deadline,
            "the server's folder is still there"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(connect().is_err());
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}
