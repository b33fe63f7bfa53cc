//! `cargo sql-prepare [--check]`: renews `.sqlx/`, against which queries are checked when there is
//! no database, or tells whether it is what the migrations and the queries of now give.
//!
//! Like `cargo sqlx prepare --workspace`, but it brings its own database and needs no tool that
//! has to be installed first.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail, ensure};
use sandbox::{
    generated::{only_checks, workspace},
    postgres::{MIGRATOR, Progress, Server, ServerOptions},
};
use serde_json::Value;
use sqlx::{Connection, PgConnection};

/// File name → what the macros wrote.
type Queries = BTreeMap<String, Value>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sql-prepare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let check = only_checks("sql-prepare")?;
    let root = workspace()?;
    let queries = describe_queries(root).await?;
    ensure!(!queries.is_empty(), "the macros wrote no queries");
    let committed_folder = root.join(".sqlx");
    let committed = read_queries(&committed_folder)?;
    let differences = differences(&committed, &queries);
    if check {
        if differences.is_empty() {
            println!("sql-prepare: .sqlx is fresh ({} queries)", queries.len());
            return Ok(());
        }
        bail!(
            "run `cargo sql-prepare` and commit .sqlx:\n{}",
            differences.join("\n")
        );
    }
    write_queries(&committed_folder, &committed, &queries)?;
    println!(
        "sql-prepare: {} queries, {} changed",
        queries.len(),
        differences.len()
    );
    Ok(())
}

/// Compiles the workspace against a migrated database; the macros write what it said of each query.
async fn describe_queries(root: &Path) -> Result<Queries> {
    let server = Server::start(ServerOptions {
        progress: Progress::new(|step| eprintln!("sql-prepare: {step}")),
        ..ServerOptions::default()
    })
    .await?;
    let url = server.url("postgres");
    let mut connection = PgConnection::connect(&url).await?;
    MIGRATOR.run(&mut connection).await?;
    connection.close().await?;

    let target = root.join("target/sql-prepare");
    let folder = target.join("queries");
    if folder.exists() {
        fs::remove_dir_all(&folder).context("removing the queries of the last time")?;
    }
    fs::create_dir_all(&folder).context("creating a folder for the queries")?;
    // A macro writes only when its crate is compiled, and the address of the database is not among
    // what makes cargo compile a crate again.
    cargo(root, &target, &["clean", "--quiet", "--workspace"], &[])?;
    let folder_text = folder
        .to_str()
        .context("the workspace's path is not UTF-8")?;
    cargo(
        root,
        &target,
        &["check", "--quiet", "--workspace", "--all-targets"],
        &[
            ("DATABASE_URL", &url),
            ("SQLX_OFFLINE", "false"),
            ("SQLX_OFFLINE_DIR", folder_text),
        ],
    )?;
    server.stop().await?;
    read_queries(&folder)
}

fn cargo(
    root: &Path,
    target: &Path,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Result<()> {
    let status = Command::new("cargo")
        .args(arguments)
        .current_dir(root)
        .env("CARGO_TARGET_DIR", target)
        .envs(environment.iter().copied())
        .status()
        .context("running cargo")?;
    ensure!(status.success(), "cargo {} failed", arguments[0]);
    Ok(())
}

fn read_queries(folder: &Path) -> Result<Queries> {
    let mut queries = Queries::new();
    if !folder.exists() {
        return Ok(queries);
    }
    for entry in fs::read_dir(folder).context("reading the folder of queries")? {
        let path: PathBuf = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("query-") {
            let text = fs::read_to_string(&path)?;
            // A file that is not JSON is one that has to be written again.
            let value = serde_json::from_str(&text).unwrap_or(Value::Null);
            queries.insert(name.into_owned(), value);
        }
    }
    Ok(queries)
}

fn differences(committed: &Queries, fresh: &Queries) -> Vec<String> {
    let names: BTreeSet<&String> = committed.keys().chain(fresh.keys()).collect();
    names
        .into_iter()
        .filter_map(|name| {
            let what = match (committed.get(name), fresh.get(name)) {
                (Some(_), None) => "no longer used",
                (None, Some(_)) => "missing",
                (before, now) if before != now => "outdated",
                _ => return None,
            };
            let query = fresh.get(name).or(committed.get(name))?;
            let sql = query["query"].as_str().unwrap_or_default();
            let words: Vec<&str> = sql.split_whitespace().take(8).collect();
            Some(format!("  {what}: {name} ({} …)", words.join(" ")))
        })
        .collect()
}

fn write_queries(folder: &Path, committed: &Queries, fresh: &Queries) -> Result<()> {
    fs::create_dir_all(folder).context("creating .sqlx")?;
    for name in committed.keys().filter(|name| !fresh.contains_key(*name)) {
        fs::remove_file(folder.join(name))?;
    }
    for (name, query) in fresh {
        if committed.get(name) != Some(query) {
            let text = serde_json::to_string_pretty(query)? + "\n";
            fs::write(folder.join(name), text)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queries(entries: &[(&str, &str)]) -> Queries {
        entries
            .iter()
            .map(|(name, sql)| ((*name).to_owned(), serde_json::json!({ "query": sql })))
            .collect()
    }

    #[test]
    fn every_kind_of_difference_is_listed() {
        let committed = queries(&[("query-a", "select 1"), ("query-b", "b"), ("query-c", "c")]);
        let fresh = queries(&[
            ("query-a", "select 1"),
            ("query-b", "new"),
            ("query-d", "d"),
        ]);
        let listed = differences(&committed, &fresh).join("\n");
        assert_eq!(
            listed,
            "  outdated: query-b (new …)\n  no longer used: query-c (c …)\n  missing: query-d (d …)"
        );
        assert!(differences(&fresh, &fresh).is_empty());
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let old = queries(&[("query-old", "old")]);
        let new = queries(&[("query-new", "new")]);
        write_queries(folder.path(), &Queries::new(), &old).unwrap();
        assert_eq!(read_queries(folder.path()).unwrap(), old);
        write_queries(folder.path(), &old, &new).unwrap();
        assert_eq!(read_queries(folder.path()).unwrap(), new);
    }
}
