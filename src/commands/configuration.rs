//! `growth-chat configuration`: the reference of all variables. docs/configuration.md and .env.example are
//! its output.
//!
//! Nothing is said twice: what is required and what a legal value is says the code that reads a variable,
//! which is run for it without an environment; what a variable is for and its default say
//! [`variables`]. Tests hold the two together.

mod markdown;
mod variables;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde::Serialize;
use store::settings::{Asked, Settings};

use self::variables::{GROUPS, Group, Variable, WIDGET};
use super::{backup, erase, index, replay, restore, retention, role::Role, search, tick, webhooks};
use crate::reach::ReachConfig;

/// How to print the reference.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigurationArgs {
    /// In which form
    #[arg(long, value_enum, default_value_t = Format::Markdown)]
    format: Format,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// A document: docs/configuration.md
    Markdown,
    /// A file to begin with: .env.example
    Env,
    /// For programs
    Json,
}

/// Variables whose value decides which others are read.
const CHOICES: &[&[(&str, &str)]] = &[
    &[],
    &[("CRM_PROVIDER", "hubspot")],
    &[("CRM_PROVIDER", "webhook")],
    // A worker has backups once their bucket is named.
    &[("TIGRIS_BUCKET_NAME", "backups")],
];

/// A variable as the code reads it.
#[derive(Debug, Serialize)]
struct Entry {
    name: &'static str,
    /// Those of [`Entry::roles`] that do not start without it.
    required_by: Vec<&'static str>,
    /// Why a process of production does not start without it, or without another one, though no role requires
    /// it by itself.
    wanted: Option<String>,
    /// Another variable's value, without which it is not read.
    only_with: Option<String>,
    default: Option<&'static str>,
    secret: bool,
    /// What a legal value is.
    rule: String,
    /// The commands that read it.
    roles: Vec<&'static str>,
    meaning: &'static str,
}

pub(crate) fn run(args: &ConfigurationArgs) -> anyhow::Result<ExitCode> {
    let groups: Vec<(&Group, Vec<Entry>)> = entries();
    let text = match args.format {
        Format::Markdown => markdown::document(&groups),
        Format::Env => markdown::example(&groups),
        Format::Json => {
            let all: Vec<&Entry> = groups.iter().flat_map(|(_, entries)| entries).collect();
            format!("{}\n", serde_json::to_string_pretty(&all)?)
        }
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Every variable that is read, in the order of the document.
fn entries() -> Vec<(&'static Group, Vec<Entry>)> {
    let readings = readings();
    let of_group = |group: &'static Group| {
        let entries = group.variables.iter();
        let entries = entries.filter_map(|variable| entry(variable, &readings));
        (group, entries.collect::<Vec<_>>())
    };
    GROUPS
        .iter()
        .map(of_group)
        .filter(|(_, entries)| !entries.is_empty())
        .collect()
}

/// What a command asks for, given a choice.
struct Reading {
    role: &'static str,
    choice: &'static [(&'static str, &'static str)],
    asked: Vec<Asked>,
    /// What is wrong with an environment that has nothing but the choice.
    problems: Vec<(String, String)>,
}

/// Reads what a command needs at its start.
type Read = fn(&mut Settings);

/// The commands that differ in what they read, each with what it runs at its start.
const COMMANDS: [(&str, Read); 12] = [
    ("api", |settings| drop(Role::Api.read(settings))),
    ("worker", |settings| drop(Role::Worker.read(settings))),
    ("tick", |settings| drop(tick::read(settings))),
    ("replay", |settings| drop(replay::read(settings))),
    ("index", |settings| drop(index::command::read(settings))),
    ("search", |settings| drop(search::command::read(settings))),
    ("backup", |settings| drop(backup::read(settings))),
    ("restore", |settings| drop(restore::read(settings))),
    ("retention", |settings| drop(retention::read(settings))),
    ("erase", |settings| drop(erase::read(settings))),
    ("webhooks", |settings| drop(webhooks::read(settings))),
    ("migrate", |settings| drop(ReachConfig::read(settings))),
];

fn readings() -> Vec<Reading> {
    let reading = |(name, read): (&'static str, Read), choice: &'static [(&str, &str)]| {
        let settings = read_with(read, choice);
        Reading {
            role: name,
            choice,
            asked: settings.asked().to_vec(),
            problems: settings.problems().to_vec(),
        }
    };
    CHOICES
        .iter()
        .flat_map(|choice| COMMANDS.map(|command| reading(command, choice)))
        .collect()
}

/// What a command has read in an environment of a choice alone.
fn read_with(read: Read, choice: &[(&str, &str)]) -> Settings {
    let variables = choice
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let mut settings = Settings::new(variables);
    read(&mut settings);
    settings
}

/// `None`: nobody asks for it.
fn entry(variable: &'static Variable, readings: &[Reading]) -> Option<Entry> {
    let mut found: Option<Entry> = None;
    for reading in readings {
        let Some(asked) = reading
            .asked
            .iter()
            .find(|asked| asked.name == variable.name)
        else {
            continue;
        };
        let only_with = reading
            .choice
            .first()
            .map(|(name, value)| format!("{name}={value}"));
        let entry = found.get_or_insert_with(|| Entry {
            name: variable.name,
            required_by: Vec::new(),
            wanted: None,
            only_with: only_with.clone(),
            default: variable.default.text(),
            secret: variable.secret,
            rule: asked.rule.clone(),
            roles: Vec::new(),
            meaning: variable.meaning,
        });
        if !entry.roles.contains(&reading.role) {
            entry.roles.push(reading.role);
        }
        if entry.only_with != only_with {
            continue;
        }
        if asked.required {
            entry.required_by.push(reading.role);
        } else if entry.wanted.is_none() {
            let mut problems = reading.problems.iter();
            let problem = problems.find(|(name, _)| name == variable.name);
            entry.wanted = problem.map(|(_, problem)| problem.clone());
        }
    }
    found
}

#[cfg(test)]
mod tests;
