//! Nothing secret and nothing that a visitor wrote stands where somebody may read it who should not.
//!
//! A test seeds a system with marks – in every secret that the program says it has, in what its visitors
//! write – drives whatever may go wrong, and has everything looked through: logs, tables, the views of
//! operators, metrics, traces, command lines, what commands print, and the answers that the test hands over.
//!
//! Each surface has such tests where its own are: `handoff`, `webhooks`, `people`, `backup`, `privacy`,
//! and `faults` for conversations.

use std::{
    collections::BTreeSet,
    fs,
    process::{Output, Stdio},
    time::Duration,
};

use sandbox::collector::Collector;
use serde_json::Value;
use tokio::{process::Command, time::timeout};

use super::{KEPT_LINES, PATIENCE, SystemProcess, TestSystem};

/// In what visitors write.
pub(crate) const VISITORS: &str = "visitors-own-words";
/// In every secret.
pub(crate) const SECRETS: &str = "mark0of0a0secret";
/// What the proxy of a marked system shows.
pub(crate) const EDGE_SECRET: &str = "mark0of0a0secret-of-the-edge";

/// Tables whose rows are a visitor's: what they wrote may stand there.
const OF_VISITORS: &[&str] = &[
    "checkpoint_writes",
    "checkpoints",
    "feedback",
    "handoff_records",
    "messages",
    "sessions",
    "turn_events",
];

/// Between two looks at the command lines of a process that comes and goes.
const LOOK: Duration = Duration::from_millis(2);

/// Looks for the marks.
#[derive(Debug)]
pub(crate) struct Discretion {
    marks: Vec<Mark>,
    collector: Collector,
}

/// What must not be told, and the tables and views that it belongs into.
#[derive(Debug)]
struct Mark {
    text: String,
    homes: &'static [&'static str],
}

impl Discretion {
    /// Marks every secret of the processes that are started from now on, and lets them log all they can.
    pub(crate) async fn seed(system: &mut TestSystem) -> Self {
        let output = system.run(&["configuration", "--format", "json"]).await;
        let described: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let known: Vec<(String, String)> = system.environment.clone();
        let mut marked = 0;
        let mut unmarked = Vec::new();
        for variable in described
            .iter()
            .filter(|variable| variable["secret"] == true)
        {
            let name = variable["name"].as_str().unwrap();
            let value = known
                .iter()
                .find(|(set, _)| set == name)
                .map(|(_, value)| value.as_str());
            if let Some(value) = mark(name, value) {
                system.set(name, &value);
                marked += 1;
            } else if let Some(value) = value.filter(|_| name != "CHECKPOINT_DB_URL") {
                unmarked.push(value);
            }
        }
        assert!(marked >= 6, "only {marked} secrets were marked");
        system.set("RUST_LOG", "trace");
        let collector = Collector::start(system.world.clone(), 0).await.unwrap();
        system.set("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url());
        system.set("OTEL_BSP_SCHEDULE_DELAY", "50");
        let url = reqwest::Url::parse(&system.database_url()).unwrap();
        let mut discretion = Self {
            marks: Vec::new(),
            collector,
        }
        .and_at(VISITORS, OF_VISITORS)
        .and(SECRETS);
        for secret in url.password().into_iter().chain(unmarked) {
            discretion = discretion.and(secret);
        }
        discretion
    }

    /// Something else that must not be told: an address, a word of an answer.
    pub(crate) fn and(self, mark: &str) -> Self {
        self.and_at(mark, &[])
    }

    /// The same for something that stands in some tables and views, as it should.
    pub(crate) fn and_at(mut self, mark: &str, homes: &'static [&'static str]) -> Self {
        let text = mark.to_owned();
        self.marks.push(Mark { text, homes });
        self
    }

    /// Looks through everything that a system has said and kept.
    pub(crate) async fn look_through(&self, system: &TestSystem, processes: &[&SystemProcess]) {
        for process in processes {
            let lines = command_lines(process.pid());
            assert!(!lines.is_empty());
            self.look_at("a command line", &lines);
            self.look_at("the metrics", &until_told(system, process).await);
        }
        let spans = self.collector.spans();
        assert!(processes.is_empty() || !spans.is_empty());
        for span in spans {
            self.look_at("a span", &serde_json::to_string(&span).unwrap());
        }
        for (relation, row) in rows(system).await {
            for mark in &self.marks {
                if !mark.homes.contains(&&*relation) {
                    mark.look_at(&relation, &row);
                }
            }
        }
        let log = system.log.lock();
        assert!(
            log.len() < KEPT_LINES,
            "the log is longer than what is kept of it"
        );
        assert!(processes.is_empty() || !log.is_empty());
        for line in log.iter() {
            self.look_at("the log", line);
        }
    }

    /// Looks at what a command has printed and logged.
    #[track_caller]
    pub(crate) fn look_at_output(&self, output: &Output) {
        for said in [&output.stdout, &output.stderr] {
            self.look_at("what a command says", &String::from_utf8_lossy(said));
        }
    }

    /// Runs a command, and looks at the command lines of all that it starts. `met` hears of each of them.
    pub(crate) async fn watch(
        &self,
        system: &TestSystem,
        arguments: &[&str],
        mut met: impl FnMut(&str),
    ) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_growth-chat"));
        command
            .args(arguments)
            .env_clear()
            .envs(system.environment())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let child = command.spawn().unwrap();
        let pid = child.id().unwrap();
        let looking = async {
            loop {
                let lines = command_lines(pid);
                self.look_at("a command line", &lines);
                lines.lines().for_each(&mut met);
                tokio::time::sleep(LOOK).await;
            }
        };
        let output = async {
            tokio::select! {
                output = child.wait_with_output() => output.unwrap(),
                never = looking => never,
            }
        };
        timeout(PATIENCE, output)
            .await
            .expect("the command takes too long")
    }

    /// Looks at one text.
    #[track_caller]
    pub(crate) fn look_at(&self, place: &str, text: &str) {
        for mark in &self.marks {
            mark.look_at(place, text);
        }
    }
}

/// The metrics of a process, once it has sent all the spans that it has.
async fn until_told(system: &TestSystem, process: &SystemProcess) -> String {
    let address = format!("http://{}/metrics", process.metrics_address());
    let told = async {
        loop {
            let metrics = system.client.get(&address).send().await.unwrap();
            let metrics = metrics.text().await.unwrap();
            let spans = |outcome: &str| {
                let name = format!("growth_chat_trace_spans_total{{outcome=\"{outcome}\"}} ");
                metrics
                    .lines()
                    .find_map(|line| line.strip_prefix(&name)?.parse::<u64>().ok())
                    .unwrap_or_default()
            };
            if spans("recorded") == spans("sent") {
                return metrics;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, told)
        .await
        .expect("the spans are not sent")
}

impl Mark {
    #[track_caller]
    fn look_at(&self, place: &str, text: &str) {
        let mark = &self.text;
        assert!(!text.contains(mark), "{mark} stands in {place}: {text}");
    }
}

/// A marked value for a secret that is legal as well; `None`: one that can't be marked.
fn mark(name: &str, value: Option<&str>) -> Option<String> {
    match (name, value) {
        // The server knows its password, which is looked for as it is.
        ("CHECKPOINT_DB_URL", _) => None,
        ("EDGE_SECRET", _) => Some(EDGE_SECRET.to_owned()),
        // A user name, which is the sender's address as well, and addresses with a path.
        (_, Some(value)) if value.contains('@') => Some(format!("{SECRETS}.{value}")),
        (_, Some(value)) if value.starts_with("http") => Some(format!("{value}?{SECRETS}")),
        // A key in base64, which is looked for as it is.
        (_, Some(value)) if value.starts_with("whsec_") => None,
        (_, Some(value)) => Some(format!("{value}-{SECRETS}")),
        (_, None) => None,
    }
}

/// The command lines of a process and of those that it started.
fn command_lines(pid: u32) -> String {
    let mut family = BTreeSet::from([pid]);
    let stats: Vec<(u32, u32)> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // Behind the name, which may hold anything: the state, then the parent.
            let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect();
    loop {
        let children = stats.iter().filter(|(_, parent)| family.contains(parent));
        let grown: BTreeSet<u32> = children
            .map(|(pid, _)| *pid)
            .chain(family.clone())
            .collect();
        if grown == family {
            break;
        }
        family = grown;
    }
    let lines = family
        .iter()
        .filter_map(|pid| fs::read(format!("/proc/{pid}/cmdline")).ok());
    let lines: Vec<String> = lines
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .collect();
    lines.join("\n")
}

/// Every row of every table and view of ours, as text.
async fn rows(system: &TestSystem) -> Vec<(String, String)> {
    let pool = system.pool().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', schema, name)
         from (select schemaname, tablename from pg_tables
               union all select schemaname, viewname from pg_views) found (schema, name)
         where schema not in ('pg_catalog', 'information_schema') order by 1",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    for looked_at in ["ops.jobs", "queue.history", "public.turns"] {
        assert!(tables.iter().any(|table| table == looked_at), "{tables:?}");
    }
    let mut rows = Vec::new();
    for table in tables {
        let name = table.strip_prefix("public.").unwrap_or(&table).to_owned();
        let of_table: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "select t::text from {table} t"
        )))
        .fetch_all(&pool)
        .await
        .unwrap();
        rows.extend(of_table.into_iter().map(|row| (name.clone(), row)));
    }
    assert!(!rows.is_empty());
    rows
}
