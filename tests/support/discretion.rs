//! Nothing secret and nothing that a visitor wrote stands where somebody may read it who should not.
//!
//! A test seeds a system with marks – in every secret that the program says it has, in what its visitors
//! write – drives whatever may go wrong, and has everything looked through: logs, tables, metrics,
//! command lines, and the answers that the test hands over.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use super::{KEPT_LINES, SystemProcess, TestSystem};

/// In what visitors write.
pub(crate) const VISITORS: &str = "visitors-own-words";
/// In every secret.
const SECRETS: &str = "mark0of0a0secret";
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

/// Looks for the marks.
#[derive(Debug)]
pub(crate) struct Discretion {
    more: Vec<String>,
}

impl Discretion {
    /// Marks every secret of the processes that are started from now on, and lets them log all they can.
    pub(crate) async fn seed(system: &mut TestSystem) -> Self {
        let output = system.run(&["configuration", "--format", "json"]).await;
        let described: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let known: Vec<(String, String)> = system.environment.clone();
        let mut marked = 0;
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
            }
        }
        assert!(marked >= 6, "only {marked} secrets were marked");
        let ours = "info,api=debug,growth_chat=debug,jobs=debug,store=debug,workers=debug";
        system.set("RUST_LOG", ours);
        let url = reqwest::Url::parse(&system.database_url()).unwrap();
        let password = url.password().map(ToOwned::to_owned);
        Self {
            more: password.into_iter().collect(),
        }
    }

    /// Something else that must not be told: an address, a word of an answer.
    pub(crate) fn and(mut self, mark: &str) -> Self {
        self.more.push(mark.to_owned());
        self
    }

    /// Looks through everything that a system has said and kept.
    pub(crate) async fn look_through(&self, system: &TestSystem, processes: &[&SystemProcess]) {
        for process in processes {
            self.look_at("a command line", &command_lines(process.pid()));
            let metrics = format!("http://{}/metrics", process.metrics_address());
            let metrics = system.client.get(metrics).send().await.unwrap();
            self.look_at("the metrics", &metrics.text().await.unwrap());
        }
        for (table, row) in rows(system).await {
            if OF_VISITORS.contains(&table.as_str()) {
                assert!(!row.contains(SECRETS), "a secret stands in {table}: {row}");
            } else {
                self.look_at(&table, &row);
            }
        }
        let log = system.log.lock();
        assert!(
            log.len() < KEPT_LINES,
            "the log is longer than what is kept of it"
        );
        assert!(!log.is_empty());
        for line in log.iter() {
            self.look_at("the log", line);
        }
    }

    /// Looks at one text.
    #[track_caller]
    pub(crate) fn look_at(&self, place: &str, text: &str) {
        let marks = [VISITORS, SECRETS]
            .into_iter()
            .chain(self.more.iter().map(String::as_str));
        for mark in marks {
            assert!(!text.contains(mark), "{mark} stands in {place}: {text}");
        }
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
    assert!(!lines.is_empty());
    lines.join("\n")
}

/// Every row of every table of ours, as text.
async fn rows(system: &TestSystem) -> Vec<(String, String)> {
    let pool = system.pool().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', schemaname, tablename) from pg_tables
         where schemaname not in ('pg_catalog', 'information_schema') order by 1",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
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
