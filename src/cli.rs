//! The command line.

use std::ffi::OsString;

use clap::{Parser, Subcommand};

#[cfg(feature = "sandbox")]
use crate::commands::dev::DevArgs;
use crate::commands::{
    backup::BackupArgs, check::CheckArgs, configuration::ConfigurationArgs, erase::EraseArgs,
    eval::EvalArgs, export::ExportArgs, extract::ExtractArgs, index::IndexArgs, jobs::JobsArgs,
    replay::ReplayArgs, restore::RestoreArgs, retention::RetentionArgs, search::SearchArgs,
    sessions::SessionsArgs, webhooks::WebhooksArgs, worker::WorkerArgs,
};

/// An embeddable AI website chat that never loses a message.
///
/// Roles are configured by environment variables. A wrong configuration ends the process with exit
/// code 2, and names everything that is wrong.
#[derive(Debug, Parser)]
#[command(name = "growth-chat", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Accept messages and stream answers: HTTP on `PORT`, metrics on `METRICS_PORT`
    Api,
    /// Run jobs: answer messages, index documents
    Worker(WorkerArgs),
    /// Be `api` and `worker` in one process
    Serve(WorkerArgs),
    /// Bring the database's schema up to date; safe to repeat, safe while the previous version runs
    Migrate,
    /// Check the configuration, the database and the knowledge base; exit code 1 if something fails
    Check(CheckArgs),
    /// Make a backup of the database in the bucket; list the backups, verify one
    Backup(BackupArgs),
    /// Restore a backup into an empty database
    Restore(RestoreArgs),
    /// Do what is due, drain the queue, and end; exit code 1 if anything failed
    Tick,
    /// Print the reference of all environment variables
    Configuration(ConfigurationArgs),
    /// Bring files, folders and sites into the knowledge base; needs no worker
    Index(IndexArgs),
    /// Measure the search on questions with known sources, and propose its threshold
    Eval(EvalArgs),
    /// Show what a question finds in the knowledge base, and why
    Search(SearchArgs),
    /// Read one HTML page or PDF from standard input; for `index`, not for people
    #[command(hide = true)]
    Extract(ExtractArgs),
    /// Look at the queue's jobs, add, retry and cancel them, pause queues; needs the database only
    Jobs(JobsArgs),
    /// Ask another model, or with other rules, what a finished turn was asked
    Replay(ReplayArgs),
    /// Look at conversations: how they went, what they cost; needs the database only
    Sessions(SessionsArgs),
    /// Forget the conversations that were closed long ago (`RETENTION_DAYS`)
    Retention(RetentionArgs),
    /// Forget a person: the conversation, the handoff, and what Slack and the CRM have
    Erase(EraseArgs),
    /// Print a copy of everything that is known of a person
    Export(ExportArgs),
    /// Say who is told what happens: endpoints, their secrets, how deliveries go; needs the database only
    Webhooks(WebhooksArgs),
    /// Print the API's OpenAPI document
    Openapi,
    /// Run the whole system on this machine, with no keys and no accounts
    #[cfg(feature = "sandbox")]
    Dev(DevArgs),
}

/// Reads the command line, or ends the process with what clap says about it.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Command {
    try_parse(arguments).unwrap_or_else(|error| error.exit())
}

fn try_parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    // `cargo dev -- --reset`: cargo passes the `--` on, because the alias has one already.
    if arguments.get(1).is_some_and(|argument| argument == "dev")
        && arguments.get(2).is_some_and(|argument| argument == "--")
    {
        arguments.remove(2);
    }
    Cli::try_parse_from(arguments).map(|cli| cli.command)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, error::ErrorKind};

    use super::*;

    fn parse(line: &str) -> Result<Command, ErrorKind> {
        let words = line.split_whitespace().map(OsString::from);
        try_parse(words).map_err(|error| error.kind())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_role_is_a_sub_command() {
        assert!(matches!(parse("growth-chat api"), Ok(Command::Api)));
        assert!(matches!(parse("growth-chat migrate"), Ok(Command::Migrate)));
        assert!(matches!(parse("growth-chat openapi"), Ok(Command::Openapi)));
        for line in ["growth-chat worker", "growth-chat serve"] {
            let parsed = parse(line).unwrap();
            let (Command::Worker(args) | Command::Serve(args)) = parsed else {
                panic!("{line}: {parsed:?}");
            };
            assert_eq!(args, WorkerArgs::default());
        }
    }

    #[test]
    fn a_worker_takes_a_list_of_queues() {
        for line in [
            "growth-chat worker --queues turns,knowledge",
            "growth-chat worker --queues turns --queues knowledge",
        ] {
            let Ok(Command::Worker(args)) = parse(line) else {
                panic!("{line}");
            };
            assert_eq!(args.queues, ["turns", "knowledge"]);
        }
    }

    #[test]
    fn index_takes_paths_and_addresses_and_needs_one() {
        let line = "growth-chat index knowledge more.md https://example.org --max-pages 20 \
                    --max-depth 2 --rate 0.5";
        let Ok(Command::Index(args)) = parse(line) else {
            panic!("not understood");
        };
        assert_eq!(args.targets.len(), 3);
        assert_eq!((args.max_pages, args.max_depth), (20, 2));
        for line in [
            "growth-chat index",
            "growth-chat index https://",
            "growth-chat index a --max-pages 0",
            "growth-chat index a --max-depth 256",
            "growth-chat index a --rate 0",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn eval_takes_a_file_and_check_takes_none() {
        for line in [
            "growth-chat eval questions.toml",
            "growth-chat eval questions.toml --json --plot a.svg -k 10 --save",
        ] {
            assert!(matches!(parse(line), Ok(Command::Eval(_))), "{line}");
        }
        for line in ["growth-chat check", "growth-chat check --json"] {
            assert!(matches!(parse(line), Ok(Command::Check(_))), "{line}");
        }
        for line in [
            "growth-chat eval",
            "growth-chat eval q.toml -k 0",
            "growth-chat check database",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_reference_of_the_variables_has_three_forms() {
        for line in [
            "growth-chat configuration",
            "growth-chat configuration --format env",
            "growth-chat configuration --format json",
        ] {
            assert!(
                matches!(parse(line), Ok(Command::Configuration(_))),
                "{line}"
            );
        }
        assert!(parse("growth-chat configuration --format xml").is_err());
    }

    #[test]
    fn an_id_may_begin_with_a_hyphen() {
        for line in [
            "growth-chat erase --session -an-id --text",
            "growth-chat erase --approve -an-id --text",
            "growth-chat erase --receipt -an-id --text",
            "growth-chat export --session -an-id --html",
            "growth-chat sessions show -an-id --text",
            "growth-chat replay -an-id/1 --json",
        ] {
            if let Err(error) = parse(line) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn search_takes_a_question_of_several_words() {
        let Ok(Command::Search(args)) =
            parse("growth-chat search what is it --mode text --locale de -k 3 --json")
        else {
            panic!("not understood");
        };
        assert_eq!(args.question(), "what is it");
        for line in [
            "growth-chat search",
            "growth-chat search x --mode fuzzy",
            "growth-chat search x -k 0",
            "growth-chat search x -k 101",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn jobs_are_operated_by_sub_commands() {
        for line in [
            "growth-chat jobs list --queue turns --state dead --kind k --failed --limit 5",
            "growth-chat jobs show 7 --json",
            "growth-chat jobs --json retry 7 8",
            "growth-chat jobs retry --kind turn.process --since 90m",
            "growth-chat jobs add turn.process {} --in 90 --priority -1 --json",
            "growth-chat jobs add --in 2h turn.process {}",
            "growth-chat jobs cancel 7",
            "growth-chat jobs tail --queue turns --kind turn.process --failed -n 0 --json",
            "growth-chat jobs pause turns",
            "growth-chat jobs resume turns",
        ] {
            assert!(matches!(parse(line), Ok(Command::Jobs(_))), "{line}");
        }
        for line in [
            "growth-chat jobs",
            "growth-chat jobs list --state lost",
            "growth-chat jobs list --limit 0",
            "growth-chat jobs show seven",
            "growth-chat jobs show 0",
            "growth-chat jobs show -7",
            "growth-chat jobs cancel 99999999999999999999",
            "growth-chat jobs add turn.process",
            "growth-chat jobs add turn.process {} --in -5",
            "growth-chat jobs add turn.process {} --in soon",
            "growth-chat jobs add turn.process {} --priority 40000",
            "growth-chat jobs tail -n 1001",
            "growth-chat jobs retry",
            "growth-chat jobs retry 7 --kind k --since 1h",
            "growth-chat jobs retry --kind k",
            "growth-chat jobs retry --kind k --since 1w",
            "growth-chat jobs retry --kind k --since \u{e9}",
            "growth-chat jobs retry --since 1h",
            "growth-chat jobs pause",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn backups_are_made_listed_verified_and_restored() {
        for line in [
            "growth-chat backup",
            "growth-chat backup --if-due",
            "growth-chat backup list --json",
            "growth-chat backup verify",
            "growth-chat backup verify 2026-11-21 --drill",
        ] {
            assert!(matches!(parse(line), Ok(Command::Backup(_))), "{line}");
        }
        for line in [
            "growth-chat restore latest --into postgres://me@localhost/new",
            "growth-chat restore 2026-11-21 --into postgres://me@localhost/new",
            "growth-chat restore 2026-11-21T1400 --into postgres://me@localhost/new",
        ] {
            assert!(matches!(parse(line), Ok(Command::Restore(_))), "{line}");
        }
        assert!(matches!(parse("growth-chat tick"), Ok(Command::Tick)));
        for line in [
            "growth-chat backup --if-due list",
            "growth-chat backup verify yesterday",
            "growth-chat restore",
            "growth-chat restore latest",
            "growth-chat restore --into postgres://me@localhost/new",
            "growth-chat restore 2026-13-01 --into postgres://me@localhost/new",
            "growth-chat tick 5",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn sessions_are_looked_at_by_sub_commands() {
        for line in [
            "growth-chat sessions list",
            "growth-chat sessions list --open --stage 3 --limit 5 --json",
            "growth-chat sessions show s-1",
            "growth-chat sessions --json show s-1 --text --follow",
            // Ids are opaque: one may begin with a dash.
            "growth-chat sessions show -- -s",
        ] {
            assert!(matches!(parse(line), Ok(Command::Sessions(_))), "{line}");
        }
        for line in [
            "growth-chat sessions",
            "growth-chat sessions list --stage 5",
            "growth-chat sessions list --limit 0",
            "growth-chat sessions show",
            "growth-chat sessions show s/1",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn endpoints_of_webhooks_are_kept_by_sub_commands() {
        for line in [
            "growth-chat webhooks add https://x.example/hook",
            "growth-chat webhooks add https://x.example --events turn.completed,session.closed --description x",
            "growth-chat webhooks list --json",
            "growth-chat webhooks show we_1",
            "growth-chat webhooks rotate we_1 --keep 0s",
            "growth-chat webhooks disable we_1",
            "growth-chat webhooks enable we_1",
            "growth-chat webhooks test we_1",
            "growth-chat webhooks remove we_1",
        ] {
            assert!(matches!(parse(line), Ok(Command::Webhooks(_))), "{line}");
        }
        for line in [
            "growth-chat webhooks",
            "growth-chat webhooks add",
            "growth-chat webhooks add no-url",
            "growth-chat webhooks add https://x.example --events everything",
            "growth-chat webhooks rotate we_1 --keep soon",
            "growth-chat webhooks show",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_turn_is_replayed_by_its_name() {
        for line in [
            "growth-chat replay s-1/3",
            "growth-chat replay s-1/3 --model claude-sonnet-4-5 --prompt rules.md --json",
        ] {
            assert!(matches!(parse(line), Ok(Command::Replay(_))), "{line}");
        }
        for line in [
            "growth-chat replay",
            "growth-chat replay s-1",
            "growth-chat replay s-1/0",
            "growth-chat replay s-1/3 --model",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for line in [
            "growth-chat",
            "growth-chat serve-everything",
            "growth-chat api --queues turns",
            "growth-chat worker --queues",
            "growth-chat migrate down",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert_eq!(
            parse("growth-chat --version").unwrap_err(),
            ErrorKind::DisplayVersion
        );
        assert_eq!(
            parse("growth-chat worker --help").unwrap_err(),
            ErrorKind::DisplayHelp
        );
    }

    #[cfg(feature = "sandbox")]
    #[test]
    fn cargos_alias_takes_options_behind_two_dashes() {
        for line in ["growth-chat dev --reset", "growth-chat dev -- --reset"] {
            assert!(matches!(parse(line), Ok(Command::Dev(_))), "{line}");
        }
        assert!(parse("growth-chat api -- --reset").is_err());
    }
}
