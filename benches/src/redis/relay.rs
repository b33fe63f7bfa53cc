//! Streams a model's answers to clients through Redis.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use redis::aio::{MultiplexedConnection, PubSub};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedWriteHalf},
    sync::mpsc,
    task::JoinSet,
};

use super::Redis;
use crate::wire::{LAST_CHUNK, STREAM_HEAD, chunk, post, read_request};

const CHANNEL: &str = "news";
/// Frames of one batch, as many as our own writer takes.
const BATCH: usize = 1_024;
/// Frames of one stream that one read returns, as in our own hub.
const FRAMES_PER_STREAM: usize = 128;
/// What a frame says when the answer is whole.
const END: &str = "[DONE]";

/// The relay. Dropped, it relays no more.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    _tasks: JoinSet<()>,
}

/// A frame on its way into Redis.
type Frame = (u64, String);
/// A row of what `XREAD` returns: the stream, and its entries with their fields.
type Row = (String, Vec<(String, (String, String))>);

#[derive(Debug)]
struct Client {
    tcp: OwnedWriteHalf,
    /// The id of the newest entry that it was given.
    cursor: String,
}

type Clients = Arc<Mutex<HashMap<u64, Client>>>;

impl Relay {
    pub(crate) async fn start(redis: &Redis, model: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (frames, to_write) = mpsc::channel(BATCH);
        let clients = Clients::default();
        let writing = redis.client()?.get_multiplexed_async_connection().await?;
        let reading = redis.client()?.get_multiplexed_async_connection().await?;
        let mut news = redis.client()?.get_async_pubsub().await?;
        news.subscribe(CHANNEL).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, model, clients.clone(), frames));
        tasks.spawn(async move { complain("write", write(writing, to_write).await) });
        tasks.spawn(async move { complain("read", read(reading, news, clients).await) });
        Ok(Self {
            address,
            _tasks: tasks,
        })
    }
}

#[expect(
    clippy::print_stderr,
    reason = "a benchmark that stands still says why"
)]
fn complain(what: &str, ended: redis::RedisResult<()>) {
    if let Err(error) = ended {
        eprintln!("the Redis relay could not {what}: {error}");
    }
}

async fn accept(
    listener: TcpListener,
    model: SocketAddr,
    clients: Clients,
    frames: mpsc::Sender<Frame>,
) {
    let mut turns = JoinSet::new();
    let mut number = 0;
    while let Ok((tcp, _)) = listener.accept().await {
        number += 1;
        turns.spawn(turn(number, tcp, model, clients.clone(), frames.clone()));
    }
}

/// What `api` and `worker` do for a turn: a client waits, and the model's words become frames.
async fn turn(
    number: u64,
    mut client: TcpStream,
    model: SocketAddr,
    clients: Clients,
    frames: mpsc::Sender<Frame>,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    read_request(&mut client).await?;
    client.write_all(STREAM_HEAD.as_bytes()).await?;
    let (_open, tcp) = client.into_split();
    let cursor = "0".to_owned();
    clients.lock().insert(number, Client { tcp, cursor });
    let mut model = TcpStream::connect(model).await?;
    model.set_nodelay(true)?;
    model.write_all(&post("/v1/messages", "", "{}")).await?;
    let mut buffer = vec![0; 4_096];
    let mut left = String::new();
    loop {
        let count = model.read(&mut buffer).await?;
        left.push_str(&String::from_utf8_lossy(&buffer[..count]));
        let mut text = String::new();
        while let Some(end) = left.find(';') {
            let token: String = left.drain(..=end).collect();
            if let Some(start) = token.find('@') {
                text.push_str(&token[start..]);
            }
        }
        let over = count == 0;
        if !text.is_empty() {
            let json =
                format!("{{\"type\":\"text-delta\",\"id\":\"answer\",\"delta\":\"{text}\"}}");
            // The writer lives as long as the relay.
            let _ = frames.send((number, json)).await;
        }
        if over {
            let _ = frames.send((number, END.to_owned())).await;
            return Ok(());
        }
    }
}

async fn write(
    mut redis: MultiplexedConnection,
    mut waiting: mpsc::Receiver<Frame>,
) -> redis::RedisResult<()> {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        let mut commands = redis::pipe();
        let mut news = HashSet::new();
        for (number, frame) in batch.drain(..) {
            let key = number.to_string();
            commands
                .cmd("XADD")
                .arg(&key)
                .arg("*")
                .arg("f")
                .arg(frame)
                .ignore();
            news.insert(key);
        }
        let news: Vec<String> = news.into_iter().collect();
        commands
            .cmd("PUBLISH")
            .arg(CHANNEL)
            .arg(news.join("\n"))
            .ignore();
        commands.query_async::<()>(&mut redis).await?;
    }
    Ok(())
}

async fn read(
    mut redis: MultiplexedConnection,
    news: PubSub,
    clients: Clients,
) -> redis::RedisResult<()> {
    let mut news = news.into_on_message();
    while let Some(first) = news.next().await {
        let mut marked = HashSet::new();
        let mut message = Some(first);
        // What came while the last read was under way is read at once.
        while let Some(told) = message {
            let keys: String = told.get_payload()?;
            marked.extend(keys.lines().filter_map(|key| key.parse::<u64>().ok()));
            message = news.next().now_or_never().flatten();
        }
        let wants: Vec<(u64, String)> = {
            let clients = clients.lock();
            let cursor = |number| clients.get(&number).map(|client| client.cursor.clone());
            let wants = marked.into_iter();
            wants
                .filter_map(|number| Some((number, cursor(number)?)))
                .collect()
        };
        if wants.is_empty() {
            continue;
        }
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(FRAMES_PER_STREAM).arg("STREAMS");
        for (number, _) in &wants {
            command.arg(number);
        }
        for (_, cursor) in &wants {
            command.arg(cursor);
        }
        let rows: Option<Vec<Row>> = command.query_async(&mut redis).await?;
        let mut clients = clients.lock();
        for (key, entries) in rows.unwrap_or_default() {
            let Ok(number) = key.parse() else { continue };
            deliver(&mut clients, number, entries);
        }
    }
    Ok(())
}

fn deliver(
    clients: &mut HashMap<u64, Client>,
    number: u64,
    entries: Vec<(String, (String, String))>,
) {
    for (id, (_, frame)) in entries {
        let Some(client) = clients.get_mut(&number) else {
            return;
        };
        let over = frame == END;
        let mut bytes = chunk(&format!("id: {id}\ndata: {frame}\n\n"));
        if over {
            bytes.extend_from_slice(LAST_CHUNK);
        }
        // A socket that is full would be a client that does not read: ours do.
        let written = client.tcp.try_write(&bytes);
        client.cursor = id;
        if over || !written.is_ok_and(|count| count == bytes.len()) {
            clients.remove(&number);
        }
    }
}
