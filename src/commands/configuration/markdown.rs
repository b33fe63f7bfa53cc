//! The reference as a document, and as a file to begin with.

use std::fmt::Write;

use super::{COMMANDS, Entry, Group, WIDGET};

const HEAD: &str = "# Configuration

<!-- Generated: cargo run -- configuration > docs/configuration.md -->

Environment variables are read once, at the start. Whatever is wrong with them is told at once, each with its name, and ends the process with exit code 2; a value is never shown. An empty value counts as none. `growth-chat check` tries what they lead to.

The last column says which command reads a variable. `serve` reads what `api` and `worker` read, but not `WORKER_WAKE_URL`; `eval` what `search` reads; `backup list` what `restore` reads, but neither the log's variables nor `RESTORE_PASSWORD`; `jobs`, `sessions` and `export` what `migrate` reads; `check` what its `--role` and `backup` read. **required** variables have no default, and the command does not start without them.
";

const OTHERS: &str = "## Read by libraries

| variable | what for |
|---|---|
| `SSL_CERT_FILE`, `SSL_CERT_DIR` | other trust roots than the system's, for connections to providers |
| `PATH`, `LD_LIBRARY_PATH`, `HOME` | with those two, all that pg_dump and psql are given of the environment |
| `PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD`, `PGDATABASE`, `PGSSLMODE`, `~/.pgpass` | do not count, for us and for pg_dump: `CHECKPOINT_DB_URL` alone says where the database is |
| `PGSSLROOTCERT`, `PGSSLCERT`, `PGSSLKEY`, `PGOPTIONS` | are refused: say them in `CHECKPOINT_DB_URL` (`sslrootcert=…`, `sslcert=…`, `sslkey=…`, `options=…`) |
| `OTEL_BSP_SCHEDULE_DELAY`, `OTEL_BSP_MAX_QUEUE_SIZE`, `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` | how traces are batched: every 5000 ms, or every 512 spans; what is beyond 2048 waiting spans is dropped |
| `OTEL_EXPORTER_OTLP_COMPRESSION`, `OTEL_RESOURCE_ATTRIBUTES` | `gzip`; further attributes of the process in its traces |
";

/// docs/configuration.md.
pub(super) fn document(groups: &[(&Group, Vec<Entry>)]) -> String {
    let mut text = HEAD.to_owned();
    for (group, entries) in groups {
        heading(&mut text, group.title);
        text.push_str(
            "| variable | default | legal values | what for | read by |\n|---|---|---|---|---|\n",
        );
        for entry in entries {
            line(
                &mut text,
                &[
                    &format!("`{}`", entry.name),
                    &default(entry),
                    &cell(&entry.rule),
                    &format!(
                        "{}{}{}",
                        entry.meaning,
                        entry
                            .only_with
                            .as_ref()
                            .map_or(String::new(), |choice| format!(
                                ". Read with `{choice}` only"
                            )),
                        if entry.secret { ". Secret" } else { "" },
                    ),
                    &roles(&entry.roles),
                ],
            );
        }
    }
    heading(&mut text, "Widget, at build time");
    text.push_str("They are compiled into `chat.js` (`npm run build`); attributes of the element go before them.\n\n");
    text.push_str("| variable | default | what for |\n|---|---|---|\n");
    for variable in WIDGET {
        let default = variable.default.text().map_or("–".to_owned(), value);
        line(
            &mut text,
            &[&format!("`{}`", variable.name), &default, variable.meaning],
        );
    }
    text.push('\n');
    text.push_str(OTHERS);
    text
}

fn heading(text: &mut String, title: &str) {
    // Writing into memory does not fail.
    let _ = write!(text, "\n## {title}\n\n");
}

fn line(text: &mut String, cells: &[&str]) {
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

fn default(entry: &Entry) -> String {
    match entry.default {
        Some(default) => value(default),
        None if entry.required_by.is_empty() => "–".to_owned(),
        None if entry.required_by == entry.roles => "**required**".to_owned(),
        None => format!("**required** by {}", entry.required_by.join(", ")),
    }
}

/// The commands, or those that are missing where that is shorter.
fn roles(roles: &[&str]) -> String {
    let others = COMMANDS.iter().map(|(name, _)| *name);
    let others: Vec<&str> = others.filter(|name| !roles.contains(name)).collect();
    match &others[..] {
        [] => "all".to_owned(),
        [_] | [_, _] => format!("all but {}", others.join(", ")),
        _ => roles.join(", "),
    }
}

/// A value in the type of code; a sentence about values has that by itself, or needs none.
fn value(default: &str) -> String {
    if default.contains(['`', '[']) || default.contains(' ') && !default.contains('*') {
        default.to_owned()
    } else {
        format!("`{default}`")
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('*', "\\*")
}

/// .env.example: what is required is to be filled in, everything else stands as it is without. A shell can
/// read it too.
pub(super) fn example(groups: &[(&Group, Vec<Entry>)]) -> String {
    let mut text = "# Generated: cargo run -- configuration --format env > .env.example\n\
        # What is required is to be filled in; docs/configuration.md explains the rest.\n"
        .to_owned();
    for (group, entries) in groups {
        let _ = write!(text, "\n# ── {} ──\n", group.title);
        for entry in entries {
            let with = entry
                .only_with
                .as_ref()
                .map_or(String::new(), |choice| format!("with {choice}: "));
            let _ = writeln!(text, "# {with}{}", entry.rule);
            let is_value = |text: &&str| value(text).starts_with('`') && !text.contains('`');
            if let Some(wanted) = &entry.wanted {
                let _ = writeln!(text, "# it {wanted}");
            }
            let default = entry.default.filter(is_value).unwrap_or_default();
            let is_demanded = !entry.required_by.is_empty() || entry.wanted.is_some();
            let comment = if is_demanded && entry.only_with.is_none() {
                ""
            } else {
                "#"
            };
            let _ = writeln!(text, "{comment}{}={}", entry.name, quoted(default));
        }
    }
    text
}

/// A value as a shell takes it as one word.
fn quoted(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:,@%+=".contains(&byte);
    if value.bytes().all(plain) {
        value.to_owned()
    } else {
        format!("'{value}'")
    }
}
