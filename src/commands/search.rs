//! `growth-chat search QUESTION`: what a question finds, in which order, and why.

pub(crate) mod command;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::{Context, bail};
use serde_json::{Value, json};
use store::knowledge::{Contents, contents};
use workers::knowledge::{KnowledgeDeps, Ranked, SearchMode, Verdict, embed_question, rank};

use super::jobs::terminal::printable;

/// How many candidates are printed for a person.
const PRINTED: usize = 20;

/// What to search for.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SearchArgs {
    /// The question, in a visitor's words
    #[arg(required = true, value_name = "QUESTION")]
    words: Vec<String>,
    /// By which side chunks are searched for
    #[arg(long, value_enum, default_value_t = Mode::Hybrid)]
    mode: Mode,
    /// The language that the question probably has, such as `de`
    #[arg(long, value_name = "TAG")]
    locale: Option<String>,
    /// How many passages are chosen at most [default: `RAG_TOP_K`]
    #[arg(short = 'k', value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=100))]
    top_k: Option<u16>,
    /// Print all candidates as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// By the embedding and by the words, as the assistant does
    Hybrid,
    /// By the embedding only
    Vector,
    /// By the words only
    Text,
}

impl SearchArgs {
    pub(crate) fn question(&self) -> String {
        self.words.join(" ")
    }
}

/// Searches once and prints the ranking. The exit code is 0 also if nothing was found.
pub(crate) async fn run(
    args: &SearchArgs,
    mut deps: KnowledgeDeps,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    if let Some(top_k) = args.top_k {
        deps.config.top_k = top_k;
    }
    let question = args.question();
    check(&deps).await?;
    let embedding = embed_question(&deps, &question)
        .await
        .context("the question could not be embedded")?
        .context("the question is blank")?;
    let mode = match args.mode {
        Mode::Hybrid => SearchMode::Hybrid,
        Mode::Vector => SearchMode::Vector,
        Mode::Text => SearchMode::Text,
    };
    let ranked = rank(&deps, embedding, &question, args.locale.as_deref(), mode)
        .await
        .context("the knowledge base could not be searched")?;
    if args.json {
        writeln!(out, "{:#}", as_json(&deps, &question, &ranked))?;
    } else {
        print(&deps, &ranked, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what is missing before anything is paid.
async fn check(deps: &KnowledgeDeps) -> anyhow::Result<()> {
    deps.prepare()
        .await
        .context("preparing the table of chunks")?;
    let (table, model) = (&deps.config.table, deps.embedder.model());
    let mut conn = deps.pool.acquire().await?;
    match contents(&mut conn, table, model).await? {
        Contents::Chunks => Ok(()),
        Contents::Nothing => bail!(
            "the knowledge base is empty: the table {table} has no chunks. Index something first: growth-chat index PATH"
        ),
        Contents::OfAnotherModel(other) => bail!(
            "the table {table} has chunks of the model {other} only and OPENAI_EMBEDDING_MODEL is {model}: \
             index again, or set the other model"
        ),
    }
}

fn as_json(deps: &KnowledgeDeps, question: &str, ranked: &[Ranked]) -> Value {
    let results: Vec<Value> = ranked
        .iter()
        .zip(1..)
        .map(|(one, rank): (_, u32)| {
            json!({
                "rank": rank,
                "verdict": verdict(one.verdict),
                "duplicate_of": match one.verdict {
                    Verdict::NearDuplicate { of } => Some(of),
                    _ => None,
                },
                "chunk_id": one.passage.chunk_id,
                "document": one.document_source,
                "kind": one.passage.kind,
                "title": one.passage.title,
                "heading_path": one.passage.heading_path,
                "url": one.passage.url,
                "cosine": one.cosine,
                "fused": one.fused,
                "vector_rank": one.vector_rank,
                "text_rank": one.text_rank,
                "text_score": one.text_score,
                "matched_terms": one.matched_terms,
                "content": one.passage.content,
            })
        })
        .collect();
    json!({
        "question": question,
        "model": deps.embedder.model(),
        "relevance_threshold": deps.config.relevance_threshold,
        "top_k": deps.config.top_k,
        "results": results,
    })
}

fn print(deps: &KnowledgeDeps, ranked: &[Ranked], out: &mut impl Write) -> io::Result<()> {
    let chosen = ranked
        .iter()
        .filter(|one| one.verdict == Verdict::Chosen)
        .count();
    writeln!(
        out,
        "{chosen} of {} candidates chosen: cosine at least {}, at most {}",
        ranked.len(),
        deps.config.relevance_threshold,
        deps.config.top_k
    )?;
    if ranked.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n{:>3}  {:<16}{:>7}{:>8}{:>8}{:>6}{:>8}  document",
        "#", "", "fused", "cosine", "vector", "text", "score"
    )?;
    for (one, place) in ranked.iter().zip(1..=PRINTED) {
        let rank = |rank: Option<u32>| rank.map_or("-".to_owned(), |rank| rank.to_string());
        let score = one
            .text_score
            .map_or("-".to_owned(), |score| format!("{score:.2}"));
        let mut heading = vec![one.document_source.as_str()];
        heading.extend(one.passage.heading_path.iter().map(String::as_str));
        writeln!(
            out,
            "{place:>3}  {:<16}{:>7.4}{:>8.3}{:>8}{:>6}{:>8}  {}",
            verdict(one.verdict),
            one.fused,
            one.cosine,
            rank(one.vector_rank),
            rank(one.text_rank),
            score,
            printable(&heading.join(" > "))
        )?;
        writeln!(out, "{:21}{}", "", printable(&one.passage.url))?;
        if !one.matched_terms.is_empty() {
            let words = one.matched_terms.join(", ");
            writeln!(out, "{:21}words: {}", "", printable(&words))?;
        }
        if let Verdict::NearDuplicate { of } = one.verdict {
            let better = ranked.iter().position(|other| other.passage.chunk_id == of);
            let better = better.map_or(0, |position| position + 1);
            writeln!(out, "{:21}says what number {better} says", "")?;
        }
    }
    if ranked.len() > PRINTED {
        writeln!(out, "and {} more, with --json", ranked.len() - PRINTED)?;
    }
    Ok(())
}

/// As it is printed, and as it stands in the JSON.
fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Chosen => "chosen",
        Verdict::BelowThreshold => "below_threshold",
        Verdict::NearDuplicate { .. } => "near_duplicate",
        Verdict::BeyondTopK => "beyond_top_k",
    }
}

#[cfg(test)]
mod tests;
