//! `growth-chat dev`: everything on one machine, from the first line to the last process.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::Stdio,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::support::{
    client,
    frames::{End, Frame, Frames, PATIENCE},
    process::shown_text,
};

/// Postgres is unpacked and its data folder made, documents are indexed, processes are started: some
/// seconds, on a machine that has other things to do.
const START_PATIENCE: Duration = Duration::from_mins(2);
/// What it says on the way goes to this file, beside its data.
const PROGRESS: &str = "progress.log";
/// Between two looks at the processes.
const LOOK: Duration = Duration::from_millis(20);

#[tokio::test]
async fn dev_says_where_everything_is_answers_with_a_source_and_leaves_no_process_behind() {
    let data = tempfile::tempdir().unwrap();
    let mut dev = start(data.path());
    let told = announcement(&mut dev, data.path()).await;

    let client = client();
    let question = suggestion(&told["Try"])["message"].clone();
    let question = question.as_str().unwrap();
    let frames = ask(&client, &told["Try"], question).await;
    assert!(!shown_text(&frames).is_empty());
    assert!(!sources(&frames).is_empty());
    for (what, url) in [
        ("Site", told["Site"].as_str()),
        ("API", &told["API"]),
        ("Metrics", first_word(&told["Metrics"])),
    ] {
        let response = client.get(url).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{what}");
    }
    let world = client.get(&told["Outside world"]).send().await.unwrap();
    let world = world.text().await.unwrap();
    assert!(
        world.contains(question),
        "the page does not show {question:?}"
    );
    for panel in ["#new-leads", "CRM", "Mail", "Webhooks", "Slack’s webhook"] {
        assert!(world.contains(panel), "the page does not show {panel:?}");
    }
    a_person_takes_over(&client, &told).await;
    let mut database = PgConnection::connect(&told["Database"]).await.unwrap();
    let documents: i64 = sqlx::query_scalar("select count(*) from knowledge_documents")
        .fetch_one(&mut database)
        .await
        .unwrap();
    assert!(documents > 5, "{documents}");
    database.close().await.unwrap();

    // The same system answers from the documents of whoever runs it.
    let folder = data.path().join("own documents");
    fs::create_dir(&folder).unwrap();
    let page = "# Kiosk\n\nThe kiosk sells marzipan on Sundays.\n";
    fs::write(folder.join("kiosk.md"), page).unwrap();
    index_as_told(&told["Add documents"], &folder).await;
    let frames = ask(&client, &told["Try"], "When does the kiosk sell marzipan?").await;
    assert_eq!(shown_text(&frames), "The kiosk sells marzipan on Sundays.");
    assert_eq!(sources(&frames), ["kiosk.md"]);

    let mut family = named_processes(&told["Processes"]);
    assert_eq!(family.len(), 3, "API and two workers");
    family.insert(postmaster(data.path()));
    assert!(family.iter().all(|process| is_alive(*process)));
    let dev_id = pid(dev.id().unwrap());
    // Watchdogs, and Postgres's own.
    family.extend(descendants(dev_id));

    // Ctrl-C.
    kill(dev_id, Signal::SIGINT).unwrap();
    let status = timeout(PATIENCE, dev.wait()).await;
    assert!(status.expect("it does not end").unwrap().success());
    let gone = async {
        // A watchdog ends when it sees that the others have.
        while family.iter().any(|process| is_alive(*process)) {
            tokio::time::sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("a process is left");
}

fn start(data: &Path) -> Child {
    let port = four_free_ports();
    let options = [
        "--port",
        "--metrics-port",
        "--database-port",
        "--world-port",
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_growth-chat"));
    command.arg("dev").arg("--data").arg(data);
    for (option, port) in options.into_iter().zip(port..) {
        command.arg(option).arg(port.to_string());
    }
    command
        .env_remove("DATABASE_URL")
        .env_remove("CHECKPOINT_DB_URL")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(fs::File::create(data.join(PROGRESS)).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// The first of four free ports in a row, below those that the system gives to other tests.
fn four_free_ports() -> u16 {
    let start = 20_000 + u16::try_from(std::process::id() % 1_000).unwrap() * 10;
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    (start..32_000)
        .step_by(4)
        .find(|first| (*first..first + 4).all(is_free))
        .expect("four free ports")
}

/// What it says about where everything is.
async fn announcement(dev: &mut Child, data: &Path) -> BTreeMap<String, String> {
    let mut lines = BufReader::new(dev.stdout.take().unwrap()).lines();
    let read = async {
        let mut told = BTreeMap::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("Ctrl-C stops all of it") {
                return told;
            }
            if let Some((what, where_it_is)) = line.trim().split_once("  ") {
                told.insert(what.to_owned(), where_it_is.trim().to_owned());
            }
        }
        told
    };
    let told = timeout(START_PATIENCE, read).await;
    let progress = || fs::read_to_string(data.join(PROGRESS)).unwrap();
    let told = told.unwrap_or_else(|_| panic!("it does not start: {}", progress()));
    assert!(told.contains_key("Try"), "it ended: {}", progress());
    told
}

/// The message in the printed `curl` line.
fn suggestion(line: &str) -> Value {
    let body = line.split('\'').nth(5).unwrap();
    serde_json::from_str(body).unwrap()
}

/// Does what the printed `curl` line does, with a message of the test's own.
async fn ask(client: &Client, line: &str, message: &str) -> Vec<Frame> {
    let words: Vec<&str> = line.split('\'').collect();
    let [command, key, _, content_type, ..] = words[..] else {
        panic!("{line}");
    };
    let url = command.split(' ').find(|word| word.starts_with("http"));
    let body = json!({"message": message, "message_id": "m1"});
    let mut request = client.post(url.unwrap()).body(body.to_string());
    for header in [key, content_type] {
        let (name, value) = header.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let (frames, end) = Frames::of(response).rest().await;
    assert_eq!(end, End::Clean);
    frames
}

/// A visitor leaves details, and somebody takes over on the outside-world page.
async fn a_person_takes_over(client: &Client, told: &BTreeMap<String, String>) {
    let site = told["Site"].strip_suffix("/demo").unwrap();
    let visitor = |request: RequestBuilder| {
        request
            .header("x-widget-token", &told["Site key"])
            .bearer_auth("AAAAAAAAAAAAAAAAAAAAAA")
    };
    let message = json!({"session_id": "lead", "message_id": "m1", "message": "Hello"});
    let asked = visitor(client.post(format!("{site}/chat"))).json(&message);
    let asked = asked.send().await.unwrap();
    assert_eq!(asked.status(), StatusCode::OK);
    asked.bytes().await.unwrap();
    let details = json!({"name": "Ada", "email": "ada@visitor.example", "consent": true});
    let left = visitor(client.post(format!("{site}/chat/lead/contact"))).json(&details);
    assert_eq!(left.send().await.unwrap().status(), StatusCode::ACCEPTED);

    let world = &told["Outside world"];
    let button = async {
        loop {
            let page = client
                .get(world)
                .send()
                .await
                .unwrap()
                .text()
                .await
                .unwrap();
            let named = "name=\"ts\" value=\"";
            let before = page.split("name=\"action_id\" value=\"take_over\"").next();
            let form = before.filter(|before| before.len() < page.len());
            if let Some((_, ts)) = form.and_then(|form| form.rsplit_once(named)) {
                return ts.split('"').next().unwrap().to_owned();
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let ts = timeout(PATIENCE, button)
        .await
        .expect("the lead is in Slack");
    let press = client
        .post(format!("{world}/slack/press"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("ts={ts}&action_id=take_over&person=U0ANNA"));
    let pressed = press.send().await.unwrap();
    assert_eq!(
        pressed.status(),
        StatusCode::OK,
        "{:?}",
        pressed.text().await
    );
    let transcript = visitor(client.get(format!("{site}/chat/lead"))).send();
    let transcript: Value = transcript.await.unwrap().json().await.unwrap();
    assert!(transcript["session"]["agent"].is_string(), "{transcript}");
}

fn sources(frames: &[Frame]) -> Vec<&str> {
    let sources = frames.iter().filter(|frame| frame.kind() == "source-url");
    sources
        .map(|frame| frame.json["url"].as_str().unwrap())
        .collect()
}

/// Types the printed line into a shell.
async fn index_as_told(line: &str, folder: &Path) {
    let command = line.replace("FOLDER", "\"$1\"");
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &command, "sh"])
        .arg(folder)
        .env("DATABASE_URL", "postgres://another.one/entirely")
        .kill_on_drop(true);
    let output = timeout(PATIENCE, shell.output()).await;
    let output = output.expect("it does not end").unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {said}");
}

fn first_word(text: &str) -> &str {
    text.split(' ').next().unwrap()
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap())
}

/// `api 12, worker-1 13, …`
fn named_processes(line: &str) -> BTreeSet<Pid> {
    line.split(", ")
        .map(|process| pid(process.split(' ').nth(1).unwrap().parse().unwrap()))
        .collect()
}

fn postmaster(data: &Path) -> Pid {
    let file = data.join("postgres/data/postmaster.pid");
    let text = fs::read_to_string(file).unwrap();
    pid(text.lines().next().unwrap().parse().unwrap())
}

/// State and parent of a process, where the system has `/proc`.
fn stat(process: &str) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // Behind the name, which may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Children, their children and so on, where the system has `/proc`.
fn descendants(of: Pid) -> BTreeSet<Pid> {
    let processes: Vec<(i32, i32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            Some((name.parse().ok()?, stat(&name)?.1))
        })
        .collect();
    let mut found = BTreeSet::from([of.as_raw()]);
    loop {
        let more: Vec<i32> = processes
            .iter()
            .filter(|(id, parent)| found.contains(parent) && !found.contains(id))
            .map(|(id, _)| *id)
            .collect();
        if more.is_empty() {
            break;
        }
        found.extend(more);
    }
    found.remove(&of.as_raw());
    found.into_iter().map(Pid::from_raw).collect()
}

/// Whether it runs. One that ended and was not waited for yet does not.
fn is_alive(process: Pid) -> bool {
    let is_zombie = stat(&process.to_string()).is_some_and(|(state, _)| state == 'Z');
    kill(process, None).is_ok() && !is_zombie
}
