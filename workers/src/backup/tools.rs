//! `pg_dump` and psql: where they are, how new they are, and what they are told. Passwords go by the
//! environment, never by arguments, which everybody on the machine can read; of our own environment they
//! are given nothing that they do not need.

use std::{fmt, io, path::PathBuf, process::Stdio, str::FromStr, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, de};
use store::db::{AddressError, DatabaseAddress};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
    time::timeout,
};

use crate::config::ToolsConfig;

/// How long a program may take to say its version.
const VERSION_PATIENCE: Duration = Duration::from_secs(10);
/// How much of what a program complains of is read, in bytes.
const COMPLAINT: usize = 8 * 1024;
/// How much of it is told, in characters.
const TOLD: usize = 300;

/// In place of what is not told.
const HIDDEN: &str = "…";
/// Words that say of what is quoted behind them that it is a name and no value.
const NAMES: [&str; 16] = [
    "at",
    "column",
    "constraint",
    "database",
    "extension",
    "file",
    "function",
    "index",
    "parameter",
    "relation",
    "role",
    "schema",
    "sequence",
    "table",
    "type",
    "user",
];

/// A version of PostgreSQL or of one of its programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ToolVersion {
    /// 18 of 18.1.
    pub major: u32,
    /// 1 of 18.1.
    pub minor: u32,
}

impl ToolVersion {
    /// Of `server_version_num`.
    pub fn of_number(number: u32) -> Self {
        Self {
            major: number / 10_000,
            minor: number % 10_000,
        }
    }
}

impl fmt::Display for ToolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for ToolVersion {
    type Err = ();

    /// `18.1`, and a version that is not out yet, `19beta2`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |text: &str| {
            let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().map_err(|_| ())
        };
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        Ok(Self {
            major: number(major)?,
            minor: number(minor)?,
        })
    }
}

impl Serialize for ToolVersion {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ToolVersion {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|()| de::Error::custom("no version of PostgreSQL"))
    }
}

/// A program could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It is not there.
    #[error("{0} was not found: install the client programs of PostgreSQL, or set PG_BIN_DIR")]
    Missing(&'static str),
    /// It can't be started.
    #[error("{program} could not be run")]
    Io {
        /// Which.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It did not say its version.
    #[error("{0} does not say its version")]
    Unknown(&'static str),
    /// It hangs.
    #[error("{0} has written nothing for {t} s and was ended: it hangs, or its connection is lost", t = .1.as_secs())]
    Silent(&'static str, Duration),
    /// It failed.
    #[error("{program} {how}")]
    Failed {
        /// Which.
        program: &'static str,
        /// How it ended and what it said.
        how: String,
    },
    /// The database's address can't be taken apart.
    #[error("the database's address {0}")]
    Address(#[from] AddressError),
}

/// The programs.
#[derive(Debug, Clone)]
pub struct Tools(ToolsConfig);

impl Tools {
    /// The programs of a folder, or of `PATH`.
    pub fn new(config: ToolsConfig) -> Self {
        Self(config)
    }

    fn path(&self, program: &'static str) -> PathBuf {
        match &self.0.folder {
            Some(folder) => folder.join(program),
            None => program.into(),
        }
    }

    fn bare(&self, program: &'static str) -> Command {
        let mut command = Command::new(self.path(program));
        command
            .env_clear()
            .envs(self.0.environment.iter().cloned())
            // What it says is looked into.
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// A program that will connect to a database.
    pub(super) fn command(
        &self,
        program: &'static str,
        url: &SecretString,
    ) -> Result<Command, ToolError> {
        let mut command = self.bare(program);
        command.envs(variables(url)?);
        Ok(command)
    }

    /// How new a program is.
    pub async fn version(&self, program: &'static str) -> Result<ToolVersion, ToolError> {
        let mut command = self.bare(program);
        command.arg("--version").stdout(Stdio::piped());
        let failed = |source| not_run(program, source);
        let mut child = command.spawn().map_err(failed)?;
        let (output, complaint) = (child.stdout.take(), child.stderr.take());
        let asked = async { tokio::join!(listen(output), listen(complaint), child.wait()) };
        let (said, complaint, status) = timeout(VERSION_PATIENCE, asked)
            .await
            .map_err(|_| ToolError::Unknown(program))?;
        let status = status.map_err(failed)?;
        if !status.success() {
            let line = complaint.lines().find(|line| !line.trim().is_empty());
            let line = line.map(|line| printable(&without_values(line)));
            return Err(fallen(program, status, line));
        }
        // "pg_dump (PostgreSQL) 17.6 (Debian 17.6-1)"
        said.split_whitespace()
            .nth(2)
            .and_then(|version| version.parse().ok())
            .ok_or(ToolError::Unknown(program))
    }
}

/// Why a program did not start.
pub(super) fn not_run(program: &'static str, source: io::Error) -> ToolError {
    if source.kind() == io::ErrorKind::NotFound {
        ToolError::Missing(program)
    } else {
        ToolError::Io { program, source }
    }
}

/// How a program that worked with a database ended, if not well. `said` is what it wrote on its standard
/// error.
pub(super) fn ended(
    program: &'static str,
    status: std::process::ExitStatus,
    said: &str,
    url: &SecretString,
) -> Result<(), ToolError> {
    if status.success() {
        Ok(())
    } else {
        Err(fallen(program, status, complaint(said, url)))
    }
}

/// How a program ended, and the line that says why.
fn fallen(
    program: &'static str,
    status: std::process::ExitStatus,
    line: Option<String>,
) -> ToolError {
    use std::os::unix::process::ExitStatusExt;

    let mut how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    };
    if let Some(line) = line {
        how = format!("{how}: {line}");
    }
    ToolError::Failed { program, how }
}

/// The line that says what is wrong, without what is quoted in it unless it is a name, and without the
/// password. Other lines may quote rows.
fn complaint(said: &str, url: &SecretString) -> Option<String> {
    let mut lines = said.lines().map(str::trim);
    let line = lines.find(|line| {
        line.contains("error:") || line.contains("ERROR:") || line.contains("FATAL:")
    })?;
    let mut line = without_values(line);
    let address = DatabaseAddress::parse(url.expose_secret()).ok()?;
    if let Some(password) = address.password().filter(|password| !password.is_empty()) {
        line = line.replace(password, HIDDEN);
    }
    Some(printable(&line))
}

/// As much of a line as is told.
fn printable(line: &str) -> String {
    let letters = line.chars().filter(|letter| !letter.is_control());
    letters.take(TOLD).collect()
}

/// A line in which only what is known to be a name is still quoted: a server's message quotes values of
/// rows in the same way.
fn without_values(line: &str) -> String {
    let mut told = String::with_capacity(line.len());
    for (place, part) in line.split('"').enumerate() {
        let is_quoted = place % 2 == 1;
        if !is_quoted {
            told.push_str(part);
            continue;
        }
        let before = told.trim_end().rsplit(' ').next().unwrap_or_default();
        let shown = if NAMES.contains(&before) {
            part
        } else {
            HIDDEN
        };
        told.push('"');
        told.push_str(shown);
        told.push('"');
    }
    told
}

/// The beginning of what a program says; the rest is read and dropped, so that it does not block.
pub(super) async fn listen(from: Option<impl AsyncRead + Unpin>) -> String {
    let mut said = Vec::new();
    if let Some(mut from) = from {
        let mut piece = [0; 1_024];
        while let Ok(count @ 1..) = from.read(&mut piece).await {
            let room = COMPLAINT.saturating_sub(said.len());
            said.extend_from_slice(&piece[..count.min(room)]);
        }
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// What a program is told of a database, by libpq's variables: all that we connect by, and nothing else.
fn variables(url: &SecretString) -> Result<Vec<(&'static str, String)>, ToolError> {
    let mut variables = DatabaseAddress::parse(url.expose_secret())?.variables();
    variables.extend([
        ("PGAPPNAME", "growth-chat backup".to_owned()),
        ("PGCONNECT_TIMEOUT", "15".to_owned()),
        // Our own connections know no such file either; one that is not there is passed over.
        ("PGPASSFILE", "/dev/null/none".to_owned()),
    ]);
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_told_where_to_connect_and_how_by_the_address_alone() {
        let told = variables(&"postgres://u:p@h/x?sslmode=require".to_owned().into()).unwrap();
        for pair in [
            ("PGHOST", "h"),
            ("PGPORT", "5432"),
            ("PGSSLMODE", "require"),
            ("PGPASSWORD", "p"),
            ("PGPASSFILE", "/dev/null/none"),
        ] {
            assert!(told.contains(&(pair.0, pair.1.to_owned())), "{pair:?}");
        }
        let error = variables(&"hunter2".to_owned().into()).unwrap_err();
        assert!(!error.to_string().contains("hunter"), "{error}");
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        let version = |text: &str| text.parse::<ToolVersion>().unwrap();
        assert!(version("17.10") > version("17.9"));
        assert!(version("18.0") > version("17.10"));
        assert_eq!(version("19beta1"), version("19.0"));
        assert_eq!(ToolVersion::of_number(180_001), version("18.1"));
        assert!("devel".parse::<ToolVersion>().is_err());
    }

    #[test]
    fn of_a_complaint_one_line_is_told_and_no_row() {
        let url = "postgres://u@h/x".to_owned().into();
        let said = "pg_dump: warning: x\npg_dump: error: query failed\n\
                    pg_dump: detail: Failing row contains (anna@example.com)\n";
        assert_eq!(
            complaint(said, &url).as_deref(),
            Some("pg_dump: error: query failed")
        );
        assert_eq!(complaint("COPY messages, line 3: \"anna\"\n", &url), None);
    }

    #[test]
    fn of_the_line_that_is_told_names_are_kept_and_values_and_the_password_are_not() {
        let url = "postgres://u:hunter%2B2@db.example.com/x".to_owned().into();
        for (said, told) in [
            (
                r#"psql: error: connection to server at "db.example.com", port 5432 failed: FATAL:  password authentication failed for user "u""#,
                r#"psql: error: connection to server at "db.example.com", port 5432 failed: FATAL:  password authentication failed for user "u""#,
            ),
            (
                r#"ERROR:  invalid input syntax for type integer: "anna@example.com""#,
                r#"ERROR:  invalid input syntax for type integer: "…""#,
            ),
            (
                r#"ERROR:  relation "messages" has no value "an unfinished one"#,
                r#"ERROR:  relation "messages" has no value "…""#,
            ),
            (
                "pg_dump: error: postgres://u:hunter+2@db.example.com/x is wrong",
                "pg_dump: error: postgres://u:…@db.example.com/x is wrong",
            ),
        ] {
            assert_eq!(complaint(said, &url).as_deref(), Some(told));
        }
    }
}
