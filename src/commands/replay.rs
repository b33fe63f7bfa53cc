//! `growth-chat replay TURN`: asks a finished turn again, and shows both answers.

use std::{fmt::Write as _, fs, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};
use store::{bus::Bus, ids::TurnKey, settings::Settings};
use workers::{
    Deps, WorkerConfig,
    turn::replay::{Replay, Side, Variation, replay},
};

use super::terminal::{note, printable, write};
use crate::{
    environment,
    process::fresh_name,
    reach::{ReachConfig, reach_migrated},
};

/// The longest rules, in bytes: some ten thousand tokens.
const LONGEST_PROMPT: u64 = 64 * 1024;

/// Which turn to ask again, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct ReplayArgs {
    /// The turn: its session's id and its number, such as SESSION/3
    #[arg(allow_hyphen_values = true)]
    turn: TurnKey,
    /// Ask this model [default: the one that the turn asked]
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Give the model the rules in this file [default: those of this version]
    #[arg(long, value_name = "FILE")]
    prompt: Option<PathBuf>,
    /// Answer with JSON on standard output
    #[arg(long)]
    json: bool,
}

/// Reads all that the command needs.
pub(super) fn read(settings: &mut Settings) -> Option<(ReachConfig, WorkerConfig)> {
    let database = ReachConfig::read(settings);
    let worker = WorkerConfig::read(settings);
    database.zip(worker)
}

/// Asks the turn again. The visitor notices nothing; the call is billed as any other.
pub(crate) async fn run(args: ReplayArgs) -> anyhow::Result<ExitCode> {
    // Who asks for a model wants its answer and no other's.
    let only = [("LLM_FALLBACK_MODEL", String::new())];
    let model = args.model.clone().map(|model| ("LLM_MODEL", model));
    let mut settings = environment::settings_with(only.into_iter().chain(model));
    let config = read(&mut settings);
    let (database, worker) = settings.finish(config)?;
    let rules = args.prompt.as_ref().map(read_rules).transpose()?;
    let database = database.open()?;
    reach_migrated(&database).await?;
    // Nobody is told of anything: the bus is not run.
    let deps = Deps::build(worker, &database, Bus::new(fresh_name()))
        .context("the client of the providers could not be made")?;
    let variation = Variation {
        model: args.model,
        rules,
    };
    let replayed = replay(&deps.turn, &args.turn, variation)
        .await
        .with_context(|| format!("turn {} was not replayed", args.turn))?;
    if replayed.new_searches > 0 {
        note("the model searched for something that the turn had not: it was searched for now");
    }
    let text = if args.json {
        format!("{}\n", value(&args.turn, &replayed))
    } else {
        page(&args.turn, &replayed)
    };
    write(text).await?;
    Ok(ExitCode::SUCCESS)
}

fn read_rules(path: &PathBuf) -> anyhow::Result<String> {
    let named = || format!("the rules in {} could not be read", path.display());
    let length = fs::metadata(path).with_context(named)?.len();
    if length > LONGEST_PROMPT {
        bail!(
            "the rules in {} are too long: {LONGEST_PROMPT} bytes at most",
            path.display()
        );
    }
    let rules = fs::read_to_string(path).with_context(named)?;
    let rules = rules.trim();
    if rules.is_empty() {
        bail!("the rules in {} are empty", path.display());
    }
    Ok(rules.to_owned())
}

/// A line for each thing that can be compared, then the answers word by word.
fn page(turn: &TurnKey, replayed: &Replay) -> String {
    const WIDTH: usize = 28;
    let (then, now) = (&replayed.then, &replayed.now);
    let mut text = format!("{:<12} {:<WIDTH$} now\n", turn.to_string(), "then");
    for (name, of) in ROWS {
        let (then, now) = (printable(&of(then)), printable(&of(now)));
        let _ = writeln!(text, "{name:<12} {then:<WIDTH$} {now}");
    }
    text.push('\n');
    if then.text == now.text {
        text += "the answers are the same:\n\n";
    }
    text += &diff(&then.text, &now.text);
    text.push('\n');
    text
}

type Row = (&'static str, fn(&Side) -> String);

const ROWS: [Row; 10] = [
    ("model", |side| side.model.clone().unwrap_or("-".to_owned())),
    ("rules", |side| side.rules.clone()),
    ("tokens in", |side| {
        let usage = side.usage;
        let total = usage.total() - usage.output;
        match usage.cache_read {
            0 => total.to_string(),
            cached => format!("{total} ({cached} from the cache)"),
        }
    }),
    ("tokens out", |side| side.usage.output.to_string()),
    ("cost", |side| side.cost.to_string()),
    ("first text", |side| seconds(side.to_first_token)),
    ("in all", |side| seconds(side.total)),
    ("tools", |side| {
        listed(side.tools.iter().map(|(name, _)| name.as_str()))
    }),
    ("sources", |side| {
        listed(side.sources.iter().map(|source| source.url.as_str()))
    }),
    ("characters", |side| side.text.chars().count().to_string()),
];

fn seconds(time: Option<Duration>) -> String {
    time.map_or("-".to_owned(), |time| {
        format!("{:.2} s", time.as_secs_f64())
    })
}

fn listed<'l>(items: impl Iterator<Item = &'l str>) -> String {
    let items: Vec<&str> = items.collect();
    if items.is_empty() {
        "-".to_owned()
    } else {
        items.join(", ")
    }
}

/// The two texts in one, word by word: `[-only then-]`, `{+only now+}`.
fn diff(then: &str, now: &str) -> String {
    let mut text = String::new();
    for (tag, words) in changes(then, now) {
        let (before, after) = match tag {
            ChangeTag::Equal => ("", ""),
            ChangeTag::Delete => ("[-", "-]"),
            ChangeTag::Insert => ("{+", "+}"),
        };
        text += before;
        text += &shown(&words);
        text += after;
    }
    text
}

/// What is the same, and what is not: words that follow each other and changed alike are one change.
fn changes(then: &str, now: &str) -> Vec<(ChangeTag, String)> {
    let mut changes: Vec<(ChangeTag, String)> = Vec::new();
    for change in TextDiff::from_words(then, now).iter_all_changes() {
        match changes.last_mut() {
            Some((tag, words)) if *tag == change.tag() => words.push_str(change.value()),
            _ => changes.push((change.tag(), change.value().to_owned())),
        }
    }
    changes
}

/// Text of several lines that can't move the cursor.
fn shown(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(printable).collect();
    lines.join("\n")
}

fn value(turn: &TurnKey, replayed: &Replay) -> Value {
    let (then, now) = (&replayed.then, &replayed.now);
    let diff: Vec<Value> = changes(&then.text, &now.text)
        .into_iter()
        .map(|(tag, text)| {
            let tag = match tag {
                ChangeTag::Equal => "both",
                ChangeTag::Delete => "then",
                ChangeTag::Insert => "now",
            };
            json!({ "in": tag, "text": text })
        })
        .collect();
    json!({
        "turn": turn.to_string(),
        "then": side(then),
        "now": side(now),
        "new_searches": replayed.new_searches,
        "diff": diff,
    })
}

fn side(side: &Side) -> Value {
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
    let tools: Vec<Value> = side
        .tools
        .iter()
        .map(|(name, input)| json!({ "name": name, "input": input }))
        .collect();
    json!({
        "model": side.model,
        "rules": side.rules,
        "text": side.text,
        "sources": side.sources,
        "tools": tools,
        "input_tokens": side.usage.input,
        "output_tokens": side.usage.output,
        "cache_write_tokens": side.usage.cache_write,
        "cache_read_tokens": side.usage.cache_read,
        "cost_usd": side.cost.to_string().trim_start_matches('$'),
        "seconds_to_first_token": seconds(side.to_first_token),
        "seconds_total": seconds(side.total),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_answers_are_shown_in_one_word_by_word() {
        assert_eq!(
            diff(
                "An audit costs 9,000 euros.",
                "An audit costs about 9,000 euros."
            ),
            "An audit costs {+about +}9,000 euros."
        );
        assert_eq!(
            diff("It is cheap.", "It is dear."),
            "It is [-cheap.-]{+dear.+}"
        );
        assert_eq!(diff("The same.", "The same."), "The same.");
    }

    #[test]
    fn an_answer_keeps_its_lines_and_can_not_move_the_cursor() {
        assert_eq!(diff("a\nb\u{1b}[2J", "a\nb\u{1b}[2J"), "a\nb\\u{1b}[2J");
    }
}
